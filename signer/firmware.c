/*
 * firmware.c - rows of products and manifests, and what gateways see of them
 */
#include "firmware.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "gateway.h"
#include "json.h"
#include "manifest.h"
#include "problem.h"
#include "storage.h"
#include "store.h"
#include "xalloc.h"

#define HW_MAX 64
#define MAX_SIZE_DEFAULT (4LL << 30)

const char *
firmware_root(const struct storage *s)
{
	return s->text[ST_FIRMWARE_ROOT] != NULL ? s->text[ST_FIRMWARE_ROOT]
						 : FIRMWARE_ROOT;
}

char *
firmware_id(const char *a, const char *b, const char *c)
{
	return c != NULL ? xasprintf("%s/%s/%s", a, b, c)
			 : xasprintf("%s/%s", a, b);
}

/* ---- products ------------------------------------------------------------ */

int
product_get(struct store_txn *t, const char *tenant, const char *name,
    struct product *p_out)
{
	const cJSON *hw, *keys, *e;
	const char *storage;
	cJSON *row;
	int rc = store_get_json(t, KIND_PRODUCT, tenant, name, &row);

	if (rc != 0)
		return rc;
	memset(p_out, 0, sizeof(*p_out));
	storage = json_string(row, "storage");
	hw = cJSON_GetObjectItemCaseSensitive(row, "hw");
	keys = cJSON_GetObjectItemCaseSensitive(row, "publicKeys");
	p_out->name = xstrdup(name);
	p_out->storage = xstrdup(storage != NULL ? storage : "default");
	p_out->hw =
	    cJSON_GetArraySize(hw) > 0 ? cJSON_Duplicate(hw, true) : NULL;
	if (json_int(row, "maxSize", 1, (int64_t)FIRMWARE_SIZE_MAX,
		&p_out->max_size) != 0)
		p_out->max_size = MAX_SIZE_DEFAULT;
	cJSON_ArrayForEach(e, keys)
	{
		if (cJSON_IsString(e) && p_out->keys_n < FIRMWARE_KEYS_MAX &&
		    minisign_public_parse(
			e->valuestring, &p_out->keys[p_out->keys_n]) == 0)
			p_out->keys_n++;
	}
	cJSON_Delete(row);
	return 0;
}

void
product_fini(struct product *p)
{
	free(p->name);
	free(p->storage);
	cJSON_Delete(p->hw);
	memset(p, 0, sizeof(*p));
}

bool
in_texts(const cJSON *list, const char *s)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, list)
	{
		if (cJSON_IsString(e) && strcmp(e->valuestring, s) == 0)
			return true;
	}
	return false;
}

static void
take_storage(cJSON *row, const cJSON *v, struct problem *p)
{
	const char *name = "default";

	if (cJSON_IsString(v) && v->valuestring[0] != '\0')
		name = v->valuestring;
	if ((v != NULL && !cJSON_IsNull(v) && !cJSON_IsString(v)) ||
	    !name_ok(name))
		problem_field(p, "/storage", "For example \"default\".",
		    "This is no name of a storage.");
	else
		json_add_text(row, "storage", name);
}

void
firmware_take_hw(
    cJSON *row, const cJSON *v, const cJSON *among, struct problem *p)
{
	const cJSON *e;
	int i = 0;

	if (v == NULL || cJSON_IsNull(v))
		return;
	if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) > HW_MAX) {
		problem_field(p, "/hw", "For example [\"1.0\", \"1.1\"].",
		    "This must be a list of at most %d texts.", HW_MAX);
		return;
	}
	cJSON_ArrayForEach(e, v)
	{
		char pointer[32];

		snprintf(pointer, sizeof(pointer), "/hw/%d", i++);
		if (!cJSON_IsString(e) || !firmware_hw_ok(e->valuestring))
			problem_field(p, pointer,
			    "1 to 64 printable characters of ASCII without "
			    "blanks.",
			    "This is no name of a hardware.");
		else if (among != NULL && !in_texts(among, e->valuestring))
			problem_field(p, pointer,
			    "Add it to hw of the product if it is a new one.",
			    "The product has no hardware %.64s.",
			    e->valuestring);
	}
	cJSON_AddItemToObject(row, "hw", cJSON_Duplicate(v, true));
}

