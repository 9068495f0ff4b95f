/*
 * seal.c - secrets at rest: AES-256-GCM under one key file
 *
 * A sealed text is 0x01, a random nonce of 12 octets, the ciphertext and the
 * tag of 16, in base64. Nonces are random: a key seals far fewer than 2^32
 * texts. The key never seals directly: keys for sealing, fingerprints and FILE
 * URIs are derived from it, so that none can stand in for another.
 */
#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "url.h"
#include "xalloc.h"

#define VERSION 1
#define NONCE 12
#define TAG 16

struct seal {
	struct hmac_key root;
	uint8_t gcm[32];
	struct hmac_key fingerprint;
	char id[17];
};

void
seal_derive(const struct seal *s, const char *use, struct hmac_key *out)
{
	uint8_t md[DIGEST_LEN];

	hmac_sha256(&s->root, use, strlen(use), md);
	hmac_key_init(out, md, sizeof(md));
	OPENSSL_cleanse(md, sizeof(md));
}

struct seal *
seal_new(const uint8_t key[32])
{
	struct seal *s = xcalloc(1, sizeof(*s));
	uint8_t md[DIGEST_LEN];

	hmac_key_init(&s->root, key, 32);
	hmac_sha256(&s->root, "seal", 4, s->gcm);
	seal_derive(s, "fingerprint", &s->fingerprint);
	hmac_sha256(&s->root, "id", 2, md);
	hex_encode(md, 8, s->id);
	return s;
}

void
seal_close(struct seal *s)
{
	if (s == NULL)
		return;
	OPENSSL_cleanse(s, sizeof(*s));
	free(s);
}

const char *
seal_key_id(const struct seal *s)
{
	return s->id;
}

static int
sync_folder(const char *path)
{
	char *copy = xstrdup(path);
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 ? -errno : 0;

	if (fd >= 0 && fsync(fd) != 0)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	free(copy);
	return rc;
}

/* Under a name of its own first, so that a half-written key is never found. */
static int
make_key(const char *path)
{
	char *tmp = xasprintf("%s.new.%d", path, (int)getpid());
	uint8_t key[32];
	char hex[66];
	int fd = -1, rc = 0;

	if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
		rc = -EIO;
	hex_encode(key, sizeof(key), hex);
	hex[64] = '\n';
	if (rc == 0)
		fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (rc == 0 && fd < 0)
		rc = -errno;
	if (rc == 0 && (write(fd, hex, 65) != 65 || fsync(fd) != 0))
		rc = -EIO;
	if (fd >= 0)
		close(fd);
	/* link: a key that another process has made meanwhile stays. */
	if (rc == 0 && link(tmp, path) != 0 && errno != EEXIST)
		rc = -errno;
	unlink(tmp);
	OPENSSL_cleanse(key, sizeof(key));
	OPENSSL_cleanse(hex, sizeof(hex));
	free(tmp);
	return rc == 0 ? sync_folder(path) : rc;
}

static int
read_key(const char *path, uint8_t key[32])
{
	char hex[66] = { 0 };
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0)
		rc = -errno;
	else if ((st.st_mode & 077) != 0)
		rc = -EPERM;
	else if (read(fd, hex, 65) < 64)
		rc = -EBADMSG;
	close(fd);
	hex[64] = '\0';
	if (rc == 0 && hex_decode(hex, key, 32) != 0)
		rc = -EBADMSG;
	OPENSSL_cleanse(hex, sizeof(hex));
	return rc;
}

int
seal_open(const char *path, bool make, struct seal **out)
{
	uint8_t key[32];
	int rc = read_key(path, key);

	if (rc == -ENOENT && make) {
		rc = make_key(path);
		if (rc == 0)
			rc = read_key(path, key);
	}
	if (rc == 0)
		*out = seal_new(key);
	OPENSSL_cleanse(key, sizeof(key));
	return rc;
}

char *
seal_text(const struct seal *s, const char *about, const char *plain)
{
	size_t n = strlen(plain);
	uint8_t *out = xmalloc(1 + NONCE + n + TAG);
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	char *text;
	int len, ok;

	out[0] = VERSION;
	ok = c != NULL && getrandom(out + 1, NONCE, 0) == NONCE &&
	    EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, s->gcm, out + 1) ==
		1 &&
	    EVP_EncryptUpdate(c, NULL, &len, (const uint8_t *)about,
		(int)strlen(about)) == 1 &&
	    EVP_EncryptUpdate(c, out + 1 + NONCE, &len, (const uint8_t *)plain,
		(int)n) == 1 &&
	    EVP_EncryptFinal_ex(c, out + 1 + NONCE + n, &len) == 1 &&
	    EVP_CIPHER_CTX_ctrl(
		c, EVP_CTRL_GCM_GET_TAG, TAG, out + 1 + NONCE + n) == 1;
	EVP_CIPHER_CTX_free(c);
	if (!ok)
		abort(); /* memory or the system's random numbers are gone */
	text = base64_encode(out, 1 + NONCE + n + TAG);
	free(out);
	return text;
}

int
seal_untext(const struct seal *s, const char *about, const char *sealed,
    char **plain_out)
{
	EVP_CIPHER_CTX *c;
	uint8_t *in;
	size_t n;
	char *plain;
	int len, ok;

	if (base64_decode(sealed, &in, &n) != 0)
		return -EBADMSG;
	if (n < 1 + NONCE + TAG || in[0] != VERSION) {
		free(in);
		return -EBADMSG;
	}
	n -= 1 + NONCE + TAG;
	plain = xcalloc(1, n + 1);
	c = EVP_CIPHER_CTX_new();
	ok = c != NULL &&
	    EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, s->gcm, in + 1) ==
		1 &&
	    EVP_DecryptUpdate(c, NULL, &len, (const uint8_t *)about,
		(int)strlen(about)) == 1 &&
	    EVP_DecryptUpdate(
		c, (uint8_t *)plain, &len, in + 1 + NONCE, (int)n) == 1 &&
	    EVP_CIPHER_CTX_ctrl(
		c, EVP_CTRL_GCM_SET_TAG, TAG, in + 1 + NONCE + n) == 1 &&
	    EVP_DecryptFinal_ex(c, (uint8_t *)plain + n, &len) == 1;
	EVP_CIPHER_CTX_free(c);
	free(in);
	if (!ok) {
		OPENSSL_cleanse(plain, n);
		free(plain);
		return -EBADMSG;
	}
	*plain_out = plain;
	return 0;
}

void
seal_fingerprint(const struct seal *s, const char *secret, char out[17])
{
	uint8_t md[DIGEST_LEN];

	hmac_sha256(&s->fingerprint, secret, strlen(secret), md);
	hex_encode(md, 8, out);
}
