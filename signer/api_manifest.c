/*
 * api_manifest.c - /v1/firmware/PRODUCT/CHANNEL/manifest
 *
 * A manifest is looked at twice: in a reading transaction, before the store is
 * asked for the objects it names, and in the writing one that keeps it, where
 * its seq must still be the next. So of two publishers one wins, and the other
 * is told to begin from what there is now. Gateways are told of a seq only when
 * its publisher says that it stands in the bucket.
 */
#include "api.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "digest.h"
#include "firmware.h"
#include "json.h"
#include "manifest.h"
#include "signer.h"
#include "slices.h"
#include "store.h"
#include "xalloc.h"

#define BODY_MAX (3 << 20)

/* ---- checking ------------------------------------------------------------ */

/* A manifest as it was sent, and what it is to follow. */
struct offer {
	const char *text, *signature;
	char comment[MINISIGN_COMMENT_MAX];
	struct manifest *m, *old;
	int64_t seq;   /* of the one that there is; 0: none */
	char *storage; /* where that one's objects are */
	bool repeated; /* it is that one */
	bool told;     /* and gateways know that it stands in the bucket */
	cJSON *fresh;
};

static void
offer_fini(struct offer *o)
{
	manifest_free(o->m);
	manifest_free(o->old);
	free(o->storage);
	cJSON_Delete(o->fresh);
	memset(o, 0, sizeof(*o));
}

static int
check_signature(struct api_call *c, const struct product *pr, struct offer *o)
{
	int rc = minisign_verify(pr->keys, pr->keys_n, o->text, strlen(o->text),
	    o->signature, o->comment);

	if (rc == -EINVAL)
		problem_field(&c->problem, "/signature",
		    "The text of the .minisig file, all four lines.",
		    "This is no signature of minisign.");
	else if (rc == -ENOKEY)
		problem_field(&c->problem, "/signature",
		    "Sign with a key of the product, or add its public key to "
		    "publicKeys of the product.",
		    "It was made by a key that the product does not have.");
	else if (rc != 0)
		problem_field(&c->problem, "/signature",
		    "Sign the very octets that are sent as manifest.",
		    "The signature does not fit the manifest.");
	return rc != 0 ? -EINVAL : 0;
}

static int
take_texts(struct api_call *c, struct offer *o)
{
	o->text = json_string(c->json, "manifest");
	o->signature = json_string(c->json, "signature");
	if (o->text == NULL || o->signature == NULL ||
	    strlen(o->text) > MANIFEST_MAX ||
	    strlen(o->signature) > MINISIGN_SIGNATURE_MAX) {
		problem_field(&c->problem, "",
		    "{manifest: the text of manifest.json, signature: that "
		    "of its .minisig}",
		    "A manifest and its signature are needed.");
		return -EINVAL;
	}
	return 0;
}

/* What its publisher has signed, and as what. */
static int
parse(struct api_call *c, struct offer *o)
{
	char *why = NULL, *want;

	if (manifest_parse(o->text, strlen(o->text), &o->m, &why) != 0) {
		problem_field(&c->problem, "/manifest",
		    "edgehaul firmware makes one that is right.", "%.300s",
		    why != NULL ? why : "This is no manifest.");
		free(why);
		return -EINVAL;
	}
	want = xasprintf("edgehaul product:%s channel:%s seq:%" PRId64,
	    o->m->product, o->m->channel, o->m->seq);
	if (strcmp(o->comment, want) != 0)
		problem_field(&c->problem, "/signature", want,
		    "The trusted comment is of another manifest.");
	free(want);
	return c->problem.status == 0 ? 0 : -EINVAL;
}

/* What there is now, and that this one comes right after it. */
static int
check_seq(struct store_txn *t, struct api_call *c, struct offer *o)
{
	char *id = firmware_id(c->param[0], c->param[1], NULL), *why = NULL;
	const char *text;
	int64_t announced;
	cJSON *row = NULL;
	int rc = manifest_state(
	    t, c->who.tenant, id, &o->seq, &announced, &o->storage);

	if (rc == 0 && o->seq > 0)
		rc = store_get_json(t, KIND_SIGNED, c->who.tenant, id, &row);
	free(id);
	if (rc != 0)
		return rc;
	text = json_string(row, "manifest");
	o->repeated = text != NULL && strcmp(text, o->text) == 0;
	o->told = o->repeated && announced >= o->seq;
	if (text != NULL &&
	    manifest_parse(text, strlen(text), &o->old, &why) != 0)
		rc = -EBADMSG;
	free(why);
	cJSON_Delete(row);
	if (rc != 0 || o->repeated)
		return rc;
	rc = api_precondition(c, o->seq);
	if (rc == 0 && o->m->seq != o->seq + 1) {
		problem_set(&c->problem, 409,
		    "GET the manifest, apply your change to it, and sign it "
		    "with the next seq.",
		    "The newest manifest has seq %" PRId64
		    ", this one must have %" PRId64,
		    o->seq, o->seq + 1);
		rc = -ECANCELED;
	}
	return rc;
}