static void
take_keys(cJSON *row, const cJSON *v, struct problem *p)
{
	static const char *const hint =
	    "The second line of the file that minisign -G or edgehaul "
	    "firmware keygen made, as in [\"RWQ...\"].";
	struct minisign_public key;
	const cJSON *e;
	int i = 0, n = cJSON_GetArraySize(v);

	if (!cJSON_IsArray(v) || n < 1 || n > FIRMWARE_KEYS_MAX) {
		problem_field(p, "/publicKeys", hint,
		    "A product needs 1 to %d public keys of its publishers.",
		    FIRMWARE_KEYS_MAX);
		return;
	}
	cJSON_ArrayForEach(e, v)
	{
		char pointer[32];

		snprintf(pointer, sizeof(pointer), "/publicKeys/%d", i++);
		if (!cJSON_IsString(e) || strlen(e->valuestring) > 1024 ||
		    minisign_public_parse(e->valuestring, &key) != 0)
			problem_field(p, pointer, hint,
			    "This is no public key of minisign.");
	}
	cJSON_AddItemToObject(row, "publicKeys", cJSON_Duplicate(v, true));
}

cJSON *
product_parse(const char *name, const cJSON *doc, struct problem *p)
{
	static const char *const names[] = { "product", "storage", "hw",
		"publicKeys", "maxSize", "note", "createdAt", "updatedAt",
		"version", NULL };
	cJSON *row = cJSON_CreateObject();
	const cJSON *note = cJSON_GetObjectItemCaseSensitive(doc, "note");
	int64_t n = MAX_SIZE_DEFAULT;
	int rc = json_int(doc, "maxSize", 1, (int64_t)FIRMWARE_SIZE_MAX, &n);

	json_add_text(row, "product", name);
	problem_unknown(doc, names, p);
	take_storage(row, cJSON_GetObjectItemCaseSensitive(doc, "storage"), p);
	firmware_take_hw(
	    row, cJSON_GetObjectItemCaseSensitive(doc, "hw"), NULL, p);
	take_keys(row, cJSON_GetObjectItemCaseSensitive(doc, "publicKeys"), p);
	if (rc != 0 && rc != -ENOENT)
		problem_field(p, "/maxSize", "For example 4294967296.",
		    "This must be a number of octets, at most %llu.",
		    (unsigned long long)FIRMWARE_SIZE_MAX);
	json_add_int(row, "maxSize", n);
	gateway_take_note(row, note, p);
	if (p->status == 0)
		return row;
	cJSON_Delete(row);
	return NULL;
}

int
firmware_names(struct api_call *c)
{
	if (!firmware_product_ok(c->param[0]))
		problem_field(&c->problem, "",
		    "1 to 64 of a-z 0-9 . _ - and no leading dot.",
		    "This is no name of a product.");
	if (c->param[1] != NULL && !firmware_product_ok(c->param[1]))
		problem_field(&c->problem, "",
		    "1 to 64 of a-z 0-9 . _ - and no leading dot; usually "
		    "stable.",
		    "This is no name of a channel.");
	return c->problem.status == 0 ? 0 : -EINVAL;
}

int
firmware_product(struct store_txn *t, struct api_call *c, struct product *p_out)
{
	int rc = firmware_names(c);

	if (rc != 0)
		return rc;
	rc = product_get(t, c->who.tenant, c->param[0], p_out);
	if (rc == -ENOENT)
		return api_not_found(c, "product",
		    "PUT /v1/firmware/PRODUCT makes it: edgehaul firmware "
		    "product.");
	return rc;
}

