/*
 * gateway.c - gateways and their devices, as the signer knows them
 *
 * A row is what PUT took, with its defaults filled in, plus createdAt and
 * updatedAt. Blocking is a field of the row, read with every request.
 */
#include "gateway.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "firmware.h"
#include "json.h"
#include "problem.h"
#include "storage.h"
#include "store.h"
#include "token.h"
#include "xalloc.h"

#define SIZE_MOST (1LL << 50)

bool
device_ok(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > DEVICE_MAX || !json_utf8(s, n))
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f || s[i] == '/')
			return false;
	return true;
}

/* ---- documents ----------------------------------------------------------- */

static void
take_prefix(cJSON *row, const char *id, const cJSON *v, struct problem *p)
{
	char *prefix;

	if (v == NULL || cJSON_IsNull(v) ||
	    (cJSON_IsString(v) && v->valuestring[0] == '\0'))
		prefix = xasprintf("%s/", id);
	else if (cJSON_IsString(v))
		prefix = xasprintf("%s%s", v->valuestring,
		    v->valuestring[strlen(v->valuestring) - 1] == '/' ? ""
								      : "/");
	else
		prefix = xstrdup("");
	if (prefix_ok(prefix))
		json_add_text(row, "prefix", prefix);
	else
		problem_field(p, "/prefix",
		    "For example site-7/ ; no . or .. or empty segments, at "
		    "most 256 octets.",
		    "This cannot stand before a key.");
	free(prefix);
}

static void
take_bool(cJSON *row, const char *name, const cJSON *v, struct problem *p)
{
	char *pointer = xasprintf("/%s", name);

	if (v != NULL && !cJSON_IsBool(v) && !cJSON_IsNull(v))
		problem_field(p, pointer, "Write true or false.",
		    "This must be true or false.");
	cJSON_AddBoolToObject(row, name, cJSON_IsTrue(v));
	free(pointer);
}

void
gateway_take_note(cJSON *row, const cJSON *v, struct problem *p)
{
	if (v == NULL || cJSON_IsNull(v))
		return;
	if (!cJSON_IsString(v) || strlen(v->valuestring) > 1024)
		problem_field(p, "/note", NULL,
		    "This must be a text of at most 1024 octets.");
	else
		json_add_text(row, "note", v->valuestring);
}

static void
take_names(cJSON *policy, const char *name, const cJSON *v, struct problem *p)
{
	char *pointer = xasprintf("/policy/%s", name);
	const cJSON *e;
	bool ok = cJSON_IsArray(v) && cJSON_GetArraySize(v) <= 256;

	cJSON_ArrayForEach(e, v)
	{
		if (!cJSON_IsString(e) || !name_ok(e->valuestring))
			ok = false;
	}
	if (ok)
		cJSON_AddItemToObject(policy, name, cJSON_Duplicate(v, true));
	else
		problem_field(p, pointer, "For example [\"default\"].",
		    "This must be a list of names.");
	free(pointer);
}

static void
take_policy(cJSON *row, const cJSON *v, struct problem *p)
{
	static const char *const names[] = { "storages", "maxSize",
		"bytesPerDay", "firmwareProducts", NULL };
	cJSON *policy = cJSON_AddObjectToObject(row, "policy");
	const cJSON *e;

	if (v == NULL || cJSON_IsNull(v))
		return;
	if (!cJSON_IsObject(v)) {
		problem_field(p, "/policy", NULL, "This must be an object.");
		return;
	}
	cJSON_ArrayForEach(e, v)
	{
		int64_t n;
		char *pointer;

		if (cJSON_IsNull(e))
			continue;
		pointer = problem_pointer("/policy", e->string);
		if (strcmp(e->string, "storages") == 0 ||
		    strcmp(e->string, "firmwareProducts") == 0)
			take_names(policy, e->string, e, p);
		else if (strcmp(e->string, "maxSize") != 0 &&
		    strcmp(e->string, "bytesPerDay") != 0)
			problem_field(p, pointer,
			    problem_meant(e->string, names),
			    "There is no such limit.");
		else if (json_int(v, e->string, 0, SIZE_MOST, &n) != 0)
			problem_field(p, pointer, NULL,
			    "This must be a number of octets.");
		else
			json_add_int(policy, e->string, n);
		free(pointer);
	}
}

cJSON *
gateway_parse(const char *id, const cJSON *doc, struct problem *p)
{
	static const char *const names[] = { "id", "prefix", "blocked",
		"policy", "note", "createdAt", "updatedAt", "lastContact",
		"status", NULL };
	cJSON *row = cJSON_CreateObject();

	json_add_text(row, "id", id);
	problem_unknown(doc, names, p);
	take_prefix(
	    row, id, cJSON_GetObjectItemCaseSensitive(doc, "prefix"), p);
	take_bool(row, "blocked",
	    cJSON_GetObjectItemCaseSensitive(doc, "blocked"), p);
	take_policy(row, cJSON_GetObjectItemCaseSensitive(doc, "policy"), p);
	gateway_take_note(
	    row, cJSON_GetObjectItemCaseSensitive(doc, "note"), p);
	if (p->status == 0)
		return row;
	cJSON_Delete(row);
	return NULL;
}

