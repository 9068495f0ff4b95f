/*
 * api_sign.c - POST /v1/sign: recipes for a list of uploads
 *
 * Each upload is judged on its own. What a gateway may never choose is made
 * here: its prefix before the key, the times, which headers are signed.
 */
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "credential.h"
#include "firmware.h"
#include "gateway.h"
#include "json.h"
#include "provider.h"
#include "recipe.h"
#include "signer.h"
#include "signer_conf.h"
#include "storage.h"
#include "storage_cache.h"
#include "store.h"
#include "upload.h"
#include "xalloc.h"

#define UPLOADS_MAX 256
#define BODY_MAX (4 << 20)
#define STORAGES_AT_ONCE 16

/* A storage that uploads of the request go to. */
struct target {
	char *name;
	bool firmware;                 /* to be read, below its root */
	const struct storage *s;       /* NULL: rc tells why */
	const struct credential *cred; /* NULL: none is needed */
	int rc;                        /* -EAGAIN, -EBUSY: of the credential */
	struct fetch_error error;
	int retry_s;
};

/* What is found out once for all uploads of a request. */
struct batch {
	struct store_txn *t;
	struct api_call *c;
	struct gateway gateway;
	struct target storages[STORAGES_AT_ONCE];
	size_t storages_n;
	char *device; /* the last one asked for, and the answer */
	int device_rc;
};

/* ---- what is allowed ----------------------------------------------------- */

/* A credential for what does not sign with its own. */
static int
get_credential(struct batch *b, struct target *t)
{
	struct api_call *c = b->c;
	const struct provider *pv = t->s->provider;
	const char *scope = !pv->fetch_by_scope ? ""
	    : t->firmware                       ? firmware_root(t->s)
						: b->gateway.prefix;
	bool renew = false;
	int rc;

	if (pv->needs_fetch == NULL || !pv->needs_fetch(t->s))
		return 0;
	rc = credentials_get(c->sg->credentials, t->s, scope, c->now_s,
	    &t->cred, &renew, &t->error, &t->retry_s);
	if (rc == -EAGAIN && c->rounds < API_ROUNDS)
		api_want(c, t->name, scope, false);
	else if (renew && c->rounds == 0)
		api_want(c, t->name, scope, true);
	return rc;
}

static int
find_storage(
    struct batch *b, const char *name, bool firmware, const struct target **out)
{
	struct api_call *c = b->c;
	struct target *t;
	size_t i = 0;

	while (i < b->storages_n &&
	    (strcmp(b->storages[i].name, name) != 0 ||
		b->storages[i].firmware != firmware))
		i++;
	if (i == STORAGES_AT_ONCE)
		return -E2BIG;
	t = &b->storages[i];
	if (i == b->storages_n) {
		memset(t, 0, sizeof(*t));
		t->name = xstrdup(name);
		t->firmware = firmware;
		t->rc = storage_cache_get(
		    c->sg->cache, b->t, c->who.tenant, name, &t->s);
		if (t->rc == 0)
			t->rc = get_credential(b, t);
		b->storages_n++;
	}
	*out = t;
	return t->rc;
}

/*
 * Which storage is meant: of an upload in parts the one that it was begun at,
 * as long as that is kept, but only to look and to give up.
 */
static int
find_meant(struct batch *b, const char *name, bool firmware,
    const struct upload *u, const struct target **out)
{
	const char *kept = upload_kept(u, "storage");
	int64_t begun = kept != NULL ? strtoll(kept, NULL, 10) : 0;
	char id[STORAGE_NAME_MAX + 24];
	int rc;

	if (!name_ok(name))
		return -ENOENT;
	rc = find_storage(b, name, firmware, out);
	if (strcmp(u->method, "HEAD") != 0 && u->step <= STEP_START)
		return rc; /* nothing was begun yet */
	if (rc == -E2BIG || begun <= 0 ||
	    ((*out)->s != NULL && (*out)->s->version == begun))
		return rc;
	if (u->step != STEP_ABORT && strcmp(u->method, "HEAD") != 0)
		return rc == -ENOENT ? rc : -ESTALE;
	snprintf(id, sizeof(id), "%s/%lld", name, (long long)begun);
	rc = find_storage(b, id, firmware, out);
	if (rc == 0 && (*out)->s->replaced_s < b->c->now_s - REPLACED_KEEP_S)
		return -ESTALE; /* it has only not been cleared away yet */
	return rc == -ENOENT ? -ESTALE : rc;
}

