/*
 * sigv4.h - AWS Signature Version 4 and its twin of Google Cloud Storage
 *
 * Presigned query ("Authenticating Requests: Using Query Parameters", S3 API
 * reference) and Authorization header ("Using the Authorization Header").
 * GCS V4 ("V4 signing process") is the same text under other names with an RSA
 * signature, so the canonical request is made here for both. Pure functions:
 * the time is an argument.
 */
#ifndef SIGV4_H
#define SIGV4_H

#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "text.h"

#define SIGV4_PAIRS_MAX 64
#define SIGV4_EXPIRES_MAX 604800

/* A header or a query parameter, decoded, as a user writes it. */
struct pair {
	const char *name, *value;
};

struct sigv4_request {
	const char *method, *scheme;
	const char *host;           /* as in Host: without a default port */
	const char *path;           /* absolute, already percent-encoded once */
	const struct pair *headers; /* to be signed besides host */
	size_t headers_n;
	const struct pair *query; /* all of them are signed */
	size_t query_n;
	int64_t at;       /* Unix seconds */
	int64_t expires;  /* seconds, 1..SIGV4_EXPIRES_MAX */
	const char *body; /* sigv4_authorize only; NULL: empty */
	size_t body_n;
};

/* What is the same for all requests of one day, region and service. */
struct sigv4_key {
	char *access_key, *token; /* token: NULL for permanent credentials */
	char *scope;              /* "20260102/REGION/s3/aws4_request" */
	int64_t day;              /* Unix day it is for */
	struct hmac_key hmac;
};

void sigv4_key_init(struct sigv4_key *k, const char *access_key,
    const char *secret, const char *token, const char *region,
    const char *service, int64_t at);
void sigv4_key_fini(struct sigv4_key *k);

/*
 * Append the presigned URI to *uri. *why_out (may be NULL): canonical request
 * and string to sign, malloc'd. -ERANGE: expires. -EINVAL: a header or query
 * name or value that cannot be sent (CR, LF, controls, twice, host, not
 * UTF-8), or `at` is of another day than the key.
 */
int sigv4_presign(const struct sigv4_key *k, const struct sigv4_request *r,
    struct text *uri, char **why_out);
/*
 * Make the headers of a signed request: x-amz-date, x-amz-content-sha256,
 * x-amz-security-token and Authorization, each "Name: value", to out[4];
 * *n_out of them, malloc'd. Errors as above.
 */
int sigv4_authorize(const struct sigv4_key *k, const struct sigv4_request *r,
    char *out[4], size_t *n_out);

/* Signs the string to sign: hex digits to *out. 0 or -errno. */
typedef int (*gcs_v4_sign)(
    const char *s, size_t n, struct text *out, void *arg);
/*
 * GOOG4-RSA-SHA256. email is the service account's; region is "auto". A signed
 * x-goog-content-sha256 stands for the payload.
 */
int gcs_v4_presign(const char *email, const char *region, gcs_v4_sign sign,
    void *arg, const struct sigv4_request *r, struct text *uri);

/* Can it be sent as a header (RFC 9110 section 5.5, visible ASCII, blanks and
 * UTF-8)? */
int pair_check_header(const struct pair *p);

#endif
