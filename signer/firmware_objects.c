/*
 * firmware_objects.c - a product's objects: recipes, and looking at them
 *
 * For threads that may wait: credentials are fetched and stores asked here. A
 * URI gives no more than one object for one method, as everywhere.
 */
#include "firmware.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "json.h"
#include "outgoing.h"
#include "problem.h"
#include "provider.h"
#include "recipe.h"
#include "signer.h"
#include "signer_conf.h"
#include "storage.h"
#include "storage_cache.h"
#include "store.h"
#include "text.h"
#include "xalloc.h"

#define LOOK_MS 15000

/* ---- the place ----------------------------------------------------------- */

struct opening {
	struct api_call *c;
	struct place *pl;
};

static int
find(struct store_txn *t, void *arg)
{
	struct opening *o = arg;
	struct api_call *c = o->c;
	int rc;

	place_close(c, o->pl); /* of an earlier run */
	rc = firmware_product(t, c, &o->pl->product);
	if (rc != 0)
		return rc;
	rc = storage_cache_get(
	    c->sg->cache, t, c->who.tenant, o->pl->product.storage, &o->pl->s);
	if (rc == -ENOENT)
		problem_set(&c->problem, 409,
		    "PUT /v1/storages/NAME makes it; storage of the product "
		    "names it.",
		    "There is no storage %.64s", o->pl->product.storage);
	else if (rc == -EBADMSG)
		problem_set(&c->problem, 503,
		    "The signer's key is another one: set the storage anew.",
		    "The storage %.64s cannot be unsealed",
		    o->pl->product.storage);
	return rc;
}

/* One of the cache if it has a fitting one, else our own. */
static int
get_credential(struct api_call *c, struct place *pl)
{
	const struct provider *pv = pl->s->provider;
	struct fetch_error error = { 0 };
	bool renew;
	int wait, rc;

	if (pv->needs_fetch == NULL || !pv->needs_fetch(pl->s))
		return 0;
	rc = credentials_get(c->sg->credentials, pl->s,
	    pv->fetch_by_scope ? pl->root : "", c->now_s, &pl->cred, &renew,
	    &error, &wait);
	pl->shared = rc == 0;
	if (rc == -EAGAIN) {
		rc = credential_fetch_now(pl->s,
		    pv->fetch_by_scope ? pl->root : "",
		    c->sg->conf->allow_private, c->now_s, &pl->own, &error);
		pl->cred = rc == 0 ? &pl->own : NULL;
	}
	if (rc != 0) {
		problem_set(&c->problem, 503, error.hint,
		    "No credentials for the storage now: %.300s", error.error);
		c->problem.retry_after = 5;
	}
	return rc;
}

int
place_open(struct api_call *c, struct place *pl)
{
	struct opening o = { c, pl };
	int rc;

	memset(pl, 0, sizeof(*pl));
	rc = store_view(c->sg->store, find, &o);
	if (rc != 0) {
		problem_set(&c->problem, 503, "Try again.",
		    "The signer's database does not answer");
		return rc;
	}
	pl->root = firmware_root(pl->s);
	return get_credential(c, pl);
}

void
place_close(struct api_call *c, struct place *pl)
{
	if (pl->shared)
		credential_put(c->sg->credentials, pl->cred);
	credential_drop(&pl->own);
	if (pl->s != NULL)
		storage_cache_put(c->sg->cache, pl->s);
	product_fini(&pl->product);
	memset(pl, 0, sizeof(*pl));
}

/* ---- recipes ------------------------------------------------------------- */

static int64_t
lasts(const struct place *pl, const struct api_call *c)
{
	int64_t left;

	if (pl->cred == NULL)
		return pl->s->expires_s;
	left = pl->cred->expires_s - c->now_s;
	return left < pl->s->expires_s ? left : pl->s->expires_s;
}

static enum step
step_of(const char *name)
{
	if (name == NULL)
		return STEP_WHOLE;
	return strcmp(name, "start") == 0 ? STEP_START
	    : strcmp(name, "part") == 0   ? STEP_PART
	    : strcmp(name, "finish") == 0 ? STEP_FINISH
					  : STEP_ABORT;
}

