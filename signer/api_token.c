/*
 * api_token.c - /v1/tenants and /v1/tokens
 *
 * Root makes tenants and tokens of any of them; an administrator sees the own
 * tenant, makes and ends its tokens, never one of root.
 */
#include "api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "duration.h"
#include "json.h"
#include "running.h"
#include "store.h"
#include "xalloc.h"

#define BODY_MAX 16384

/* ---- tenants ------------------------------------------------------------- */

struct list {
	cJSON *items;
};

static int
on_row(const char *id, const char *doc, size_t n, void *arg)
{
	struct list *l = arg;
	cJSON *row = json_parse(doc, n, n, NULL);

	if (row == NULL)
		return -EBADMSG;
	cJSON_DeleteItemFromObjectCaseSensitive(row, "hash");
	cJSON_AddItemToArray(l->items, row);
	return 0;
}

static int
list_tenants(struct store_txn *t, struct api_call *c)
{
	struct list l;

	c->answer = cJSON_CreateObject();
	l.items = cJSON_AddArrayToObject(c->answer, "items");
	return store_scan(t, KIND_TENANT, NULL, NULL, on_row, &l);
}

static int
get_tenant(struct store_txn *t, struct api_call *c)
{
	int rc;

	if (c->who.role != ROLE_ROOT &&
	    strcmp(c->param[0], c->who.tenant) != 0) {
		problem_set(&c->problem, 403, "Only root sees others.",
		    "This is not the tenant of the token");
		return -EACCES;
	}
	rc = store_get_json(t, KIND_TENANT, c->param[0], "", &c->answer);

	return rc == -ENOENT
	    ? api_not_found(c, "tenant", "GET /v1/tenants has all.")
	    : rc;
}

static int
put_tenant(struct store_txn *t, struct api_call *c)
{
	cJSON *row = NULL;
	char when[21];
	int rc;

	if (!tenant_ok(c->param[0])) {
		problem_field(&c->problem, "/name",
		    "Lower-case letters, digits and dashes; at most 63.",
		    "This is no name for a tenant.");
		return -EINVAL;
	}
	rc = store_get_json(t, KIND_TENANT, c->param[0], "", &row);
	if (rc == 0) {
		c->answer = row;
		return 0;
	}
	if (rc != -ENOENT)
		return rc;
	clock_rfc3339(c->now_s, when);
	row = cJSON_CreateObject();
	json_add_text(row, "name", c->param[0]);
	json_add_text(row, "createdAt", when);
	c->answer = row;
	c->status = 201;
	rc = store_put_json(t, KIND_TENANT, c->param[0], "", row);
	return rc == 0 ? api_audit(t, c, c->param[0], "tenant.create",
			     c->param[0], NULL, row)
		       : rc;
}

/* ---- deleting a tenant --------------------------------------------------- */

struct names {
	char **v;
	size_t n;
};

static int
on_name(const char *id, const char *doc, size_t n, void *arg)
{
	struct names *names = arg;

	names->v = xrealloc(names->v, (names->n + 1) * sizeof(*names->v));
	names->v[names->n++] = xstrdup(id);
	return 0;
}

static int
delete_kind(struct store_txn *t, enum store_kind kind, const char *tenant)
{
	struct names names = { 0 };
	int rc = store_scan(t, kind, tenant, NULL, on_name, &names);

	for (size_t i = 0; i < names.n; i++) {
		if (rc == 0)
			rc = store_del(t, kind, tenant, names.v[i]);
		free(names.v[i]);
	}
	free(names.v);
	return rc;
}

