/*
 * api_gateway.c - /v1/gateways and their devices
 *
 * Blocking is a field of the row: it acts on the next call of any signer over
 * the same database, and wakes the tenant's long polls.
 */
#include "api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "gateway.h"
#include "json.h"
#include "running.h"
#include "store.h"
#include "xalloc.h"

#define BODY_MAX 65536
#define NO_VERSION -1 /* these have no ETag: of conditions only "*" holds */
#define PAGE_OCTETS (1 << 20) /* a page ends early beyond it */

/* What was last heard of a gateway goes into what is shown of it. *octets
 * grows by what that was. */
static int
add_contact(struct store_txn *t, struct api_call *c, const char *id,
    cJSON *shown, size_t *octets)
{
	cJSON *row, *v;
	const char *last;
	char *text;
	size_t n;
	int rc = store_get(t, KIND_CONTACT, c->who.tenant, id, &text, &n);

	if (rc != 0)
		return rc == -ENOENT ? 0 : rc;
	row = json_parse(text, n, n, NULL);
	free(text);
	if (row == NULL)
		return -EBADMSG;
	*octets += n;
	last = json_string(row, "lastContact");
	if (last != NULL)
		json_add_text(shown, "lastContact", last);
	v = cJSON_DetachItemFromObjectCaseSensitive(row, "status");
	if (v != NULL)
		cJSON_AddItemToObject(shown, "status", v);
	cJSON_Delete(row);
	return 0;
}

struct list {
	struct store_txn *t;
	struct api_call *c;
	cJSON *items;
	const char *prefix; /* devices: "GATEWAY/" */
	int64_t left;
	size_t octets;
	char *next;
};

static int
on_gateway(const char *id, const char *doc, size_t n, void *arg)
{
	struct list *l = arg;
	cJSON *row;
	int rc;

	if (l->left-- <= 0 || l->octets > PAGE_OCTETS) {
		l->next =
		    xstrdup(json_string(cJSON_GetArrayItem(l->items,
					    cJSON_GetArraySize(l->items) - 1),
			"id"));
		return 1;
	}
	row = json_parse(doc, n, n, NULL);
	if (row == NULL)
		return -EBADMSG;
	l->octets += n;
	rc = add_contact(l->t, l->c, id, row, &l->octets);
	cJSON_AddItemToArray(l->items, row);
	return rc;
}

static int
list_gateways(struct store_txn *t, struct api_call *c)
{
	struct list l = { .t = t, .c = c };
	int rc = api_page_size(c, &l.left);

	if (rc != 0)
		return rc;
	c->answer = cJSON_CreateObject();
	l.items = cJSON_AddArrayToObject(c->answer, "items");
	rc = store_scan(
	    t, KIND_GATEWAY, c->who.tenant, c->after, on_gateway, &l);
	api_page_next(c, l.next);
	free(l.next);
	return rc;
}

static int
get_gateway(struct store_txn *t, struct api_call *c)
{
	size_t octets = 0;
	int rc = store_get_json(
	    t, KIND_GATEWAY, c->who.tenant, c->param[0], &c->answer);

	if (rc == -ENOENT)
		return api_not_found(c, "gateway", "GET /v1/gateways has all.");
	return rc != 0 ? rc
		       : add_contact(t, c, c->param[0], c->answer, &octets);
}

/* Store a row that was made of the body; dates are put in here. */
static int
write_row(struct store_txn *t, struct api_call *c, enum store_kind kind,
    const char *id, const char *action, cJSON *row)
{
	cJSON *old = NULL;
	char when[21];
	const char *made;
	int rc = store_get_json(t, kind, c->who.tenant, id, &old);

	if (rc != 0 && rc != -ENOENT)
		return rc;
	rc = api_precondition(c, old != NULL ? NO_VERSION : 0);
	if (rc != 0) {
		cJSON_Delete(old);
		return rc;
	}
	made = json_string(old, "createdAt");
	clock_rfc3339(c->now_s, when);
	json_add_text(row, "createdAt", made != NULL ? made : when);
	json_add_text(row, "updatedAt", when);
	rc = store_put_json(t, kind, c->who.tenant, id, row);
	if (rc == 0)
		rc = store_changed(t, c->who.tenant, NULL);
	if (rc == 0)
		rc = api_audit(t, c, c->who.tenant, action, id, old, row);
	if (rc == 0) {
		c->status = old != NULL ? 200 : 201;
		c->answer = cJSON_Duplicate(row, true);
		c->changed = true;
	}
	cJSON_Delete(old);
	return rc;
}

