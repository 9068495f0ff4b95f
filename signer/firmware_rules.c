/*
 * firmware_rules.c - what may be released, and what a manifest may say
 *
 * A version is higher than every one of its channel and never stands for other
 * bytes again; a manifest names nothing that was not checked. Pure decisions
 * over rows of one transaction.
 */
#include "firmware.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway.h"
#include "json.h"
#include "manifest.h"
#include "problem.h"
#include "slices.h"
#include "store.h"
#include "url.h"
#include "xalloc.h"

/* ---- a release as it is sent --------------------------------------------- */

static bool
hash_ok(const char *s)
{
	return s != NULL && strlen(s) == 64 &&
	    strspn(s, "0123456789abcdef") == 64;
}

static void
file_problem(struct problem *p, int i, const char *member, const char *hint,
    const char *detail)
{
	char file[32], *pointer;

	snprintf(file, sizeof(file), "/files/%d", i);
	pointer = problem_pointer(file, member);
	problem_field(p, pointer, hint, "%s", detail);
	free(pointer);
}

static void
unknown_members(const cJSON *file, int i, struct problem *p)
{
	static const char *const names[] = { "name", "size", "sha256",
		"slicesSha256", NULL };
	const cJSON *e;

	cJSON_ArrayForEach(e, file)
	{
		bool known = e->string == NULL; /* of no object */

		for (size_t k = 0; names[k] != NULL; k++)
			known = known || strcmp(names[k], e->string) == 0;
		if (!known)
			file_problem(p, i, e->string,
			    problem_meant(e->string, names),
			    "There is no such field.");
	}
}

static void
take_file(const struct product *pr, cJSON *files, const cJSON *v, int i,
    struct problem *p)
{
	const char *name = json_string(v, "name");
	const char *sha256 = json_string(v, "sha256");
	const char *slices = json_string(v, "slicesSha256");
	cJSON *o = cJSON_CreateObject();
	const cJSON *e;
	int64_t size = 0;

	unknown_members(v, i, p);
	if (name == NULL || !firmware_name_ok(name))
		file_problem(p, i, "name",
		    "1 to 128 of A-Z a-z 0-9 . _ + - , no leading dot, not "
		    "ending in .slices.",
		    "This is no name of a file.");
	cJSON_ArrayForEach(e, files)
	{
		if (name != NULL && strcmp(json_string(e, "name"), name) == 0)
			file_problem(
			    p, i, "name", NULL, "Two files have this name.");
	}
	if (!hash_ok(sha256))
		file_problem(p, i, "sha256", "64 lower-case digits.",
		    "This is no SHA-256.");
	if (!hash_ok(slices))
		file_problem(p, i, "slicesSha256", "64 lower-case digits.",
		    "This is no SHA-256.");
	if (json_int(v, "size", 1, (int64_t)FIRMWARE_SIZE_MAX, &size) != 0)
		file_problem(p, i, "size", "Octets, at least 1.",
		    "This is no size of a file.");
	else if (size > pr->max_size)
		file_problem(p, i, "size",
		    "Raise maxSize of the product if it is meant.",
		    "The file is larger than the product allows.");
	json_add_text(o, "name", name != NULL ? name : "");
	json_add_int(o, "size", size);
	json_add_text(o, "sha256", sha256 != NULL ? sha256 : "");
	json_add_text(o, "slicesSha256", slices != NULL ? slices : "");
	cJSON_AddItemToArray(files, o);
}

static void
take_files(
    const struct product *pr, cJSON *row, const cJSON *v, struct problem *p)
{
	cJSON *files = cJSON_AddArrayToObject(row, "files");
	const cJSON *e;
	int i = 0, n = cJSON_GetArraySize(v);

	if (!cJSON_IsArray(v) || n < 1 || n > MANIFEST_FILES_MAX) {
		problem_field(p, "/files",
		    "[{name, size, sha256, slicesSha256}]",
		    "A release has 1 to %d files.", MANIFEST_FILES_MAX);
		return;
	}
	cJSON_ArrayForEach(e, v) take_file(pr, files, e, i++, p);
}

