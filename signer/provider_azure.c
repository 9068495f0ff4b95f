/*
 * provider_azure.c - Azure Blob Storage by shared access signatures
 *
 * A SAS covers the blob and what may be done, not the headers, so type and
 * size cannot be signed; the service answers a Put Blob with the MD5 of what
 * it stored (Content-MD5), which the agent compares. With no_overwrite the
 * permission is `c` alone: the signature itself then refuses an existing blob.
 */
#include "provider.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "azure_connection.h"
#include "azure_rest.h"
#include "azure_sas.h"
#include "clock.h"
#include "endpoint.h"
#include "problem.h"
#include "xalloc.h"

#define SV_DEFAULT "2022-11-02"
#define PARALLEL 4
#define BLOCKS_MAX 50000

struct azure {
	struct endpoint endpoint; /* of the blob service */
	char *account, *key;      /* key NULL: signed with a delegation key */
	char *host;
	char *base; /* "https://host/path" */
};

/* ---- checks -------------------------------------------------------------- */

/* An application's credentials, for user delegation keys. */
static bool
has_client(const struct storage *s)
{
	return s->text[ST_TENANT_ID] != NULL && s->text[ST_CLIENT_ID] != NULL &&
	    s->text[ST_CLIENT_SECRET] != NULL;
}

/* "https://ACCOUNT.blob..." or, of an emulator, "https://host/ACCOUNT". */
static void
account_of_endpoint(struct azure *x)
{
	const char *path = x->endpoint.path;

	if (x->account != NULL)
		return;
	if (path[0] != '\0')
		x->account = xstrndup(path + 1, strcspn(path + 1, "/"));
	else
		x->account =
		    xstrndup(x->endpoint.host, strcspn(x->endpoint.host, "."));
}

static void
check_client(struct storage *s, struct azure *x, struct problem *p)
{
	const char *authority = s->text[ST_AUTHORITY];
	struct endpoint e = { 0 };

	if (s->text[ST_ENDPOINT] == NULL ||
	    endpoint_parse(s->text[ST_ENDPOINT], &x->endpoint) != 0) {
		problem_field(p, "/endpoint",
		    "Write https://ACCOUNT.blob.core.windows.net.",
		    "With clientId the address of the account is needed.");
		return;
	}
	if (strcmp(x->endpoint.scheme, "https") != 0)
		problem_field(p, "/endpoint", "Use https.",
		    "User delegation keys are given out by https only.");
	if (authority != NULL &&
	    (endpoint_parse(authority, &e) != 0 ||
		(strcmp(e.scheme, "https") != 0 && !s->allow_http)))
		problem_field(p, "/authority",
		    "Leave it out, or write https://HOST.",
		    "This is no address of a token service.");
	if (strpbrk(s->text[ST_TENANT_ID], "/?#% ") != NULL)
		problem_field(p, "/tenantId",
		    "The directory (tenant) ID in the portal.",
		    "This is no id of a tenant.");
	endpoint_fini(&e);
	account_of_endpoint(x);
}

static void
check_credentials(
    struct azure_connection *c, struct azure *x, struct problem *p)
{
	uint8_t *raw;
	size_t n;

	if (c->account == NULL || c->key == NULL) {
		problem_field(p, "/connectionString",
		    "Copy it from the portal: storage account, Security, "
		    "Access keys. It has AccountName=...;AccountKey=...",
		    "The connection string lacks %s.",
		    c->account == NULL ? "AccountName" : "AccountKey");
		return;
	}
	if (base64_decode(c->key, &raw, &n) != 0) {
		problem_field(p, "/connectionString",
		    "Copy the connection string again, in full.",
		    "The AccountKey is not base64.");
		return;
	}
	explicit_bzero(raw, n);
	free(raw);
	x->account = xstrdup(c->account);
	x->key = xstrdup(c->key);
}

/*
 * The endpoint given goes before that of the connection string; https if
 * either says https, http only where it is allowed.
 */
