/*
 * minisign.c - signatures of manifests: public keys, making, checking
 *
 * What must stay true: nothing counts as signed before both signatures fit, the
 * one of the file and the one over it and the trusted comment; the caller's
 * keys alone decide, never what a signature says of itself. Layouts (all
 * base64, of octets):
 *	public key	"Ed", key id (8), key (32)
 *	signature	"ED" or "Ed", key id (8), signature (64)
 *	global		signature (64) over signature and trusted comment
 */
#include "minisign.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "digest.h"
#include "minisign_private.h"
#include "url.h"
#include "xalloc.h"

#define UNTRUSTED "untrusted comment: "
#define TRUSTED "trusted comment: "
#define ID_LEN 8
#define KEY_LEN 32
#define SIG_LEN 64
#define HASH_LEN 64 /* BLAKE2b-512 */

char *
minisign_line(const char *text, size_t line, size_t max)
{
	size_t n;

	for (; line > 0; line--) {
		text = strchr(text, '\n');
		if (text == NULL)
			return NULL;
		text++;
	}
	n = strcspn(text, "\n");
	if (n > 0 && text[n - 1] == '\r')
		n--;
	return n <= max ? xstrndup(text, n) : NULL;
}

int
minisign_octets(const char *line, void *out, size_t n)
{
	uint8_t *got;
	size_t got_n;
	int rc = line != NULL ? base64_decode(line, &got, &got_n) : -EINVAL;

	if (rc != 0)
		return rc;
	if (got_n == n)
		memcpy(out, got, n);
	else
		rc = -EINVAL;
	OPENSSL_cleanse(got, got_n);
	free(got);
	return rc;
}

int
minisign_public_parse(const char *text, struct minisign_public *p_out)
{
	bool commented = strncmp(text, "untrusted comment:", 18) == 0;
	char *line = minisign_line(text, commented ? 1 : 0, 128);
	uint8_t raw[2 + ID_LEN + KEY_LEN];
	int rc = minisign_octets(line, raw, sizeof(raw));

	free(line);
	if (rc != 0 || memcmp(raw, "Ed", 2) != 0)
		return -EINVAL;
	memcpy(p_out->id, raw + 2, ID_LEN);
	memcpy(p_out->key, raw + 2 + ID_LEN, KEY_LEN);
	return 0;
}

char *
minisign_public_text(const struct minisign_public *p)
{
	uint8_t raw[2 + ID_LEN + KEY_LEN] = "Ed";
	char *code, *text, id[2 * ID_LEN + 1];
	uint8_t shown[ID_LEN];

	for (int i = 0; i < ID_LEN; i++) /* as the program shows it */
		shown[i] = p->id[ID_LEN - 1 - i];
	hex_encode(shown, ID_LEN, id);
	for (char *c = id; *c != '\0'; c++)
		if (*c >= 'a')
			*c = (char)(*c - 'a' + 'A');
	memcpy(raw + 2, p->id, ID_LEN);
	memcpy(raw + 2 + ID_LEN, p->key, KEY_LEN);
	code = base64_encode(raw, sizeof(raw));
	text = xasprintf(UNTRUSTED "minisign public key %s\n%s\n", id, code);
	free(code);
	return text;
}

static bool
hash(const void *data, size_t n, uint8_t out[HASH_LEN])
{
	unsigned len;

	return EVP_Digest(data, n, out, &len, EVP_blake2b512(), NULL) == 1 &&
	    len == HASH_LEN;
}

static bool
sign_raw(const struct minisign_secret *s, const void *data, size_t n,
    uint8_t sig[SIG_LEN])
{
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(
	    EVP_PKEY_ED25519, NULL, s->key, KEY_LEN);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t len = SIG_LEN;
	bool ok = key != NULL && ctx != NULL &&
	    EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
	    EVP_DigestSign(ctx, sig, &len, data, n) == 1 && len == SIG_LEN;

	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return ok;
}

static bool
verify_raw(const struct minisign_public *p, const void *data, size_t n,
    const uint8_t sig[SIG_LEN])
{
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key(
	    EVP_PKEY_ED25519, NULL, p->key, KEY_LEN);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = key != NULL && ctx != NULL &&
	    EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
	    EVP_DigestVerify(ctx, sig, SIG_LEN, data, n) == 1;

	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return ok;
}