static void
take_version(cJSON *row, const char *member, const cJSON *v, bool required,
    struct problem *p)
{
	char pointer[32];

	snprintf(pointer, sizeof(pointer), "/%s", member);
	if (!required && (v == NULL || cJSON_IsNull(v)))
		return;
	if (!cJSON_IsString(v) || !firmware_version_ok(v->valuestring))
		problem_field(p, pointer,
		    "1 to 64 of A-Z a-z 0-9 . _ + - , no leading dot; best "
		    "as in semver.org: 1.4.2.",
		    "This is no version.");
	else
		json_add_text(row, member, v->valuestring);
}

cJSON *
release_parse(const struct product *pr, const cJSON *doc, struct problem *p)
{
	static const char *const names[] = { "version", "seq", "hw", "minFrom",
		"files", "dryRun", NULL };
	const cJSON *dry = cJSON_GetObjectItemCaseSensitive(doc, "dryRun");
	cJSON *row = cJSON_CreateObject();
	int64_t seq = 0;
	int rc = json_int(doc, "seq", 1, INT64_MAX / 2048, &seq);

	problem_unknown(doc, names, p);
	/* What is not understood must not make it a check in earnest. */
	if (dry != NULL && !cJSON_IsNull(dry) && !cJSON_IsBool(dry))
		problem_field(p, "/dryRun", "Write true or false.",
		    "This must be true or false.");
	take_version(row, "version",
	    cJSON_GetObjectItemCaseSensitive(doc, "version"), true, p);
	if (rc != 0 && rc != -ENOENT)
		problem_field(p, "/seq", "Leave it out: it is given.",
		    "This must be a number from 1.");
	else if (rc == 0)
		json_add_int(row, "seq", seq);
	firmware_take_hw(
	    row, cJSON_GetObjectItemCaseSensitive(doc, "hw"), pr->hw, p);
	take_version(row, "minFrom",
	    cJSON_GetObjectItemCaseSensitive(doc, "minFrom"), false, p);
	take_files(pr, row, cJSON_GetObjectItemCaseSensitive(doc, "files"), p);
	if (p->status == 0)
		return row;
	cJSON_Delete(row);
	return NULL;
}

/* ---- beside the releases that there are ---------------------------------- */

/* What a scan over the releases of a product looks for. */
struct beside {
	const char *prefix; /* "PRODUCT/CHANNEL/" */
	const char *version, *min_from;
	int64_t seq_max;
	char *higher;   /* one that is not lower than version */
	char *numbered; /* one that has an order, if version has none */
	bool min_from_seen;
	bool published_only;
};

static int
on_release(const char *id, const char *doc, size_t n, void *arg)
{
	struct beside *b = arg;
	const char *version = strrchr(id, '/') + 1;
	size_t product = strcspn(b->prefix, "/") + 1;
	bool from = b->min_from != NULL && strcmp(version, b->min_from) == 0;
	bool beside, published;
	cJSON *row;
	int64_t seq = 0;
	int order;

	if (strncmp(id, b->prefix, product) != 0)
		return 1;
	beside = strncmp(id, b->prefix, strlen(b->prefix)) == 0 &&
	    strcmp(version, b->version) != 0;
	if (!beside && !from)
		return 0;
	row = json_parse(doc, n, n, NULL);
	published = json_bool(row, "published", false);
	/* What was checked only is nothing that devices could pass through. */
	if (from && published)
		b->min_from_seen = true;
	if (!beside || (b->published_only && !published)) {
		cJSON_Delete(row);
		return 0;
	}
	if (json_int(row, "seq", 1, INT64_MAX / 2048, &seq) == 0 &&
	    seq > b->seq_max)
		b->seq_max = seq;
	cJSON_Delete(row);
	if (!firmware_version_compare(b->version, version, &order)) {
		if (b->numbered == NULL &&
		    firmware_version_compare(version, version, &order))
			b->numbered = xstrdup(version);
	} else if (order <= 0 &&
	    (b->higher == NULL ||
		(firmware_version_compare(version, b->higher, &order) &&
		    order > 0))) {
		free(b->higher);
		b->higher = xstrdup(version);
	}
	return 0;
}

