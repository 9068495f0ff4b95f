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
#include "json.h"
#include "outgoing.h"
#include "probe.h"
#include "problem.h"
#include "url.h"
#include "xml_store.h"
#include "xalloc.h"

/* The smallest part that S3 takes. */
#define PART_MIN (5 << 20)
#define SESSION_SECONDS "3600"

/* Texts of a fetched credential. */
enum { SESSION_ID, SESSION_SECRET, SESSION_TOKEN };

struct s3 {
	struct endpoint endpoint, sts;
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

static void check_role(struct storage *s, struct s3 *x, struct problem *p);

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
	check_role(s, x, p);
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
	endpoint_fini(&x->sts);
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
	struct sigv4_key session;
	int rc;

	if (r->key != NULL && provider_check_key(r->key) != 0)
		return -EINVAL;
	s3_path(x, r->key, &path);
	q.path = path.s;
	if (r->cred != NULL) {
		sigv4_key_init(&session, r->cred->text[SESSION_ID],
		    r->cred->text[SESSION_SECRET], r->cred->text[SESSION_TOKEN],
		    x->region, "s3", r->at);
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

/* ---- sessions of a role -------------------------------------------------- */

static bool
s3_needs_fetch(const struct storage *s)
{
	return s->text[ST_ROLE_ARN] != NULL;
}

/* What a key must not mean in a policy's pattern ("IAM: policy variables"). */
static void
add_pattern(struct text *t, const char *s)
{
	for (; *s != '\0'; s++) {
		if (strchr("*?$", *s) != NULL) {
			text_str(t, "${");
			text_char(t, *s);
			text_char(t, '}');
		} else {
			text_char(t, *s);
		}
	}
}

/* No more than uploading below the scope. */
static char *
session_policy(const struct storage *s, const char *scope)
{
	static const char *const actions[] = { "s3:PutObject", "s3:GetObject",
		"s3:AbortMultipartUpload", "s3:DeleteObject" };
	/* Deleting is for the signer's own probe. */
	int actions_n = strcmp(scope, PROBE_SCOPE) == 0 ? 4 : 3;
	const char *partition = s->text[ST_ROLE_ARN] + 4; /* "arn:" */
	cJSON *doc = cJSON_CreateObject(), *st, *list;
	struct text arn = { 0 };
	char *line;

	text_str(&arn, "arn:");
	text_add(&arn, partition, strcspn(partition, ":"));
	text_str(&arn, ":s3:::");
	text_str(&arn, s->text[ST_BUCKET]);
	text_char(&arn, '/');
	add_pattern(&arn, scope);
	text_char(&arn, '*');
	cJSON_AddStringToObject(doc, "Version", "2012-10-17");
	list = cJSON_AddArrayToObject(doc, "Statement");
	st = cJSON_CreateObject();
	cJSON_AddItemToArray(list, st);
	cJSON_AddStringToObject(st, "Effect", "Allow");
	cJSON_AddItemToObject(
	    st, "Action", cJSON_CreateStringArray(actions, actions_n));
	json_add_text(st, "Resource", arn.s);
	line = json_line(doc);
	cJSON_Delete(doc);
	text_fini(&arn);
	return line;
}

static void
add_form(struct text *t, const char *name, const char *value)
{
	if (value == NULL)
		return;
	if (t->n != 0)
		text_char(t, '&');
	text_str(t, name);
	text_char(t, '=');
	text_encode(t, value, strlen(value), false);
}

static void
session_form(const struct storage *s, const char *scope, struct text *form)
{
	char *policy = session_policy(s, scope);
	char *session = xasprintf("edgehaul-%.50s", s->name);

	add_form(form, "Action", "AssumeRole");
	add_form(form, "Version", "2011-06-15");
	add_form(form, "RoleArn", s->text[ST_ROLE_ARN]);
	add_form(form, "RoleSessionName", session);
	add_form(form, "DurationSeconds", SESSION_SECONDS);
	add_form(form, "ExternalId", s->text[ST_EXTERNAL_ID]);
	add_form(form, "Policy", policy);
	free(policy);
	free(session);
}

/* Send a form to the STS service, signed in the header. */
static void
call_sts(const struct storage *s, const struct endpoint *e,
    const struct text *form, bool allow_private, int64_t now_s,
    struct out_answer *a)
{
	const struct s3 *x = s->priv;
	struct pair headers[6] = {
		{ "content-type", "application/x-www-form-urlencoded" },
	};
	char *host = endpoint_authority(e, NULL);
	char *path = xasprintf("%s/", e->path), *out[4];
	char *uri = xasprintf("%s://%s%s", e->scheme, host, path);
	struct sigv4_request q = { .method = "POST",
		.scheme = e->scheme,
		.host = host,
		.path = path,
		.headers = headers,
		.headers_n = 1,
		.at = now_s,
		.body = form->s,
		.body_n = form->n };
	struct out_request rq = { .method = "POST",
		.uri = uri,
		.headers = headers,
		.headers_n = 1,
		.body = form->s,
		.body_n = form->n,
		.ca_pem = s->text[ST_CERTIFICATE],
		.allow_private = allow_private,
		.timeout_ms = 10000 };
	struct sigv4_key key;
	size_t n = 0;

	sigv4_key_init(&key, s->text[ST_ACCESS_KEY_ID],
	    s->text[ST_SECRET_ACCESS_KEY], s->text[ST_SESSION_TOKEN], x->region,
	    "sts", now_s);
	if (sigv4_authorize(&key, &q, out, &n) != 0)
		n = 0;
	sigv4_key_fini(&key);
	for (size_t i = 0; i < n; i++) {
		char *colon = strchr(out[i], ':');

		*colon = '\0';
		headers[rq.headers_n++] = (struct pair){ out[i], colon + 2 };
	}
	outgoing_call(&rq, a);
	for (size_t i = 0; i < n; i++)
		free(out[i]);
	free(host);
	free(path);
	free(uri);
}

static int
s3_fetch(const struct storage *s, const char *scope, bool allow_private,
    int64_t now_s, struct credential *out, struct fetch_error *error)
{
	const struct s3 *x = s->priv;
	struct text form = { 0 };
	struct out_answer a;
	char *code;

	session_form(s, scope, &form);
	call_sts(s, &x->sts, &form, allow_private, now_s, &a);
	text_fini(&form);
	out->text[SESSION_ID] = xml_tag(a.body.s, "AccessKeyId");
	out->text[SESSION_SECRET] = xml_tag(a.body.s, "SecretAccessKey");
	out->text[SESSION_TOKEN] = xml_tag(a.body.s, "SessionToken");
	out->expires_s = now_s + atoi(SESSION_SECONDS) - 60;
	if (a.fault == OUT_OK && a.status == 200 &&
	    out->text[SESSION_ID] != NULL &&
	    out->text[SESSION_SECRET] != NULL &&
	    out->text[SESSION_TOKEN] != NULL) {
		out_answer_fini(&a);
		return 0;
	}
	code = xml_tag(a.body.s, "Code");
	snprintf(error->error, sizeof(error->error),
	    "AssumeRole at %s: %s %.100s", x->sts.host,
	    a.fault != OUT_OK ? a.error : "refused", code != NULL ? code : "");
	error->hint = a.fault != OUT_OK
	    ? "Check stsEndpoint and that this machine reaches it."
	    : "Check roleArn, externalId and that its trust policy names the "
	      "owner of accessKeyId.";
	free(code);
	credential_drop(out);
	out_answer_fini(&a);
	return -EACCES;
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
	{ 0, "PermanentRedirect", "The bucket is in another region",
	  "Set region to that of the bucket." },
	{ 301, NULL, "The bucket is in another region", "Set region to that of the bucket." },
	{ 0, "InvalidStorageClass", "The store does not have this storageClass",
	  "Leave storageClass out, or use one that it has." },
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
