/*
 * api_storage.c - /v1/storages and /v1/certificates
 *
 * A row is {"version", "createdAt", "updatedAt", "doc"}; the version is that
 * of the tenant's changes, so it never comes again, also not after a delete. A
 * storage that is replaced or deleted is kept sealed beside for a while, so
 * that uploads that were begun with it can be looked at and aborted.
 */
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "credential.h"
#include "json.h"
#include "log.h"
#include "probe.h"
#include "provider.h"
#include "seal.h"
#include "signer.h"
#include "signer_conf.h"
#include "storage.h"
#include "storage_cache.h"
#include "store.h"
#include "xalloc.h"

#define BODY_MAX (128 * 1024)

static int64_t
row_version(const cJSON *row)
{
	int64_t v;

	return json_int(row, "version", 1, INT64_MAX / 2048, &v) == 0 ? v : 0;
}

/* What GET shows of a row. -EBADMSG. */
static int
show(struct api_call *c, const char *name, const cJSON *row, cJSON **out)
{
	struct signer *sg = c->sg;
	struct problem p = { 0 };
	struct storage *s;
	cJSON *doc =
	    cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(row, "doc"), true);
	const char *made = json_string(row, "createdAt");
	const char *changed = json_string(row, "updatedAt");
	int rc = storage_unseal(sg->seal, c->who.tenant, name, doc);

	if (rc == 0)
		rc = storage_parse(&sg->env, c->who.tenant, name, doc, &p, &s);
	cJSON_Delete(doc);
	problem_fini(&p);
	if (rc != 0)
		return -EBADMSG;
	*out = storage_show(sg->seal, s);
	storage_free(s);
	json_add_text(*out, "createdAt", made != NULL ? made : "");
	json_add_text(*out, "updatedAt", changed != NULL ? changed : "");
	json_add_int(*out, "version", row_version(row));
	return 0;
}

/* ---- reading ------------------------------------------------------------- */

/* Nothing was asked of the store yet: a wrong key is not known of. */
static void
add_untested(cJSON *shown, const char *name)
{
	cJSON *o = cJSON_AddObjectToObject(shown, "status");
	char *hint = xasprintf(
	    "POST /v1/storages/%s/test tells whether it works.", name);

	cJSON_AddNullToObject(o, "ok");
	json_add_text(o, "hint", hint);
	free(hint);
}

static int
add_status(struct store_txn *t, const struct api_call *c, const char *name,
    cJSON *shown)
{
	cJSON *status;
	int rc = store_get_json(t, KIND_STATUS, c->who.tenant, name, &status);

	if (rc == 0)
		cJSON_AddItemToObject(shown, "status", status);
	else if (rc == -ENOENT || rc == -EBADMSG)
		add_untested(shown, name); /* a damaged row tells nothing */
	return rc == -ENOENT || rc == -EBADMSG ? 0 : rc;
}

struct list {
	struct store_txn *t;
	struct api_call *c;
	cJSON *items;
};

static int
on_listed(const char *id, const char *doc, size_t n, void *arg)
{
	struct list *l = arg;
	cJSON *row = json_parse(doc, n, n, NULL), *shown;
	int rc = row != NULL ? show(l->c, id, row, &shown) : -EBADMSG;

	if (rc != 0) { /* one bad row hides no other */
		shown = cJSON_CreateObject();
		json_add_text(shown, "name", id);
		json_add_text(shown, "type", "");
		cJSON_AddArrayToObject(shown, "hosts");
		json_add_text(shown, "error",
		    "It cannot be unsealed: the key is another one. Set it "
		    "anew.");
		rc = 0;
	} else {
		rc = add_status(l->t, l->c, id, shown);
	}
	cJSON_AddItemToArray(l->items, shown);
	cJSON_Delete(row);
	return rc;
}

static int
list_storages(struct store_txn *t, struct api_call *c)
{
	struct list l = { .t = t, .c = c };

	c->answer = cJSON_CreateObject();
	l.items = cJSON_AddArrayToObject(c->answer, "items");
	return store_scan(
	    t, KIND_STORAGE, c->who.tenant, c->after, on_listed, &l);
}

/* What was found out of the storage as it was tells nothing of the new one. */
static int
drop_status(struct store_txn *t, struct api_call *c, const char *name)
{
	int rc = store_del(t, KIND_STATUS, c->who.tenant, name);

	return rc == -ENOENT ? 0 : rc;
}

