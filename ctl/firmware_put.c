/*
 * firmware_put.c - objects into the bucket, in resumable parts
 *
 * What a store gave for the parts that it has stands in a file of state_dir,
 * replaced after each part, so a publish that was killed sends only what is
 * missing. The file is named by the content: another build begins anew. Nothing
 * is believed of it but what the store confirms: the whole is read back.
 */
#include "firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"
#include "json.h"
#include "xalloc.h"

#define STATE_MAX (4 << 20)
#define PARTS_AT_ONCE 16

struct putting {
	struct publisher *p;
	const char *version, *name, *sha256;
	const struct sending *what;
	char *path;  /* of the state */
	cJSON *kept; /* values for the next steps */
	cJSON *done; /* array of the numbers of parts */
	bool resumed;
};

/* ---- the state ----------------------------------------------------------- */

static void
state_save(const struct putting *u)
{
	char *tmp = xasprintf("%s.new", u->path), *line;
	cJSON *o = cJSON_CreateObject();
	FILE *f;
	int fd;

	cJSON_AddItemReferenceToObject(o, "kept", u->kept);
	cJSON_AddItemReferenceToObject(o, "done", u->done);
	line = json_line(o);
	cJSON_Delete(o);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	f = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (f == NULL || fputs(line, f) < 0 || fclose(f) != 0 ||
	    rename(tmp, u->path) != 0)
		complain("%s: %s; if this is killed it begins anew", u->path,
		    strerror(errno));
	free(line);
	free(tmp);
}

static void
state_forget(struct putting *u)
{
	cJSON_Delete(u->kept);
	cJSON_Delete(u->done);
	u->kept = cJSON_CreateObject();
	u->done = cJSON_CreateArray();
	u->resumed = false;
	unlink(u->path);
}

static void
state_load(struct putting *u)
{
	char *text = xcalloc(1, STATE_MAX);
	int fd = open(u->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd >= 0 ? read(fd, text, STATE_MAX) : -1;
	cJSON *o = n > 0 ? json_parse(text, (size_t)n, STATE_MAX, NULL) : NULL;

	if (fd >= 0)
		close(fd);
	free(text);
	u->kept = cJSON_DetachItemFromObjectCaseSensitive(o, "kept");
	u->done = cJSON_DetachItemFromObjectCaseSensitive(o, "done");
	cJSON_Delete(o);
	u->resumed = cJSON_IsObject(u->kept) && cJSON_IsArray(u->done);
	if (u->resumed)
		return;
	cJSON_Delete(u->kept);
	cJSON_Delete(u->done);
	u->kept = cJSON_CreateObject();
	u->done = cJSON_CreateArray();
}

static bool
is_done(const struct putting *u, int64_t part)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, u->done)
	{
		if (cJSON_IsNumber(e) && (int64_t)e->valuedouble == part)
			return true;
	}
	return false;
}

/* ---- parts --------------------------------------------------------------- */

static cJSON *
entry(
    const struct putting *u, const char *method, const char *step, int64_t part)
{
	cJSON *o = cJSON_CreateObject();

	json_add_text(o, "version", u->version);
	json_add_text(o, "name", u->name);
	json_add_text(o, "method", method);
	if (step != NULL)
		json_add_text(o, "step", step);
	if (part > 0)
		json_add_int(o, "part", part);
	if (step != NULL && u->kept != NULL)
		cJSON_AddItemToObject(
		    o, "kept", cJSON_Duplicate(u->kept, true));
	return o;
}

/*
 * Takes list. If there_ok, 0 with *answer_out NULL means: it is in the bucket
 * by now, put there by somebody else or by a request whose answer was lost.
 */
static int
sign(struct publisher *p, cJSON *list, bool there_ok, cJSON **answer_out)
{
	cJSON *body = cJSON_CreateObject();
	char *path = channel_path(p, "/sign");
	struct rest_answer a;
	int rc;

	*answer_out = NULL;
	cJSON_AddItemToObject(body, "uploads", list);
	rc = rest_call(p, "POST", path, body, NULL, &a);
	if (rc == 0 && a.status == 200 && a.json != NULL) {
		*answer_out = a.json;
		a.json = NULL;
	} else if (rc == 0 && !(there_ok && a.status == 409)) {
		rc = rest_refused("signing", &a);
	}
	rest_fini(&a);
	cJSON_Delete(body);
	free(path);
	return rc;
}

static const cJSON *
result_recipe(const cJSON *answer, int i)
{
	const cJSON *results =
	    cJSON_GetObjectItemCaseSensitive(answer, "results");

	return cJSON_GetObjectItemCaseSensitive(
	    cJSON_GetArrayItem(results, i), "recipe");
}

static void
progress(const struct putting *u, int64_t part, int64_t count)
{
	struct small a;

	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r%s: part %" PRId64 " of %" PRId64 " (%s)%s", u->name,
	    part, count, format_size(&a, (int64_t)u->what->size),
	    part == count ? "\n" : " ");
}

/* Up to PARTS_AT_ONCE that are missing, from *next on; 0: none are left. */
static int
sign_parts(struct putting *u, int64_t *next, int64_t count,
    int64_t parts[PARTS_AT_ONCE], int *n_out, cJSON **answer_out)
{
	cJSON *list = cJSON_CreateArray();
	int n = 0;

	for (; *next <= count && n < PARTS_AT_ONCE; ++*next) {
		if (is_done(u, *next))
			continue;
		cJSON_AddItemToArray(list, entry(u, "PUT", "part", *next));
		parts[n++] = *next;
	}
	*n_out = n;
	*answer_out = NULL;
	if (n > 0)
		return sign(u->p, list, false, answer_out);
	cJSON_Delete(list);
	return 0;
}

