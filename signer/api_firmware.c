/*
 * api_firmware.c - /v1/firmware: products, and what is released
 */
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "firmware.h"
#include "gateway.h"
#include "json.h"
#include "manifest.h"
#include "store.h"
#include "xalloc.h"

#define BODY_MAX (64 * 1024)

static int64_t
row_version(const cJSON *row)
{
	int64_t v;

	return json_int(row, "version", 1, INT64_MAX / 2048, &v) == 0 ? v : 0;
}

/* ---- products ------------------------------------------------------------ */

static int
on_listed(const char *id, const char *doc, size_t n, void *arg)
{
	cJSON *row = json_parse(doc, n, n, NULL);

	if (row == NULL)
		return -EBADMSG;
	cJSON_AddItemToArray(arg, row);
	return 0;
}

static int
list_products(struct store_txn *t, struct api_call *c)
{
	c->answer = cJSON_CreateObject();
	return store_scan(t, KIND_PRODUCT, c->who.tenant, c->after, on_listed,
	    cJSON_AddArrayToObject(c->answer, "items"));
}

static int
get_product(struct store_txn *t, struct api_call *c)
{
	int rc = firmware_names(c);

	if (rc == 0)
		rc = store_get_json(
		    t, KIND_PRODUCT, c->who.tenant, c->param[0], &c->answer);
	if (rc == -ENOENT)
		return api_not_found(c, "product", "GET /v1/firmware has all.");
	if (rc == 0)
		api_etag(c, row_version(c->answer));
	return rc;
}

static int
check_storage(struct store_txn *t, struct api_call *c, const cJSON *row)
{
	cJSON *storage;
	int rc = store_get_json(t, KIND_STORAGE, c->who.tenant,
	    json_string(row, "storage"), &storage);

	if (rc == -ENOENT)
		problem_field(&c->problem, "/storage",
		    "PUT /v1/storages/NAME makes it.",
		    "There is no storage %.64s.", json_string(row, "storage"));
	if (rc == 0)
		cJSON_Delete(storage);
	return rc == -ENOENT ? -EINVAL : rc;
}

static int
write_product(struct store_txn *t, struct api_call *c, cJSON *row, cJSON *old)
{
	const char *made = json_string(old, "createdAt");
	int64_t version;
	char when[21];
	int rc = store_changed(t, c->who.tenant, &version);

	if (rc != 0)
		return rc;
	clock_rfc3339(c->now_s, when);
	json_add_text(row, "createdAt", made != NULL ? made : when);
	json_add_text(row, "updatedAt", when);
	json_add_int(row, "version", version);
	rc = store_put_json(t, KIND_PRODUCT, c->who.tenant, c->param[0], row);
	if (rc == 0)
		rc = api_audit(t, c, c->who.tenant,
		    old != NULL ? "product.replace" : "product.create",
		    c->param[0], old, row);
	if (rc != 0)
		return rc;
	c->answer = cJSON_Duplicate(row, true);
	c->status = old != NULL ? 200 : 201;
	c->changed = true;
	api_etag(c, version);
	return 0;
}

static bool
has_key(const cJSON *row, const char *key)
{
	const cJSON *e;

	cJSON_ArrayForEach(
	    e, cJSON_GetObjectItemCaseSensitive(row, "publicKeys"))
	{
		if (cJSON_IsString(e) && strcmp(e->valuestring, key) == 0)
			return true;
	}
	return false;
}

/*
 * A publisher's token alone, without his key, must not be able to stop the
 * others: where a product is kept and whose keys count no more is for an
 * administrator to say.
 */
static int
check_publisher(struct api_call *c, const cJSON *row, const cJSON *old)
{
	const cJSON *e;

	if (old == NULL || c->who.role != ROLE_PUBLISHER)
		return 0;
	if (strcmp(json_string(row, "storage"), json_string(old, "storage")) !=
	    0) {
		problem_field(&c->problem, "/storage",
		    "Ask an administrator of the tenant.",
		    "A publisher may not move a product to another storage.");
		return -EINVAL;
	}
	cJSON_ArrayForEach(
	    e, cJSON_GetObjectItemCaseSensitive(old, "publicKeys"))
	{
		if (!cJSON_IsString(e) || has_key(row, e->valuestring))
			continue;
		problem_field(&c->problem, "/publicKeys",
		    "Send those that are there as well, or ask an "
		    "administrator of the tenant.",
		    "A publisher may not take a key from a product.");
		return -EINVAL;
	}
	return 0;
}