int
manifest_state(struct store_txn *t, const char *tenant, const char *id,
    int64_t *seq_out, int64_t *announced_out, char **storage_out)
{
	const char *storage;
	cJSON *row;
	int rc = store_get_json(t, KIND_MANIFEST, tenant, id, &row);

	*seq_out = *announced_out = 0;
	if (storage_out != NULL)
		*storage_out = NULL;
	if (rc != 0)
		return rc == -ENOENT ? 0 : rc;
	storage = json_string(row, "storage");
	if (json_int(row, "seq", 1, INT64_MAX / 2048, seq_out) != 0)
		rc = -EBADMSG;
	json_int(row, "announced", 0, INT64_MAX / 2048, announced_out);
	if (rc == 0 && storage_out != NULL && storage != NULL)
		*storage_out = xstrdup(storage);
	cJSON_Delete(row);
	return rc;
}

/* ---- gateways ------------------------------------------------------------ */

/* Is the newest manifest of the key's channel in that storage? Gateways read
 * there until a product that has moved is published anew. */
static bool
channel_is_in(struct store_txn *t, const char *tenant, const char *key,
    const char *storage)
{
	size_t n = strcspn(key, "/") + 1;
	char *id = xstrndup(key, n + strcspn(key + n, "/")), *where = NULL;
	int64_t seq, announced;
	bool is =
	    manifest_state(t, tenant, id, &seq, &announced, &where) == 0 &&
	    where != NULL && strcmp(where, storage) == 0;

	free(where);
	free(id);
	return is;
}

bool
firmware_may_read(struct store_txn *t, const char *tenant,
    const struct gateway *g, const char *storage, const char *key,
    const char **why_out)
{
	char *name = xstrndup(key, strcspn(key, "/"));
	struct product p;
	bool ok = false;

	*why_out = "Only what stands below PRODUCT/ of the firmware root may "
		   "be read.";
	if (!firmware_product_ok(name) || key[strlen(name)] != '/')
		goto out;
	*why_out = "The product is not in the policy of the gateway.";
	if (!gateway_may_fetch(g, name))
		goto out;
	*why_out = "There is no such product in that storage.";
	if (product_get(t, tenant, name, &p) != 0)
		goto out;
	ok = strcmp(p.storage, storage) == 0 ||
	    channel_is_in(t, tenant, key, storage);
	product_fini(&p);
out:
	free(name);
	return ok;
}

struct listing {
	struct store_txn *t;
	const char *tenant;
	const struct gateway *g;
	cJSON *firmware, *products;
};

static int
on_product(const char *id, const char *doc, size_t n, void *arg)
{
	struct listing *l = arg;

	if (gateway_may_fetch(l->g, id))
		cJSON_AddItemToArray(l->products, cJSON_CreateString(id));
	return 0;
}

static int
on_manifest(const char *id, const char *doc, size_t n, void *arg)
{
	struct listing *l = arg;
	size_t len = strcspn(id, "/");
	char *name = xstrndup(id, len);
	int64_t announced = 0;
	cJSON *row, *o;

	if (id[len] == '/' && gateway_may_fetch(l->g, name)) {
		row = json_parse(doc, n, n, NULL);
		if (json_int(row, "announced", 1, INT64_MAX / 2048,
			&announced) == 0) {
			o = cJSON_CreateObject();
			json_add_text(o, "product", name);
			json_add_text(o, "channel", id + len + 1);
			json_add_int(o, "seq", announced);
			json_add_text(
			    o, "storage", json_string(row, "storage"));
			cJSON_AddItemToArray(l->firmware, o);
		}
		cJSON_Delete(row);
	}
	free(name);
	return 0;
}

int
firmware_updates(struct store_txn *t, const char *tenant,
    const struct gateway *g, cJSON *answer)
{
	struct listing l = { .t = t, .tenant = tenant, .g = g };
	cJSON *policy;
	int rc;

	l.firmware = cJSON_AddArrayToObject(answer, "firmware");
	policy = cJSON_AddObjectToObject(answer, "policy");
	l.products = cJSON_AddArrayToObject(policy, "firmwareProducts");
	if (g->blocked)
		return 0;
	rc = store_scan(t, KIND_PRODUCT, tenant, NULL, on_product, &l);
	if (rc == 0)
		rc =
		    store_scan(t, KIND_MANIFEST, tenant, NULL, on_manifest, &l);
	return rc;
}