static int
check_offer(struct store_txn *t, struct api_call *c, struct offer *o)
{
	struct product pr;
	int rc = firmware_product(t, c, &pr);

	if (rc != 0)
		return rc;
	rc = take_texts(c, o);
	if (rc == 0)
		rc = check_signature(c, &pr, o);
	if (rc == 0)
		rc = parse(c, o);
	if (rc == 0)
		rc = check_seq(t, c, o);
	if (rc == 0)
		rc = manifest_check(t, c->who.tenant, &pr, c->param[1], o->m,
		    o->old, c->now_s, &c->problem, &o->fresh);
	product_fini(&pr);
	return rc;
}

static int
put_manifest(struct store_txn *t, struct api_call *c)
{
	struct offer o = { NULL };
	int rc = check_offer(t, c, &o);

	offer_fini(&o);
	return rc;
}

/* ---- the objects it names ------------------------------------------------ */

static bool
is_fresh(const struct offer *o, const struct manifest_release *r)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, o->fresh)
	{
		if (strcmp(json_string(e, "version"), r->version) == 0)
			return true;
	}
	return false;
}

struct expecting {
	struct object_look *looks;
	int64_t *sizes;
	size_t n;
};

static void
expect(struct expecting *x, const struct manifest_file *f)
{
	size_t n = x->n;

	x->looks = xrealloc(x->looks, (n + 2) * sizeof(*x->looks));
	x->sizes = xrealloc(x->sizes, (n + 2) * sizeof(*x->sizes));
	memset(x->looks + n, 0, 2 * sizeof(*x->looks));
	x->looks[n].path = xstrdup(f->path);
	x->looks[n + 1].path = xasprintf("%s.slices", f->path);
	x->sizes[n] = (int64_t)f->size;
	x->sizes[n + 1] = 32 * (int64_t)slices_count(f->size);
	x->n += 2;
}

static int
compare(struct api_call *c, const struct object_look *look, int64_t size)
{
	if (look->size == size)
		return 0;
	if (look->size < 0)
		problem_field(&c->problem, "/manifest",
		    "Upload it first: POST .../releases has the recipe; or "
		    "let the storage's credentials read objects.",
		    "The bucket does not have %.250s.", look->path);
	else
		problem_field(&c->problem, "/manifest",
		    "Take the next version.",
		    "In the bucket %.250s has %" PRId64 " octets, not %" PRId64
		    ".",
		    look->path, look->size, size);
	return -EIO;
}

/* Those that are new, or all if the product has moved to another storage. */
static int
look_at_objects(struct api_call *c, struct place *pl, const struct offer *o)
{
	bool moved =
	    o->storage == NULL || strcmp(o->storage, pl->product.storage) != 0;
	struct expecting x = { NULL };
	int rc;

	for (size_t i = 0; i < o->m->releases_n; i++) {
		const struct manifest_release *r = &o->m->releases[i];

		if (!moved && !is_fresh(o, r))
			continue;
		for (size_t j = 0; j < r->files_n; j++)
			expect(&x, &r->files[j]);
	}
	rc = place_looks(c, pl, x.looks, x.n);
	for (size_t i = 0; rc == 0 && i < x.n; i++)
		rc = compare(c, &x.looks[i], x.sizes[i]);
	object_looks_fini(x.looks, x.n);
	free(x.sizes);
	return rc;
}

/* ---- keeping it ---------------------------------------------------------- */

struct keeping {
	struct api_call *c;
	struct offer o;
	const char *storage;
};

static int
publish_fresh(struct store_txn *t, struct api_call *c, const struct offer *o)
{
	cJSON *e;
	int rc = 0;

	cJSON_ArrayForEach(e, o->fresh)
	{
		char *id = firmware_id(
		    c->param[0], c->param[1], json_string(e, "version"));

		cJSON_ReplaceItemInObjectCaseSensitive(
		    e, "published", cJSON_CreateTrue());
		if (rc == 0)
			rc = store_put_json(
			    t, KIND_RELEASE, c->who.tenant, id, e);
		free(id);
	}
	return rc;
}