static int
look_beside(struct store_txn *t, const char *tenant, const char *product,
    const char *channel, struct beside *b)
{
	char *prefix = xasprintf("%s/%s/", product, channel);
	char *after = xasprintf("%s/", product);
	int rc;

	b->prefix = prefix;
	rc = store_scan(t, KIND_RELEASE, tenant, after, on_release, b);
	free(prefix);
	free(after);
	return rc;
}

static bool
same_member(const cJSON *a, const cJSON *b, const char *name)
{
	const cJSON *x = cJSON_GetObjectItemCaseSensitive(a, name);
	const cJSON *y = cJSON_GetObjectItemCaseSensitive(b, name);
	char *s = x != NULL ? json_line(x) : xstrdup("");
	char *t = y != NULL ? json_line(y) : xstrdup("");
	bool same = strcmp(s, t) == 0;

	free(s);
	free(t);
	return same;
}

/* Beside what was checked under its version. 1: it is the same. 0: it may be
 * checked anew, as nothing but the hardware or minFrom is another. */
static int
check_old(cJSON *row, const cJSON *old, struct problem *p)
{
	bool files = same_member(row, old, "files");
	int64_t seq;

	if (files && same_member(row, old, "hw") &&
	    same_member(row, old, "minFrom"))
		return json_int(old, "seq", 1, INT64_MAX / 2048, &seq) == 0
		    ? 1
		    : -EBADMSG;
	if (files && !json_bool(old, "published", false))
		return 0;
	problem_set(p, 409,
	    "Take the next version. What was checked but never published can "
	    "be taken back: DELETE .../releases/VERSION.",
	    files ? "The version %.64s was published for other hardware or "
		    "minFrom"
		  : "The version %.64s stands for other bytes already",
	    json_string(row, "version"));
	problem_field(p, "/version", NULL, "A version is never used again.");
	return -ECANCELED;
}

static void
check_order(cJSON *row, const struct beside *b, struct problem *p)
{
	const char *version = json_string(row, "version");
	int64_t seq = b->seq_max + 1;

	if (b->higher != NULL) {
		problem_set(p, 409,
		    "Take a version that is higher, or another channel.",
		    "The channel has %.64s already, which is not lower",
		    b->higher);
		problem_field(p, "/version", NULL,
		    "%.64s is not higher than %.64s.", version, b->higher);
	}
	if (b->numbered != NULL) {
		problem_set(p, 409,
		    "Keep to numbers like those, or take another channel.",
		    "It cannot be told whether %.64s is higher than %.64s",
		    version, b->numbered);
		problem_field(p, "/version", NULL,
		    "Versions of this channel are numbers, such as %.64s.",
		    b->numbered);
	}
	if (json_int(row, "seq", 1, INT64_MAX / 2048, &seq) == 0 &&
	    seq <= b->seq_max) {
		problem_set(p, 409, "Leave seq out: it is given.",
		    "seq is not higher than those of the channel");
		problem_field(p, "/seq", NULL, "The channel is at %" PRId64 ".",
		    b->seq_max);
	}
	if (b->min_from != NULL && !b->min_from_seen)
		problem_field(p, "/minFrom",
		    "It names a release that devices pass through: publish "
		    "that one first, or leave minFrom out.",
		    "There is no release %.64s of this product.", b->min_from);
	cJSON_DeleteItemFromObjectCaseSensitive(row, "seq");
	json_add_int(row, "seq", seq);
}

/* What the channel has revoked would be revoked again at once. */
static int
check_revoked(struct store_txn *t, const char *tenant, const char *id,
    const cJSON *row, struct problem *p)
{
	const cJSON *files = cJSON_GetObjectItemCaseSensitive(row, "files"), *e;
	struct manifest *m;
	const char *text;
	cJSON *signed_row;
	int i = 0, rc = store_get_json(t, KIND_SIGNED, tenant, id, &signed_row);

	if (rc != 0)
		return rc == -ENOENT ? 0 : rc;
	text = json_string(signed_row, "manifest");
	if (text == NULL || manifest_parse(text, strlen(text), &m, NULL) != 0) {
		cJSON_Delete(signed_row);
		return -EBADMSG;
	}
	cJSON_ArrayForEach(e, files)
	{
		uint8_t sha256[32];
		int at = i++;

		if (hex_decode(json_string(e, "sha256"), sha256, 32) != 0 ||
		    !manifest_revoked(m, sha256))
			continue;
		problem_set(p, 409,
		    "Build it anew: what was revoked is never served again.",
		    "The channel has revoked these bytes");
		file_problem(p, at, "sha256", NULL, "They were revoked.");
	}
	manifest_free(m);
	cJSON_Delete(signed_row);
	return 0;
}

