/*
 * firmware_manifest.c - editing, signing and submitting a manifest
 *
 * Always from the newest that the signer has, with the next seq. Who is slower
 * than another publisher is told so (412) and begins again; the bucket's
 * manifest.json is replaced only in the state that was seen, so it never goes
 * back. Gateways are told last.
 */
#include "firmware.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "manifest.h"
#include "publisher_keys.h"
#include "xalloc.h"

#define TRIES 10

cJSON *
manifest_release(const struct publisher *p, cJSON *manifest)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(manifest, "releases");
	cJSON *e;

	cJSON_ArrayForEach(e, list)
	{
		const char *v = json_string(e, "version");

		if (v != NULL && strcmp(v, p->o.version) == 0)
			return e;
	}
	return NULL;
}

static void
set_text(cJSON *o, const char *name, const char *value)
{
	cJSON_DeleteItemFromObjectCaseSensitive(o, name);
	json_add_text(o, name, value);
}

static void
set_int(cJSON *o, const char *name, int64_t value)
{
	cJSON_DeleteItemFromObjectCaseSensitive(o, name);
	json_add_int(o, name, value);
}

static cJSON *
new_manifest(const struct publisher *p)
{
	cJSON *o = cJSON_CreateObject();

	json_add_int(o, "v", 1);
	json_add_text(o, "product", p->o.product);
	json_add_text(o, "channel", p->o.channel);
	json_add_int(o, "seq", 0);
	cJSON_AddArrayToObject(o, "releases");
	cJSON_AddArrayToObject(o, "revoked");
	return o;
}

/* Was it signed by this publisher's key or one of other_keys? */
static int
verify_newest(
    const struct publisher *p, const char *text, const char *signature)
{
	struct minisign_public keys[PUBLISHER_KEYS_MAX + 1];
	char *line = key_public_line(p), *why = NULL;
	size_t n = 0;
	int rc = publisher_keys_load(p->conf->other_keys, keys, &n, &why);

	if (rc != 0)
		complain("[publisher] other_keys: %s", why);
	else if (minisign_public_parse(line, &keys[n]) == 0)
		rc = minisign_verify(
		    keys, n + 1, text, strlen(text), signature, NULL);
	free(why);
	free(line);
	return rc;
}

/*
 * The newest document. It came from the signer, who has no key: nothing of it
 * is signed anew unless one who is trusted here has signed it before.
 */
static int
check_newest(const struct publisher *p, const cJSON *answer, cJSON **doc_out)
{
	const char *text = json_string(answer, "manifest");
	const char *signature = json_string(answer, "signature");
	int rc = -EINVAL;

	if (text != NULL && signature != NULL)
		rc = verify_newest(p, text, signature);
	if (rc != 0)
		complain("the newest manifest of %s/%s was not signed by this "
			 "key ([publisher] key_file), nor by one of "
			 "other_keys. If that key was given up on purpose, "
			 "--yes takes it over.",
		    p->o.product, p->o.channel);
	if (rc != 0 && (!p->o.yes || text == NULL))
		return EXIT_REFUSED;
	*doc_out = json_parse(text, strlen(text), MANIFEST_MAX, NULL);
	return *doc_out != NULL ? 0 : EXIT_IO;
}

/* *told_out: gateways have been told of it, so it is in the bucket. */
static int
get_newest(struct publisher *p, bool create, cJSON **doc_out, int64_t *seq_out,
    bool *told_out)
{
	char *path = channel_path(p, "/manifest");
	struct rest_answer a;
	int64_t announced = 0;
	int rc = rest_call(p, "GET", path, NULL, NULL, &a);

	*seq_out = 0;
	*told_out = false;
	if (rc == 0 && a.status == 404 && create) {
		*doc_out = new_manifest(p);
	} else if (rc == 0 && a.status != 200) {
		rc = rest_refused("reading the manifest", &a);
	} else if (rc == 0) {
		rc = check_newest(p, a.json, doc_out);
		if (rc == 0 &&
		    json_int(*doc_out, "seq", 1, INT64_MAX / 2048, seq_out) !=
			0)
			rc = EXIT_IO;
		json_int(a.json, "announced", 0, INT64_MAX / 2048, &announced);
		*told_out = rc == 0 && announced >= *seq_out;
	}
	rest_fini(&a);
	free(path);
	return rc;
}

/* Set what each manifest has of its own; its text, or NULL: complained. */
static char *
finish_manifest(const struct publisher *p, cJSON *doc, int64_t seq)
{
	int64_t now = clock_wall_ms() / 1000;
	int64_t life =
	    p->o.expires_ms > 0 ? p->o.expires_ms : p->conf->expires_ms;
	char when[21], *text, *why = NULL;
	struct manifest *m = NULL;

	set_int(doc, "seq", seq);
	clock_rfc3339(now, when);
	set_text(doc, "issued", when);
	clock_rfc3339(now + life / 1000, when);
	set_text(doc, "expires", when);
	text = json_line(doc);
	if (manifest_parse(text, strlen(text), &m, &why) == 0) {
		manifest_free(m);
		return text;
	}
	complain("that would be no manifest: %s", why != NULL ? why : "?");
	free(why);
	free(text);
	return NULL;
}