static int
get_storage(struct store_txn *t, struct api_call *c)
{
	cJSON *row;
	int rc =
	    store_get_json(t, KIND_STORAGE, c->who.tenant, c->param[0], &row);

	if (rc == -ENOENT)
		return api_not_found(c, "storage", "GET /v1/storages has all.");
	if (rc != 0)
		return rc;
	rc = show(c, c->param[0], row, &c->answer);
	if (rc == 0)
		rc = add_status(t, c, c->param[0], c->answer);
	if (rc == 0)
		api_etag(c, row_version(row));
	cJSON_Delete(row);
	return rc;
}

static int
get_certificate(struct store_txn *t, struct api_call *c)
{
	size_t n;
	int rc = store_get(
	    t, KIND_CERTIFICATE, c->who.tenant, c->param[0], &c->text, &n);

	if (rc == -ENOENT)
		return api_not_found(c, "certificate", NULL);
	c->text_type = xstrdup("application/x-pem-file");
	return rc;
}

/* ---- changing ------------------------------------------------------------ */

/* Put the row as it was aside, for uploads that were begun with it; watch.c
 * clears it away. */
static int
keep_replaced(
    struct store_txn *t, struct api_call *c, const char *name, const cJSON *row)
{
	cJSON *copy = cJSON_Duplicate(row, true), *shown;
	char *id = xasprintf("%s/%lld", name, (long long)row_version(row));
	int rc;

	json_add_int(copy, "replacedAt", c->now_s);
	if (show(c, name, row, &shown) == 0) { /* for GET /v1/updates */
		cJSON_AddItemToObject(
		    copy, "hosts", cJSON_DetachItemFromObject(shown, "hosts"));
		cJSON_Delete(shown);
	}
	rc = store_put_json(t, KIND_REPLACED, c->who.tenant, id, copy);
	cJSON_Delete(copy);
	free(id);
	return rc;
}

static cJSON *
make_row(struct api_call *c, const char *name, const cJSON *old,
    const cJSON *doc, int64_t version)
{
	const char *made = json_string(old, "createdAt");
	cJSON *row = cJSON_CreateObject(), *sealed;
	char when[21];

	clock_rfc3339(c->now_s, when);
	json_add_int(row, "version", version);
	json_add_text(row, "createdAt", made != NULL ? made : when);
	json_add_text(row, "updatedAt", when);
	sealed = cJSON_Duplicate(doc, true);
	storage_seal(c->sg->seal, c->who.tenant, name, sealed);
	cJSON_AddItemToObject(row, "doc", sealed);
	return row;
}

/* Store a storage that was checked, and what hangs on it. */
static int
write_storage(struct store_txn *t, struct api_call *c, const char *name,
    const struct storage *s, const cJSON *old, const cJSON *doc)
{
	const char *pem = s->text[ST_CERTIFICATE];
	cJSON *row = NULL, *before = NULL;
	int64_t version;
	int rc = signer_check_key(c->sg, t);

	if (rc == -EKEYREVOKED) {
		problem_set(&c->problem, 503, "Restart it with the new key.",
		    "The key was rotated while the signer ran");
		c->problem.retry_after = 60;
	}
	if (rc == 0)
		rc = store_changed(t, c->who.tenant, &version);
	if (rc == 0 && old != NULL)
		rc = keep_replaced(t, c, name, old);
	if (rc == 0)
		rc = drop_status(t, c, name);
	if (rc == 0 && pem != NULL)
		rc = store_put(t, KIND_CERTIFICATE, c->who.tenant,
		    s->certificate_id, pem, strlen(pem));
	if (rc == 0) {
		row = make_row(c, name, old, doc, version);
		rc = store_put_json(t, KIND_STORAGE, c->who.tenant, name, row);
	}
	if (rc == 0)
		rc = show(c, name, row, &c->answer);
	if (rc == 0 && old != NULL && show(c, name, old, &before) != 0)
		before = NULL;
	if (rc == 0)
		rc = api_audit(t, c, c->who.tenant,
		    old != NULL ? "storage.replace" : "storage.create", name,
		    before, c->answer);
	if (rc == 0) {
		c->status = old != NULL ? 200 : 201;
		c->changed = true;
		api_etag(c, version);
	}
	cJSON_Delete(before);
	cJSON_Delete(row);
	return rc;
}