static int
storage_refusal(struct refusal *f, int rc, const char *name)
{
	switch (rc) {
	case -ENOENT:
		f->field = "storage";
		return refuse(f, 404, "wait",
		    "PUT /v1/storages/NAME makes it; [upload] storage names "
		    "it at the gateway.",
		    "There is no storage ", name);
	case -EBADMSG:
		return refuse(f, 503, "wait",
		    "The signer's key is another one: set the storage anew.",
		    "This storage cannot be unsealed: ", name);
	case -ESTALE:
		return refuse(f, 409, "start",
		    "Give up what was begun and begin anew.",
		    "The storage has been replaced since this was begun: ",
		    name);
	case -E2BIG:
		return refuse(f, 422, "retry",
		    "Ask for at most 16 storages at once.",
		    "Too many storages in one request", "");
	default:
		f->retry_after = 5;
		return refuse(f, 503, "retry", NULL,
		    "The signer's database does not answer", "");
	}
}

static int
credential_refusal(struct refusal *f, const struct target *t)
{
	f->retry_after = t->retry_s > 0 ? t->retry_s : 5;
	return refuse(f, 503, "retry", t->error.hint,
	    "No credentials for the storage now: ",
	    t->rc == -EBUSY ? t->error.error : "they are being fetched");
}

static int
check_device(struct batch *b, const char *device, struct refusal *f)
{
	struct api_call *c = b->c;

	if (device == NULL)
		return 0;
	f->field = "device";
	if (!device_ok(device))
		return refuse(f, 422, "quarantine", NULL,
		    "This is no name of a device: ", device);
	if (b->device == NULL || strcmp(b->device, device) != 0) {
		free(b->device);
		b->device = xstrdup(device);
		b->device_rc =
		    device_blocked(b->t, c->who.tenant, c->who.gateway, device);
	}
	if (b->device_rc > 0)
		return refuse(f, 403, "hold",
		    "An administrator of the tenant can unblock it.",
		    "The device is blocked: ", device);
	f->field = NULL;
	return b->device_rc < 0 ? storage_refusal(f, b->device_rc, "") : 0;
}

/* Firmware is read, whatever storages the gateway may write to. */
static int
check_firmware(struct batch *b, const struct upload *u, const char *storage,
    struct refusal *f)
{
	const char *why;

	if (u->step == STEP_WHOLE &&
	    firmware_may_read(
		b->t, b->c->who.tenant, &b->gateway, storage, u->key, &why))
		return 0;
	f->field = u->step == STEP_WHOLE ? "key" : "step";
	return refuse(f, 403, "quarantine",
	    u->step == STEP_WHOLE ? why : "Reading has no steps.",
	    "The gateway may not read ", u->key);
}

static int
check_allowed(struct batch *b, const struct upload *u, const char *storage,
    struct refusal *f)
{
	if (!gateway_may_use(&b->gateway, storage)) {
		f->field = "storage";
		return refuse(f, 403, "wait",
		    "Add it to the policy of the gateway.",
		    "The gateway may not use the storage ", storage);
	}
	if (strcmp(u->method, "PUT") != 0 && strcmp(u->method, "HEAD") != 0) {
		f->field = "method";
		return refuse(f, 403, "quarantine", NULL,
		    "A gateway may not ask for ", u->method);
	}
	f->field = "size";
	if (b->gateway.max_size >= 0 && u->size > b->gateway.max_size)
		return refuse(f, 413, "quarantine",
		    "Raise maxSize in the policy of the gateway.",
		    "The upload is larger than the gateway may send", "");
	f->field = NULL;
	if (u->step == STEP_ABORT)
		return 0; /* sends nothing, also of a blocked device */
	if (b->gateway.spent && strcmp(u->method, "PUT") == 0) {
		f->retry_after = (int)(86400 - b->c->now_s % 86400);
		return refuse(f, 429, "wait",
		    "Raise bytesPerDay in the policy of the gateway, or wait "
		    "for midnight UTC.",
		    "The gateway has sent what it may send in a day", "");
	}
	return check_device(b, u->device, f);
}

/* ---- one upload ---------------------------------------------------------- */

