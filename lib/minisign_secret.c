/*
 * minisign_secret.c - secret keys of minisign: reading them, making a pair
 *
 * Layout, base64 of 158 octets: "Ed", derivation ("Sc" or two NULs), "B2",
 * salt (32), operations and memory (8 each, little-endian), and, under a
 * password mixed with the derived stream, key id (8), seed and public key (64),
 * BLAKE2b-256 of "Ed", id and key (32; NULs without a password).
 *
 * What must stay true: whatever held a secret is wiped before it is freed, and
 * a key counts as read only if that sum fits and its public half belongs to
 * its seed. libcrypto 3.0 has BLAKE2b with 64 octets of output only, so the
 * 32-octet form (RFC 7693) stands here; it guards against typing errors, not
 * against anyone.
 */
#include "minisign.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "digest.h"
#include "minisign_private.h"
#include "xalloc.h"

#define SALT_LEN 32
#define SUM_LEN 32
#define HIDDEN_LEN (8 + 64 + SUM_LEN)
/* What a new key asks for: a few seconds and 128 MB. */
#define NEW_OPERATIONS (1ull << 25)
#define NEW_MEMORY (1ull << 27)
#define N_LOG2_MAX 20 /* 1 GB, what the program itself asks for */

struct file {
	uint8_t algorithm[2], derivation[2], checksum[2];
	uint8_t salt[SALT_LEN], operations[8], memory[8];
	uint8_t hidden[HIDDEN_LEN]; /* id, key, sum */
};
_Static_assert(sizeof(struct file) == 158, "no padding");

/* ---- BLAKE2b-256 of at most one block (RFC 7693 section 3) ----------------
 */

static const uint64_t blake_iv[8] = { 0x6a09e667f3bcc908, 0xbb67ae8584caa73b,
	0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1, 0x510e527fade682d1,
	0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179 };
static const uint8_t blake_sigma[10][16] = {
	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
	{ 14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3 },
	{ 11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4 },
	{ 7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8 },
	{ 9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13 },
	{ 2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9 },
	{ 12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11 },
	{ 13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10 },
	{ 6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5 },
	{ 10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0 }
};

static uint64_t
rotate(uint64_t x, unsigned n)
{
	return x >> n | x << (64 - n);
}

static void
blake_mix(
    uint64_t *a, uint64_t *b, uint64_t *c, uint64_t *d, uint64_t x, uint64_t y)
{
	*a += *b + x;
	*d = rotate(*d ^ *a, 32);
	*c += *d;
	*b = rotate(*b ^ *c, 24);
	*a += *b + y;
	*d = rotate(*d ^ *a, 16);
	*c += *d;
	*b = rotate(*b ^ *c, 63);
}

static void
blake2b_256(const uint8_t *p, size_t n, uint8_t out[SUM_LEN])
{
	uint64_t v[16], m[16], h[8];
	uint8_t block[128] = { 0 };

	memcpy(block, p, n);
	for (int i = 0; i < 16; i++) {
		memcpy(&m[i], block + 8 * i, 8);
		m[i] = le64toh(m[i]);
	}
	memcpy(h, blake_iv, sizeof(h));
	h[0] ^= 0x01010000 ^ SUM_LEN;
	memcpy(v, h, sizeof(h));
	memcpy(v + 8, blake_iv, sizeof(blake_iv));
	v[12] ^= n;
	v[14] = ~v[14];
	for (int r = 0; r < 12; r++) {
		const uint8_t *s = blake_sigma[r % 10];

		for (int i = 0; i < 4; i++)
			blake_mix(&v[i], &v[4 + i], &v[8 + i], &v[12 + i],
			    m[s[2 * i]], m[s[2 * i + 1]]);
		for (int i = 0; i < 4; i++)
			blake_mix(&v[i], &v[4 + (i + 1) % 4],
			    &v[8 + (i + 2) % 4], &v[12 + (i + 3) % 4],
			    m[s[8 + 2 * i]], m[s[9 + 2 * i]]);
	}
	for (int i = 0; i < SUM_LEN / 8; i++) {
		uint64_t le = htole64(h[i] ^ v[i] ^ v[8 + i]);

		memcpy(out + 8 * i, &le, 8);
	}
	OPENSSL_cleanse(block, sizeof(block));
	OPENSSL_cleanse(m, sizeof(m));
}

/* ---- the password -------------------------------------------------------- */

/* The parameters of scrypt that libsodium derives from the two limits. */
static bool
scrypt_cost(uint64_t operations, uint64_t memory, uint64_t *n, uint32_t *p)
{
	unsigned log2 = 1;
	uint64_t max, pr;

	if (operations < 32768)
		operations = 32768;
	max = operations < memory / 32 ? operations / 32 : memory / 1024;
	while (log2 < 63 && (uint64_t)1 << log2 <= max / 2)
		log2++;
	if (log2 > N_LOG2_MAX)
		return false;
	*n = (uint64_t)1 << log2;
	*p = 1;
	if (operations >= memory / 32) {
		pr = operations / 4 / *n;
		*p = (uint32_t)((pr > 0x3fffffff ? 0x3fffffff : pr) / 8);
	}
	return *p >= 1 && *p <= 1024;
}

