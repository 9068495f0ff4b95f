/*
 * api_release.c - /v1/firmware/PRODUCT/CHANNEL/releases and /sign
 *
 * The version check, and signed requests for the objects of what was checked.
 * Checking writes a row first; what is missing in the bucket is found out after
 * that, outside of the transaction, so a slow store holds up nobody.
 */
#include "api.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "firmware.h"
#include "json.h"
#include "manifest.h"
#include "slices.h"
#include "store.h"
#include "xalloc.h"

#define BODY_MAX (64 * 1024)
#define SIGN_MAX (1 << 20)
#define UPLOADS_MAX 64

/* ---- the check ----------------------------------------------------------- */

static int
write_release(
    struct store_txn *t, struct api_call *c, const char *id, cJSON *row)
{
	char when[21];
	int rc;

	clock_rfc3339(c->now_s, when);
	cJSON_AddBoolToObject(row, "published", false);
	json_add_text(row, "checkedAt", when);
	rc = store_put_json(t, KIND_RELEASE, c->who.tenant, id, row);
	if (rc == 0)
		rc = api_audit(
		    t, c, c->who.tenant, "release.check", id, NULL, row);
	return rc;
}

static int
post_release(struct store_txn *t, struct api_call *c)
{
	cJSON *row, *old = NULL;
	struct product pr;
	char *id;
	int rc = firmware_product(t, c, &pr);

	if (rc != 0)
		return rc;
	row = release_parse(&pr, c->json, &c->problem);
	rc = row == NULL ? -EINVAL
			 : release_check(t, c->who.tenant, &pr, c->param[1],
			       row, &c->problem, &old);
	if (rc == 0 && !json_bool(c->json, "dryRun", false)) {
		id = firmware_id(
		    pr.name, c->param[1], json_string(row, "version"));
		rc = write_release(t, c, id, row);
		free(id);
	} else if (rc == 1) {
		cJSON_Delete(row);
		row = old;
		old = NULL;
		rc = 0;
	}
	if (rc == 0)
		c->answer = row;
	else
		cJSON_Delete(row);
	cJSON_Delete(old);
	product_fini(&pr);
	return rc;
}

/* One object of a release: a file, or the list of its slices. */
struct wanted {
	int64_t size;
	const char *sha256;
};

static void
want(struct api_call *c, const struct place *pl, const char *name,
    const char *suffix, int64_t size, const char *sha256, struct wanted *w,
    struct object_look *look)
{
	look->path = xasprintf("%s/%s/%s/%s%s", pl->product.name, c->param[1],
	    json_string(c->answer, "version"), name, suffix);
	*w = (struct wanted){ size, sha256 };
}

static int
is_missing(struct api_call *c, const struct place *pl, const char *path,
    const struct wanted *w, cJSON *o)
{
	struct object_wish put = { .method = "PUT",
		.path = path,
		.size = w->size,
		.sha256 = w->sha256,
		.lasting = true };
	cJSON *recipe;

	json_add_text(o, "state", "missing");
	if (pl->settled && json_bool(c->answer, "published", false)) {
		problem_set(&c->problem, 409,
		    "Copy it back from the backup bucket, or publish the next "
		    "version: what was published is not uploaded again.",
		    "The bucket has lost a file of a published release: "
		    "%.200s",
		    path);
		return -EIO;
	}
	if (json_bool(c->json, "dryRun", false))
		return 0; /* nothing is known of it later */
	recipe = place_recipe(c, pl, &put);
	if (recipe == NULL) {
		problem_set(&c->problem, 422, "Shorten the names.",
		    "This object cannot be signed for: %.200s", path);
		return -EIO;
	}
	cJSON_AddItemToObject(o, "recipe", recipe);
	return 0;
}

