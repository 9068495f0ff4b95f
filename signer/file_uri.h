/*
 * file_uri.h - signed URIs of the embedded FILE storage
 *
 * /v1/files/TENANT/STORAGE/KEY?X-Edge-...: method, expiry and whatever was
 * announced of the body stand in the query; X-Edge-Signature is the
 * HMAC-SHA256 over all of them and the path, under a key derived from the
 * state's key. Pure functions.
 */
#ifndef FILE_URI_H
#define FILE_URI_H

#include <stdint.h>

#include "digest.h"
#include "text.h"

#define FILE_URI_PREFIX "/v1/files/"

/* NULL or -1: not announced, not checked. Texts of a parsed one are owned. */
struct file_claim {
	char *method, *tenant, *storage, *key;
	char *sha256, *type, *encoding;
	char *metadata; /* a JSON object of texts */
	char *replace;  /* the object whose SHA-256 this is */
	int64_t size;
	int64_t expiry; /* Unix seconds */
};
void file_claim_fini(struct file_claim *c);

/* Append path and query. */
void file_uri_write(
    const struct hmac_key *k, const struct file_claim *c, struct text *uri);
/*
 * The claim of a target (path percent-encoded as it was sent, raw query).
 * -EKEYREJECTED: wrong or missing signature. -EINVAL: malformed. The expiry is
 * the caller's to compare.
 */
int file_uri_parse(const struct hmac_key *k, const char *path,
    const char *query, struct file_claim *c_out);

#endif
