/*
 * api_firmware.c - /v1/firmware: products, what is released, what devices run
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
#define FEEDBACK_MAX (1 << 20)
#define DEVICES_AT_ONCE 1000
#define DEVICES_MAX 10000   /* of a gateway */
#define LOOKED_AT_MAX 10000 /* rows for a page: it may have few or none */

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

/* ---- what devices run ---------------------------------------------------- */

/* A device as its gateway tells of it: what is known and short is kept. */
static cJSON *
device_row(const struct api_call *c, const cJSON *v)
{
	static const char *const texts[] = { "id", "product", "channel", "hw",
		"version", "source", "offered", "fetched", "fetched_version",
		"failed", NULL };
	static const char *const numbers[] = { "seen", "offered_at",
		"fetched_at", "full", NULL };
	cJSON *row = cJSON_CreateObject();
	char when[21];
	int64_t n;

	for (size_t i = 0; texts[i] != NULL; i++) {
		const char *s = json_string(v, texts[i]);

		if (s != NULL && strlen(s) <= 128)
			json_add_text(row, texts[i], s);
	}
	for (size_t i = 0; numbers[i] != NULL; i++)
		if (json_int(v, numbers[i], 0, INT64_MAX / 2048, &n) == 0)
			json_add_int(row, numbers[i], n);
	clock_rfc3339(c->now_s, when);
	json_add_text(row, "gateway", c->who.gateway);
	json_add_text(row, "reportedAt", when);
	return row;
}

struct counting {
	const char *prefix;
	int64_t n;
};

static int
on_running(const char *id, const char *doc, size_t n, void *arg)
{
	struct counting *k = arg;

	if (strncmp(id, k->prefix, strlen(k->prefix)) != 0)
		return 1;
	return ++k->n >= DEVICES_MAX;
}

/* A gateway that makes up devices fills no more than its share. */
static int
is_full(struct store_txn *t, struct api_call *c, bool *full_out)
{
	char *prefix = xasprintf("%s/", c->who.gateway);
	struct counting k = { prefix, 0 };
	int rc =
	    store_scan(t, KIND_RUNNING, c->who.tenant, prefix, on_running, &k);

	free(prefix);
	*full_out = k.n >= DEVICES_MAX;
	return rc;
}

static int
take_device(struct store_txn *t, struct api_call *c, const cJSON *v, bool full)
{
	char *id = xasprintf("%s/%s", c->who.gateway, json_string(v, "id"));
	cJSON *row = NULL;
	int rc =
	    full ? store_get_json(t, KIND_RUNNING, c->who.tenant, id, &row) : 0;

	cJSON_Delete(row);
	if (rc == 0) {
		row = device_row(c, v);
		rc = store_put_json(t, KIND_RUNNING, c->who.tenant, id, row);
		cJSON_Delete(row);
	}
	free(id);
	return rc;
}

static int
check_devices(struct api_call *c, const cJSON *list)
{
	const cJSON *e;
	int i = 0;

	if (!cJSON_IsArray(list) ||
	    cJSON_GetArraySize(list) > DEVICES_AT_ONCE) {
		problem_field(&c->problem, "/devices", NULL,
		    "This must be a list of at most %d devices.",
		    DEVICES_AT_ONCE);
		return -EINVAL;
	}
	cJSON_ArrayForEach(e, list)
	{
		const char *id = json_string(e, "id");
		char *pointer = xasprintf("/devices/%d/id", i++);

		if (id == NULL || !device_ok(id))
			problem_field(&c->problem, pointer,
			    "1 to 128 octets without slashes and controls.",
			    "This is no name of a device.");
		free(pointer);
	}
	return c->problem.status == 0 ? 0 : -EINVAL;
}

static int
post_feedback(struct store_txn *t, struct api_call *c)
{
	const cJSON *list =
			cJSON_GetObjectItemCaseSensitive(c->json, "devices"),
		    *e;
	int accepted = 0, dropped = 0, rc = check_devices(c, list);
	bool full = false;

	if (rc == 0)
		rc = is_full(t, c, &full);
	cJSON_ArrayForEach(e, list)
	{
		if (rc == 0) {
			rc = take_device(t, c, e, full);
			accepted += rc == 0;
			dropped += rc == -ENOENT;
			rc = rc == -ENOENT ? 0 : rc;
		}
	}
	c->answer = cJSON_CreateObject();
	json_add_int(c->answer, "accepted", accepted);
	json_add_int(c->answer, "dropped", dropped);
	return rc;
}

struct page {
	cJSON *items;
	const char *product, *channel;
	int64_t left, looked;
	char last[STORE_ID_MAX + 1];
	bool more;
};

static int
on_paged(const char *id, const char *doc, size_t n, void *arg)
{
	struct page *p = arg;
	cJSON *row;
	const char *product, *channel;

	if (p->left == 0 || p->looked++ == LOOKED_AT_MAX) {
		p->more = true;
		return 1;
	}
	row = json_parse(doc, n, n, NULL);
	product = json_string(row, "product");
	channel = json_string(row, "channel");
	snprintf(p->last, sizeof(p->last), "%s", id);
	if (product == NULL || strcmp(product, p->product) != 0 ||
	    (channel != NULL && strcmp(channel, p->channel) != 0)) {
		cJSON_Delete(row);
		return 0;
	}
	p->left--;
	cJSON_AddItemToArray(p->items, row);
	return 0;
}

static int
get_running(struct store_txn *t, struct api_call *c)
{
	struct page p = { .left = api_page_size(c),
		.product = c->param[0],
		.channel = c->param[1] };
	int rc = firmware_names(c);

	if (rc != 0)
		return rc;
	c->answer = cJSON_CreateObject();
	p.items = cJSON_AddArrayToObject(c->answer, "items");
	rc = store_scan(t, KIND_RUNNING, c->who.tenant, c->after, on_paged, &p);
	api_page_next(c, p.more ? p.last : NULL);
	return rc;
}

#define PUBLISHER (ROLE_PUBLISHER | ROLE_ADMIN | ROLE_ROOT)
/* clang-format off */
const struct api_route api_firmware_routes[] = {
	{ "POST",   "/v1/firmware/feedback", ROLE_GATEWAY, API_WRITE, post_feedback, FEEDBACK_MAX },
	{ "GET",    "/v1/firmware",          PUBLISHER, API_READ,  list_products,  0 },
	{ "GET",    "/v1/firmware/:product", PUBLISHER, API_READ,  get_product,    0 },
	{ "PUT",    "/v1/firmware/:product", PUBLISHER, API_WRITE, put_product,    BODY_MAX },
	{ "DELETE", "/v1/firmware/:product", PUBLISHER, API_WRITE, delete_product, 0 },
	{ "GET",    "/v1/firmware/:product/:channel", PUBLISHER, API_READ, get_channel, 0 },
	{ "GET",    "/v1/firmware/:product/:channel/devices", PUBLISHER, API_READ, get_running, 0 },
	{ NULL },
};
/* clang-format on */
