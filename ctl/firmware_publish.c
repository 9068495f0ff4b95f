/*
 * firmware_publish.c - edgehaul firmware publish
 *
 * Look at the files, have the version checked, upload what is missing, read all
 * of it back, and only then the manifest. Any of it may be cut off and run
 * again: the same version with the same files goes on where it was.
 */
#include "firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/sha.h>

#include "format.h"
#include "json.h"
#include "manifest.h"
#include "url.h"
#include "xalloc.h"

#define ROOM (16 << 10) /* that a manifest keeps, for other edits */

/* ---- the files ----------------------------------------------------------- */

static void
images_fini(struct image *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].component);
		free(v[i].name);
		free(v[i].sums.list);
		if (v[i].fd >= 0)
			close(v[i].fd);
	}
	free(v);
}

/* "FILE" or "COMPONENT=FILE". */
static int
open_image(const char *arg, struct image *im)
{
	const char *eq = strchr(arg, '='), *path = arg, *slash;
	struct stat st;
	int rc;

	im->fd = -1;
	if (eq != NULL && access(arg, F_OK) != 0) {
		im->component = xstrndup(arg, (size_t)(eq - arg));
		path = eq + 1;
	}
	slash = strrchr(path, '/');
	im->name = xstrdup(slash != NULL ? slash + 1 : path);
	rc = file_open(path, 0, &st);
	im->fd = rc < 0 ? -1 : rc;
	if (rc < 0 && rc != -EINVAL) {
		complain("%s: %s", path, strerror(-rc));
		return EXIT_IO;
	}
	if (rc < 0 || st.st_size == 0) {
		complain("%s is %s", path, rc < 0 ? "no file" : "empty");
		return EXIT_REFUSED;
	}
	if (!firmware_name_ok(im->name)) {
		complain("%s: rename it: letters, digits, . _ + - , at most "
			 "128, no leading dot, not ending in .slices",
		    im->name);
		return EXIT_REFUSED;
	}
	rc = slices_of_file(im->fd, &im->sums);
	if (rc != 0)
		complain("%s: %s", path, strerror(-rc));
	return rc != 0 ? EXIT_IO : 0;
}

static bool
in_list(const struct firmware_options *o, const char *hw)
{
	for (size_t i = 0; i < o->hw_n; i++)
		if (strcmp(o->hw[i], hw) == 0)
			return true;
	return false;
}

/* What the image says must not contradict the command line. */
static int
compare_info(
    struct publisher *p, const char *name, const struct image_info *info)
{
	struct firmware_options *o = &p->o;

	if (info->format == NULL || o->any_version)
		return 0;
	if (info->version[0] != '\0' && o->version == NULL) {
		strcpy(p->own_version, info->version);
		o->version = p->own_version;
	} else if (info->version[0] != '\0' &&
	    strcmp(info->version, o->version) != 0) {
		complain("%s (%s) says that it is version %s, not %s. "
			 "--any-version publishes it nevertheless.",
		    name, info->format, info->version, o->version);
		return EXIT_REFUSED;
	}
	for (size_t i = 0; i < info->hw_n && o->hw_n > 0; i++)
		if (in_list(o, info->hw[i]))
			return 0;
	if (info->hw_n > 0 && o->hw_n > 0) {
		complain("%s (%s) is for hardware %s%s, not for %s. "
			 "--any-version publishes it nevertheless.",
		    name, info->format, info->hw[0],
		    info->hw_n > 1 ? " and others" : "", o->hw[0]);
		return EXIT_REFUSED;
	}
	return 0;
}

/* ---- the check ----------------------------------------------------------- */