/* Adds {name, state, recipe} to uploads. */
static int
add_upload(struct api_call *c, const struct place *pl,
    const struct object_look *look, const struct wanted *w, cJSON *uploads)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddItemToArray(uploads, o);
	json_add_text(o, "name", strrchr(look->path, '/') + 1);
	json_add_text(o, "key", look->path);
	json_add_int(o, "size", w->size);
	if (look->size < 0)
		return is_missing(c, pl, look->path, w, o);
	json_add_text(o, "state", "present");
	if (look->size == w->size)
		return 0;
	problem_set(&c->problem, 409,
	    "Somebody put another file there: take the next version.",
	    "The bucket has other bytes as %.200s", look->path);
	return -EIO;
}

static void
look_at_all(struct api_call *c)
{
	const cJSON *files =
			cJSON_GetObjectItemCaseSensitive(c->answer, "files"),
		    *e;
	cJSON *uploads = cJSON_AddArrayToObject(c->answer, "uploads");
	cJSON *answers = cJSON_AddArrayToObject(c->answer, "answers");
	size_t most = 2 * (size_t)cJSON_GetArraySize(files), n = 0;
	struct object_look *looks = xcalloc(most + 1, sizeof(*looks));
	struct wanted *w = xcalloc(most + 1, sizeof(*w));
	struct place pl;
	int rc = place_open(c, &pl);

	cJSON_ArrayForEach(e, files)
	{
		const char *name = json_string(e, "name");
		int64_t size = 0;

		if (rc != 0)
			break;
		json_int(e, "size", 1, (int64_t)FIRMWARE_SIZE_MAX, &size);
		want(c, &pl, name, "", size, json_string(e, "sha256"), &w[n],
		    &looks[n]);
		n++;
		want(c, &pl, name, ".slices",
		    32 * (int64_t)slices_count((uint64_t)size),
		    json_string(e, "slicesSha256"), &w[n], &looks[n]);
		n++;
	}
	if (rc == 0)
		rc = place_looks(c, &pl, looks, n);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = add_upload(c, &pl, &looks[i], &w[i], uploads);
	if (rc == 0)
		place_answers(&pl, answers);
	object_looks_fini(looks, n);
	free(w);
	place_close(c, &pl);
}

/* What was never published can be taken back. */
static int
delete_release(struct store_txn *t, struct api_call *c)
{
	struct product pr;
	cJSON *row = NULL;
	char *id;
	int rc = firmware_product(t, c, &pr);

	if (rc != 0)
		return rc;
	id = firmware_id(pr.name, c->param[1], c->param[2]);
	rc = store_get_json(t, KIND_RELEASE, c->who.tenant, id, &row);
	if (rc == -ENOENT)
		rc = api_not_found(
		    c, "release", "GET /v1/firmware/PRODUCT/CHANNEL has all.");
	if (rc == 0 && json_bool(row, "published", false)) {
		problem_set(&c->problem, 409,
		    "Revoke it, or publish a higher one.",
		    "The release was published");
		rc = -ECANCELED;
	}
	if (rc == 0)
		rc = store_del(t, KIND_RELEASE, c->who.tenant, id);
	if (rc == 0)
		rc = api_audit(
		    t, c, c->who.tenant, "release.delete", id, row, NULL);
	if (rc == 0)
		c->status = 204;
	free(id);
	cJSON_Delete(row);
	product_fini(&pr);
	return rc;
}

/* ---- signing for a publisher --------------------------------------------- */

static bool
is_one_of(const char *s, const char *const *list)
{
	for (; *list != NULL; list++)
		if (strcmp(s, *list) == 0)
			return true;
	return false;
}

/* Size and hash of a file or its list, as it was checked. */
static bool
find_file(const cJSON *release, const char *name, struct object_wish *w)
{
	const cJSON *files = cJSON_GetObjectItemCaseSensitive(release, "files"),
		    *e;
	size_t n = strlen(name);
	bool list = n > 7 && strcmp(name + n - 7, ".slices") == 0;

	n -= list ? 7 : 0;
	cJSON_ArrayForEach(e, files)
	{
		const char *have = json_string(e, "name");
		int64_t size = 0;

		if (strlen(have) != n || strncmp(have, name, n) != 0 ||
		    json_int(e, "size", 1, (int64_t)FIRMWARE_SIZE_MAX, &size) !=
			0)
			continue;
		w->size =
		    list ? 32 * (int64_t)slices_count((uint64_t)size) : size;
		w->sha256 = json_string(e, list ? "slicesSha256" : "sha256");
		return true;
	}
	return false;
}