static void
check_endpoint(struct storage *s, const struct azure_connection *c,
    struct azure *x, struct problem *p)
{
	const char *given = s->text[ST_ENDPOINT];
	char *from = azure_connection_endpoint(c);
	struct endpoint other = { 0 };

	if (endpoint_parse(from, &other) != 0) {
		problem_field(p, "/connectionString",
		    "BlobEndpoint is https://ACCOUNT.blob.core.windows.net "
		    "or an address of your own.",
		    "Its blob endpoint is no address of a service.");
		goto out;
	}
	if (endpoint_parse(given != NULL ? given : from, &x->endpoint) != 0) {
		problem_field(p, "/endpoint",
		    "Write https://ACCOUNT.blob.core.windows.net, or leave "
		    "it out: the connection string tells it.",
		    "This is no address of a service.");
		goto out;
	}
	if (given != NULL && strcmp(x->endpoint.host, other.host) != 0)
		storage_warn(s,
		    "endpoint and connectionString name different "
		    "hosts; %s is used",
		    x->endpoint.host);
	else if (x->endpoint.path[0] == '\0') { /* an emulator's account */
		free(x->endpoint.path);
		x->endpoint.path = xstrdup(other.path);
	}
	if (strcmp(x->endpoint.scheme, other.scheme) != 0) {
		storage_warn(s,
		    "endpoint and connectionString differ in "
		    "http and https; https is used");
		free(x->endpoint.scheme);
		x->endpoint.scheme = xstrdup("https");
	}
	if (strcmp(x->endpoint.scheme, "http") == 0 && !s->allow_http)
		problem_field(p,
		    given != NULL ? "/endpoint" : "/connectionString",
		    "Use https, or set \"allowHttp\": true for an emulator.",
		    "Plain http would show the uploads to everyone on the "
		    "way.");
out:
	endpoint_fini(&other);
	free(from);
}

static bool
container_ok(const char *c)
{
	size_t n = strlen(c);

	if (strcmp(c, "$web") == 0 || strcmp(c, "$root") == 0)
		return true;
	return n >= 3 && n <= 63 &&
	    strspn(c, "abcdefghijklmnopqrstuvwxyz0123456789-") == n &&
	    c[0] != '-' && c[n - 1] != '-' && strstr(c, "--") == NULL;
}

static void
check_fields(struct storage *s, struct problem *p)
{
	const char *tier = s->text[ST_ACCESS_TIER];

	if (s->text[ST_CONTAINER] == NULL)
		s->text[ST_CONTAINER] = xstrdup("edgehaul");
	else if (!container_ok(s->text[ST_CONTAINER]))
		problem_field(p, "/container",
		    "A container has 3 to 63 lower-case letters, digits and "
		    "single dashes.",
		    "This is no name of a container.");
	if (tier != NULL && strcasecmp(tier, "Hot") != 0 &&
	    strcasecmp(tier, "Cool") != 0 && strcasecmp(tier, "Cold") != 0 &&
	    strcasecmp(tier, "Archive") != 0)
		problem_field(p, "/accessTier",
		    "Write Hot, Cool, Cold or Archive.",
		    "There is no such access tier.");
	if (s->part_size == 0)
		s->part_size = 64 << 20;
	else if (s->part_size > 4000LL << 20)
		problem_field(p, "/partSize", "Use 4000 MiB or less.",
		    "A block cannot be larger.");
}

static void
azure_check(struct storage *s, struct problem *p)
{
	struct azure *x = xcalloc(1, sizeof(*x));
	struct azure_connection c = { 0 };

	s->priv = x;
	check_fields(s, p);
	if (s->text[ST_CONNECTION_STRING] == NULL && !has_client(s)) {
		problem_field(p, "/connectionString",
		    "Set connectionString (storage account, Security, Access "
		    "keys in the portal), or tenantId, clientId, clientSecret "
		    "and endpoint of an application.",
		    "There are no credentials to sign with.");
		return;
	}
	if (s->text[ST_CONNECTION_STRING] == NULL)
		check_client(s, x, p);
	else if (azure_connection_parse(s->text[ST_CONNECTION_STRING], &c) != 0)
		problem_field(p, "/connectionString",
		    "It reads AccountName=...;AccountKey=...;"
		    "EndpointSuffix=core.windows.net",
		    "This is no connection string.");
	else
		check_credentials(&c, x, p);
	if (x->key != NULL)
		check_endpoint(s, &c, x, p);
	if (x->endpoint.host != NULL) {
		x->host = endpoint_authority(&x->endpoint, NULL);
		x->base = xasprintf(
		    "%s://%s%s", x->endpoint.scheme, x->host, x->endpoint.path);
	}
	azure_connection_fini(&c);
}