static int
write_rows(struct store_txn *t, struct keeping *k, const char *id)
{
	struct api_call *c = k->c;
	cJSON *row = cJSON_CreateObject(), *texts = cJSON_CreateObject();
	char when[21], hash[65];
	int64_t seq, announced;
	int rc = manifest_state(t, c->who.tenant, id, &seq, &announced, NULL);

	digest_sha256_hex(k->o.text, strlen(k->o.text), hash);
	json_add_int(row, "seq", k->o.m->seq);
	json_add_int(row, "announced", announced);
	json_add_text(row, "storage", k->storage);
	json_add_text(row, "sha256", hash);
	clock_rfc3339(k->o.m->expires, when);
	json_add_text(row, "expires", when);
	clock_rfc3339(c->now_s, when);
	json_add_text(row, "takenAt", when);
	json_add_text(texts, "manifest", k->o.text);
	json_add_text(texts, "signature", k->o.signature);
	if (rc == 0)
		rc = store_put_json(t, KIND_MANIFEST, c->who.tenant, id, row);
	if (rc == 0)
		rc = store_put_json(t, KIND_SIGNED, c->who.tenant, id, texts);
	if (rc == 0)
		rc = api_audit(
		    t, c, c->who.tenant, "manifest.put", id, NULL, row);
	cJSON_Delete(row);
	cJSON_Delete(texts);
	return rc;
}

static int
keep(struct store_txn *t, void *arg)
{
	struct keeping *k = arg;
	char *id;
	int rc;

	offer_fini(&k->o); /* of an earlier run */
	rc = check_offer(t, k->c, &k->o);
	if (rc != 0 || k->o.repeated)
		return rc;
	id = firmware_id(k->c->param[0], k->c->param[1], NULL);
	rc = publish_fresh(t, k->c, &k->o);
	if (rc == 0)
		rc = write_rows(t, k, id);
	free(id);
	return rc;
}

/* ---- where it goes ------------------------------------------------------- */

/*
 * One of the four names: a recipe unless it is there already for good, or was
 * told to be. Who has a token but no key can offer what everybody knows once
 * more, so its recipe must not let other bytes over it: the hash is signed, for
 * stores that look.
 */
static void
add_upload(struct api_call *c, const struct place *pl, cJSON *uploads,
    const struct object_look *look, const char *text, bool lasting, bool told)
{
	bool there = look->size >= 0;
	size_t size = strlen(text);
	char hash[65];
	struct object_wish put = { .method = "PUT",
		.path = look->path,
		.size = (int64_t)size,
		.sha256 = hash,
		.lasting = lasting,
		.if_match = there ? look->etag : NULL };
	cJSON *o = cJSON_CreateObject(), *recipe;

	digest_sha256_hex(text, size, hash);
	cJSON_AddItemToArray(uploads, o);
	json_add_text(o, "name", strrchr(look->path, '/') + 1);
	json_add_text(o, "key", look->path);
	json_add_int(o, "size", (int64_t)size);
	json_add_text(o, "state",
	    !there                ? "missing"
		: lasting || told ? "present"
				  : "replace");
	if (there && (lasting || told))
		return;
	recipe = place_recipe(c, pl, &put);
	if (recipe != NULL)
		cJSON_AddItemToObject(o, "recipe", recipe);
}

static int
add_uploads(struct api_call *c, struct place *pl, const struct offer *o)
{
	cJSON *uploads = cJSON_AddArrayToObject(c->answer, "uploads");
	struct object_look *looks = xcalloc(4, sizeof(*looks));
	int rc;

	for (size_t i = 0; i < 4; i++) {
		char *seq =
		    i < 2 ? xasprintf("-%" PRId64, o->m->seq) : xstrdup("");

		looks[i].path =
		    xasprintf("%s/%s/manifest%s.json%s", c->param[0],
			c->param[1], seq, i % 2 == 1 ? ".minisig" : "");
		free(seq);
	}
	rc = place_looks(c, pl, looks, 4);
	for (size_t i = 0; rc == 0 && i < 4; i++)
		add_upload(c, pl, uploads, &looks[i],
		    i % 2 == 1 ? o->signature : o->text, i < 2, o->told);
	object_looks_fini(looks, 4);
	place_answers(pl, cJSON_AddArrayToObject(c->answer, "answers"));
	return rc;
}

