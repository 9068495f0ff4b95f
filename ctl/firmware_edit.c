/*
 * firmware_edit.c - promote, halt, revoke, refresh; ls and product
 *
 * All but the last two are an edit of the manifest (firmware_manifest.c).
 */
#include "firmware.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "json.h"
#include "xalloc.h"

#define TRIES 10

/* ---- edits --------------------------------------------------------------- */

static int
find(const struct publisher *p, cJSON *manifest, cJSON **release_out)
{
	*release_out = manifest_release(p, manifest);
	if (*release_out != NULL)
		return 0;
	complain("%s has no release %s in %s; edgehaul firmware ls --product "
		 "%s shows them",
	    p->o.product, p->o.version, p->o.channel, p->o.product);
	return EXIT_DOWN;
}

static void
set_bool(cJSON *o, const char *name, bool v)
{
	cJSON_DeleteItemFromObjectCaseSensitive(o, name);
	cJSON_AddBoolToObject(o, name, v);
}

bool
has_text(const cJSON *list, const char *s)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, list)
	{
		if (cJSON_IsString(e) && strcmp(e->valuestring, s) == 0)
			return true;
	}
	return false;
}

const char *
revoked_file(const cJSON *r, const cJSON *revoked)
{
	const cJSON *files = cJSON_GetObjectItemCaseSensitive(r, "files");
	const cJSON *f;

	cJSON_ArrayForEach(f, files)
	{
		const char *hash = json_string(f, "sha256");

		if (hash != NULL && has_text(revoked, hash))
			return json_string(f, "path");
	}
	return NULL;
}

static int
edit_promote(struct publisher *p, cJSON *manifest, void *arg)
{
	cJSON *r;
	int rc = find(p, manifest, &r);

	if (rc != 0)
		return rc;
	if (revoked_file(
		r, cJSON_GetObjectItemCaseSensitive(manifest, "revoked")) !=
	    NULL) {
		complain("%s %s is revoked, which is for good: publish other "
			 "bytes under a higher version",
		    p->o.product, p->o.version);
		return EXIT_REFUSED;
	}
	cJSON_DeleteItemFromObjectCaseSensitive(r, "percent");
	json_add_int(r, "percent", p->o.percent >= 0 ? p->o.percent : 100);
	set_bool(r, "halted", false);
	return 0;
}

static int
edit_halt(struct publisher *p, cJSON *manifest, void *arg)
{
	cJSON *r;
	int rc = find(p, manifest, &r);

	if (rc == 0)
		set_bool(r, "halted", true);
	return rc;
}

/* Other releases that have one of its files. */
static void
tell_shared(
    const struct publisher *p, const cJSON *manifest, const cJSON *files)
{
	const cJSON *list =
	    cJSON_GetObjectItemCaseSensitive(manifest, "releases");
	const cJSON *r, *f;
	cJSON *hashes = cJSON_CreateArray();

	cJSON_ArrayForEach(f, files) cJSON_AddItemReferenceToArray(
	    hashes, cJSON_GetObjectItemCaseSensitive(f, "sha256"));
	cJSON_ArrayForEach(r, list)
	{
		const char *version = json_string(r, "version");
		const char *path = revoked_file(r, hashes);

		if (path != NULL && version != NULL &&
		    strcmp(version, p->o.version) != 0)
			complain("%s %s has the same bytes (%s): it is "
				 "revoked, too",
			    p->o.product, version, path);
	}
	cJSON_Delete(hashes);
}

/* The hashes of its files: they are found wherever else they appear. */
static int
edit_revoke(struct publisher *p, cJSON *manifest, void *arg)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(manifest, "revoked");
	const cJSON *files, *f;
	cJSON *r;
	int rc = find(p, manifest, &r);

	if (rc != 0)
		return rc;
	if (list == NULL)
		list = cJSON_AddArrayToObject(manifest, "revoked");
	files = cJSON_GetObjectItemCaseSensitive(r, "files");
	tell_shared(p, manifest, files);
	cJSON_ArrayForEach(f, files)
	{
		const char *hash = json_string(f, "sha256");

		if (hash != NULL && !has_text(list, hash))
			cJSON_AddItemToArray(list, cJSON_CreateString(hash));
	}
	return 0;
}

static int
edit_nothing(struct publisher *p, cJSON *manifest, void *arg)
{
	return 0;
}

