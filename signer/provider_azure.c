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
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "azure_account.h"
#include "azure_blob.h"
#include "azure_rest.h"
#include "azure_sas.h"
#include "clock.h"
#include "problem.h"
#include "xalloc.h"

#define SV_DEFAULT "2022-11-02"

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
	const char *sv = s->text[ST_SAS_VERSION];
	int64_t most = azure_block_max(s);

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
	for (size_t i = 0; i < s->headers_n; i++)
		if (strcasecmp(s->headers[i].name, "x-ms-blob-type") == 0 &&
		    strcmp(s->headers[i].value, "BlockBlob") != 0)
			problem_field(p, "/headers/x-ms-blob-type",
			    "Write BlockBlob, or leave it out.",
			    "Uploads are block blobs.");
	if (s->part_size == 0)
		s->part_size = most < 64 << 20 ? most : 64 << 20;
	else if (s->part_size > most)
		problem_field(p, "/partSize",
		    "4000 MiB, 100 MiB with a sasVersion before 2019-12-12, "
		    "4 MiB before 2016-05-31.",
		    "A block cannot be larger.");
	if (sv != NULL &&
	    azure_version_number(sv) <
		(s->text[ST_CONNECTION_STRING] != NULL ? 20150405u : 20181109u))
		problem_field(p, "/sasVersion",
		    "Leave it out, or write one from 2015-04-05 on; with "
		    "clientId from 2018-11-09 on.",
		    "There is no such version.");
}

static void
azure_check(struct storage *s, struct problem *p)
{
	struct azure_account *x = xcalloc(1, sizeof(*x));

	s->priv = x;
	check_fields(s, p);
	azure_account_check(x, s, p);
}

static void
azure_free_priv(void *priv)
{
	azure_account_fini(priv);
	free(priv);
}

static void
azure_hosts(const struct storage *s, cJSON *array)
{
	const struct azure_account *x = s->priv;

	cJSON_AddItemToArray(array, cJSON_CreateString(x->host));
}

/* ---- signing ------------------------------------------------------------- */

static const char *
permissions_for(const char *method)
{
	if (strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0)
		return azure_put_permissions(false);
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
write_base(const struct azure_account *x, const struct storage *s,
    const char *key, struct text *uri)
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
	const struct azure_account *x = s->priv;
	char expiry[21];
	struct azure_sas sas = {
		.account = x->account,
		.key = x->key,
		.prepared = x->key != NULL ? &x->hmac : NULL,
		.container = s->text[ST_CONTAINER],
		.blob = r->key,
		.permissions = permissions_for(r->method),
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
		text_form(&query, r->query[i].name, r->query[i].value);
	}
	write_base(x, s, r->key, uri);
	rc = azure_sas_query(&sas, uri, NULL);
	if (query.n > 0) {
		text_char(uri, '&');
		text_add(uri, query.s, query.n);
	}
	text_fini(&query);
	return rc;
}

/* ---- calls of our own ---------------------------------------------------- */

static bool
azure_needs_fetch(const struct storage *s)
{
	const struct azure_account *x = s->priv;

	return x->key == NULL;
}

/* A delegation key cannot be cut down to a scope: each SAS is, to its blob. */
static int
azure_fetch(const struct storage *s, const char *scope, bool allow_private,
    int64_t now_s, struct credential *out, struct fetch_error *error)
{
	const struct azure_account *x = s->priv;

	return azure_fetch_udk(s, x->base, allow_private, now_s, out, error);
}

static int
azure_make_place(const struct storage *s, const struct credential *cred,
    bool allow_private, int64_t now_s, struct fetch_error *error)
{
	const struct azure_account *x = s->priv;

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
	{ 0, "ResourceNotFound", "There is no such account",
	  "Check AccountName and the endpoint." },
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
