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
#include "xalloc.h"

/* Limits of S3: parts of 5 MiB at least, 10,000 of them. */
#define PART_MIN (5 << 20)
#define PARTS_MAX 10000
#define PARALLEL 4

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

static const int ok_200[] = { 200, 0 };
static const int ok_gone[] = { 204, 200, 404, 0 };

/* Sign rq (its uri is set here) with its headers and query, and add it. */
static int
add(const struct storage *s, const struct upload *u, const struct pair *query,
    size_t query_n, struct recipe_request *rq, struct recipe *r)
{
	struct sign_request sr = {
		.method = rq->method,
		.key = u->key,
		.headers = rq->headers != NULL ? rq->headers->v : NULL,
		.headers_n = rq->headers != NULL ? rq->headers->n : 0,
		.query = query,
		.query_n = query_n,
		.at = u->at,
		.expires = u->expires,
	};
	struct text uri = { 0 };
	int rc = s->provider->sign(s, &sr, &uri);

	if (rc == 0) {
		rq->uri = uri.s;
		recipe_add(r, rq);
	}
	text_fini(&uri);
	return rc;
}

/* What describes the object, for a whole upload and for the start of parts. */
static void
object_headers(
    const struct storage *s, const struct upload *u, struct headers *h)
{
	char name[160];

	headers_set(h, "content-type",
	    u->type != NULL ? u->type : "application/octet-stream");
	if (u->encoding != NULL)
		headers_set(h, "content-encoding", u->encoding);
	if (u->sha256 != NULL)
		headers_set(h, "x-amz-meta-sha256", u->sha256);
	for (size_t i = 0; i < u->metadata_n; i++) {
		snprintf(
		    name, sizeof(name), "x-amz-meta-%s", u->metadata[i].name);
		headers_set(h, name, u->metadata[i].value);
	}
	if (s->text[ST_STORAGE_CLASS] != NULL)
		headers_set(
		    h, "x-amz-storage-class", s->text[ST_STORAGE_CLASS]);
	headers_all(h, s->headers, s->headers_n);
}

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

static int
s3_whole(const struct storage *s, const struct upload *u, struct recipe *r)
{
	const struct s3 *x = s->priv;
	struct headers h = { .n = 0 };
	struct recipe_request rq = {
		.method = "PUT",
		.headers = &h,
		.body = BODY_FILE,
		.ok = ok_200,
		.keep = { { "etag", "header", "ETag" } },
	};
	char length[24];
	int rc;

	object_headers(s, u, &h);
	checksum_header(u->sha256, &h);
	if (s->no_overwrite)
		headers_set(&h, "if-none-match", "*");
	if (u->size >= 0) {
		snprintf(length, sizeof(length), "%lld", (long long)u->size);
		headers_set(&h, "content-length", length);
	}
	rc = add(s, u, NULL, 0, &rq, r);
	headers_fini(&h);
	if (rc == 0)
		recipe_verify(r, false, x->etag_is_md5 ? "ETag" : NULL,
		    x->etag_is_md5 ? "md5-hex" : NULL);
	return rc;
}

static int
s3_head(const struct storage *s, const struct upload *u, struct recipe *r)
{
	struct recipe_request rq = { .method = "HEAD", .ok = ok_200 };
	int rc = add(s, u, NULL, 0, &rq, r);

	if (rc == 0)
		recipe_verify(r, true, "x-amz-meta-sha256", "sha256-hex");
	return rc;
}

/* Parts as large as asked for, or as 10,000 of them need. */
static int64_t
part_size(const struct storage *s, const struct upload *u)
{
	int64_t size = s->part_size;

	while (part_count(u->size, size) > PARTS_MAX)
		size *= 2;
	return size;
}

static int
s3_start(const struct storage *s, const struct upload *u, struct recipe *r)
{
	struct pair query[] = { { "uploads", "" } };
	struct headers h = { .n = 0 };
	struct recipe_request rq = {
		.method = "POST",
		.headers = &h,
		.ok = ok_200,
		.keep = { { "uploadId", "tag", "UploadId" } },
	};
	int64_t size = part_size(s, u);
	int rc;

	object_headers(s, u, &h);
	rc = add(s, u, query, 1, &rq, r);
	headers_fini(&h);
	if (rc == 0) {
		recipe_verify(r, false, NULL, NULL);
		recipe_parts(r, size, part_count(u->size, size), PARALLEL);
	}
	return rc;
}