static void
azure_free_priv(void *priv)
{
	struct azure *x = priv;

	endpoint_fini(&x->endpoint);
	free(x->account);
	if (x->key != NULL)
		explicit_bzero(x->key, strlen(x->key));
	free(x->key);
	free(x->host);
	free(x->base);
	free(x);
}

static void
azure_hosts(const struct storage *s, cJSON *array)
{
	const struct azure *x = s->priv;

	cJSON_AddItemToArray(array, cJSON_CreateString(x->host));
}

/* ---- signing ------------------------------------------------------------- */

static const char *
permissions_for(const char *method, bool no_overwrite)
{
	if (strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0)
		return no_overwrite ? "c" : "cw";
	return strcmp(method, "DELETE") == 0 ? "d" : "r";
}

/* Names in a query that are fields of the SAS; others go with the URI. */
/* clang-format off */
static const struct {
	const char *name;
	size_t at;
} sas_names[] = {
	{ "sp", offsetof(struct azure_sas, permissions) },
	{ "st", offsetof(struct azure_sas, start) },
	{ "se", offsetof(struct azure_sas, expiry) },
	{ "sip", offsetof(struct azure_sas, ip) },
	{ "spr", offsetof(struct azure_sas, protocol) },
	{ "sv", offsetof(struct azure_sas, version) },
	{ "si", offsetof(struct azure_sas, identifier) },
	{ "ses", offsetof(struct azure_sas, encryption_scope) },
	{ "snapshot", offsetof(struct azure_sas, snapshot) },
	{ "versionid", offsetof(struct azure_sas, version_id) },
	{ "rscc", offsetof(struct azure_sas, cache_control) },
	{ "rscd", offsetof(struct azure_sas, disposition) },
	{ "rsce", offsetof(struct azure_sas, encoding) },
	{ "rscl", offsetof(struct azure_sas, language) },
	{ "rsct", offsetof(struct azure_sas, type) },
};
/* clang-format on */

static bool
sas_field(struct azure_sas *sas, const struct pair *p)
{
	for (size_t i = 0; i < sizeof(sas_names) / sizeof(sas_names[0]); i++)
		if (strcmp(p->name, sas_names[i].name) == 0) {
			*(const char **)((char *)sas + sas_names[i].at) =
			    p->value;
			return true;
		}
	return false;
}

static void
write_base(const struct azure *x, const struct storage *s, const char *key,
    struct text *uri)
{
	const char *container = s->text[ST_CONTAINER];

	text_str(uri, x->endpoint.scheme);
	text_str(uri, "://");
	text_str(uri, x->host);
	text_str(uri, x->endpoint.path);
	text_char(uri, '/');
	text_encode(uri, container, strlen(container), false);
	if (key != NULL) {
		text_char(uri, '/');
		text_encode(uri, key, strlen(key), true);
	}
	text_char(uri, '?');
}

static struct azure_udk
delegation_key(const struct credential *c)
{
	return (struct azure_udk){ .oid = c->text[UDK_OID],
		.tid = c->text[UDK_TID],
		.start = c->text[UDK_START],
		.expiry = c->text[UDK_EXPIRY],
		.service = c->text[UDK_SERVICE],
		.version = c->text[UDK_VERSION],
		.value = c->text[UDK_VALUE] };
}