static int
check_entry(struct store_txn *t, struct api_call *c, const struct product *pr,
    const cJSON *v, int i)
{
	static const char *const methods[] = { "PUT", "GET", "HEAD", NULL };
	static const char *const steps[] = { "start", "part", "finish", "abort",
		NULL };
	const char *version = json_string(v, "version");
	const char *name = json_string(v, "name");
	const char *method = json_string(v, "method");
	const char *step = json_string(v, "step");
	struct object_wish w;
	cJSON *row = NULL;
	char pointer[40], *id;
	int64_t part;
	int rc;

	snprintf(pointer, sizeof(pointer), "/uploads/%d", i);
	if (version == NULL || !firmware_version_ok(version) || name == NULL ||
	    strlen(name) > 160 ||
	    (method != NULL && !is_one_of(method, methods)) ||
	    (step != NULL && !is_one_of(step, steps)) ||
	    (step != NULL && strcmp(step, "part") == 0 &&
		json_int(v, "part", 1, 1000000, &part) != 0)) {
		problem_field(&c->problem, pointer,
		    "{version, name, method: PUT, GET or HEAD, step: start, "
		    "part (with its number in part), finish, abort; kept}",
		    "This is no upload of a release.");
		return -EINVAL;
	}
	id = firmware_id(pr->name, c->param[1], version);
	rc = store_get_json(t, KIND_RELEASE, c->who.tenant, id, &row);
	free(id);
	if (rc == -ENOENT || (rc == 0 && !find_file(row, name, &w))) {
		problem_field(&c->problem, pointer,
		    "POST .../releases checks a version first.",
		    "There is no such file in a release that was checked.");
		rc = -EINVAL;
	}
	/* Handed on to the thread that signs. */
	if (rc == 0)
		cJSON_AddItemToArray(c->answer, row);
	else
		cJSON_Delete(row);
	return rc;
}

static int
post_sign(struct store_txn *t, struct api_call *c)
{
	const cJSON *list =
			cJSON_GetObjectItemCaseSensitive(c->json, "uploads"),
		    *e;
	int n = cJSON_GetArraySize(list), i = 0, rc;
	struct product pr;

	if (!cJSON_IsArray(list) || n < 1 || n > UPLOADS_MAX) {
		problem_field(&c->problem, "/uploads",
		    "[{version, name, method, step, part, kept}]",
		    "This must be a list of 1 to %d uploads.", UPLOADS_MAX);
		return -EINVAL;
	}
	rc = firmware_product(t, c, &pr);
	if (rc != 0)
		return rc;
	c->answer = cJSON_CreateArray();
	cJSON_ArrayForEach(e, list)
	{
		if (rc == 0)
			rc = check_entry(t, c, &pr, e, i++);
	}
	product_fini(&pr);
	return rc;
}

static char *
entry_path(const struct api_call *c, const struct place *pl, const cJSON *v)
{
	return xasprintf("%s/%s/%s/%s", pl->product.name, c->param[1],
	    json_string(v, "version"), json_string(v, "name"));
}

static bool
is_put(const cJSON *v)
{
	const char *method = json_string(v, "method");
	const char *step = json_string(v, "step");

	return (method == NULL || strcmp(method, "PUT") == 0) &&
	    (step == NULL || strcmp(step, "abort") != 0);
}

static cJSON *
sign_entry(struct api_call *c, const struct place *pl, const cJSON *v,
    const cJSON *release)
{
	const char *name = json_string(v, "name");
	const char *method = json_string(v, "method");
	char *path = entry_path(c, pl, v);
	struct object_wish w = { .method = method != NULL ? method : "PUT",
		.path = path,
		.step = json_string(v, "step"),
		.kept = cJSON_GetObjectItemCaseSensitive(v, "kept"),
		.lasting = true };
	cJSON *recipe = NULL;

	json_int(v, "part", 1, 1000000, &w.part);
	if (find_file(release, name, &w))
		recipe = place_recipe(c, pl, &w);
	free(path);
	return recipe;
}