static int
s3_part(const struct storage *s, const struct upload *u, const char *id,
    struct recipe *r)
{
	int64_t size = part_size(s, u);
	char number[24], name[32];
	struct pair query[] = { { "partNumber", number }, { "uploadId", id } };
	struct headers h = { .n = 0 };
	struct recipe_request rq = {
		.method = "PUT",
		.headers = &h,
		.body = BODY_RANGE,
		.offset = (u->part - 1) * size,
		.length = part_length(u->size, size, u->part),
		.ok = ok_200,
		.keep = { { name, "header", "ETag" } },
	};
	const struct s3 *x = s->priv;
	char length[24];
	int rc;

	snprintf(number, sizeof(number), "%lld", (long long)u->part);
	snprintf(name, sizeof(name), "part.%lld", (long long)u->part);
	snprintf(length, sizeof(length), "%lld", (long long)rq.length);
	headers_set(&h, "content-length", length);
	rc = add(s, u, query, 2, &rq, r);
	headers_fini(&h);
	if (rc == 0)
		recipe_verify(r, false, x->etag_is_md5 ? "ETag" : NULL,
		    x->etag_is_md5 ? "md5-hex" : NULL);
	return rc;
}

static void
xml_text(struct text *t, const char *s)
{
	for (; *s != '\0'; s++)
		switch (*s) {
		case '&':
			text_str(t, "&amp;");
			break;
		case '<':
			text_str(t, "&lt;");
			break;
		case '>':
			text_str(t, "&gt;");
			break;
		case '"':
			text_str(t, "&quot;");
			break;
		default:
			text_char(t, *s);
		}
}

/* The completing body names each part by what its answer carried. */
static int
complete_body(const struct upload *u, int64_t count, struct text *body)
{
	text_str(body,
	    "<CompleteMultipartUpload "
	    "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (int64_t n = 1; n <= count; n++) {
		char name[32];
		const char *etag;

		snprintf(name, sizeof(name), "part.%lld", (long long)n);
		etag = upload_kept(u, name);
		if (etag == NULL)
			return -EINVAL;
		text_str(body, "<Part><PartNumber>");
		text_u64(body, (uint64_t)n);
		text_str(body, "</PartNumber><ETag>");
		xml_text(body, etag);
		text_str(body, "</ETag></Part>");
	}
	text_str(body, "</CompleteMultipartUpload>");
	return 0;
}

static int
s3_finish(const struct storage *s, const struct upload *u, const char *id,
    struct recipe *r)
{
	struct pair query[] = { { "uploadId", id } };
	struct headers h = { .n = 0 };
	struct text body = { 0 };
	struct recipe_request rq = {
		.method = "POST",
		.headers = &h,
		.body = BODY_TEXT,
		.ok = ok_200,
		.keep = { { "etag", "tag", "ETag" } },
	};
	int rc;

	rc = complete_body(u, part_count(u->size, part_size(s, u)), &body);
	if (rc == 0) {
		rq.text = body.s;
		headers_set(&h, "content-type", "application/xml");
		rc = add(s, u, query, 1, &rq, r);
	}
	headers_fini(&h);
	text_fini(&body);
	return rc == 0 ? s3_head(s, u, r) : rc;
}

static int
s3_recipe(const struct storage *s, const struct upload *u, struct recipe *r)
{
	const char *id = upload_kept(u, "uploadId");
	struct pair query[] = { { "uploadId", id } };
	struct recipe_request abort_rq = { .method = "DELETE", .ok = ok_gone };
	int rc;

	if (strcmp(u->method, "HEAD") == 0)
		return s3_head(s, u, r);
	if (strcmp(u->method, "PUT") != 0)
		return -EOPNOTSUPP;
	if (u->step == STEP_WHOLE || u->step == STEP_START)
		return u->step == STEP_START ? s3_start(s, u, r)
					     : s3_whole(s, u, r);
	if (id == NULL)
		return -EINVAL;
	if (u->step == STEP_PART)
		return u->part <= part_count(u->size, part_size(s, u))
		    ? s3_part(s, u, id, r)
		    : -EINVAL;
	if (u->step == STEP_FINISH)
		return s3_finish(s, u, id, r);
	rc = add(s, u, query, 1, &abort_rq, r);
	if (rc == 0)
		recipe_verify(r, false, NULL, NULL);
	return rc;
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