cJSON *
place_recipe(
    struct api_call *c, const struct place *pl, const struct object_wish *w)
{
	char *key = xasprintf("%s%s", pl->root, w->path);
	struct upload u = { .method = w->method,
		.key = key,
		.size = w->size,
		.sha256 = w->sha256,
		.type = strstr(w->path, ".json") != NULL
		    ? "application/json"
		    : "application/octet-stream",
		.cache_control = w->lasting
		    ? "public, max-age=31536000, immutable"
		    : "public, max-age=30",
		.step = step_of(w->step),
		.part = w->part,
		.kept = w->kept,
		.at = c->now_s,
		.expires = lasts(pl, c),
		.cred = pl->cred,
		.part_size = FIRMWARE_PART_SIZE,
		.exclusive = true,
		.if_match = w->if_match };
	struct recipe r = { cJSON_CreateObject() };
	int rc;

	if (u.step == STEP_WHOLE && strcmp(w->method, "PUT") == 0 &&
	    pl->s->part_size > 0 && w->size > FIRMWARE_PART_SIZE)
		u.step = STEP_START;
	rc = provider_check_key(key) == 0
	    ? pl->s->provider->recipe(pl->s, &u, &r)
	    : -EINVAL;
	free(key);
	if (rc != 0) {
		cJSON_Delete(r.json);
		return NULL;
	}
	json_add_int(r.json, "expiresIn", u.expires);
	if (pl->s->certificate_id != NULL)
		json_add_text(r.json, "certificateId", pl->s->certificate_id);
	else
		cJSON_AddNullToObject(r.json, "certificateId");
	if (u.step == STEP_START || u.step == STEP_PART)
		json_add_text(
		    r.json, "step", u.step == STEP_START ? "part" : "finish");
	return r.json;
}

void
place_answers(const struct place *pl, cJSON *out)
{
	provider_answer_rows(pl->s->provider, out);
}

/* ---- looking ------------------------------------------------------------- */

/* The header that if_match is taken of, as a recipe for reading names it. */
static const char *
state_header(const cJSON *get)
{
	const cJSON *requests =
	    cJSON_GetObjectItemCaseSensitive(get, "requests");
	const cJSON *keep = cJSON_GetObjectItemCaseSensitive(
	    cJSON_GetArrayItem(requests, 0), "keep");

	return json_string(
	    cJSON_GetObjectItemCaseSensitive(keep, "etag"), "header");
}

static int
look_failed(struct api_call *c, const struct out_answer *a)
{
	if (a->fault != OUT_OK)
		problem_set(&c->problem, 502,
		    a->fault == OUT_PRIVATE
			? "Set [signer] allow_private if that is meant."
			: "Try again; POST /v1/storages/NAME/test tells more.",
		    "The store cannot be reached: %.200s", a->error);
	else
		problem_set(&c->problem, 502,
		    "POST /v1/storages/NAME/test tells what is wrong.",
		    "The store answers %d when it is asked for an object",
		    a->status);
	return -EIO;
}

int
place_look(struct api_call *c, const struct place *pl, const char *path,
    int64_t *size_out, char **etag_out)
{
	struct object_wish get = { .method = "GET", .path = path, .size = -1 };
	struct object_wish head = {
		.method = "HEAD", .path = path, .size = -1
	};
	cJSON *get_recipe = place_recipe(c, pl, &get);
	cJSON *recipe = place_recipe(c, pl, &head);
	const char *own = pl->s->env->public_url;
	struct out_request rq = { .method = "HEAD",
		.uri = json_string(recipe, "uri"),
		.ca_pem = pl->s->text[ST_CERTIFICATE],
		.want_header = state_header(get_recipe),
		.allow_private = c->sg->conf->allow_private,
		.timeout_ms = LOOK_MS };
	struct out_answer a;
	int rc = 0;

	if (rq.uri == NULL || rq.want_header == NULL) {
		problem_set(&c->problem, 422,
		    "Shorten firmwareRoot or the names.",
		    "This object cannot be signed for");
		cJSON_Delete(get_recipe);
		cJSON_Delete(recipe);
		return -EIO;
	}
	if (strncmp(rq.uri, own, strlen(own)) == 0 &&
	    rq.uri[strlen(own)] == '/')
		rq.allow_private = true;
	outgoing_call(&rq, &a);
	/* 403 is what who may not list is told of a key that is not there. */
	if (a.fault == OUT_OK && (a.status == 404 || a.status == 403))
		rc = -ENOENT;
	else if (a.fault != OUT_OK || a.status != 200 || a.length < 0)
		rc = look_failed(c, &a);
	if (rc == 0) {
		*size_out = a.length;
		if (etag_out != NULL)
			*etag_out =
			    a.wanted[0] != '\0' ? xstrdup(a.wanted) : NULL;
	}
	out_answer_fini(&a);
	cJSON_Delete(get_recipe);
	cJSON_Delete(recipe);
	return rc;
}