int
manifest_try(struct publisher *p, edit_fn edit, void *arg)
{
	cJSON *doc = new_manifest(p);
	int rc = edit(p, doc, arg);
	char *text = rc == 0 ? finish_manifest(p, doc, 1) : NULL;

	if (rc == 0 && text == NULL)
		rc = EXIT_REFUSED;
	free(text);
	cJSON_Delete(doc);
	return rc;
}

/* {manifest, signature} of the edited document. */
static int
sign_manifest(struct publisher *p, cJSON *doc, int64_t seq, cJSON **body_out)
{
	char *text = finish_manifest(p, doc, seq), *comment;
	char *signature = NULL;
	int rc;

	if (text == NULL)
		return EXIT_REFUSED;
	comment = xasprintf("edgehaul product:%s channel:%s seq:%" PRId64,
	    p->o.product, p->o.channel, seq);
	rc = minisign_sign(&p->key, text, strlen(text), comment, &signature);
	if (rc == 0) {
		*body_out = cJSON_CreateObject();
		json_add_text(*body_out, "manifest", text);
		json_add_text(*body_out, "signature", signature);
	} else {
		complain("signing failed: %s", strerror(-rc));
	}
	free(signature);
	free(comment);
	free(text);
	return rc == 0 ? 0 : EXIT_IO;
}

/* The four objects, in their order. *again_out: they changed meanwhile. */
static int
put_objects(struct publisher *p, const cJSON *answer, const cJSON *body,
    bool *again_out)
{
	const cJSON *uploads =
			cJSON_GetObjectItemCaseSensitive(answer, "uploads"),
		    *e;
	int rc = 0, status;
	bool refused;

	*again_out = false;
	cJSON_ArrayForEach(e, uploads)
	{
		const cJSON *recipe =
		    cJSON_GetObjectItemCaseSensitive(e, "recipe");
		const char *name = json_string(e, "name");
		const char *text = json_string(body,
		    strstr(name, ".minisig") != NULL ? "signature"
						     : "manifest");
		struct sending what = {
			.memory = text, .fd = -1, .size = strlen(text)
		};

		if (recipe == NULL || rc != 0 || *again_out)
			continue;
		rc = store_do(p, recipe, &what, NULL, &status, &refused);
		if (rc == 0 && refused && (status == 412 || status == 409))
			*again_out = true;
		else if (rc == 0 && refused) {
			complain("%s: the store refuses it (%d)", name, status);
			rc = EXIT_IO;
		}
	}
	return rc;
}

static int
announce(struct publisher *p, int64_t seq)
{
	cJSON *body = cJSON_CreateObject(), *answer = NULL;
	char *path = channel_path(p, "/manifest/announce");
	int rc;

	json_add_int(body, "seq", seq);
	rc = rest_json(p, "POST", path, body, "telling the gateways", &answer);
	cJSON_Delete(answer);
	cJSON_Delete(body);
	free(path);
	return rc;
}

/*
 * Submit one that is signed, and have it in the bucket. *raced_out: another one
 * has taken its place, before (the edit has to be made again) or after.
 */
static int
submit(struct publisher *p, const cJSON *body, int64_t before, bool *raced_out)
{
	char *path = channel_path(p, "/manifest");
	char *header = before > 0
	    ? xasprintf("If-Match: \"%" PRId64 "\"", before)
	    : xstrdup("If-None-Match: *");
	bool again = true, taken = false;
	struct rest_answer a;
	int rc = 0;

	*raced_out = false;
	for (int i = 0; rc == 0 && again && i < TRIES; i++) {
		rc = rest_call(p, "PUT", path, body, header, &a);
		again = false;
		if (rc == 0 && a.status == 200) {
			taken = true;
			rc = put_objects(p, a.json, body, &again);
		} else if (rc == 0 && (a.status == 412 || taken)) {
			*raced_out = !taken;
		} else if (rc == 0) {
			rc = rest_refused("the manifest", &a);
		}
		rest_fini(&a);
	}
	if (rc == 0 && again) {
		complain("the bucket's manifest.json is changed all the time; "
			 "run the same command again");
		rc = EXIT_LATER;
	}
	free(header);
	free(path);
	return rc;
}

int
manifest_submit(
    struct publisher *p, bool create, edit_fn edit, void *arg, int64_t *seq_out)
{
	bool raced = true, told;
	int rc = 0;

	p->unchanged = false;
	for (int i = 0; rc == 0 && raced && i < TRIES; i++) {
		cJSON *doc = NULL, *body = NULL;
		int64_t seq;

		rc = get_newest(p, create, &doc, &seq, &told);
		if (rc == 0)
			rc = edit(p, doc, arg);
		if (rc == EDIT_NOTHING && told) {
			cJSON_Delete(doc);
			*seq_out = seq;
			p->unchanged = true;
			return 0;
		}
		if (rc == EDIT_NOTHING)
			rc = 0; /* it was killed before it was told */
		if (rc == 0)
			rc = sign_manifest(p, doc, seq + 1, &body);
		if (rc == 0)
			rc = submit(p, body, seq, &raced);
		*seq_out = seq + 1;
		cJSON_Delete(doc);
		cJSON_Delete(body);
	}
	if (rc == 0 && raced) {
		complain("other publishers are faster each time; try again");
		return EXIT_LATER;
	}
	return rc == 0 ? announce(p, *seq_out) : rc;
}