/* All that is the tenant's but its audit log and the counter of changes. */
static int
delete_tenant(struct store_txn *t, struct api_call *c)
{
	static const enum store_kind kinds[] = { KIND_TOKEN, KIND_STORAGE,
		KIND_REPLACED, KIND_STATUS, KIND_CERTIFICATE, KIND_GATEWAY,
		KIND_DEVICE, KIND_CONTACT, KIND_REPORT, KIND_PRODUCT,
		KIND_RELEASE, KIND_MANIFEST, KIND_SIGNED, KIND_RUNNING };
	const char *tenant = c->param[0];
	int rc;

	if (strcmp(tenant, c->who.tenant) == 0) {
		problem_set(&c->problem, 409,
		    "Make a token of root in another tenant: `edgehaul-signer "
		    "token create --tenant OTHER --role root`.",
		    "The token that asks would end with its tenant");
		return -ECANCELED;
	}
	rc = store_del(t, KIND_TENANT, tenant, "");
	if (rc == -ENOENT)
		return api_not_found(c, "tenant", "GET /v1/tenants has all.");
	for (size_t i = 0; rc == 0 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		rc = delete_kind(t, kinds[i], tenant);
	if (rc == 0)
		rc = running_delete_tenant(t, tenant);
	if (rc == 0)
		rc = store_changed(t, tenant, NULL);
	if (rc == 0)
		rc = api_audit(
		    t, c, tenant, "tenant.delete", tenant, NULL, NULL);
	c->changed_tenant = xstrdup(tenant);
	c->status = 204;
	return rc;
}

/* ---- tokens -------------------------------------------------------------- */

static int
list_tokens(struct store_txn *t, struct api_call *c)
{
	struct list l;

	c->answer = cJSON_CreateObject();
	l.items = cJSON_AddArrayToObject(c->answer, "items");
	return store_scan(t, KIND_TOKEN, c->who.tenant, c->after, on_row, &l);
}

/* What is not understood is refused: a token must not last, or may more, than
 * was meant. */
static void
check_members(struct api_call *c)
{
	static const char *const names[] = { "tenant", "role", "gateway",
		"expiresIn", NULL };

	problem_unknown(c->json, names, &c->problem);
	for (size_t i = 0; names[i] != NULL; i++) {
		const cJSON *v =
		    cJSON_GetObjectItemCaseSensitive(c->json, names[i]);
		char *pointer = problem_pointer("", names[i]);

		if (v != NULL && !cJSON_IsString(v) && !cJSON_IsNull(v))
			problem_field(&c->problem, pointer,
			    "Put it in quotation marks.",
			    "This must be a text.");
		free(pointer);
	}
}

/* A text that is not empty, or NULL. */
static const char *
member(const struct api_call *c, const char *name)
{
	const char *s = json_string(c->json, name);

	return s != NULL && s[0] != '\0' ? s : NULL;
}

/* The tenant that the body means: the caller's, or root's choice. */
static const char *
token_tenant(struct api_call *c)
{
	const char *tenant = member(c, "tenant");

	if (tenant == NULL || strcmp(tenant, c->who.tenant) == 0)
		return c->who.tenant;
	if (c->who.role != ROLE_ROOT)
		problem_set(&c->problem, 403, "Leave tenant out.",
		    "Only root makes tokens of other tenants");
	else if (!tenant_ok(tenant))
		problem_field(&c->problem, "/tenant",
		    "Lower-case letters, digits and dashes.",
		    "This is no name for a tenant.");
	return tenant;
}

static int64_t
token_expires(struct api_call *c)
{
	const char *text = member(c, "expiresIn");
	int64_t s = 0;

	if (text == NULL)
		return 0;
	if (duration_parse(text, &s) != 0 || s < 60)
		problem_field(&c->problem, "/expiresIn",
		    "An ISO 8601 duration such as P90D.",
		    "This is no duration of a minute or more.");
	return c->now_s + s;
}

static enum role
token_role(struct api_call *c)
{
	const char *text = json_string(c->json, "role");
	enum role r = text != NULL ? role_parse(text) : 0;

	if (r == 0)
		problem_field(&c->problem, "/role",
		    "One of admin, publisher, gateway.",
		    "There is no such role.");
	else if (r == ROLE_ROOT && c->who.role != ROLE_ROOT)
		problem_set(
		    &c->problem, 403, NULL, "Only root makes tokens of root");
	return r;
}

static int
post_token(struct store_txn *t, struct api_call *c)
{
	const char *gateway = member(c, "gateway");
	const char *tenant = token_tenant(c);
	enum role role = token_role(c);
	int64_t expires = token_expires(c);
	char *token;
	cJSON *row;
	int rc;

	check_members(c);
	if (role == ROLE_GATEWAY && (gateway == NULL || !gateway_ok(gateway)))
		problem_field(&c->problem, "/gateway",
		    "Letters, digits, - _ . ; at most 128.",
		    "A token of role gateway needs the gateway's name.");
	else if (role != ROLE_GATEWAY && gateway != NULL)
		problem_field(&c->problem, "/gateway", "Leave it out.",
		    "Only a token of role gateway is a gateway's.");
	if (c->problem.status != 0)
		return -EINVAL;
	rc = token_create(
	    t, tenant, role, gateway, c->now_s, expires, &token, &row);
	if (rc != 0)
		return rc;
	rc = api_audit(
	    t, c, tenant, "token.create", json_string(row, "id"), NULL, row);
	c->answer = row;
	json_add_text(row, "token", token);
	explicit_bzero(token, strlen(token));
	free(token);
	c->status = 201;
	return rc;
}

static int
delete_token(struct store_txn *t, struct api_call *c)
{
	cJSON *old, *shown;
	int rc =
	    store_get_json(t, KIND_TOKEN, c->who.tenant, c->param[0], &old);

	if (rc == -ENOENT)
		return api_not_found(c, "token", "GET /v1/tokens has all.");
	if (rc != 0)
		return rc;
	shown = token_show(old);
	rc = store_del(t, KIND_TOKEN, c->who.tenant, c->param[0]);
	if (rc == 0)
		rc = api_audit(t, c, c->who.tenant, "token.delete", c->param[0],
		    shown, NULL);
	cJSON_Delete(shown);
	cJSON_Delete(old);
	c->status = 204;
	return rc;
}

#define ADMIN (ROLE_ADMIN | ROLE_ROOT)
/* clang-format off */
const struct api_route api_token_routes[] = {
	{ "GET",    "/v1/tenants",         ROLE_ROOT, API_READ,  list_tenants,  0 },
	{ "GET",    "/v1/tenants/:tenant", ADMIN,     API_READ,  get_tenant,    0 },
	{ "PUT",    "/v1/tenants/:tenant", ROLE_ROOT, API_WRITE, put_tenant,    0 },
	{ "DELETE", "/v1/tenants/:tenant", ROLE_ROOT, API_WRITE, delete_tenant, 0 },
	{ "GET",    "/v1/tokens",          ADMIN,     API_READ,  list_tokens,   0 },
	{ "POST",   "/v1/tokens",          ADMIN,     API_WRITE, post_token,    BODY_MAX },
	{ "DELETE", "/v1/tokens/:id",      ADMIN,     API_WRITE, delete_token,  0 },
	{ NULL },
};
/* clang-format on */