static int
recipe_refusal(struct refusal *f, int rc)
{
	switch (rc) {
	case -ERANGE:
		return refuse(f, 422, "wait",
		    "Set expirationDuration within the provider's range.",
		    "The storage's URIs cannot be valid for so long", "");
	case -EFBIG:
		f->field = "size";
		return refuse(f, 413, "quarantine",
		    "The provider limits the size and number of parts.",
		    "The storage can keep nothing so large", "");
	case -EOPNOTSUPP:
		return refuse(f, 422, "quarantine", NULL,
		    "This storage knows no such method or step", "");
	default:
		return refuse(f, 422, "quarantine",
		    "The key, its length, or what was kept of earlier steps.",
		    "This upload cannot be signed", "");
	}
}

/* Larger than a part: it goes in parts, if the store takes any. */
static void
choose_step(const struct storage *s, struct upload *u)
{
	if (u->step == STEP_WHOLE && s->part_size > 0 &&
	    u->size > s->part_size && strcmp(u->method, "PUT") == 0)
		u->step = STEP_START;
}

/* With the start the gateway keeps at which storage that was. */
static void
keep_version(const struct storage *s, cJSON *recipe)
{
	cJSON *rq = cJSON_GetArrayItem(
	    cJSON_GetObjectItemCaseSensitive(recipe, "requests"), 0);
	cJSON *keep = cJSON_GetObjectItemCaseSensitive(rq, "keep");
	char version[24];

	snprintf(version, sizeof(version), "%lld", (long long)s->version);
	if (keep != NULL)
		json_add_text(
		    cJSON_AddObjectToObject(keep, "storage"), "text", version);
}

static void
next_step(const struct storage *s, const struct upload *u, cJSON *recipe)
{
	if (u->step == STEP_START)
		keep_version(s, recipe);
	if (u->step == STEP_START || u->step == STEP_PART)
		json_add_text(
		    recipe, "step", u->step == STEP_START ? "part" : "finish");
}

/* Would an upload stand among the publishers' objects? */
static bool
is_firmware_key(
    const struct batch *b, const struct storage *s, const struct upload *u)
{
	const char *root = firmware_root(s), *prefix = b->gateway.prefix;
	size_t n = strlen(root), m = strlen(prefix);

	return strncmp(prefix, root, n < m ? n : m) == 0 &&
	    (m >= n || strncmp(u->key, root + m, n - m) == 0);
}

static int
make_recipe(struct batch *b, const cJSON *v, cJSON *result, struct refusal *f)
{
	struct pair metadata[UPLOAD_METADATA_MAX];
	struct upload u = { .at = b->c->now_s };
	const struct target *target;
	const struct storage *s;
	struct recipe r;
	const char *name;
	char *key;
	int rc = upload_take(v, &u, metadata, &name, f);
	bool firmware = rc == 0 && strcmp(u.method, "GET") == 0;

	if (rc == 0)
		rc = firmware ? check_firmware(b, &u, name, f)
			      : check_allowed(b, &u, name, f);
	if (rc != 0)
		return rc;
	rc = find_meant(b, name, firmware, &u, &target);
	if (rc == -EAGAIN || rc == -EBUSY)
		return credential_refusal(f, target);
	if (rc != 0)
		return storage_refusal(f, rc, name);
	s = target->s;
	u.cred = target->cred;
	if (!firmware && is_firmware_key(b, s, &u))
		return refuse(f, 403, "wait",
		    "Give the gateway another prefix, or the storage another "
		    "firmwareRoot.",
		    "Firmware lies below this prefix: ", b->gateway.prefix);
	key = xasprintf(
	    "%s%s", firmware ? firmware_root(s) : b->gateway.prefix, u.key);
	u.key = key;
	u.expires = s->expires_s;
	if (u.cred != NULL && u.cred->expires_s - u.at < u.expires)
		u.expires = u.cred->expires_s - u.at; /* it ends with it */
	choose_step(s, &u);
	r.json = cJSON_CreateObject();
	rc = provider_check_key(key) == 0 ? s->provider->recipe(s, &u, &r)
					  : -EINVAL;
	free(key);
	if (rc != 0) {
		cJSON_Delete(r.json);
		return recipe_refusal(f, rc);
	}
	json_add_int(r.json, "expiresIn", u.expires);
	if (s->certificate_id != NULL)
		json_add_text(r.json, "certificateId", s->certificate_id);
	else
		cJSON_AddNullToObject(r.json, "certificateId");
	next_step(s, &u, r.json);
	cJSON_AddItemToObject(result, "recipe", r.json);
	return 0;
}