static int
edit(struct publisher *p, edit_fn fn, bool version, const char *done)
{
	int64_t seq = 0;
	cJSON *o;
	char *line;
	int rc;

	if (version && p->o.version == NULL) {
		complain("--version is missing");
		return EXIT_USAGE;
	}
	rc = manifest_submit(p, false, fn, NULL, &seq);
	if (rc != 0)
		return rc;
	if (!p->o.json) {
		printf("%s%s%s: %s in %s (manifest %" PRId64 ").\n",
		    p->o.product, version ? " " : "",
		    version ? p->o.version : "", done, p->o.channel, seq);
		return EXIT_GOOD;
	}
	o = cJSON_CreateObject();
	json_add_text(o, "product", p->o.product);
	json_add_text(o, "channel", p->o.channel);
	if (version)
		json_add_text(o, "version", p->o.version);
	json_add_int(o, "manifestSeq", seq);
	line = json_line(o);
	puts(line);
	free(line);
	cJSON_Delete(o);
	return EXIT_GOOD;
}

int
command_promote(struct publisher *p)
{
	char *done = xasprintf("rolled out to %d %% of the devices",
	    (int)(p->o.percent >= 0 ? p->o.percent : 100));
	int rc = edit(p, edit_promote, true, done);

	free(done);
	return rc;
}

int
command_halt(struct publisher *p)
{
	return edit(p, edit_halt, true, "halted, nobody else is offered it");
}

int
command_revoke(struct publisher *p)
{
	return edit(p, edit_revoke, true, "revoked for good");
}

int
command_refresh(struct publisher *p)
{
	return edit(p, edit_nothing, false, "signed anew, good for longer");
}

/* ---- ls ------------------------------------------------------------------ */

static const char *
state_of(const cJSON *r, const cJSON *revoked, char out[32])
{
	int64_t percent = 100;

	if (revoked_file(r, revoked) != NULL)
		return "revoked";
	if (json_bool(r, "halted", false))
		return "halted";
	json_int(r, "percent", 0, 100, &percent);
	if (percent == 100)
		return "all devices";
	snprintf(out, 32, "%d %%", (int)percent);
	return out;
}

static char *
joined(const cJSON *list)
{
	char *s = xstrdup(""), *t;
	const cJSON *e;

	cJSON_ArrayForEach(e, list)
	{
		t = xasprintf("%s%s%s", s, *s != '\0' ? " " : "",
		    cJSON_IsString(e) ? e->valuestring : "?");
		free(s);
		s = t;
	}
	t = format_text(*s != '\0' ? s : "any", 30);
	free(s);
	return t;
}

static void
release_row(struct table *t, const cJSON *r, const cJSON *revoked)
{
	const cJSON *files = cJSON_GetObjectItemCaseSensitive(r, "files");
	const cJSON *f;
	char *version = format_text(json_string(r, "version"), 30), state[32];
	char *hw = joined(cJSON_GetObjectItemCaseSensitive(r, "hw"));
	int64_t size = 0, one;
	struct small b;

	cJSON_ArrayForEach(f, files)
	{
		if (json_int(f, "size", 0, INT64_MAX / 2048, &one) == 0)
			size += one;
	}
	table_row(t,
	    (const char *const[]){ version, state_of(r, revoked, state), hw,
		format_size(&b, size) });
	free(version);
	free(hw);
}

static int
ls_channel(struct publisher *p)
{
	char *path = channel_path(p, "/manifest"), *line;
	cJSON *a = NULL, *m;
	const cJSON *e, *releases, *revoked;
	struct table *t;
	const char *text;
	int rc = rest_json(p, "GET", path, NULL, p->o.product, &a);

	free(path);
	if (rc != 0)
		return rc;
	text = json_string(a, "manifest");
	m = text != NULL ? json_parse(text, strlen(text), 1 << 20, NULL) : NULL;
	releases = cJSON_GetObjectItemCaseSensitive(m, "releases");
	revoked = cJSON_GetObjectItemCaseSensitive(m, "revoked");
	if (p->o.json) {
		cJSON_ArrayForEach(e, releases)
		{
			line = json_line(e);
			puts(line);
			free(line);
		}
	} else {
		t = table_new(4);
		table_row(t,
		    (const char *const[]){
			"VERSION", "ROLLED OUT TO", "HARDWARE", "SIZE" });
		cJSON_ArrayForEach(e, releases) release_row(t, e, revoked);
		table_print(t, 8, stdout);
		table_free(t);
		printf("\nThe manifest of %s is good until %s.\n", p->o.channel,
		    json_string(m, "expires") != NULL
			? json_string(m, "expires")
			: "?");
	}
	cJSON_Delete(m);
	cJSON_Delete(a);
	return EXIT_GOOD;
}

