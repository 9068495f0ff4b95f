/*
 * provider_s3.c - S3 and what speaks its protocol, by SigV4 presigned queries
 *
 * Headers that the store can check are signed with the URI, so a gateway can
 * neither change the type nor send another body than it announced: AWS refuses
 * a body that does not fit x-amz-checksum-sha256, and answers with what it has
 * found (Amazon S3 API Reference, PutObject). Where the store does not know
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

#include "aws_sts.h"
#include "bucket.h"
#include "problem.h"
#include "url.h"
#include "xalloc.h"
#include "xml_store.h"

/* The smallest part that S3 takes. */
#define PART_MIN (5 << 20)
#define CAPITALS "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define SHA256_HEADER "x-amz-checksum-sha256"

struct s3 {
	struct bucket bucket;
	struct endpoint sts;
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
	    strspn(b, "abcdefghijklmnopqrstuvwxyz0123456789.-_" CAPITALS) ==
	    n &&
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

/* Can it stand in a host's name? Old buckets have capitals, and dots do not fit
 * the certificate. */
static bool
is_label(const char *b)
{
	size_t n = strlen(b);

	return strspn(b, "abcdefghijklmnopqrstuvwxyz0123456789-") == n &&
	    b[0] != '-' && b[n - 1] != '-';
}

/* Virtual-host style: wanted, or AWS and the certificate fits the name. */
static bool
is_virtual(const struct storage *s, const struct endpoint *e)
{
	const char *a = s->text[ST_ADDRESSING];

	if (a != NULL)
		return strcasecmp(a, "virtual") == 0;
	return s->text[ST_ENDPOINT] == NULL && is_label(s->text[ST_BUCKET]) &&
	    !endpoint_is_address(e);
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
	if (s->text[ST_SESSION_TOKEN] != NULL)
		storage_warn(s,
		    "sessionToken: URIs end with the session, and nothing can "
		    "be signed after it; roleArn fetches sessions anew");
	if (s->part_size != 0 && s->part_size < PART_MIN)
		problem_field(p, "/partSize", "Use 5 MiB or more.",
		    "S3 takes no smaller parts.");
}

static void
check_role(struct storage *s, struct s3 *x, struct problem *p)
{
	const char *given = s->text[ST_STS_ENDPOINT];
	char *uri;

	if (s->text[ST_ROLE_ARN] == NULL)
		return;
	if (strncmp(s->text[ST_ROLE_ARN], "arn:", 4) != 0)
		problem_field(p, "/roleArn",
		    "It reads arn:aws:iam::111122223333:role/NAME.",
		    "This is no ARN of a role.");
	if (given == NULL && s->text[ST_ENDPOINT] != NULL)
		given = s->text[ST_ENDPOINT];
	uri = given != NULL
	    ? xstrdup(given)
	    : xasprintf("https://sts.%s.amazonaws.com%s", x->region,
		  strncmp(x->region, "cn-", 3) == 0 ? ".cn" : "");
	if (endpoint_parse(uri, &x->sts) != 0 ||
	    (strcmp(x->sts.scheme, "http") == 0 && !s->allow_http))
		problem_field(p, "/stsEndpoint", "Write https://HOST.",
		    "This is no address to ask for credentials.");
	free(uri);
}

/* The region that a host of AWS names, "s3.REGION.amazonaws.com"; malloc'd, or
 * NULL. */
static char *
region_of(const char *host)
{
	const char *end = strstr(host, ".amazonaws.com");

	if (strncmp(host, "s3.", 3) != 0 || end == NULL || end <= host + 3 ||
	    memchr(host + 3, '.', (size_t)(end - host - 3)) != NULL)
		return NULL;
	return xstrndup(host + 3, (size_t)(end - host - 3));
}

/* What is easily mixed up in an endpoint: the region, and the bucket. */
static void
check_given(struct storage *s, struct s3 *x)
{
	const char *host = x->bucket.endpoint.host;
	const char *bucket = s->text[ST_BUCKET];
	size_t n = bucket != NULL ? strlen(bucket) : 0;
	char *region = region_of(host);

	if (region != NULL && s->text[ST_REGION] == NULL) {
		s->text[ST_REGION] = region;
		x->region = region;
		region = NULL;
	} else if (region != NULL && strcmp(region, x->region) != 0) {
		storage_warn(s, "endpoint is in %s, and region is %s", region,
		    x->region);
	}
	free(region);
	if (n > 0 && strncmp(host, bucket, n) == 0 && host[n] == '.')
		storage_warn(s,
		    "endpoint begins with the bucket's name: leave it out "
		    "there, else objects go below %s/ of the bucket",
		    bucket);
}

static void
s3_check(struct storage *s, struct problem *p)
{
	struct s3 *x = xcalloc(1, sizeof(*x));
	const char *bucket = s->text[ST_BUCKET];
	bool virtual;
	char *own;

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
	own = aws_endpoint(x->region);
	bucket_endpoint(&x->bucket, s, own, p);
	free(own);
	if (p->status == 0 && s->text[ST_ENDPOINT] != NULL)
		check_given(s, x);
	check_role(s, x, p);
	if (p->status != 0 || bucket == NULL)
		return;
	virtual = is_virtual(s, &x->bucket.endpoint);
	if (virtual && endpoint_is_address(&x->bucket.endpoint)) {
		problem_field(p, "/addressing", "Use path.",
		    "An IP address can have no bucket before it.");
		return;
	}
	if (virtual && strpbrk(bucket, CAPITALS "_") != NULL) {
		problem_field(p, "/addressing", "Use path.",
		    "Hosts' names have no capitals and underlines.");
		return;
	}
	bucket_place(
	    &x->bucket, bucket, virtual ? BUCKET_VIRTUAL : BUCKET_PATH);
}

static void
s3_free_priv(void *priv)
{
	struct s3 *x = priv;

	bucket_fini(&x->bucket);
	endpoint_fini(&x->sts);
	pthread_rwlock_destroy(&x->lock);
	sigv4_key_fini(&x->key);
	free(x);
}

static void
s3_hosts(const struct storage *s, cJSON *array)
{
	const struct s3 *x = s->priv;

	cJSON_AddItemToArray(array, cJSON_CreateString(x->bucket.host));
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
	struct sigv4_request q;
	struct sigv4_key session;
	int rc = bucket_request(&x->bucket, r, &path, &q);

	if (rc != 0)
		return rc;
	if (r->cred != NULL) {
		sigv4_key_init(&session, r->cred->text[AWS_ACCESS_KEY_ID],
		    r->cred->text[AWS_SECRET_KEY],
		    r->cred->text[AWS_SESSION_TOKEN], x->region, "s3", r->at);
		rc = sigv4_presign(&session, &q, uri, NULL);
		sigv4_key_fini(&session);
	} else {
		key_lock(s, x, r->at);
		rc = sigv4_presign(&x->key, &q, uri, NULL);
		pthread_rwlock_unlock(&x->lock);
	}
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
	headers_set(h, SHA256_HEADER, b);
	free(b);
}

/* Of a PUT, radosgw compares the text as it is, and AWS takes either. */
static void
set_unquoted(struct headers *h, const char *name, const char *etag)
{
	size_t n = strlen(etag);
	char *bare = n >= 2 && etag[0] == '"' && etag[n - 1] == '"'
	    ? xstrndup(etag + 1, n - 2)
	    : xstrdup(etag);

	headers_set(h, name, bare);
	free(bare);
}

static void
whole_headers(
    const struct storage *s, const struct upload *u, struct headers *h)
{
	char length[24];

	checksum_header(u->sha256, h);
	provider_condition(s, u, h);
	if (u->if_match != NULL && s->no_overwrite)
		set_unquoted(h, "if-match", u->if_match);
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
		.sha256_header = SHA256_HEADER,
		.signs_length = true,
	};