static void
add_pointer(const struct refusal *f, int i, cJSON *errors)
{
	cJSON *o = cJSON_CreateObject();
	char pointer[64];

	cJSON_AddItemToArray(errors, o);
	snprintf(pointer, sizeof(pointer), "/uploads/%d/%s", i, f->field);
	json_add_text(o, "pointer", pointer);
	json_add_text(o, "detail", f->title);
	if (f->hint != NULL)
		json_add_text(o, "hint", f->hint);
}

/* i: of the entry in the request. */
static void
refusal_json(struct refusal *f, int i, cJSON *result)
{
	cJSON *e = cJSON_AddObjectToObject(result, "error");

	cJSON_AddStringToObject(e, "type", "about:blank");
	json_add_text(e, "title", f->title);
	json_add_int(e, "status", f->status);
	if (f->hint != NULL)
		json_add_text(e, "hint", f->hint);
	json_add_text(e, "do", f->act);
	if (f->retry_after > 0)
		json_add_int(e, "retryAfter", f->retry_after);
	if (f->field != NULL)
		add_pointer(f, i, cJSON_AddArrayToObject(e, "errors"));
	free(f->title);
}

static void
add_result(struct batch *b, const cJSON *v, cJSON *results)
{
	cJSON *result = cJSON_CreateObject();
	const char *id = json_string(v, "id");
	struct refusal f = { 0 };
	int i = cJSON_GetArraySize(results);

	cJSON_AddItemToArray(results, result);
	json_add_text(result, "id", id != NULL && strlen(id) <= 128 ? id : "");
	if (!cJSON_IsObject(v) || id == NULL || id[0] == '\0' ||
	    strlen(id) > 128) {
		f.field = "id";
		refuse(&f, 422, "quarantine", NULL,
		    "An upload needs an id of at most 128 octets", "");
	} else {
		make_recipe(b, v, result, &f);
	}
	atomic_fetch_add(f.status != 0 ? &b->c->sg->metrics.refusals
				       : &b->c->sg->metrics.recipes,
	    1);
	if (f.status != 0)
		refusal_json(&f, i, result);
}

/* ---- the call ------------------------------------------------------------ */

static void
add_answers(const struct batch *b, cJSON *out)
{
	for (size_t i = 0; i < b->storages_n; i++) {
		const struct storage *s = b->storages[i].s;
		cJSON *rows;

		/* What a replaced one answers does not matter. */
		if (s == NULL || cJSON_HasObjectItem(out, s->name) ||
		    strchr(b->storages[i].name, '/') != NULL)
			continue;
		rows = cJSON_AddArrayToObject(out, s->name);
		provider_answer_rows(s->provider, rows);
	}
}

static int
check_gateway(struct store_txn *t, struct api_call *c, struct gateway *g)
{
	int rc = api_gateway(t, c, g);

	if (rc == 0)
		rc = gateway_count(
		    t, c->who.tenant, c->who.gateway, c->now_s, g);
	return rc;
}

static int
sign(struct store_txn *t, struct api_call *c)
{
	const cJSON *list =
			cJSON_GetObjectItemCaseSensitive(c->json, "uploads"),
		    *e;
	struct batch b = { .t = t, .c = c };
	int n = cJSON_GetArraySize(list), rc;
	cJSON *results;

	if (!cJSON_IsArray(list) || n < 1 || n > UPLOADS_MAX) {
		problem_field(&c->problem, "/uploads", NULL,
		    "This must be a list of 1 to 256 uploads.");
		return -EINVAL;
	}
	rc = check_gateway(t, c, &b.gateway);
	if (rc != 0)
		return rc;
	c->answer = cJSON_CreateObject();
	results = cJSON_AddArrayToObject(c->answer, "results");
	cJSON_ArrayForEach(e, list) add_result(&b, e, results);
	add_answers(&b, cJSON_AddObjectToObject(c->answer, "answers"));
	for (size_t i = 0; i < b.storages_n; i++) {
		if (b.storages[i].cred != NULL)
			credential_put(c->sg->credentials, b.storages[i].cred);
		if (b.storages[i].s != NULL)
			storage_cache_put(c->sg->cache, b.storages[i].s);
		free(b.storages[i].name);
	}
	free(b.device);
	gateway_fini(&b.gateway);
	return 0;
}

/* clang-format off */
const struct api_route api_sign_routes[] = {
	{ "POST", "/v1/sign", ROLE_GATEWAY, API_READ, sign, BODY_MAX },
	{ NULL },
};
/* clang-format on */