static int
put_product(struct store_txn *t, struct api_call *c)
{
	cJSON *old = NULL, *row = NULL;
	int rc = firmware_names(c);

	if (rc != 0)
		return rc;
	rc = store_get_json(t, KIND_PRODUCT, c->who.tenant, c->param[0], &old);
	if (rc == -ENOENT)
		rc = 0;
	if (rc == 0)
		rc = api_precondition(c, old != NULL ? row_version(old) : 0);
	if (rc == 0) {
		row = product_parse(c->param[0], c->json, &c->problem);
		rc = row != NULL ? check_storage(t, c, row) : -EINVAL;
	}
	if (rc == 0)
		rc = check_publisher(c, row, old);
	if (rc == 0)
		rc = write_product(t, c, row, old);
	cJSON_Delete(row);
	cJSON_Delete(old);
	return rc;
}

static int
on_first(const char *id, const char *doc, size_t n, void *arg)
{
	const char *prefix = ((char **)arg)[0];

	if (strncmp(id, prefix, strlen(prefix)) == 0)
		((char **)arg)[1] = xstrdup(id);
	return 1;
}

/* What was published stays known: a version must never be used again. */
static int
delete_product(struct store_txn *t, struct api_call *c)
{
	char *find[2] = { NULL, NULL };
	cJSON *old;
	int rc = firmware_names(c);

	if (rc != 0)
		return rc;
	rc = store_get_json(t, KIND_PRODUCT, c->who.tenant, c->param[0], &old);
	if (rc == -ENOENT)
		return api_not_found(c, "product", "GET /v1/firmware has all.");
	if (rc == 0)
		rc = api_precondition(c, row_version(old));
	find[0] = xasprintf("%s/", c->param[0]);
	if (rc == 0)
		rc = store_scan(
		    t, KIND_RELEASE, c->who.tenant, find[0], on_first, find);
	if (rc == 0 && find[1] != NULL)
		problem_set(&c->problem, 409,
		    "Take its products from the gateways' policies instead; "
		    "its releases stay known, so that no version is used "
		    "twice.",
		    "The product has releases: %.200s", find[1]);
	else if (rc == 0)
		rc = store_del(t, KIND_PRODUCT, c->who.tenant, c->param[0]);
	if (rc == 0 && c->problem.status == 0)
		rc = store_changed(t, c->who.tenant, NULL);
	if (rc == 0 && c->problem.status == 0)
		rc = api_audit(t, c, c->who.tenant, "product.delete",
		    c->param[0], old, NULL);
	c->status = 204;
	c->changed = true;
	free(find[0]);
	free(find[1]);
	cJSON_Delete(old);
	return rc;
}

/* ---- a channel ----------------------------------------------------------- */

struct channel {
	const char *prefix;
	cJSON *items;
};

static int
on_release(const char *id, const char *doc, size_t n, void *arg)
{
	struct channel *ch = arg;

	if (strncmp(id, ch->prefix, strlen(ch->prefix)) != 0)
		return 1;
	return on_listed(id, doc, n, ch->items);
}

static int
get_channel(struct store_txn *t, struct api_call *c)
{
	struct channel ch;
	struct product pr;
	int64_t seq, announced;
	char *id, *prefix;
	int rc = firmware_product(t, c, &pr);

	if (rc != 0)
		return rc;
	id = firmware_id(pr.name, c->param[1], NULL);
	prefix = xasprintf("%s/", id);
	ch.prefix = prefix;
	c->answer = cJSON_CreateObject();
	json_add_text(c->answer, "product", pr.name);
	json_add_text(c->answer, "channel", c->param[1]);
	rc = manifest_state(t, c->who.tenant, id, &seq, &announced, NULL);
	json_add_int(c->answer, "seq", seq);
	json_add_int(c->answer, "announced", announced);
	ch.items = cJSON_AddArrayToObject(c->answer, "releases");
	if (rc == 0)
		rc = store_scan(
		    t, KIND_RELEASE, c->who.tenant, prefix, on_release, &ch);
	free(id);
	free(prefix);
	product_fini(&pr);
	return rc;
}

#define PUBLISHER (ROLE_PUBLISHER | ROLE_ADMIN | ROLE_ROOT)
/* clang-format off */
const struct api_route api_firmware_routes[] = {
	{ "GET",    "/v1/firmware",          PUBLISHER, API_READ,  list_products,  0 },
	{ "GET",    "/v1/firmware/:product", PUBLISHER, API_READ,  get_product,    0 },
	{ "PUT",    "/v1/firmware/:product", PUBLISHER, API_WRITE, put_product,    BODY_MAX },
	{ "DELETE", "/v1/firmware/:product", PUBLISHER, API_WRITE, delete_product, 0 },
	{ "GET",    "/v1/firmware/:product/:channel", PUBLISHER, API_READ, get_channel, 0 },
	{ NULL },
};
/* clang-format on */