static int
view_offer(struct store_txn *t, void *arg)
{
	struct keeping *k = arg;

	offer_fini(&k->o);
	return check_offer(t, k->c, &k->o);
}

static void
finish_put(struct api_call *c)
{
	struct keeping k = { .c = c };
	struct place pl;
	int rc = place_open(c, &pl);

	if (rc == 0)
		rc = store_view(c->sg->store, view_offer, &k);
	if (rc == 0 && !k.o.repeated) {
		rc = look_at_objects(c, &pl, &k.o);
		k.storage = pl.product.storage;
		if (rc == 0)
			rc = store_update(c->sg->store, keep, &k);
	}
	if (rc == 0) {
		c->answer = cJSON_CreateObject();
		json_add_int(c->answer, "seq", k.o.m->seq);
		api_etag(c, k.o.m->seq);
		rc = add_uploads(c, &pl, &k.o);
	}
	if (rc != 0 && c->problem.status == 0) {
		problem_set(&c->problem, 503, "Try again.",
		    "The signer's database does not answer");
		c->problem.retry_after = 5;
	}
	offer_fini(&k.o);
	place_close(c, &pl);
}

/* ---- reading, telling ---------------------------------------------------- */

static int
get_manifest(struct store_txn *t, struct api_call *c)
{
	struct product pr;
	int64_t seq, announced;
	char *id;
	int rc = firmware_product(t, c, &pr);

	if (rc != 0)
		return rc;
	product_fini(&pr);
	id = firmware_id(c->param[0], c->param[1], NULL);
	rc = manifest_state(t, c->who.tenant, id, &seq, &announced, NULL);
	if (rc == 0)
		rc = store_get_json(
		    t, KIND_SIGNED, c->who.tenant, id, &c->answer);
	free(id);
	if (rc == -ENOENT)
		return api_not_found(
		    c, "manifest", "edgehaul firmware publish makes one.");
	if (rc == 0) {
		json_add_int(c->answer, "seq", seq);
		json_add_int(c->answer, "announced", announced);
		api_etag(c, seq);
	}
	return rc;
}

/* It stands in the bucket: gateways may know. */
static int
announce(struct store_txn *t, struct api_call *c)
{
	char *id = firmware_id(c->param[0], c->param[1], NULL);
	int64_t seq = 0, had = 0, now = 0;
	cJSON *row = NULL;
	int rc = store_get_json(t, KIND_MANIFEST, c->who.tenant, id, &row);

	json_int(c->json, "seq", 1, INT64_MAX / 2048, &seq);
	json_int(row, "announced", 0, INT64_MAX / 2048, &had);
	json_int(row, "seq", 0, INT64_MAX / 2048, &now);
	if (rc == -ENOENT) {
		rc = api_not_found(
		    c, "manifest", "edgehaul firmware publish makes one.");
	} else if (rc == 0 && (seq < 1 || seq > now)) {
		problem_field(&c->problem, "/seq", NULL,
		    "The newest manifest has seq %" PRId64 ".", now);
		rc = -EINVAL;
	}
	/* Again, too: whoever asks for it wants gateways to look. */
	if (rc == 0 && seq >= had) {
		cJSON_DeleteItemFromObjectCaseSensitive(row, "announced");
		json_add_int(row, "announced", seq);
		rc = store_put_json(t, KIND_MANIFEST, c->who.tenant, id, row);
		if (rc == 0)
			rc = store_changed(t, c->who.tenant, NULL);
		if (rc == 0)
			rc = api_audit(t, c, c->who.tenant, "manifest.announce",
			    id, NULL, row);
		c->changed = true;
	}
	if (rc == 0) {
		c->answer = cJSON_CreateObject();
		json_add_int(c->answer, "announced", seq >= had ? seq : had);
	}
	cJSON_Delete(row);
	free(id);
	return rc;
}

#define PUBLISHER (ROLE_PUBLISHER | ROLE_ADMIN | ROLE_ROOT)
#define MANIFEST "/v1/firmware/:product/:channel/manifest"
/* clang-format off */
const struct api_route api_manifest_routes[] = {
	{ "GET",  MANIFEST,             PUBLISHER, API_READ,  get_manifest, 0 },
	{ "PUT",  MANIFEST,             PUBLISHER, API_READ,  put_manifest, BODY_MAX, finish_put },
	{ "POST", MANIFEST "/announce", PUBLISHER, API_WRITE, announce,     4096 },
	{ NULL },
};
/* clang-format on */