cJSON *
device_parse(const char *device, const cJSON *doc, struct problem *p)
{
	static const char *const names[] = { "device", "blocked", "note",
		"createdAt", "updatedAt", NULL };
	cJSON *row = cJSON_CreateObject();

	json_add_text(row, "device", device);
	problem_unknown(doc, names, p);
	take_bool(row, "blocked",
	    cJSON_GetObjectItemCaseSensitive(doc, "blocked"), p);
	gateway_take_note(
	    row, cJSON_GetObjectItemCaseSensitive(doc, "note"), p);
	if (p->status == 0)
		return row;
	cJSON_Delete(row);
	return NULL;
}

/* ---- rows ---------------------------------------------------------------- */

int
gateway_ensure(
    struct store_txn *t, const char *tenant, const char *id, int64_t now_s)
{
	struct problem p = { 0 };
	char when[21];
	cJSON *row;
	int rc = store_get_json(t, KIND_GATEWAY, tenant, id, &row);

	if (rc == 0)
		cJSON_Delete(row);
	if (rc != -ENOENT)
		return rc;
	row = gateway_parse(id, NULL, &p);
	if (row == NULL) {
		problem_fini(&p);
		return -EINVAL;
	}
	clock_rfc3339(now_s, when);
	json_add_text(row, "createdAt", when);
	json_add_text(row, "updatedAt", when);
	rc = store_put_json(t, KIND_GATEWAY, tenant, id, row);
	cJSON_Delete(row);
	return rc;
}

int
gateway_get(struct store_txn *t, const char *tenant, const char *id,
    struct gateway *g_out)
{
	const cJSON *policy, *storages, *products;
	const char *prefix;
	cJSON *row;
	int rc = store_get_json(t, KIND_GATEWAY, tenant, id, &row);

	if (rc != 0)
		return rc;
	prefix = json_string(row, "prefix");
	policy = cJSON_GetObjectItemCaseSensitive(row, "policy");
	storages = cJSON_GetObjectItemCaseSensitive(policy, "storages");
	products = cJSON_GetObjectItemCaseSensitive(policy, "firmwareProducts");
	if (prefix == NULL || !prefix_ok(prefix)) {
		cJSON_Delete(row);
		return -EBADMSG;
	}
	g_out->prefix = xstrdup(prefix);
	g_out->blocked = json_bool(row, "blocked", false);
	g_out->storages =
	    cJSON_IsArray(storages) ? cJSON_Duplicate(storages, true) : NULL;
	g_out->products =
	    cJSON_IsArray(products) ? cJSON_Duplicate(products, true) : NULL;
	g_out->max_size = -1;
	if (json_int(policy, "maxSize", 0, SIZE_MOST, &g_out->max_size) != 0)
		g_out->max_size = -1;
	if (json_int(policy, "bytesPerDay", 0, SIZE_MOST,
		&g_out->bytes_per_day) != 0)
		g_out->bytes_per_day = -1;
	g_out->spent = false;
	cJSON_Delete(row);
	return 0;
}

int
gateway_count(struct store_txn *t, const char *tenant, const char *id,
    int64_t now_s, struct gateway *g)
{
	int64_t day = -1, bytes = 0;
	cJSON *row;
	int rc;

	if (g->bytes_per_day < 0)
		return 0;
	rc = store_get_json(t, KIND_CONTACT, tenant, id, &row);
	if (rc != 0)
		return rc == -ENOENT ? 0 : rc;
	if (json_int(row, "day", 0, INT64_MAX / 2048, &day) == 0 &&
	    day == now_s / 86400 &&
	    json_int(row, "bytes", 0, INT64_MAX / 2048, &bytes) == 0)
		g->spent = bytes >= g->bytes_per_day;
	cJSON_Delete(row);
	return 0;
}

void
gateway_fini(struct gateway *g)
{
	free(g->prefix);
	cJSON_Delete(g->storages);
	cJSON_Delete(g->products);
	memset(g, 0, sizeof(*g));
}

/* NULL: no list, so any. */
static bool
is_listed(const cJSON *list, const char *name)
{
	return list == NULL || in_texts(list, name);
}

bool
gateway_may_use(const struct gateway *g, const char *storage)
{
	return is_listed(g->storages, storage);
}

bool
gateway_may_fetch(const struct gateway *g, const char *product)
{
	return is_listed(g->products, product);
}

int
device_blocked(struct store_txn *t, const char *tenant, const char *gateway,
    const char *device)
{
	char *id = xasprintf("%s/%s", gateway, device);
	cJSON *row;
	int rc = store_get_json(t, KIND_DEVICE, tenant, id, &row);

	free(id);
	if (rc == -ENOENT)
		return 0;
	if (rc != 0)
		return rc;
	rc = json_bool(row, "blocked", false);
	cJSON_Delete(row);
	return rc;
}