static int
set_storage(struct store_txn *t, struct api_call *c, const char *name)
{
	cJSON *old = NULL, *doc, *had;
	struct storage *s = NULL;
	int rc = store_get_json(t, KIND_STORAGE, c->who.tenant, name, &old);

	if (rc != 0 && rc != -ENOENT)
		return rc;
	rc = api_precondition(c, old != NULL ? row_version(old) : 0);
	doc = cJSON_Duplicate(c->json, true);
	if (rc == 0 && old != NULL) {
		had = cJSON_Duplicate(
		    cJSON_GetObjectItemCaseSensitive(old, "doc"), true);
		/* What cannot be unsealed any more is not taken over. */
		if (storage_unseal(c->sg->seal, c->who.tenant, name, had) == 0)
			storage_keep_secrets(doc, had);
		cJSON_Delete(had);
	}
	cJSON_DeleteItemFromObjectCaseSensitive(doc, "status");
	if (rc == 0)
		rc = storage_parse(
		    &c->sg->env, c->who.tenant, name, doc, &c->problem, &s);
	if (rc == 0)
		rc = write_storage(t, c, name, s, old, doc);
	storage_free(s);
	cJSON_Delete(doc);
	cJSON_Delete(old);
	return rc;
}

static int
check_name(struct api_call *c, const char *name)
{
	if (name_ok(name))
		return 0;
	problem_field(&c->problem, "/name",
	    "Lower-case letters, digits, - _ . ; at most 64.",
	    "This is no name for a storage.");
	return -EINVAL;
}

static int
put_storage(struct store_txn *t, struct api_call *c)
{
	const char *name = json_string(c->json, "name");

	if (check_name(c, c->param[0]) != 0)
		return -EINVAL;
	if (name != NULL && name[0] != '\0' && strcmp(name, c->param[0]) != 0) {
		problem_field(&c->problem, "/name",
		    "Leave it out, or write the name of the path.",
		    "The body names another storage than the path.");
		return -EINVAL;
	}
	return set_storage(t, c, c->param[0]);
}

static int
post_storage(struct store_txn *t, struct api_call *c)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(c->json, "name");
	const char *name = cJSON_IsString(v) && v->valuestring[0] != '\0'
	    ? v->valuestring
	    : "default";

	if (v != NULL && !cJSON_IsString(v) && !cJSON_IsNull(v)) {
		problem_field(
		    &c->problem, "/name", NULL, "This must be a text.");
		return -EINVAL;
	}
	return check_name(c, name) == 0 ? set_storage(t, c, name) : -EINVAL;
}

static int
delete_storage(struct store_txn *t, struct api_call *c)
{
	const char *name = c->param[0];
	cJSON *old, *before = NULL;
	int rc = store_get_json(t, KIND_STORAGE, c->who.tenant, name, &old);

	if (rc == -ENOENT)
		return api_not_found(c, "storage", "GET /v1/storages has all.");
	if (rc != 0)
		return rc;
	rc = api_precondition(c, row_version(old));
	if (rc == 0)
		rc = store_changed(t, c->who.tenant, NULL);
	if (rc == 0)
		rc = keep_replaced(t, c, name, old);
	if (rc == 0)
		rc = drop_status(t, c, name);
	if (rc == 0)
		rc = store_del(t, KIND_STORAGE, c->who.tenant, name);
	if (rc == 0 && show(c, name, old, &before) != 0)
		before = NULL;
	if (rc == 0)
		rc = api_audit(
		    t, c, c->who.tenant, "storage.delete", name, before, NULL);
	if (rc == 0) {
		c->status = 204;
		c->changed = true;
	}
	cJSON_Delete(before);
	cJSON_Delete(old);
	return rc;
}

/* ---- trying it out ------------------------------------------------------- */

struct trial {
	struct api_call *c;
	const char *name;
	const struct storage *s;
	int64_t version; /* of s */
	const cJSON *status;
};

static int
find_ready(struct store_txn *t, void *arg)
{
	struct trial *tr = arg;
	int rc = storage_cache_get(
	    tr->c->sg->cache, t, tr->c->who.tenant, tr->name, &tr->s);

	if (rc == 0)
		tr->version = tr->s->version;
	return rc;
}

/* Only if the storage that was tried is still the one there is. */
static int
write_status(struct store_txn *t, void *arg)
{
	struct trial *tr = arg;
	int64_t version;
	cJSON *row;
	int rc =
	    store_get_json(t, KIND_STORAGE, tr->c->who.tenant, tr->name, &row);

	if (rc != 0)
		return rc;
	version = row_version(row);
	cJSON_Delete(row);
	if (version != tr->version)
		return 0;
	return store_put_json(
	    t, KIND_STATUS, tr->c->who.tenant, tr->name, tr->status);
}

static cJSON *
make_status(int64_t now_s, bool ok, const char *error, const char *hint)
{
	cJSON *o = cJSON_CreateObject();
	char when[21];

	clock_rfc3339(now_s, when);
	cJSON_AddBoolToObject(o, "ok", ok);
	if (!ok) {
		json_add_text(o, "error", error);
		if (hint != NULL)
			json_add_text(o, "hint", hint);
	}
	json_add_text(o, "checkedAt", when);
	return o;
}