	return xml_recipe(&store, s, u, r);
}

/* ---- sessions of a role -------------------------------------------------- */

static bool
s3_needs_fetch(const struct storage *s)
{
	return s->text[ST_ROLE_ARN] != NULL;
}

static int
s3_fetch(const struct storage *s, const char *scope, bool allow_private,
    int64_t now_s, struct credential *out, struct fetch_error *error)
{
	const struct s3 *x = s->priv;

	return aws_assume_role(
	    s, &x->sts, x->region, scope, allow_private, now_s, out, error);
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
	{ 501, NULL,                     "wait" },
};
/* clang-format on */

/* clang-format off */
static const struct explanation explanations[] = {
	{ 0, "SignatureDoesNotMatch", "The store says that secretAccessKey is wrong",
	  "Copy the secret again; check the clock of this machine, and the region." },
	{ 0, "InvalidAccessKeyId", "The store does not know accessKeyId",
	  "Copy the key again, and check that the endpoint is that of its account." },
	{ 0, "RequestTimeTooSkewed", "The clock of this machine is wrong",
	  "Set the clock by NTP." },
	{ 0, "NoSuchBucket", "There is no such bucket",
	  "Make it at the provider, or correct bucket." },
	{ 0, "AuthorizationHeaderMalformed", "The region is wrong",
	  "Set region to that of the bucket." },
	{ 0, "AuthorizationQueryParametersError", "The region is wrong",
	  "Set region to that of the bucket." },
	{ 0, "PermanentRedirect", "The bucket is in another region",
	  "Set region to that of the bucket." },
	{ 301, NULL, "The bucket is in another region", "Set region to that of the bucket." },
	{ 0, "InvalidStorageClass", "The store does not have this storageClass",
	  "Leave storageClass out, or use one that it has." },
	{ 400, "InvalidArgument", "The store does not take a header that is sent",
	  "Check storageClass and headers; leave out what it does not have." },
	{ 501, NULL, "The store does not know a header that is sent",
	  "Set \"noOverwrite\": false if it does not know If-None-Match." },
	{ 403, NULL, "The key may not do this in the bucket",
	  "Give it s3:PutObject, s3:GetObject and s3:DeleteObject; see doc/storage-s3.md." },
};
/* clang-format on */

const struct provider provider_s3 = {
	.type = "S3",
	.texts = ST_BIT(ST_ENDPOINT) | ST_BIT(ST_BUCKET) | ST_BIT(ST_REGION) |
	    ST_BIT(ST_ADDRESSING) | ST_BIT(ST_ACCESS_KEY_ID) |
	    ST_BIT(ST_SECRET_ACCESS_KEY) | ST_BIT(ST_SESSION_TOKEN) |
	    ST_BIT(ST_STORAGE_CLASS) | ST_BIT(ST_ROLE_ARN) |
	    ST_BIT(ST_EXTERNAL_ID) | ST_BIT(ST_STS_ENDPOINT),
	.required = ST_BIT(ST_BUCKET),
	.expires_max = SIGV4_EXPIRES_MAX,
	.check = s3_check,
	.free_priv = s3_free_priv,
	.hosts = s3_hosts,
	.sign = s3_sign,
	.recipe = s3_recipe,
	.answers = answers,
	.answers_n = sizeof(answers) / sizeof(answers[0]),
	.needs_fetch = s3_needs_fetch,
	.fetch_by_scope = true,
	.fetch = s3_fetch,
	.explanations = explanations,
	.explanations_n = sizeof(explanations) / sizeof(explanations[0]),
};
