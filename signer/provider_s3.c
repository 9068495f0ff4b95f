/*
 * provider_s3.c - S3 and what speaks its protocol, by SigV4 presigned queries
 *
 * Headers that the store can check are signed with the URI, so a gateway can
 * neither change the type nor send another body than it announced: AWS refuses
 * a body that does not fit x-amz-checksum-sha256. Where the store does not know
 * that header (radosgw 16, Swift) the ETag, which is the MD5 of a body sent in
 * one piece, is compared by the agent, and x-amz-meta-sha256 serves HEAD.
 */
#include "provider.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "endpoint.h"
#include "problem.h"
#include "url.h"
#include "xml_store.h"
#include "xalloc.h"

/* The smallest part that S3 takes. */
#define PART_MIN (5 << 20)

struct s3 {
	struct endpoint endpoint;
	char *host;   /* authority of every URI */
	char *prefix; /* of the path: "/prefix/bucket" or "/prefix" */
	const char *region;
	bool etag_is_md5;
	pthread_rwlock_t lock; /* of key */
	struct sigv4_key key;  /* of the day that was signed for last */
};

/* The endpoint that AWS has for a region. */
static char *
aws_endpoint(const char *region)
{
	return xasprintf("https://s3.%s.amazonaws.com%s", region,
	    strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

static bool
bucket_ok(const char *b)
{
	size_t n = strlen(b);

	return n >= 3 && n <= 63 &&
	    strspn(b,
		"abcdefghijklmnopqrstuvwxyz0123456789.-_"
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ") == n &&
	    strstr(b, "..") == NULL && b[0] != '.' && b[0] != '-';
}

static bool
region_ok(const char *r)
{
	size_t n = strlen(r);

	return n <= 64 &&
	    strspn(r,
		"abcdefghijklmnopqrstuvwxyz0123456789-_"
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ.") == n;
}

/* Virtual-host style: wanted, or AWS and the certificate fits the name. */
static bool
is_virtual(const struct storage *s, const struct endpoint *e)
{
	const char *a = s->text[ST_ADDRESSING];

	if (a != NULL)
		return strcasecmp(a, "virtual") == 0;
	return s->text[ST_ENDPOINT] == NULL &&
	    strchr(s->text[ST_BUCKET], '.') == NULL && !endpoint_is_address(e);
}

static void
check_endpoint(struct storage *s, struct s3 *x, struct problem *p)
{
	const char *given = s->text[ST_ENDPOINT];
	char *own = given == NULL ? aws_endpoint(x->region) : NULL;

	if (endpoint_parse(given != NULL ? given : own, &x->endpoint) != 0)
		problem_field(p, "/endpoint",
		    "Write https://HOST, https://HOST:PORT or "
		    "https://HOST/PREFIX.",
		    "This is no address of a service.");
	else if (strcmp(x->endpoint.scheme, "http") == 0 && !s->allow_http)
		problem_field(p, "/endpoint",
		    "Use https, or set \"allowHttp\": true for a store that "
		    "has no TLS.",
		    "Plain http would show the uploads to everyone on the "
		    "way.");
	free(own);
}

static void
check_fields(struct storage *s, struct problem *p)
{
	const char *a = s->text[ST_ADDRESSING], *b = s->text[ST_BUCKET];

	if (b != NULL && !bucket_ok(b))
		problem_field(p, "/bucket",
		    "A bucket has 3 to 63 letters, digits, dots, dashes.",
		    "This is no name of a bucket.");
	if (a != NULL && strcasecmp(a, "path") != 0 &&
	    strcasecmp(a, "virtual") != 0)
		problem_field(p, "/addressing", "Write path or virtual.",
		    "There is no such style of addressing.");
	if (s->text[ST_ACCESS_KEY_ID] == NULL ||
	    s->text[ST_SECRET_ACCESS_KEY] == NULL)
		problem_field(p,
		    s->text[ST_ACCESS_KEY_ID] == NULL ? "/accessKeyId"
						      : "/secretAccessKey",
		    "Set accessKeyId and secretAccessKey (with sessionToken "
		    "for temporary ones).",
		    "There are no credentials to sign with.");
	if (s->part_size != 0 && s->part_size < PART_MIN)
		problem_field(p, "/partSize", "Use 5 MiB or more.",
		    "S3 takes no smaller parts.");
}

static void
s3_check(struct storage *s, struct problem *p)
{
	struct s3 *x = xcalloc(1, sizeof(*x));
	const char *bucket = s->text[ST_BUCKET];
	bool virtual;

	s->priv = x;
	pthread_rwlock_init(&x->lock, NULL);
	x->key.day = -1;
	x->region =
	    s->text[ST_REGION] != NULL ? s->text[ST_REGION] : "us-east-1";
	x->etag_is_md5 = true;
	for (size_t i = 0; i < s->headers_n; i++)
		if (strncasecmp(s->headers[i].name,
			"x-amz-server-side-encryption", 28) == 0 &&
		    strcasecmp(s->headers[i].value, "AES256") != 0)
			x->etag_is_md5 = false;
	if (s->part_size == 0)
		s->part_size = 64 << 20;
	check_fields(s, p);
	if (!region_ok(x->region)) {
		problem_field(p, "/region", "For example eu-central-1.",
		    "This is no name of a region.");
		return;
	}
	check_endpoint(s, x, p);
	if (p->status != 0 || bucket == NULL)
		return;
	virtual = is_virtual(s, &x->endpoint);
	if (virtual && endpoint_is_address(&x->endpoint)) {
		problem_field(p, "/addressing", "Use path.",
		    "An IP address can have no bucket before it.");
		return;
	}
	x->host = endpoint_authority(&x->endpoint, virtual ? bucket : NULL);
	x->prefix = xasprintf("%s%s%s", x->endpoint.path, virtual ? "" : "/",
	    virtual ? "" : bucket);
}

static void
s3_free_priv(void *priv)
{
	struct s3 *x = priv;

	endpoint_fini(&x->endpoint);
	free(x->host);
	free(x->prefix);
	pthread_rwlock_destroy(&x->lock);
	sigv4_key_fini(&x->key);
	free(x);
}

static void
s3_hosts(const struct storage *s, cJSON *array)
{
	const struct s3 *x = s->priv;

	cJSON_AddItemToArray(array, cJSON_CreateString(x->host));
}

static void
s3_path(const struct s3 *x, const char *key, struct text *path)
{
	text_str(path, x->prefix);
	text_char(path, '/');
	if (key != NULL)
		text_encode(path, key, strlen(key), true);
}

/* Take the lock with a key for the day of `at` behind it. */
static void
key_lock(const struct storage *s, struct s3 *x, int64_t at)
{
	pthread_rwlock_rdlock(&x->lock);
	if (x->key.day == at / 86400)
		return;
	pthread_rwlock_unlock(&x->lock);
	pthread_rwlock_wrlock(&x->lock);
	if (x->key.day == at / 86400)
		return;
	sigv4_key_fini(&x->key);
	sigv4_key_init(&x->key, s->text[ST_ACCESS_KEY_ID],
	    s->text[ST_SECRET_ACCESS_KEY], s->text[ST_SESSION_TOKEN], x->region,
	    "s3", at);
}

static int
s3_sign(const struct storage *s, const struct sign_request *r, struct text *uri)
{
	struct s3 *x = s->priv;
	struct text path = { 0 };
	struct sigv4_request q = {
		.method = r->method,
		.scheme = x->endpoint.scheme,
		.host = x->host,
		.headers = r->headers,
		.headers_n = r->headers_n,
		.query = r->query,
		.query_n = r->query_n,
		.at = r->at,
		.expires = r->expires,
	};
	int rc;

	if (r->key != NULL && provider_check_key(r->key) != 0)
		return -EINVAL;
	s3_path(x, r->key, &path);
	q.path = path.s;
	key_lock(s, x, r->at);
	rc = sigv4_presign(&x->key, &q, uri, NULL);
	pthread_rwlock_unlock(&x->lock);
	text_fini(&path);
	return rc;
}

/* ---- recipes ------------------------------------------------------------- */

static void
checksum_header(const char *sha256, struct headers *h)
{
	uint8_t md[DIGEST_LEN];
	char *b;

	if (sha256 == NULL || hex_decode(sha256, md, sizeof(md)) != 0)
		return;
	b = base64_encode(md, sizeof(md));
	headers_set(h, "x-amz-checksum-sha256", b);
	free(b);
}

static void
whole_headers(
    const struct storage *s, const struct upload *u, struct headers *h)
{
	char length[24];

	checksum_header(u->sha256, h);
	if (s->no_overwrite)
		headers_set(h, "if-none-match", "*");
	if (u->size >= 0) {
		snprintf(length, sizeof(length), "%lld", (long long)u->size);
		headers_set(h, "content-length", length);
	}
}

static int
s3_recipe(const struct storage *s, const struct upload *u, struct recipe *r)
{
	const struct s3 *x = s->priv;
	const struct xml_store store = {
		.prefix = "x-amz-",
		.whole_headers = whole_headers,
		.etag_is_md5 = x->etag_is_md5,
		.signs_length = true,
	};

	return xml_recipe(&store, s, u, r);
}

/*
 * 403 AccessDenied is also what an expired URI gives (radosgw, Swift and AWS
 * tell them apart only in the text), so a fresh one is tried first.
 */
/* clang-format off */
static const struct answer answers[] = {
	{ 403, "RequestTimeTooSkewed",   "sign" },
	{ 403, "ExpiredToken",           "sign" },
	{ 400, "ExpiredToken",           "sign" },
	{ 403, "SignatureDoesNotMatch",  "wait" },
	{ 403, "InvalidAccessKeyId",     "wait" },
	{ 403, "AccountProblem",         "wait" },
	{ 403, NULL,                     "sign" },
	{ 412, NULL,                     "verify" },
	{ 409, "BucketAlreadyExists",    "wait" },
	{ 409, NULL,                     "retry" },
	{ 404, "NoSuchUpload",           "verify" },
	{ 404, NULL,                     "wait" },
	{ 400, "EntityTooLarge",         "quarantine" },
	{ 400, "KeyTooLongError",        "quarantine" },
	{ 400, "BadDigest",              "retry" },
	{ 400, "XAmzContentChecksumMismatch", "retry" },
	{ 400, "IncompleteBody",         "retry" },
	{ 400, "RequestTimeout",         "retry" },
	{ 400, "InvalidPart",            "verify" },
	{ 400, NULL,                     "wait" },
	{ 413, NULL,                     "quarantine" },
	{ 429, NULL,                     "retry" },
	{ 500, NULL,                     "retry" },
	{ 501, NULL,                     "wait" },
	{ 502, NULL,                     "retry" },
	{ 503, NULL,                     "retry" },
	{ 504, NULL,                     "retry" },
};
/* clang-format on */

const struct provider provider_s3 = {
	.type = "S3",
	.texts = ST_BIT(ST_ENDPOINT) | ST_BIT(ST_BUCKET) | ST_BIT(ST_REGION) |
	    ST_BIT(ST_ADDRESSING) | ST_BIT(ST_ACCESS_KEY_ID) |
	    ST_BIT(ST_SECRET_ACCESS_KEY) | ST_BIT(ST_SESSION_TOKEN) |
	    ST_BIT(ST_STORAGE_CLASS),
	.required = ST_BIT(ST_BUCKET),
	.expires_max = SIGV4_EXPIRES_MAX,
	.check = s3_check,
	.free_priv = s3_free_priv,
	.hosts = s3_hosts,
	.sign = s3_sign,
	.recipe = s3_recipe,
	.answers = answers,
	.answers_n = sizeof(answers) / sizeof(answers[0]),
};