static cJSON *
check_body(const struct publisher *p, const struct image *v, size_t n)
{
	cJSON *o = cJSON_CreateObject(), *files, *f;
	char hex[65];

	json_add_text(o, "version", p->o.version);
	if (p->o.hw_n > 0)
		cJSON_AddItemToObject(
		    o, "hw", cJSON_CreateStringArray(p->o.hw, (int)p->o.hw_n));
	if (p->o.min_from != NULL)
		json_add_text(o, "minFrom", p->o.min_from);
	if (p->o.dry_run)
		cJSON_AddTrueToObject(o, "dryRun");
	files = cJSON_AddArrayToObject(o, "files");
	for (size_t i = 0; i < n; i++) {
		uint8_t list[32];

		f = cJSON_CreateObject();
		json_add_text(f, "name", v[i].name);
		json_add_int(f, "size", (int64_t)v[i].sums.size);
		hex_encode(v[i].sums.sha256, 32, hex);
		json_add_text(f, "sha256", hex);
		SHA256(v[i].sums.list, v[i].sums.list_n, list);
		hex_encode(list, 32, hex);
		json_add_text(f, "slicesSha256", hex);
		cJSON_AddItemToArray(files, f);
	}
	return o;
}

/* ---- uploading ----------------------------------------------------------- */

static const cJSON *
upload_of(const cJSON *answer, const char *name)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "uploads");
	const cJSON *e;

	cJSON_ArrayForEach(e, list)
	{
		if (strcmp(json_string(e, "name"), name) == 0)
			return e;
	}
	return NULL;
}

/* Put one if it is missing, and read it back in any case. */
static int
upload_one(struct publisher *p, const cJSON *answer, const char *name,
    const uint8_t sha256[32], const struct sending *what)
{
	const cJSON *e = upload_of(answer, name);
	char hex[65];
	int rc = 0;

	hex_encode(sha256, 32, hex);
	if (e == NULL) {
		complain("the signer's answer lacks %s", name);
		return EXIT_IO;
	}
	if (cJSON_HasObjectItem(e, "recipe"))
		rc = put_object(p, p->o.version, name, hex, what);
	if (rc == 0)
		rc = check_object(p, p->o.version, name, sha256, what->size);
	return rc;
}

static int
upload_image(struct publisher *p, const cJSON *answer, const struct image *im)
{
	struct sending file = { .fd = im->fd, .size = im->sums.size };
	struct sending list = { .memory = (const char *)im->sums.list,
		.fd = -1,
		.size = im->sums.list_n };
	char *name = xasprintf("%s.slices", im->name);
	uint8_t hash[32];
	int rc = upload_one(p, answer, im->name, im->sums.sha256, &file);

	SHA256(im->sums.list, im->sums.list_n, hash);
	if (rc == 0)
		rc = upload_one(p, answer, name, hash, &list);
	free(name);
	return rc;
}

/* ---- the manifest -------------------------------------------------------- */

struct release {
	const struct image *v;
	size_t n;
	int64_t seq;
};

static cJSON *
file_json(const struct publisher *p, const struct image *im)
{
	cJSON *o = cJSON_CreateObject(), *slices;
	char *path = xasprintf(
	    "%s/%s/%s/%s", p->o.product, p->o.channel, p->o.version, im->name);
	uint8_t list[32];
	char hex[65];

	json_add_text(
	    o, "component", im->component != NULL ? im->component : "firmware");
	json_add_text(o, "path", path);
	json_add_int(o, "size", (int64_t)im->sums.size);
	hex_encode(im->sums.sha256, 32, hex);
	json_add_text(o, "sha256", hex);
	hex_encode(im->sums.sha1, 20, hex);
	json_add_text(o, "sha1", hex);
	hex_encode(im->sums.md5, 16, hex);
	json_add_text(o, "md5", hex);
	slices = cJSON_AddObjectToObject(o, "slices");
	json_add_int(slices, "size", FIRMWARE_SLICE);
	SHA256(im->sums.list, im->sums.list_n, list);
	hex_encode(list, 32, hex);
	json_add_text(slices, "sha256", hex);
	free(path);
	return o;
}

/* Who belongs to the first percents is drawn anew for each release. */
static void
add_salt(cJSON *o)
{
	uint8_t raw[4];
	char hex[9];

	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		abort();
	hex_encode(raw, sizeof(raw), hex);
	json_add_text(o, "salt", hex);
}

static bool
is_passed_through(const cJSON *list, const char *version)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, list)
	{
		const char *from = json_string(e, "min_from");

		if (from != NULL && strcmp(from, version) == 0)
			return true;
	}
	return false;
}