static int
delete_row(struct store_txn *t, struct api_call *c, enum store_kind kind,
    const char *id, const char *action, const char *what)
{
	cJSON *old;
	int rc = store_get_json(t, kind, c->who.tenant, id, &old);

	if (rc == -ENOENT)
		return api_not_found(c, what, NULL);
	if (rc != 0)
		return rc;
	rc = api_precondition(c, NO_VERSION);
	if (rc == 0)
		rc = store_del(t, kind, c->who.tenant, id);
	if (rc == 0)
		rc = store_changed(t, c->who.tenant, NULL);
	if (rc == 0)
		rc = api_audit(t, c, c->who.tenant, action, id, old, NULL);
	cJSON_Delete(old);
	c->status = 204;
	c->changed = rc == 0;
	return rc;
}

static int
put_gateway(struct store_txn *t, struct api_call *c)
{
	cJSON *row;
	int rc;

	if (!gateway_ok(c->param[0])) {
		problem_field(&c->problem, "/id",
		    "Letters, digits, - _ . ; at most 128.",
		    "This is no name for a gateway.");
		return -EINVAL;
	}
	row = gateway_parse(c->param[0], c->json, &c->problem);
	if (row == NULL)
		return -EINVAL;
	rc = write_row(t, c, KIND_GATEWAY, c->param[0], "gateway.set", row);
	cJSON_Delete(row);
	return rc;
}

/* Its tokens end with it: else making it again would let the old ones in. */
struct ending {
	const char *gateway;
	char **ids;
	size_t n;
};

static void
ending_add(struct ending *e, const char *id)
{
	e->ids = xrealloc(e->ids, (e->n + 1) * sizeof(*e->ids));
	e->ids[e->n++] = xstrdup(id);
}

static int
on_token(const char *id, const char *doc, size_t n, void *arg)
{
	struct ending *e = arg;
	cJSON *row = json_parse(doc, n, n, NULL);
	const char *gateway = json_string(row, "gateway");

	if (gateway != NULL && strcmp(gateway, e->gateway) == 0)
		ending_add(e, id);
	cJSON_Delete(row);
	return 0;
}

static int
end_tokens(struct store_txn *t, struct api_call *c)
{
	struct ending e = { .gateway = c->param[0] };
	int rc = store_scan(t, KIND_TOKEN, c->who.tenant, NULL, on_token, &e);

	for (size_t i = 0; i < e.n; i++) {
		if (rc == 0)
			rc = store_del(t, KIND_TOKEN, c->who.tenant, e.ids[i]);
		free(e.ids[i]);
	}
	free(e.ids);
	return rc;
}

/* With its tokens, and what its devices run. */
static int
delete_gateway(struct store_txn *t, struct api_call *c)
{
	int rc = delete_row(
	    t, c, KIND_GATEWAY, c->param[0], "gateway.delete", "gateway");

	if (rc == 0)
		rc = end_tokens(t, c);
	if (rc == 0)
		rc = running_delete_gateway(t, c->who.tenant, c->param[0]);
	return rc;
}

/* ---- the one that calls -------------------------------------------------- */

int
api_gateway(struct store_txn *t, struct api_call *c, struct gateway *g_out)
{
	int rc = gateway_get(t, c->who.tenant, c->who.gateway, g_out);

	if (rc == -ENOENT) {
		problem_set(&c->problem, 403,
		    "PUT /v1/gateways/ID registers it.",
		    "The gateway is not registered");
		return -EACCES;
	}
	if (rc == 0 && g_out->blocked) {
		gateway_fini(g_out);
		problem_set(&c->problem, 403,
		    "An administrator of the tenant can unblock it.",
		    "The gateway is blocked");
		return -EACCES;
	}
	return rc;
}