static int
azure_sign(
    const struct storage *s, const struct sign_request *r, struct text *uri)
{
	const struct azure *x = s->priv;
	char expiry[21];
	struct azure_sas sas = {
		.account = x->account,
		.key = x->key,
		.container = s->text[ST_CONTAINER],
		.blob = r->key,
		.permissions = permissions_for(r->method, false),
		.expiry = expiry,
		.version = s->text[ST_SAS_VERSION] != NULL
		    ? s->text[ST_SAS_VERSION]
		    : SV_DEFAULT,
	};
	struct text query = { 0 };
	struct azure_udk udk;
	int rc;

	if (x->key == NULL && r->cred == NULL)
		return -ENOKEY;
	if (x->key == NULL) {
		udk = delegation_key(r->cred);
		sas.udk = &udk;
	}
	if (r->key != NULL && provider_check_key(r->key) != 0)
		return -EINVAL;
	if (r->expires < 1 || r->expires > provider_azure.expires_max)
		return -ERANGE;
	for (size_t i = 0; i < r->headers_n; i++)
		if (pair_check_header(&r->headers[i]) != 0)
			return -EINVAL;
	clock_rfc3339(r->at + r->expires, expiry);
	for (size_t i = 0; i < r->query_n; i++) {
		if (sas_field(&sas, &r->query[i]))
			continue;
		text_char(&query, '&');
		text_encode(
		    &query, r->query[i].name, strlen(r->query[i].name), false);
		text_char(&query, '=');
		text_encode(&query, r->query[i].value,
		    strlen(r->query[i].value), false);
	}
	write_base(x, s, r->key, uri);
	rc = azure_sas_query(&sas, uri, NULL);
	text_add(uri, query.s, query.n);
	text_fini(&query);
	return rc;
}

/* ---- recipes ------------------------------------------------------------- */

static const int ok_created[] = { 201, 0 };
static const int ok_200[] = { 200, 0 };

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
		.cred = u->cred,
	};
	struct text uri = { 0 };
	int rc = azure_sign(s, &sr, &uri);

	if (rc == 0) {
		rq->uri = uri.s;
		recipe_add(r, rq);
	}
	text_fini(&uri);
	return rc;
}

/* Metadata names must be C identifiers ("Naming and referencing metadata"). */
static void
object_headers(
    const struct storage *s, const struct upload *u, struct headers *h)
{
	char name[160];

	headers_set(h, "x-ms-blob-content-type",
	    u->type != NULL ? u->type : "application/octet-stream");
	if (u->encoding != NULL)
		headers_set(h, "x-ms-blob-content-encoding", u->encoding);
	if (u->sha256 != NULL)
		headers_set(h, "x-ms-meta-sha256", u->sha256);
	for (size_t i = 0; i < u->metadata_n; i++) {
		snprintf(
		    name, sizeof(name), "x-ms-meta-%s", u->metadata[i].name);
		for (char *c = name + 10; *c != '\0'; c++)
			if (*c == '-')
				*c = '_';
		headers_set(h, name, u->metadata[i].value);
	}
	if (s->text[ST_ACCESS_TIER] != NULL)
		headers_set(h, "x-ms-access-tier", s->text[ST_ACCESS_TIER]);
	headers_all(h, s->headers, s->headers_n);
}

static int
azure_whole(const struct storage *s, const struct upload *u, struct recipe *r)
{
	struct pair query[] = { { "sp",
	    permissions_for("PUT", s->no_overwrite) } };
	struct headers h = { .n = 0 };
	struct recipe_request rq = {
		.method = "PUT",
		.headers = &h,
		.body = BODY_FILE,
		.ok = ok_created,
		.keep = { { "etag", "header", "ETag" } },
	};
	int rc;

	headers_set(&h, "x-ms-blob-type", "BlockBlob");
	object_headers(s, u, &h);
	if (s->no_overwrite)
		headers_set(&h, "If-None-Match", "*");
	rc = add(s, u, query, 1, &rq, r);
	headers_fini(&h);
	if (rc == 0)
		recipe_verify(r, false, "Content-MD5", "md5-base64");
	return rc;
}