static int64_t
seq_of(const cJSON *r)
{
	int64_t seq = 0;

	json_int(r, "seq", 1, INT64_MAX / 2048, &seq);
	return seq;
}

/* May all devices of that hardware (NULL: any) have this release? */
static bool
is_for_all(const cJSON *r, const char *hw, const cJSON *revoked)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(r, "hw");
	int64_t percent = 100;

	json_int(r, "percent", 0, 100, &percent);
	return percent == 100 && !json_bool(r, "halted", false) &&
	    revoked_file(r, revoked) == NULL &&
	    (list == NULL || (hw != NULL && has_text(list, hw)));
}

static bool
is_followed(const cJSON *manifest, int64_t seq, const char *hw)
{
	const cJSON *list =
	    cJSON_GetObjectItemCaseSensitive(manifest, "releases");
	const cJSON *revoked =
	    cJSON_GetObjectItemCaseSensitive(manifest, "revoked");
	const cJSON *e;

	cJSON_ArrayForEach(e, list)
	{
		if (seq_of(e) > seq && is_for_all(e, hw, revoked))
			return true;
	}
	return false;
}

/* Has each of its hardwares a newer one? Else its devices would have none. */
static bool
is_superseded(const cJSON *manifest, const cJSON *r)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(r, "hw"), *v;
	int64_t seq = seq_of(r);

	if (list == NULL)
		return is_followed(manifest, seq, NULL);
	cJSON_ArrayForEach(v, list)
	{
		if (!is_followed(manifest, seq, cJSON_GetStringValue(v)))
			return false;
	}
	return true;
}

/* The oldest release that others need not pass through, or NULL. */
static cJSON *
oldest(const cJSON *manifest, cJSON *list, int64_t below, bool superseded)
{
	cJSON *e, *found = NULL;

	cJSON_ArrayForEach(e, list)
	{
		const char *version = json_string(e, "version");
		int64_t seq = seq_of(e);

		if (version == NULL || seq == 0 || seq >= below ||
		    is_passed_through(list, version) ||
		    (superseded && !is_superseded(manifest, e)))
			continue;
		below = seq;
		found = e;
	}
	return found;
}

static bool
is_full(const cJSON *manifest, const cJSON *list)
{
	char *text = json_line(manifest);
	bool full = strlen(text) > MANIFEST_MAX - ROOM ||
	    cJSON_GetArraySize(list) > MANIFEST_RELEASES_MAX;

	free(text);
	return full;
}

/*
 * A channel lives longer than a manifest has room. What goes is served no more;
 * its version stays known to the signer, and its objects in the bucket.
 */
static void
make_room(const struct publisher *p, cJSON *manifest, int64_t seq)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(manifest, "releases");
	cJSON *e;

	while (is_full(manifest, list)) {
		e = oldest(manifest, list, seq, true);
		if (e == NULL)
			e = oldest(manifest, list, seq, false);
		if (e == NULL)
			return; /* the signer tells */
		complain("%s %s is not in the manifest any more, which has "
			 "room for no more",
		    p->o.product, json_string(e, "version"));
		cJSON_Delete(cJSON_DetachItemViaPointer(list, e));
	}
}

static int
add_release(struct publisher *p, cJSON *manifest, void *arg)
{
	const struct release *r = arg;
	cJSON *list = cJSON_GetObjectItemCaseSensitive(manifest, "releases");
	cJSON *o, *files;

	if (manifest_release(p, manifest) != NULL)
		return EDIT_NOTHING; /* or a publish that was killed after it */
	o = cJSON_CreateObject();
	json_add_text(o, "version", p->o.version);
	json_add_int(o, "seq", r->seq);
	if (p->o.hw_n > 0)
		cJSON_AddItemToObject(
		    o, "hw", cJSON_CreateStringArray(p->o.hw, (int)p->o.hw_n));
	if (p->o.min_from != NULL)
		json_add_text(o, "min_from", p->o.min_from);
	if (p->o.set != NULL)
		json_add_text(o, "set", p->o.set);
	json_add_int(o, "percent", p->o.percent >= 0 ? p->o.percent : 100);
	add_salt(o);
	if (p->o.after != NULL)
		json_add_text(o, "after", p->o.after);
	if (p->o.window != NULL)
		json_add_text(o, "window", p->o.window);
	cJSON_AddBoolToObject(o, "halted", false);
	files = cJSON_AddArrayToObject(o, "files");
	for (size_t i = 0; i < r->n; i++)
		cJSON_AddItemToArray(files, file_json(p, &r->v[i]));
	cJSON_AddItemToArray(list, o);
	make_room(p, manifest, r->seq);
	return 0;
}