/* ---- devices ------------------------------------------------------------- */

static int
on_device(const char *id, const char *doc, size_t n, void *arg)
{
	struct list *l = arg;
	cJSON *row;

	if (strncmp(id, l->prefix, strlen(l->prefix)) != 0)
		return 1;
	row = json_parse(doc, n, n, NULL);
	if (row == NULL)
		return -EBADMSG;
	cJSON_AddItemToArray(l->items, row);
	return 0;
}

static int
list_devices(struct store_txn *t, struct api_call *c)
{
	char *prefix = xasprintf("%s/", c->param[0]);
	struct list l = { .t = t, .c = c, .prefix = prefix };
	struct gateway g;
	int rc = gateway_get(t, c->who.tenant, c->param[0], &g);

	if (rc != 0) {
		free(prefix);
		return rc == -ENOENT
		    ? api_not_found(c, "gateway", "GET /v1/gateways has all.")
		    : rc;
	}
	gateway_fini(&g);
	c->answer = cJSON_CreateObject();
	l.items = cJSON_AddArrayToObject(c->answer, "items");
	rc = store_scan(t, KIND_DEVICE, c->who.tenant, prefix, on_device, &l);
	free(prefix);
	return rc;
}

static int
get_device(struct store_txn *t, struct api_call *c)
{
	char *id = xasprintf("%s/%s", c->param[0], c->param[1]);
	int rc = store_get_json(t, KIND_DEVICE, c->who.tenant, id, &c->answer);

	free(id);
	return rc == -ENOENT
	    ? api_not_found(c, "device", "GET /v1/gateways/ID/devices has all.")
	    : rc;
}

static int
put_device(struct store_txn *t, struct api_call *c)
{
	struct gateway g;
	cJSON *row;
	char *id;
	int rc;

	if (!device_ok(c->param[1])) {
		problem_field(&c->problem, "/device",
		    "At most 255 octets without slashes and controls.",
		    "This is no name for a device.");
		return -EINVAL;
	}
	rc = gateway_get(t, c->who.tenant, c->param[0], &g);
	if (rc == -ENOENT)
		return api_not_found(c, "gateway", "PUT the gateway first.");
	if (rc != 0)
		return rc;
	gateway_fini(&g);
	row = device_parse(c->param[1], c->json, &c->problem);
	if (row == NULL)
		return -EINVAL;
	id = xasprintf("%s/%s", c->param[0], c->param[1]);
	rc = write_row(t, c, KIND_DEVICE, id, "device.set", row);
	free(id);
	cJSON_Delete(row);
	return rc;
}

static int
delete_device(struct store_txn *t, struct api_call *c)
{
	char *id = xasprintf("%s/%s", c->param[0], c->param[1]);
	int rc = delete_row(t, c, KIND_DEVICE, id, "device.delete", "device");

	free(id);
	return rc;
}

#define ADMIN (ROLE_ADMIN | ROLE_ROOT)
#define DEVICE "/v1/gateways/:id/devices/:device"
/* clang-format off */
const struct api_route api_gateway_routes[] = {
	{ "GET",    "/v1/gateways",             ADMIN, API_READ,  list_gateways,  0 },
	{ "GET",    "/v1/gateways/:id",         ADMIN, API_READ,  get_gateway,    0 },
	{ "PUT",    "/v1/gateways/:id",         ADMIN, API_WRITE, put_gateway,    BODY_MAX },
	{ "DELETE", "/v1/gateways/:id",         ADMIN, API_WRITE, delete_gateway, 0 },
	{ "GET",    "/v1/gateways/:id/devices", ADMIN, API_READ,  list_devices,   0 },
	{ "GET",    DEVICE,                     ADMIN, API_READ,  get_device,     0 },
	{ "PUT",    DEVICE,                     ADMIN, API_WRITE, put_device,     BODY_MAX },
	{ "DELETE", DEVICE,                     ADMIN, API_WRITE, delete_device,  0 },
	{ NULL },
};
/* clang-format on */