/* What the second signature is over: the first, then the comment. malloc'd. */
static uint8_t *
with_comment(const uint8_t sig[SIG_LEN], const char *comment, size_t *n_out)
{
	size_t n = strlen(comment);
	uint8_t *p = xmalloc(SIG_LEN + n);

	memcpy(p, sig, SIG_LEN);
	memcpy(p + SIG_LEN, comment, n);
	*n_out = SIG_LEN + n;
	return p;
}

int
minisign_sign(const struct minisign_secret *s, const void *data, size_t n,
    const char *comment, char **signature_out)
{
	uint8_t raw[2 + ID_LEN + SIG_LEN] = "ED", md[HASH_LEN];
	uint8_t *sig = raw + 2 + ID_LEN, *both, global[SIG_LEN];
	char *first, *second;
	size_t both_n;
	bool ok;

	if (strpbrk(comment, "\r\n") != NULL ||
	    strlen(comment) >= MINISIGN_COMMENT_MAX)
		return -EINVAL;
	memcpy(raw + 2, s->id, ID_LEN);
	if (!hash(data, n, md) || !sign_raw(s, md, sizeof(md), sig))
		return -EIO;
	both = with_comment(sig, comment, &both_n);
	ok = sign_raw(s, both, both_n, global);
	free(both);
	if (!ok)
		return -EIO;
	first = base64_encode(raw, sizeof(raw));
	second = base64_encode(global, sizeof(global));
	*signature_out = xasprintf(UNTRUSTED
	    "signature from minisign secret key\n%s\n" TRUSTED "%s\n%s\n",
	    first, comment, second);
	free(first);
	free(second);
	return 0;
}

struct signature {
	bool prehashed;
	uint8_t id[ID_LEN], sig[SIG_LEN], global[SIG_LEN];
	char comment[MINISIGN_COMMENT_MAX];
};

static int
read_signature(const char *text, struct signature *s)
{
	char *lines[4] = { NULL };
	uint8_t raw[2 + ID_LEN + SIG_LEN];
	int rc = -EINVAL;

	if (strlen(text) > MINISIGN_SIGNATURE_MAX)
		return -EINVAL;
	for (size_t i = 0; i < 4; i++)
		lines[i] = minisign_line(text, i, MINISIGN_SIGNATURE_MAX);
	if (lines[3] == NULL || strncmp(lines[0], UNTRUSTED, 18) != 0 ||
	    strncmp(lines[2], TRUSTED, strlen(TRUSTED)) != 0 ||
	    strlen(lines[2] + strlen(TRUSTED)) >= sizeof(s->comment) ||
	    minisign_octets(lines[1], raw, sizeof(raw)) != 0 ||
	    minisign_octets(lines[3], s->global, SIG_LEN) != 0)
		goto out;
	s->prehashed = memcmp(raw, "ED", 2) == 0;
	if (!s->prehashed && memcmp(raw, "Ed", 2) != 0)
		goto out;
	memcpy(s->id, raw + 2, ID_LEN);
	memcpy(s->sig, raw + 2 + ID_LEN, SIG_LEN);
	snprintf(
	    s->comment, sizeof(s->comment), "%s", lines[2] + strlen(TRUSTED));
	rc = 0;
out:
	for (size_t i = 0; i < 4; i++)
		free(lines[i]);
	return rc;
}

static bool
fits(const struct minisign_public *p, const struct signature *s,
    const void *data, size_t n)
{
	uint8_t md[HASH_LEN], *both;
	size_t both_n;
	bool ok;

	if (s->prehashed)
		ok = hash(data, n, md) && verify_raw(p, md, sizeof(md), s->sig);
	else
		ok = verify_raw(p, data, n, s->sig);
	if (!ok)
		return false;
	both = with_comment(s->sig, s->comment, &both_n);
	ok = verify_raw(p, both, both_n, s->global);
	free(both);
	return ok;
}

int
minisign_verify(const struct minisign_public *keys, size_t keys_n,
    const void *data, size_t n, const char *signature,
    char comment_out[MINISIGN_COMMENT_MAX])
{
	struct signature s;
	int rc = read_signature(signature, &s);

	if (rc != 0)
		return rc;
	rc = -ENOKEY;
	for (size_t i = 0; i < keys_n && rc != 0; i++) {
		if (memcmp(keys[i].id, s.id, ID_LEN) != 0)
			continue;
		/* Two keys may have one id: each gets its try. */
		rc = fits(&keys[i], &s, data, n) ? 0 : -EBADMSG;
	}
	if (rc == 0 && comment_out != NULL)
		memcpy(comment_out, s.comment, sizeof(s.comment));
	return rc;
}