/* Mix the stream of the password into hidden: hides it, or shows it again. */
static int
mix_password(struct file *f, const char *password)
{
	uint64_t operations, memory, n, limit = 2ull << 30;
	uint32_t p, r = 8;
	uint8_t stream[HIDDEN_LEN];
	EVP_KDF *kdf = NULL;
	EVP_KDF_CTX *ctx = NULL;
	OSSL_PARAM params[7];
	int rc = -EOPNOTSUPP;

	memcpy(&operations, f->operations, 8);
	memcpy(&memory, f->memory, 8);
	if (!scrypt_cost(le64toh(operations), le64toh(memory), &n, &p))
		return -EOPNOTSUPP;
	params[0] = OSSL_PARAM_construct_octet_string(
	    OSSL_KDF_PARAM_PASSWORD, (void *)password, strlen(password));
	params[1] = OSSL_PARAM_construct_octet_string(
	    OSSL_KDF_PARAM_SALT, f->salt, SALT_LEN);
	params[2] = OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n);
	params[3] = OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r);
	params[4] = OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p);
	params[5] =
	    OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &limit);
	params[6] = OSSL_PARAM_construct_end();
	kdf = EVP_KDF_fetch(NULL, "SCRYPT", NULL);
	ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
	if (ctx == NULL ||
	    EVP_KDF_derive(ctx, stream, sizeof(stream), params) != 1)
		goto out;
	for (size_t i = 0; i < HIDDEN_LEN; i++)
		f->hidden[i] ^= stream[i];
	rc = 0;
out:
	OPENSSL_cleanse(stream, sizeof(stream));
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return rc;
}

/* ---- the file ------------------------------------------------------------ */

static void
sum_of(const struct file *f, uint8_t out[SUM_LEN])
{
	uint8_t text[2 + 8 + 64];

	memcpy(text, f->algorithm, 2);
	memcpy(text + 2, f->hidden, 8 + 64);
	blake2b_256(text, sizeof(text), out);
	OPENSSL_cleanse(text, sizeof(text));
}

/* The public half of a seed. */
static bool
public_of(const uint8_t seed[32], uint8_t out[32])
{
	EVP_PKEY *key =
	    EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
	size_t n = 32;
	bool ok = key != NULL &&
	    EVP_PKEY_get_raw_public_key(key, out, &n) == 1 && n == 32;

	EVP_PKEY_free(key);
	return ok;
}

/* Is what hidden holds now a key? Without a password there is no sum. */
static bool
makes_sense(const struct file *f, bool summed)
{
	uint8_t sum[SUM_LEN], half[32];

	sum_of(f, sum);
	return (!summed || CRYPTO_memcmp(sum, f->hidden + 72, SUM_LEN) == 0) &&
	    public_of(f->hidden + 8, half) &&
	    memcmp(half, f->hidden + 40, sizeof(half)) == 0;
}

int
minisign_secret_parse(
    const char *text, const char *password, struct minisign_secret *s_out)
{
	static const uint8_t plain[2] = { 0, 0 };
	bool commented = strncmp(text, "untrusted comment:", 18) == 0, open;
	char *line = minisign_line(text, commented ? 1 : 0, 256);
	struct file f;
	int rc = minisign_octets(line, &f, sizeof(f));

	if (line != NULL)
		OPENSSL_cleanse(line, strlen(line));
	free(line);
	if (rc != 0)
		return rc;
	open = memcmp(f.derivation, plain, 2) == 0;
	if (memcmp(f.algorithm, "Ed", 2) != 0 ||
	    memcmp(f.checksum, "B2", 2) != 0)
		rc = -EINVAL;
	else if (!open && memcmp(f.derivation, "Sc", 2) != 0)
		rc = -EOPNOTSUPP;
	else if (!open && password == NULL)
		rc = -EACCES;
	else if (!open)
		rc = mix_password(&f, password);
	if (rc == 0 && !makes_sense(&f, !open))
		rc = open ? -EINVAL : -EACCES;
	if (rc == 0) {
		memcpy(s_out->id, f.hidden, 8);
		memcpy(s_out->key, f.hidden + 8, 64);
	}
	OPENSSL_cleanse(&f, sizeof(f));
	return rc;
}

int
minisign_generate(
    const char *password, struct minisign_public *p_out, char **secret_text_out)
{
	uint64_t operations = htole64(NEW_OPERATIONS),
		 memory = htole64(NEW_MEMORY);
	struct file f = { .algorithm = "Ed", .checksum = "B2" };
	int rc = 0;
	char *code;

	if (RAND_bytes(f.hidden, 8) != 1 ||
	    RAND_priv_bytes(f.hidden + 8, 32) != 1 ||
	    !public_of(f.hidden + 8, f.hidden + 40) ||
	    (password != NULL && RAND_bytes(f.salt, SALT_LEN) != 1))
		return -EIO;
	memcpy(p_out->id, f.hidden, 8);
	memcpy(p_out->key, f.hidden + 40, 32);
	if (password != NULL) {
		sum_of(&f, f.hidden + 72);
		memcpy(f.derivation, "Sc", 2);
		memcpy(f.operations, &operations, 8);
		memcpy(f.memory, &memory, 8);
		rc = mix_password(&f, password);
	}
	if (rc == 0) {
		code = base64_encode(&f, sizeof(f));
		*secret_text_out =
		    xasprintf("untrusted comment: minisign %s secret key\n%s\n",
			password != NULL ? "encrypted" : "unencrypted", code);
		OPENSSL_cleanse(code, strlen(code));
		free(code);
	}
	OPENSSL_cleanse(&f, sizeof(f));
	return rc;
}