/* -EAGAIN (as 1): what was begun is not known to the store any more. */
static int
put_parts(struct putting *u, int64_t count, bool *lost_out)
{
	int64_t parts[PARTS_AT_ONCE], next = 1;
	cJSON *answer;
	int rc = 0, n = 1, status;
	bool refused = false;

	while (rc == 0 && !refused) {
		rc = sign_parts(u, &next, count, parts, &n, &answer);
		for (int i = 0; rc == 0 && !refused && i < n; i++) {
			rc = store_do(u->p, result_recipe(answer, i), u->what,
			    u->kept, &status, &refused);
			if (rc == 0 && refused && i > 0) {
				/* It waited for others: it may have expired. */
				refused = false;
				next = parts[i];
				break;
			}
			if (rc != 0 || refused)
				break;
			cJSON_AddItemToArray(
			    u->done, cJSON_CreateNumber((double)parts[i]));
			state_save(u);
			progress(u, parts[i], count);
		}
		cJSON_Delete(answer);
		if (n == 0)
			break;
	}
	*lost_out = refused;
	if (refused && !u->resumed) {
		complain("%s: the store refuses a part (%d)", u->name, status);
		return EXIT_IO;
	}
	return rc;
}

static int
finish(struct putting *u, bool *lost_out)
{
	cJSON *list = cJSON_CreateArray(), *answer = NULL;
	bool refused = false;
	int status = 0, rc;

	cJSON_AddItemToArray(list, entry(u, "PUT", "finish", 0));
	rc = sign(u->p, list, true, &answer);
	if (answer != NULL)
		rc = store_do(u->p, result_recipe(answer, 0), u->what, u->kept,
		    &status, &refused);
	cJSON_Delete(answer);
	/* 412: somebody has put it there meanwhile; reading back tells. */
	*lost_out = refused && status != 412;
	if (rc == 0 && *lost_out && !u->resumed) {
		complain("%s: the store refuses to put the parts together "
			 "(%d)",
		    u->name, status);
		return EXIT_IO;
	}
	return rc;
}

static int
in_parts(struct putting *u, const cJSON *recipe)
{
	const cJSON *parts = cJSON_GetObjectItemCaseSensitive(recipe, "parts");
	int64_t count = 0;
	bool lost = false, refused = false;
	int rc = 0, status;

	if (json_int(parts, "count", 1, 100000, &count) != 0) {
		complain("the signer's recipe has no parts");
		return EXIT_IO;
	}
	state_load(u);
	for (int round = 0; round < 2; round++) {
		if (!u->resumed) {
			rc = store_do(
			    u->p, recipe, u->what, u->kept, &status, &refused);
			if (rc == 0 && refused) {
				complain("%s: the store refuses it (%d)",
				    u->name, status);
				rc = EXIT_IO;
			}
			if (rc == 0)
				state_save(u);
		}
		if (rc == 0)
			rc = put_parts(u, count, &lost);
		if (rc == 0 && !lost)
			rc = finish(u, &lost);
		if (rc != 0 || !lost)
			break;
		state_forget(u); /* begun too long ago */
	}
	if (rc == 0)
		unlink(u->path);
	return rc;
}

int
put_object(struct publisher *p, const char *version, const char *name,
    const char *sha256, const struct sending *what)
{
	cJSON *list = cJSON_CreateArray(), *answer = NULL;
	const cJSON *recipe;
	struct putting u = { .p = p,
		.version = version,
		.name = name,
		.sha256 = sha256,
		.what = what };
	bool refused;
	int rc, status;

	cJSON_AddItemToArray(list, entry(&u, "PUT", NULL, 0));
	rc = sign(p, list, true, &answer);
	if (answer == NULL)
		return rc; /* if it is there, reading back tells */
	recipe = result_recipe(answer, 0);
	u.path = xasprintf("%s/%s-%s-%.32s.json", p->state_dir, p->o.product,
	    p->o.channel, sha256);
	if (cJSON_HasObjectItem(recipe, "parts")) {
		rc = in_parts(&u, recipe);
	} else {
		rc = store_do(p, recipe, what, NULL, &status, &refused);
		/* 409, 412: it is there; reading back tells if it is this. */
		if (rc == 0 && refused && status != 412 && status != 409) {
			complain("%s: the store refuses it (%d). POST "
				 "/v1/storages/NAME/test tells why.",
			    name, status);
			rc = EXIT_IO;
		}
	}
	cJSON_Delete(answer);
	cJSON_Delete(u.kept);
	cJSON_Delete(u.done);
	free(u.path);
	return rc;
}

int
check_object(struct publisher *p, const char *version, const char *name,
    const uint8_t sha256[32], uint64_t size)
{
	struct putting u = { .p = p, .version = version, .name = name };
	cJSON *list = cJSON_CreateArray(), *answer = NULL;
	uint8_t got[32];
	uint64_t n = 0;
	int status = 0, rc;

	cJSON_AddItemToArray(list, entry(&u, "GET", NULL, 0));
	rc = sign(p, list, false, &answer);
	if (rc == 0)
		rc = store_hash(p, result_recipe(answer, 0), got, &n, &status);
	cJSON_Delete(answer);
	if (rc != 0)
		return rc;
	if (status == 200 && n == size && memcmp(got, sha256, 32) == 0)
		return 0;
	if (status != 200)
		complain("%s cannot be read back: the store answers %d", name,
		    status);
	else
		complain("%s stands in the bucket with other bytes than this "
			 "file has. A version never changes: publish under "
			 "the next one.",
		    name);
	return status == 200 ? EXIT_REFUSED : EXIT_IO;
}