/* ---- the command --------------------------------------------------------- */

static int
check_and_upload(
    struct publisher *p, const struct image *v, size_t n, int64_t *seq_out)
{
	cJSON *body = check_body(p, v, n), *answer = NULL;
	char *path = channel_path(p, "/releases");
	char *what = xasprintf("%s %s", p->o.product, p->o.version);
	int rc = rest_json(p, "POST", path, body, what, &answer);

	if (rc == 0 &&
	    json_int(answer, "seq", 1, INT64_MAX / 2048, seq_out) != 0)
		rc = EXIT_IO;
	for (size_t i = 0; rc == 0 && !p->o.dry_run && i < n; i++)
		rc = upload_image(p, answer, &v[i]);
	cJSON_Delete(answer);
	cJSON_Delete(body);
	free(path);
	free(what);
	return rc;
}

int
publish_files(struct publisher *p, int64_t *manifest_seq_out)
{
	struct image *v = xcalloc(p->o.files_n, sizeof(*v));
	struct image_info info;
	struct release r = { .v = v, .n = p->o.files_n };
	size_t n = 0;
	int rc = 0;

	while (rc == 0 && n < p->o.files_n) {
		rc = open_image(p->o.files[n], &v[n]);
		n++;
		if (rc == 0) {
			image_look(v[n - 1].fd, &info);
			rc = compare_info(p, v[n - 1].name, &info);
		}
	}
	if (rc == 0 && p->o.version == NULL) {
		complain("--version is missing, and the image does not tell "
			 "its own");
		rc = EXIT_USAGE;
	}
	r.seq = 1;
	if (rc == 0)
		rc = manifest_try(p, add_release, &r);
	if (rc == 0)
		rc = check_and_upload(p, v, n, &r.seq);
	if (rc == 0 && !p->o.dry_run)
		rc =
		    manifest_submit(p, true, add_release, &r, manifest_seq_out);
	images_fini(v, n);
	return rc;
}

static void
print_result(const struct publisher *p, int64_t seq)
{
	const char *version = p->o.version;
	cJSON *o;
	char *line;

	if (!p->o.json && p->o.dry_run) {
		printf("%s %s may be published in %s.\n", p->o.product, version,
		    p->o.channel);
		return;
	}
	if (!p->o.json && p->unchanged) {
		printf("%s %s is already published in %s (manifest %" PRId64
		       "), nothing changed.\n",
		    p->o.product, version, p->o.channel, seq);
		return;
	}
	if (!p->o.json) {
		printf("%s %s is published in %s (manifest %" PRId64 ").\n",
		    p->o.product, version, p->o.channel, seq);
		return;
	}
	o = cJSON_CreateObject();
	json_add_text(o, "product", p->o.product);
	json_add_text(o, "channel", p->o.channel);
	json_add_text(o, "version", version);
	cJSON_AddBoolToObject(o, "published", !p->o.dry_run);
	if (!p->o.dry_run) {
		json_add_int(o, "manifestSeq", seq);
		cJSON_AddBoolToObject(o, "changed", !p->unchanged);
	}
	line = json_line(o);
	puts(line);
	free(line);
	cJSON_Delete(o);
}

int
command_publish(struct publisher *p)
{
	int64_t seq = 0;
	int rc;

	if (p->o.files_n == 0) {
		complain("name the file to publish: edgehaul firmware publish "
			 "--product P --version V FILE");
		return EXIT_USAGE;
	}
	rc = publish_files(p, &seq);
	if (rc == 0)
		print_result(p, seq);
	return rc;
}
