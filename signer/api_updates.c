/*
 * api_updates.c - GET /v1/updates: what a gateway has to know, as a long poll
 */
#include "api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "firmware.h"
#include "gateway.h"
#include "json.h"
#include "signer.h"
#include "storage.h"
#include "storage_cache.h"
#include "store.h"
#include "xalloc.h"

/* A storage of the tenant, as it is read. */
struct found {
	char *name, *row;
	size_t row_n;
	cJSON *before; /* hosts of what it was before */
};

struct making {
	struct store_txn *t;
	struct api_call *c;
	const struct gateway *gateway;
	const char *prefix; /* of the ids of its devices */
	cJSON *list;
	struct found *found;
	size_t found_n;
};

static int
on_storage(const char *id, const char *doc, size_t n, void *arg)
{
	struct making *m = arg;
	struct found *f;

	m->found = xrealloc(m->found, (m->found_n + 1) * sizeof(*m->found));
	f = &m->found[m->found_n++];
	f->name = xstrdup(id);
	f->row = xstrndup(doc, n);
	f->row_n = n;
	f->before = cJSON_CreateArray();
	return 0;
}

static bool
has_text(const cJSON *array, const char *text)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, array)
	{
		if (strcmp(e->valuestring, text) == 0)
			return true;
	}
	return false;
}

static void
add_hosts(cJSON *array, const cJSON *more)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, more)
	{
		if (cJSON_IsString(e) && !has_text(array, e->valuestring))
			cJSON_AddItemToArray(
			    array, cJSON_CreateString(e->valuestring));
	}
}

/* Of a storage as it was: uploads that were begun there are given up there. */
static int
on_replaced(const char *id, const char *doc, size_t n, void *arg)
{
	struct making *m = arg;
	size_t name_n = strcspn(id, "/");
	int64_t at = 0;
	cJSON *row;

	for (size_t i = 0; i < m->found_n; i++) {
		struct found *f = &m->found[i];

		if (strlen(f->name) != name_n ||
		    memcmp(f->name, id, name_n) != 0)
			continue;
		row = json_parse(doc, n, n, NULL);
		json_int(row, "replacedAt", 0, INT64_MAX / 2048, &at);
		if (at >= m->c->now_s - REPLACED_KEEP_S)
			add_hosts(f->before,
			    cJSON_GetObjectItemCaseSensitive(row, "hosts"));
		cJSON_Delete(row);
	}
	return 0;
}

/* Does firmware for the gateway lie there? */
static bool
has_firmware(const struct making *m, const char *name)
{
	const cJSON *list =
	    cJSON_GetObjectItemCaseSensitive(m->c->answer, "firmware");
	const cJSON *e;

	cJSON_ArrayForEach(e, list)
	{
		if (strcmp(json_string(e, "storage"), name) == 0)
			return true;
	}
	return false;
}

static void
add_storage(struct making *m, const struct found *f)
{
	struct api_call *c = m->c;
	const struct storage *s;
	cJSON *o, *hosts;

	if ((!gateway_may_use(m->gateway, f->name) &&
		!has_firmware(m, f->name)) ||
	    storage_cache_of(c->sg->cache, c->who.tenant, f->name, f->row,
		f->row_n, &s) != 0)
		return; /* signing says what is wrong with it */
	o = cJSON_CreateObject();
	json_add_text(o, "name", s->name);
	hosts = storage_hosts(s);
	add_hosts(hosts, f->before);
	cJSON_AddItemToObject(o, "hosts", hosts);
	if (s->certificate_id != NULL)
		json_add_text(o, "certificateId", s->certificate_id);
	else
		cJSON_AddNullToObject(o, "certificateId");
	cJSON_AddBoolToObject(o, "allowHttp", s->allow_http);
	cJSON_AddItemToArray(m->list, o);
	storage_cache_put(c->sg->cache, s);
}

static int
add_storages(struct making *m)
{
	const char *tenant = m->c->who.tenant;
	int rc = store_scan(m->t, KIND_STORAGE, tenant, NULL, on_storage, m);

	if (rc == 0)
		rc = store_scan(
		    m->t, KIND_REPLACED, tenant, NULL, on_replaced, m);
	m->list = cJSON_AddArrayToObject(m->c->answer, "storages");
	for (size_t i = 0; i < m->found_n; i++) {
		if (rc == 0)
			add_storage(m, &m->found[i]);
		free(m->found[i].name);
		free(m->found[i].row);
		cJSON_Delete(m->found[i].before);
	}
	free(m->found);
	return rc;
}

static int
on_device(const char *id, const char *doc, size_t n, void *arg)
{
	struct making *m = arg;
	cJSON *row, *o;

	if (strncmp(id, m->prefix, strlen(m->prefix)) != 0)
		return 1;
	row = json_parse(doc, n, n, NULL);
	if (json_bool(row, "blocked", false)) {
		o = cJSON_CreateObject();
		json_add_text(o, "device", id + strlen(m->prefix));
		cJSON_AddTrueToObject(o, "blocked");
		cJSON_AddItemToArray(m->list, o);
	}
	cJSON_Delete(row);
	return 0;
}

static int
add_devices(struct making *m)
{
	char *prefix = xasprintf("%s/", m->c->who.gateway);
	int rc;

	m->prefix = prefix;
	m->list = cJSON_AddArrayToObject(m->c->answer, "devices");
	rc = store_scan(
	    m->t, KIND_DEVICE, m->c->who.tenant, prefix, on_device, m);
	free(prefix);
	return rc;
}

/* A gateway that was deleted is one that is blocked. */
static int
get_updates(struct store_txn *t, struct api_call *c)
{
	struct gateway g = { 0 };
	struct making m = { .t = t, .c = c, .gateway = &g };
	int64_t version, after = -1;
	char *end;
	int rc = store_version(t, c->who.tenant, &version);

	if (rc != 0)
		return rc;
	if (c->after != NULL) {
		after = strtoll(c->after, &end, 10);
		if (*end != '\0' || end == c->after || after < 0) {
			problem_field(&c->problem, "",
			    "The version of the last answer.",
			    "The parameter after must be a number.");
			return -EINVAL;
		}
	}
	if (after == version && c->version != -1) {
		c->park = true;
		return 0;
	}
	rc = gateway_get(t, c->who.tenant, c->who.gateway, &g);
	if (rc == -ENOENT)
		g.blocked = true;
	else if (rc != 0)
		return rc;
	c->answer = cJSON_CreateObject();
	json_add_int(c->answer, "version", version);
	cJSON_AddBoolToObject(c->answer, "blocked", g.blocked);
	rc = firmware_updates(t, c->who.tenant, &g, c->answer);
	if (rc == 0)
		rc = add_storages(&m);
	if (rc == 0)
		rc = add_devices(&m);
	gateway_fini(&g);
	return rc;
}

/* clang-format off */
const struct api_route api_updates_routes[] = {
	{ "GET", "/v1/updates", ROLE_GATEWAY, API_READ, get_updates, 0 },
	{ NULL },
};
/* clang-format on */
