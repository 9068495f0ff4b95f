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

struct making {
	struct store_txn *t;
	struct api_call *c;
	const struct gateway *gateway;
	const char *prefix; /* of ids that are looked for */
	cJSON *list, *hosts;
	char **names;
	size_t n;
};

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

static int
on_name(const char *id, const char *doc, size_t n, void *arg)
{
	struct making *m = arg;

	m->names = xrealloc(m->names, (m->n + 1) * sizeof(*m->names));
	m->names[m->n++] = xstrdup(id);
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

/* Of a storage as it was: uploads that were begun there are given up there. */
static int
on_replaced(const char *id, const char *doc, size_t n, void *arg)
{
	struct making *m = arg;
	cJSON *row, *list, *host;

	if (strncmp(id, m->prefix, strlen(m->prefix)) != 0)
		return 1;
	row = json_parse(doc, n, n, NULL);
	list = cJSON_GetObjectItemCaseSensitive(row, "hosts");
	cJSON_ArrayForEach(host, list)
	{
		if (cJSON_IsString(host) &&
		    !has_text(m->hosts, host->valuestring))
			cJSON_AddItemToArray(
			    m->hosts, cJSON_CreateString(host->valuestring));
	}
	cJSON_Delete(row);
	return 0;
}

static cJSON *
hosts_of(struct making *m, const struct storage *s)
{
	char *prefix = xasprintf("%s/", s->name);

	m->hosts = storage_hosts(s);
	m->prefix = prefix;
	store_scan(
	    m->t, KIND_REPLACED, m->c->who.tenant, prefix, on_replaced, m);
	free(prefix);
	return m->hosts;
}

static void
add_storage(struct making *m, const char *name)
{
	struct api_call *c = m->c;
	const struct storage *s;
	cJSON *o;

	if ((!gateway_may_use(m->gateway, name) && !has_firmware(m, name)) ||
	    storage_cache_get(c->sg->cache, m->t, c->who.tenant, name, &s) != 0)
		return; /* signing says what is wrong with it */
	o = cJSON_CreateObject();
	json_add_text(o, "name", s->name);
	cJSON_AddItemToObject(o, "hosts", hosts_of(m, s));
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
	int rc =
	    store_scan(m->t, KIND_STORAGE, m->c->who.tenant, NULL, on_name, m);

	m->list = cJSON_AddArrayToObject(m->c->answer, "storages");
	for (size_t i = 0; i < m->n; i++) {
		if (rc == 0)
			add_storage(m, m->names[i]);
		free(m->names[i]);
	}
	free(m->names);
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