static int
azure_head(const struct storage *s, const struct upload *u, struct recipe *r)
{
	struct recipe_request rq = { .method = "HEAD", .ok = ok_200 };
	int rc = add(s, u, NULL, 0, &rq, r);

	if (rc == 0)
		recipe_verify(r, true, "x-ms-meta-sha256", "sha256-hex");
	return rc;
}

static int64_t
block_size(const struct storage *s, const struct upload *u)
{
	int64_t size = s->part_size;

	while (part_count(u->size, size) > BLOCKS_MAX)
		size *= 2;
	return size;
}

/* Ids of one blob must be of one length; base64 of nine digits. */
static char *
block_id(int64_t n)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%09lld", (long long)n);
	return base64_encode(digits, strlen(digits));
}

static int
azure_block(const struct storage *s, const struct upload *u, struct recipe *r)
{
	int64_t size = block_size(s, u);
	char *id = block_id(u->part);
	struct pair query[] = { { "sp", "cw" }, { "comp", "block" },
		{ "blockid", id } };
	struct recipe_request rq = {
		.method = "PUT",
		.body = BODY_RANGE,
		.offset = (u->part - 1) * size,
		.length = part_length(u->size, size, u->part),
		.ok = ok_created,
	};
	int rc = -EINVAL;

	if (u->part <= part_count(u->size, size))
		rc = add(s, u, query, 3, &rq, r);
	/* Put Block tells the MD5 only to who has sent it (from 2019-02-02). */
	if (rc == 0)
		recipe_verify(r, false, NULL, NULL);
	free(id);
	return rc;
}