int
release_check(struct store_txn *t, const char *tenant, const struct product *pr,
    const char *channel, cJSON *row, struct problem *p, cJSON **old_out)
{
	struct beside b = { .version = json_string(row, "version"),
		.min_from = json_string(row, "minFrom") };
	char *id = firmware_id(pr->name, channel, b.version);
	int rc = store_get_json(t, KIND_RELEASE, tenant, id, old_out);

	free(id);
	if (rc == 0) {
		rc = check_old(row, *old_out, p);
		if (rc != 0)
			return rc;
	} else if (rc != -ENOENT) {
		return rc;
	} else {
		*old_out = NULL;
	}
	rc = look_beside(t, tenant, pr->name, channel, &b);
	if (rc == 0)
		check_order(row, &b, p);
	id = firmware_id(pr->name, channel, NULL);
	if (rc == 0)
		rc = check_revoked(t, tenant, id, row, p);
	free(id);
	free(b.higher);
	free(b.numbered);
	return rc != 0 ? rc : p->status != 0 ? -ECANCELED : 0;
}

/* ---- a manifest ---------------------------------------------------------- */

static int
refuse(struct problem *p, const char *hint, const char *what,
    const struct manifest_release *r)
{
	problem_field(
	    p, "/manifest", hint, "Release %.64s: %s.", r->version, what);
	return -ECANCELED;
}

static bool
same_hw(const struct manifest_release *r, const cJSON *hw)
{
	if ((size_t)cJSON_GetArraySize(hw) != r->hw_n)
		return false;
	for (size_t i = 0; i < r->hw_n; i++)
		if (!in_texts(hw, r->hw[i]))
			return false;
	return true;
}

/* Is the manifest's file one of those that were checked? */
static bool
file_was_checked(const struct product *pr, const char *channel,
    const struct manifest_release *r, const struct manifest_file *f,
    const cJSON *files)
{
	char *path =
	    xasprintf("%s/%s/%s/%s", pr->name, channel, r->version, f->name);
	char sha256[65], slices[65];
	bool right = strcmp(path, f->path) == 0;
	const cJSON *e;

	free(path);
	hex_encode(f->sha256, 32, sha256);
	hex_encode(f->slices_sha256, 32, slices);
	cJSON_ArrayForEach(e, files)
	{
		int64_t size;

		if (strcmp(json_string(e, "name"), f->name) == 0)
			return right &&
			    json_int(e, "size", 1, (int64_t)FIRMWARE_SIZE_MAX,
				&size) == 0 &&
			    (uint64_t)size == f->size &&
			    strcmp(json_string(e, "sha256"), sha256) == 0 &&
			    strcmp(json_string(e, "slicesSha256"), slices) == 0;
	}
	return false;
}

static int
check_against_row(const struct product *pr, const char *channel,
    const struct manifest_release *r, const cJSON *row, struct problem *p)
{
	const cJSON *files = cJSON_GetObjectItemCaseSensitive(row, "files");
	const char *min_from = json_string(row, "minFrom");
	int64_t seq = 0;

	json_int(row, "seq", 1, INT64_MAX / 2048, &seq);
	if (seq != r->seq)
		return refuse(
		    p, NULL, "its seq is not the one it was given", r);
	if (!same_hw(r, cJSON_GetObjectItemCaseSensitive(row, "hw")))
		return refuse(p, NULL, "hw is not what was checked", r);
	if ((min_from == NULL) != (r->min_from == NULL) ||
	    (min_from != NULL && strcmp(min_from, r->min_from) != 0))
		return refuse(p, NULL, "min_from is not what was checked", r);
	if (r->files_n != (size_t)cJSON_GetArraySize(files))
		return refuse(p, NULL, "its files are not those checked", r);
	for (size_t i = 0; i < r->files_n; i++)
		if (!file_was_checked(pr, channel, r, &r->files[i], files))
			return refuse(p,
			    "Name, path, size, sha256 and slices must be those "
			    "of the check.",
			    "a file is not what was checked", r);
	return 0;
}