static int
ls_products(struct publisher *p)
{
	cJSON *a = NULL;
	const cJSON *items, *e;
	struct table *t;
	char *line, *hw;
	int rc = rest_json(p, "GET", "/v1/firmware", NULL, "the products", &a);

	if (rc != 0)
		return rc;
	items = cJSON_GetObjectItemCaseSensitive(a, "items");
	t = table_new(3);
	table_row(t, (const char *const[]){ "PRODUCT", "STORAGE", "HARDWARE" });
	cJSON_ArrayForEach(e, items)
	{
		if (p->o.json) {
			line = json_line(e);
			puts(line);
			free(line);
			continue;
		}
		hw = joined(cJSON_GetObjectItemCaseSensitive(e, "hw"));
		table_row(t,
		    (const char *const[]){ json_string(e, "product"),
			json_string(e, "storage"), hw });
		free(hw);
	}
	if (!p->o.json)
		table_print(t, 0, stdout);
	table_free(t);
	cJSON_Delete(a);
	return EXIT_GOOD;
}

int
command_ls(struct publisher *p)
{
	return p->o.product != NULL ? ls_channel(p) : ls_products(p);
}

/* ---- product ------------------------------------------------------------- */

/* This publisher's key and what is given, added to what there is. */
static void
edit_product(const struct publisher *p, const char *line, cJSON *body)
{
	cJSON *keys = cJSON_GetObjectItemCaseSensitive(body, "publicKeys");

	if (keys == NULL)
		keys = cJSON_AddArrayToObject(body, "publicKeys");
	if (!has_text(keys, line))
		cJSON_AddItemToArray(keys, cJSON_CreateString(line));
	if (p->o.storage != NULL) {
		cJSON_DeleteItemFromObjectCaseSensitive(body, "storage");
		json_add_text(body, "storage", p->o.storage);
	}
	if (p->o.hw_n > 0) {
		cJSON_DeleteItemFromObjectCaseSensitive(body, "hw");
		cJSON_AddItemToObject(body, "hw",
		    cJSON_CreateStringArray(p->o.hw, (int)p->o.hw_n));
	}
	if (p->o.max_size > 0) {
		cJSON_DeleteItemFromObjectCaseSensitive(body, "maxSize");
		json_add_int(body, "maxSize", p->o.max_size);
	}
}

/* Once, over the state that was seen. *raced_out: somebody else was faster. */
static int
put_product(struct publisher *p, const char *path, const char *line,
    cJSON **shown_out, bool *raced_out)
{
	struct rest_answer a;
	cJSON *body = NULL;
	char *header = NULL;
	int64_t version = 0;
	int rc = rest_call(p, "GET", path, NULL, NULL, &a);

	*raced_out = false;
	if (rc == 0 && a.status != 200 && a.status != 404)
		rc = rest_refused(p->o.product, &a);
	if (rc == 0) {
		body = a.json != NULL && a.status == 200
		    ? cJSON_Duplicate(a.json, true)
		    : cJSON_CreateObject();
		json_int(body, "version", 1, INT64_MAX / 2048, &version);
		header = version > 0
		    ? xasprintf("If-Match: \"%" PRId64 "\"", version)
		    : xstrdup("If-None-Match: *");
		edit_product(p, line, body);
		rest_fini(&a);
		rc = rest_call(p, "PUT", path, body, header, &a);
	}
	if (rc == 0 && a.status == 412) {
		*raced_out = true;
	} else if (rc == 0 && a.status != 200 && a.status != 201) {
		rc = rest_refused(p->o.product, &a);
	} else if (rc == 0 && a.json == NULL) {
		complain("the signer's answer makes no sense");
		rc = EXIT_IO;
	} else if (rc == 0) {
		*shown_out = a.json;
		a.json = NULL;
	}
	rest_fini(&a);
	cJSON_Delete(body);
	free(header);
	return rc;
}

/* Make it, or change it: no other publisher's change is lost. */
int
command_product(struct publisher *p)
{
	char *path = xasprintf("/v1/firmware/%s", p->o.product);
	char *line = key_public_line(p);
	cJSON *shown = NULL;
	bool raced = true;
	int rc = 0;

	for (int i = 0; rc == 0 && raced && i < TRIES; i++)
		rc = put_product(p, path, line, &shown, &raced);
	if (rc == 0 && raced) {
		complain("others change the product all the time; try again");
		rc = EXIT_LATER;
	}
	if (rc == 0 && p->o.json) {
		free(line);
		line = json_line(shown);
		puts(line);
	} else if (rc == 0) {
		printf("%s may be published with this key.\n", p->o.product);
	}
	cJSON_Delete(shown);
	free(line);
	free(path);
	return rc;
}