static int
azure_block_list(
    const struct storage *s, const struct upload *u, struct recipe *r)
{
	int64_t count = part_count(u->size, block_size(s, u));
	struct pair query[] = { { "sp", "cw" }, { "comp", "blocklist" } };
	struct headers h = { .n = 0 };
	struct text body = { 0 };
	struct recipe_request rq = {
		.method = "PUT",
		.headers = &h,
		.body = BODY_TEXT,
		.ok = ok_created,
		.keep = { { "etag", "header", "ETag" } },
	};
	int rc;

	text_str(
	    &body, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
	for (int64_t n = 1; n <= count; n++) {
		char *id = block_id(n);

		text_str(&body, "<Latest>");
		text_str(&body, id);
		text_str(&body, "</Latest>");
		free(id);
	}
	text_str(&body, "</BlockList>");
	rq.text = body.s;
	headers_set(&h, "Content-Type", "application/xml");
	object_headers(s, u, &h);
	if (s->no_overwrite)
		headers_set(&h, "If-None-Match", "*");
	rc = add(s, u, query, 2, &rq, r);
	headers_fini(&h);
	text_fini(&body);
	return rc == 0 ? azure_head(s, u, r) : rc;
}

/*
 * Blocks need no start, and those never listed are dropped by the service after
 * a week: starting and aborting are no more than a look.
 */
static int
azure_look(const struct storage *s, const struct upload *u, struct recipe *r)
{
	static const int ok_look[] = { 404, 200, 0 };
	struct recipe_request look = { .method = "HEAD", .ok = ok_look };
	int64_t size = block_size(s, u);
	int rc = add(s, u, NULL, 0, &look, r);

	if (rc != 0)
		return rc;
	recipe_verify(r, false, NULL, NULL);
	if (u->step == STEP_START)
		recipe_parts(r, size, part_count(u->size, size), PARALLEL);
	return 0;
}

static int
azure_recipe(const struct storage *s, const struct upload *u, struct recipe *r)
{
	if (strcmp(u->method, "HEAD") == 0)
		return azure_head(s, u, r);
	if (strcmp(u->method, "PUT") != 0)
		return -EOPNOTSUPP;
	switch (u->step) {
	case STEP_WHOLE:
		return azure_whole(s, u, r);
	case STEP_PART:
		return azure_block(s, u, r);
	case STEP_FINISH:
		return azure_block_list(s, u, r);
	default:
		return azure_look(s, u, r);
	}
}

/* ---- calls of our own ---------------------------------------------------- */

static bool
azure_needs_fetch(const struct storage *s)
{
	const struct azure *x = s->priv;

	return x->key == NULL;
}

/* A delegation key cannot be cut down to a scope: each SAS is, to its blob. */
static int
azure_fetch(const struct storage *s, const char *scope, bool allow_private,
    int64_t now_s, struct credential *out, struct fetch_error *error)
{
	const struct azure *x = s->priv;

	return azure_fetch_udk(s, x->base, allow_private, now_s, out, error);
}

static int
azure_make_place(const struct storage *s, const struct credential *cred,
    bool allow_private, int64_t now_s, struct fetch_error *error)
{
	const struct azure *x = s->priv;

	return azure_make_container(
	    s, x->base, x->account, x->key, cred, allow_private, now_s, error);
}

/* clang-format off */
static const struct explanation explanations[] = {
	{ 0, "AuthenticationFailed", "The store does not accept the signature",
	  "Copy the connection string again, and check the clock of this machine." },
	{ 0, "AuthorizationFailure", "The store does not accept the signature",
	  "Copy the connection string again; check the account's firewall." },
	{ 0, "AuthorizationPermissionMismatch", "The credentials may not do this",
	  "Give the application the role Storage Blob Data Contributor." },
	{ 0, "KeyBasedAuthenticationNotPermitted", "The account does not allow access by key",
	  "Use tenantId, clientId and clientSecret, or allow shared keys." },
	{ 0, "ContainerNotFound", "There is no such container", "Make it, or correct container." },
	{ 0, "AccountIsDisabled", "The account is disabled", "Enable it in the portal." },
};
/* clang-format on */

/* 403 on an existing blob is what a create-only signature gives. */
/* clang-format off */
static const struct answer answers[] = {
	{ 409, "BlobAlreadyExists",                "verify" },
	{ 412, NULL,                               "verify" },
	{ 403, "UnauthorizedBlobOverwrite",        "verify" },
	{ 403, "AuthorizationPermissionMismatch",  "verify" },
	{ 403, "AuthenticationFailed",             "sign" },
	{ 403, "AuthorizationFailure",             "sign" },
	{ 403, "AuthorizationProtocolMismatch",    "wait" },
	{ 403, "AccountIsDisabled",                "wait" },
	{ 403, NULL,                               "sign" },
	{ 404, NULL,                               "wait" },
	{ 409, "ContainerBeingDeleted",            "wait" },
	{ 409, NULL,                               "retry" },
	{ 400, "Md5Mismatch",                      "retry" },
	{ 400, "InvalidBlockList",                 "verify" },
	{ 400, "InvalidBlobOrBlock",               "verify" },
	{ 400, NULL,                               "wait" },
	{ 413, NULL,                               "quarantine" },
	{ 429, NULL,                               "retry" },
	{ 500, NULL,                               "retry" },
	{ 502, NULL,                               "retry" },
	{ 503, NULL,                               "retry" },
	{ 504, NULL,                               "retry" },
};
/* clang-format on */

const struct provider provider_azure = {
	.type = "AZURE",
	.texts = ST_BIT(ST_ENDPOINT) | ST_BIT(ST_CONNECTION_STRING) |
	    ST_BIT(ST_CONTAINER) | ST_BIT(ST_SAS_VERSION) |
	    ST_BIT(ST_TENANT_ID) | ST_BIT(ST_CLIENT_ID) |
	    ST_BIT(ST_CLIENT_SECRET) | ST_BIT(ST_AUTHORITY) |
	    ST_BIT(ST_ACCESS_TIER),
	.required = 0,
	.expires_max = 366 * 86400,
	.check = azure_check,
	.free_priv = azure_free_priv,
	.hosts = azure_hosts,
	.sign = azure_sign,
	.recipe = azure_recipe,
	.answers = answers,
	.answers_n = sizeof(answers) / sizeof(answers[0]),
	.needs_fetch = azure_needs_fetch,
	.fetch = azure_fetch,
	.make_place = azure_make_place,
	.explanations = explanations,
	.explanations_n = sizeof(explanations) / sizeof(explanations[0]),
};