/*
 * Never a PUT over what is there. Most stores refuse it themselves, by a
 * condition that is signed with it; those that know none (noOverwrite false)
 * would take it, from whoever has a publisher's token. So it is not signed for
 * an object that is there, nor for any of a release that was published. A part
 * changes nothing before its `finish`.
 */
static int
check_overwriting(struct api_call *c, struct place *pl, const cJSON *list,
    const cJSON *releases)
{
	struct object_look *looks = xcalloc(UPLOADS_MAX, sizeof(*looks));
	const cJSON *e;
	size_t n = 0;
	int i = 0, rc = 0;

	cJSON_ArrayForEach(e, list)
	{
		const cJSON *release = cJSON_GetArrayItem(releases, i++);
		const char *step = json_string(e, "step");

		if (!is_put(e))
			continue;
		if (pl->settled && json_bool(release, "published", false)) {
			problem_set(&c->problem, 409,
			    "Publish the next version.",
			    "The release %.64s was published: its files are "
			    "not written again",
			    json_string(e, "version"));
			rc = -ECANCELED;
		} else if (step == NULL || strcmp(step, "part") != 0) {
			looks[n++].path = entry_path(c, pl, e);
		}
	}
	if (rc == 0)
		rc = place_looks(c, pl, looks, n);
	for (size_t j = 0; rc == 0 && j < n; j++) {
		if (looks[j].size < 0)
			continue;
		problem_set(&c->problem, 409,
		    "Read it back and compare; if it is another file, publish "
		    "the next version.",
		    "The bucket has this object already: %.200s",
		    looks[j].path);
		rc = -ECANCELED;
	}
	object_looks_fini(looks, n);
	return rc;
}

static void
sign_all(struct api_call *c)
{
	const cJSON *list =
			cJSON_GetObjectItemCaseSensitive(c->json, "uploads"),
		    *e;
	cJSON *releases = c->answer, *results, *o, *recipe;
	struct place pl;
	int i = 0, rc = place_open(c, &pl);

	if (rc == 0)
		rc = check_overwriting(c, &pl, list, releases);
	c->answer = cJSON_CreateObject();
	results = cJSON_AddArrayToObject(c->answer, "results");
	cJSON_ArrayForEach(e, list)
	{
		char pointer[40];

		if (rc != 0)
			break;
		snprintf(pointer, sizeof(pointer), "/uploads/%d", i);
		recipe =
		    sign_entry(c, &pl, e, cJSON_GetArrayItem(releases, i++));
		if (recipe == NULL) {
			problem_field(&c->problem, pointer,
			    "The step, or what was kept of earlier ones.",
			    "This cannot be signed.");
			break;
		}
		o = cJSON_CreateObject();
		json_add_text(o, "name", json_string(e, "name"));
		cJSON_AddItemToObject(o, "recipe", recipe);
		cJSON_AddItemToArray(results, o);
	}
	if (rc == 0)
		place_answers(
		    &pl, cJSON_AddArrayToObject(c->answer, "answers"));
	place_close(c, &pl);
	cJSON_Delete(releases);
}

#define PUBLISHER (ROLE_PUBLISHER | ROLE_ADMIN | ROLE_ROOT)
#define CHANNEL "/v1/firmware/:product/:channel"
/* clang-format off */
const struct api_route api_release_routes[] = {
	{ "POST",   CHANNEL "/releases",          PUBLISHER, API_WRITE, post_release,   BODY_MAX, look_at_all },
	{ "DELETE", CHANNEL "/releases/:version", PUBLISHER, API_WRITE, delete_release, 0 },
	{ "POST",   CHANNEL "/sign",              PUBLISHER, API_READ,  post_sign,      SIGN_MAX, sign_all },
	{ NULL },
};
/* clang-format on */
