/*
 * digest.c - SHA-256, HMAC-SHA256 and base64
 *
 * The low-level SHA256_*() calls are used on purpose although libcrypto 3
 * calls them deprecated: a context is a plain struct, so a prepared key can be
 * copied and a short hash needs no allocation and no look-up of a provider.
 * Presigning spends its time here; with EVP it is three times slower.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "digest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "url.h"
#include "xalloc.h"

void
digest_sha256(const void *p, size_t n, uint8_t out[DIGEST_LEN])
{
	SHA256_CTX c;

	SHA256_Init(&c);
	SHA256_Update(&c, p, n);
	SHA256_Final(out, &c);
}

void
digest_sha256_hex(const void *p, size_t n, char out[65])
{
	uint8_t md[DIGEST_LEN];

	digest_sha256(p, n, md);
	hex_encode(md, sizeof(md), out);
}

void
hmac_key_init(struct hmac_key *k, const void *key, size_t n)
{
	uint8_t block[64] = { 0 };

	if (n > sizeof(block))
		digest_sha256(key, n, block);
	else if (n != 0)
		memcpy(block, key, n);
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] ^= 0x36;
	SHA256_Init(&k->inner);
	SHA256_Update(&k->inner, block, sizeof(block));
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] ^= 0x36 ^ 0x5c;
	SHA256_Init(&k->outer);
	SHA256_Update(&k->outer, block, sizeof(block));
	OPENSSL_cleanse(block, sizeof(block));
}

void
hmac_sha256(
    const struct hmac_key *k, const void *p, size_t n, uint8_t out[DIGEST_LEN])
{
	SHA256_CTX c = k->inner;

	SHA256_Update(&c, p, n);
	SHA256_Final(out, &c);
	c = k->outer;
	SHA256_Update(&c, out, DIGEST_LEN);
	SHA256_Final(out, &c);
}

char *
base64_encode(const void *p, size_t n)
{
	char *s = xmalloc((n + 2) / 3 * 4 + 1);

	EVP_EncodeBlock((unsigned char *)s, p, (int)n);
	return s;
}

char *
base64url_encode(const void *p, size_t n)
{
	char *s = base64_encode(p, n);

	for (char *c = s; *c != '\0'; c++)
		if (*c == '+')
			*c = '-';
		else if (*c == '/')
			*c = '_';
		else if (*c == '=')
			*c = '\0';
	return s;
}

int
base64_decode(const char *s, uint8_t **out, size_t *n_out)
{
	static const char alphabet[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = strlen(s), plain = strspn(s, alphabet), pad = n - plain;
	uint8_t *buf;
	char *again;
	int len;

	if (n == 0 || n % 4 != 0 || n > 1 << 20 || pad > 2 ||
	    strspn(s + plain, "=") != pad)
		return -EINVAL;
	buf = xmalloc(n / 4 * 3 + 1);
	len = EVP_DecodeBlock(buf, (const unsigned char *)s, (int)n);
	if (len < 0) {
		free(buf);
		return -EINVAL;
	}
	len -= (int)pad;
	buf[len] = '\0';
	again = base64_encode(buf, (size_t)len);
	if (strcmp(again, s) != 0) { /* bits that no octet holds */
		free(again);
		free(buf);
		return -EINVAL;
	}
	free(again);
	*out = buf;
	*n_out = (size_t)len;
	return 0;
}
