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
#include "clock.h"
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

#define LOOK_MS 10000
#define LOOKS_MS 30000 /* all of a call: a thread is held so long */
#define LOOKS_AT_ONCE 16
#define LOOKS_MAX 64 /* signed ahead */
#define UNGUARDED_S 60

/* ---- the place ----------------------------------------------------------- */

struct opening {
	struct api_call *c;
	struct place *pl;
};

/* Is what was published of the channel in the product's storage of now? */
static int
find_channel(struct store_txn *t, struct api_call *c, struct place *pl)
{
	char *id = firmware_id(c->param[0], c->param[1], NULL), *where;
	int64_t seq, announced;
	int rc = manifest_state(t, c->who.tenant, id, &seq, &announced, &where);

	pl->settled = where != NULL && strcmp(where, pl->product.storage) == 0;
	free(where);
	free(id);
	return rc;
}

static int
find(struct store_txn *t, void *arg)
{
	struct opening *o = arg;
	struct api_call *c = o->c;
	int rc;

	place_close(c, o->pl); /* of an earlier run */
	rc = firmware_product(t, c, &o->pl->product);
	if (rc == 0)
		rc = find_channel(t, c, o->pl);
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

/* One of the cache; what has to be fetched is left there for the next call. */
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
	if (rc == -EAGAIN || (rc == 0 && renew))
		rc = credentials_renew(c->sg->credentials, pl->s,
		    pv->fetch_by_scope ? pl->root : "", &pl->cred, &error);
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
	if (pl->cred != NULL)
		credential_put(c->sg->credentials, pl->cred);
	outgoing_close(pl->out);
	if (pl->s != NULL)
		storage_cache_put(c->sg->cache, pl->s);
	product_fini(&pl->product);
	memset(pl, 0, sizeof(*pl));
}

/* ---- recipes ------------------------------------------------------------- */

/* A PUT that the store would take over what is there must not wait long. */
static int64_t
lasts(const struct api_call *c, const struct place *pl, const char *method)
{
	bool guarded = pl->s->no_overwrite || strcmp(method, "PUT") != 0;
	int64_t most = pl->s->expires_s, left;

	if (!guarded && most > UNGUARDED_S)
		most = UNGUARDED_S;
	if (pl->cred == NULL)
		return most;
	left = pl->cred->expires_s - c->now_s;
	return left < most ? left : most;
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
		.expires = lasts(c, pl, w->method),
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

/* One look, signed for. */
struct look {
	cJSON *get, *head;
};

static int
look_begin(struct api_call *c, const struct place *pl, const char *path,
    struct look *l, struct out_request *rq)
{
	struct object_wish get = { .method = "GET", .path = path, .size = -1 };
	struct object_wish head = {
		.method = "HEAD", .path = path, .size = -1
	};
	const char *own = pl->s->env->public_url;

	l->get = place_recipe(c, pl, &get);
	l->head = place_recipe(c, pl, &head);
	*rq = (struct out_request){ .method = "HEAD",
		.uri = json_string(l->head, "uri"),
		.ca_pem = pl->s->text[ST_CERTIFICATE],
		.want_header = state_header(l->get),
		.allow_private = c->sg->conf->allow_private,
		.timeout_ms = LOOK_MS };
	if (rq->uri == NULL || rq->want_header == NULL) {
		problem_set(&c->problem, 422,
		    "Shorten firmwareRoot or the names.",
		    "This object cannot be signed for: %.200s", path);
		return -EIO;
	}
	if (strncmp(rq->uri, own, strlen(own)) == 0 &&
	    rq->uri[strlen(own)] == '/')
		rq->allow_private = true;
	return 0;
}

static int
look_end(struct api_call *c, const struct out_answer *a, struct object_look *o)
{
	/* 403 is what who may not list is told of a key that is not there. */
	if (a->fault == OUT_OK && (a->status == 404 || a->status == 403))
		return 0;
	if (a->fault != OUT_OK || a->status != 200 || a->length < 0)
		return look_failed(c, a);
	o->size = a->length;
	o->etag = a->wanted[0] != '\0' ? xstrdup(a->wanted) : NULL;
	return 0;
}

static int
look_at_some(
    struct api_call *c, struct place *pl, struct object_look *v, size_t n)
{
	struct look looks[LOOKS_MAX] = { { NULL } };
	struct out_request rqs[LOOKS_MAX];
	struct out_answer *as = xcalloc(LOOKS_MAX, sizeof(*as));
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = look_begin(c, pl, v[i].path, &looks[i], &rqs[i]);
	if (rc == 0)
		outgoing_calls(pl->out, rqs, as, n, pl->look_until_ms);
	for (size_t i = 0; i < n; i++) {
		if (rc == 0)
			rc = look_end(c, &as[i], &v[i]);
		out_answer_fini(&as[i]);
		cJSON_Delete(looks[i].get);
		cJSON_Delete(looks[i].head);
	}
	free(as);
	return rc;
}

int
place_looks(
    struct api_call *c, struct place *pl, struct object_look *v, size_t n)
{
	int rc = 0;

	if (pl->out == NULL) {
		pl->out = outgoing_open(LOOKS_AT_ONCE);
		pl->look_until_ms = clock_ms() + LOOKS_MS;
	}
	for (size_t i = 0; i < n; i++)
		v[i].size = -1;
	for (size_t i = 0; rc == 0 && i < n; i += LOOKS_MAX)
		rc = look_at_some(
		    c, pl, v + i, n - i < LOOKS_MAX ? n - i : LOOKS_MAX);
	return rc;
}

void
object_looks_fini(struct object_look *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].path);
		free(v[i].etag);
	}
	free(v);
}
