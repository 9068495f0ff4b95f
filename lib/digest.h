/*
 * digest.h - SHA-256, HMAC-SHA256 (RFC 2104) and base64 (RFC 4648)
 */
#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>
#include <stdint.h>
#include <openssl/sha.h>

#define DIGEST_LEN 32

/* A key made ready: two compressed blocks, so a short HMAC costs two more. */
struct hmac_key {
	SHA256_CTX inner, outer;
};

void digest_sha256(const void *p, size_t n, uint8_t out[DIGEST_LEN]);
/* 64 lower-case hex digits and a NUL. */
void digest_sha256_hex(const void *p, size_t n, char out[65]);
void hmac_key_init(struct hmac_key *k, const void *key, size_t n);
void hmac_sha256(
    const struct hmac_key *k, const void *p, size_t n, uint8_t out[DIGEST_LEN]);

/* Standard alphabet with padding, malloc'd. */
char *base64_encode(const void *p, size_t n);
/* URL alphabet without padding, malloc'd. */
char *base64url_encode(const void *p, size_t n);
/*
 * Strict: padding where it belongs, no blanks, no stray bits. *out is malloc'd
 * with a NUL after it. -EINVAL.
 */
int base64_decode(const char *s, uint8_t **out, size_t *n_out);

#endif