/*
 * Fetch credentials if it needs any. With probe put and read an object; without
 * make its container, where there are such: what only got credentials may lack
 * the right to, so it is not held against it.
 */
static cJSON *
try_storage(const struct api_call *c, const struct storage *s, bool probe)
{
	const struct provider *pv = s->provider;
	bool fetch = pv->needs_fetch != NULL && pv->needs_fetch(s);
	bool private = c->sg->conf->allow_private;
	struct credential cred = { 0 };
	struct fetch_error error;
	struct probe_result r = { .ok = true };

	if (fetch &&
	    credential_fetch_now(s, pv->fetch_by_scope ? PROBE_SCOPE : "",
		private, c->now_s, &cred, &error) != 0)
		return make_status(c->now_s, false, error.error, error.hint);
	if (probe) {
		probe_storage(s, fetch ? &cred : NULL, private, c->now_s, &r);
	} else if (pv->make_place != NULL &&
	    pv->make_place(
		s, fetch ? &cred : NULL, private, c->now_s, &error) != 0 &&
	    !fetch) {
		r.ok = false;
		snprintf(r.error, sizeof(r.error), "%s", error.error);
		r.hint = error.hint;
	}
	credential_drop(&cred);
	return make_status(c->now_s, r.ok, r.error, r.hint);
}

/* Try it and keep what came of it; the status, or NULL if it is gone. */
static cJSON *
try_and_keep(struct api_call *c, const char *name, bool probe)
{
	struct trial t = { .c = c, .name = name };
	cJSON *status;
	int rc;

	if (store_view(c->sg->store, find_ready, &t) != 0)
		return NULL;
	status = try_storage(c, t.s, probe);
	storage_cache_put(c->sg->cache, t.s);
	t.status = status;
	rc = store_update(c->sg->store, write_status, &t);
	if (rc != 0)
		log_warn("storage=%s/%s status not kept: %s", c->who.tenant,
		    name, strerror(-rc));
	return status;
}

static int
start_test(struct store_txn *t, struct api_call *c)
{
	cJSON *row;
	int rc =
	    store_get_json(t, KIND_STORAGE, c->who.tenant, c->param[0], &row);

	if (rc == -ENOENT)
		return api_not_found(c, "storage", "GET /v1/storages has all.");
	if (rc == 0)
		cJSON_Delete(row);
	return rc;
}

static void
run_test(struct api_call *c)
{
	c->answer = try_and_keep(c, c->param[0], true);
	if (c->answer == NULL)
		api_not_found(c, "storage", NULL);
}

/* What a token service says of new credentials is found out at once, and a
 * container that is not there yet is made. */
static void
after_set(struct api_call *c)
{
	struct trial t = { .c = c, .name = json_string(c->answer, "name") };
	const struct provider *pv;
	bool ask;
	cJSON *status;

	if (store_view(c->sg->store, find_ready, &t) != 0)
		return;
	pv = t.s->provider;
	ask = pv->make_place != NULL ||
	    (pv->needs_fetch != NULL && pv->needs_fetch(t.s));
	storage_cache_put(c->sg->cache, t.s);
	status = ask ? try_and_keep(c, t.name, false) : NULL;
	if (status != NULL)
		cJSON_AddItemToObject(c->answer, "status", status);
	else
		add_untested(c->answer, t.name);
}

#define ADMIN (ROLE_ADMIN | ROLE_ROOT)
/* clang-format off */
const struct api_route api_storage_routes[] = {
	{ "GET",    "/v1/storages",         ADMIN, API_READ,  list_storages,   0 },
	{ "POST",   "/v1/storages",         ADMIN, API_WRITE, post_storage,    BODY_MAX, after_set },
	{ "GET",    "/v1/storages/:name",   ADMIN, API_READ,  get_storage,     0 },
	{ "PUT",    "/v1/storages/:name",   ADMIN, API_WRITE, put_storage,     BODY_MAX, after_set },
	{ "DELETE", "/v1/storages/:name",   ADMIN, API_WRITE, delete_storage,  0 },
	{ "POST",   "/v1/storages/:name/test", ADMIN, API_READ, start_test,    0, run_test },
	{ "GET",    "/v1/certificates/:id", ADMIN | ROLE_GATEWAY | ROLE_PUBLISHER, API_READ, get_certificate, 0 },
	{ NULL },
};
/* clang-format on */