/* One that is published now must still be the highest. */
static int
check_fresh(struct store_txn *t, const char *tenant, const struct product *pr,
    const char *channel, const struct manifest_release *r, struct problem *p)
{
	struct beside b = { .version = r->version, .published_only = true };
	int rc = look_beside(t, tenant, pr->name, channel, &b);

	if (rc == 0 &&
	    (b.higher != NULL || b.numbered != NULL || b.seq_max >= r->seq))
		rc = refuse(p, "Check and publish a higher version.",
		    "a higher one was published meanwhile", r);
	free(b.higher);
	free(b.numbered);
	return rc;
}

static int
check_release(struct store_txn *t, const char *tenant, const struct product *pr,
    const char *channel, const struct manifest_release *r, struct problem *p,
    cJSON *fresh)
{
	char *id = firmware_id(pr->name, channel, r->version);
	cJSON *row;
	int rc = store_get_json(t, KIND_RELEASE, tenant, id, &row);

	free(id);
	if (rc == -ENOENT)
		return refuse(p, "POST .../releases checks it.",
		    "it was never checked", r);
	if (rc != 0)
		return rc;
	rc = check_against_row(pr, channel, r, row, p);
	if (rc == 0 && r->revoked && !json_bool(row, "published", false))
		rc = refuse(p, "Build it anew.", "its bytes were revoked", r);
	if (rc == 0 && !json_bool(row, "published", false)) {
		rc = check_fresh(t, tenant, pr, channel, r, p);
		if (rc == 0) {
			cJSON_AddItemToArray(fresh, row);
			return 0;
		}
	}
	cJSON_Delete(row);
	return rc;
}

static void
check_head(const struct product *pr, const char *channel,
    const struct manifest *m, const struct manifest *old, int64_t now_s,
    struct problem *p)
{
	char hex[65];

	if (strcmp(m->product, pr->name) != 0 ||
	    strcmp(m->channel, channel) != 0)
		problem_field(p, "/manifest", NULL,
		    "It is of product %.64s, channel %.64s.", m->product,
		    m->channel);
	if (m->expires <= now_s)
		problem_field(p, "/manifest",
		    "Sign it with a later expires; check the clock.",
		    "It has expired already.");
	if (m->issued > now_s + 86400)
		problem_field(p, "/manifest", "Check the publisher's clock.",
		    "It was issued in the future.");
	for (size_t i = 0; old != NULL && i < old->revoked_n; i++) {
		if (manifest_revoked(m, old->revoked[i]))
			continue;
		hex_encode(old->revoked[i], 32, hex);
		problem_field(p, "/manifest",
		    "What was revoked stays so; publish its successor under "
		    "a new version with new bytes.",
		    "%s is not revoked any more.", hex);
	}
}

int
manifest_check(struct store_txn *t, const char *tenant,
    const struct product *pr, const char *channel, const struct manifest *m,
    const struct manifest *old, int64_t now_s, struct problem *p,
    cJSON **fresh_out)
{
	cJSON *fresh = cJSON_CreateArray();
	int rc = 0;

	check_head(pr, channel, m, old, now_s, p);
	for (size_t i = 0; rc == 0 && i < m->releases_n; i++) {
		rc = check_release(
		    t, tenant, pr, channel, &m->releases[i], p, fresh);
		if (rc == -ECANCELED) /* all that is wrong, in one answer */
			rc = 0;
	}
	if (rc == 0 && p->status != 0)
		rc = -ECANCELED;
	if (rc == 0)
		*fresh_out = fresh;
	else
		cJSON_Delete(fresh);
	return rc;
}
