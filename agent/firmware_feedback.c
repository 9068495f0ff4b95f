/*
 * firmware_feedback.c - tells the signer what devices run
 *
 * The proxy keeps a row per device in the cache; what differs from what was
 * told goes to POST /v1/firmware/feedback in batches, at least once: after a
 * restart all is told again. When a device was seen is a difference only once a
 * week: what the signer does not hear of for long it forgets.
 * What must stay true: a row that the signer will not have holds up no other.
 */
#include "firmware.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backoff.h"
#include "clock.h"
#include "crc32c.h"
#include "json.h"
#include "log.h"
#include "pool.h"
#include "signer_client.h"
#include "xalloc.h"

#define EACH_MS 15000
#define CAP_MS 600000
#define BATCH_MAX 200
#define TOLD_MAX (2 * CACHE_DEVICES_MAX)
#define TIMEOUT_MS 30000
#define ID_MAX 255
#define WEEK_S (7 * 86400)

struct told {
	char *id;
	uint32_t sum; /* of the row, with "seen" in weeks */
};

struct feedback {
	struct firmware *f;
	struct told *v; /* by id; a job under way reads it */
	size_t n;
	bool busy;
	size_t max; /* rows of a batch; fewer after one was refused */
	int64_t due_ms, wait_ms;
	uint64_t txn;          /* of the cache, when nothing was left to tell */
	struct look_job *sent; /* what is being told */
	struct signer_call *call;
};

/* A look for rows to tell. */
struct look_job {
	struct feedback *fb;
	uint64_t txn;
	struct told row[BATCH_MAX];
	char *json[BATCH_MAX];
	size_t n, max;
	bool more;
};

static uint32_t
sum_of(const char *json)
{
	const char *seen = strstr(json, "\"seen\":");
	const char *end = seen != NULL ? seen + 7 : NULL;
	uint64_t week;
	uint32_t sums[3];

	if (seen == NULL)
		return crc32c(json, strlen(json));
	week = strtoull(end, NULL, 10) / WEEK_S;
	end += strspn(end, "0123456789");
	sums[0] = crc32c(json, (size_t)(seen - json));
	sums[1] = crc32c(end, strlen(end));
	sums[2] = crc32c(&week, sizeof(week));
	return crc32c(sums, sizeof(sums));
}

static int
by_id(const void *a, const void *b)
{
	const struct told *x = a, *y = b;

	return strcmp(x->id, y->id);
}

static struct told *
find(const struct feedback *fb, const char *id)
{
	struct told key = { .id = (char *)id };

	return fb->n > 0 ? bsearch(&key, fb->v, fb->n, sizeof(key), by_id)
			 : NULL;
}

/* What the signer takes for a device's name. */
static bool
id_ok(const char *id)
{
	size_t n = strlen(id);

	for (const char *s = id; *s != '\0'; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f || *s == '/')
			return false;
	return n >= 1 && n <= ID_MAX && json_utf8(id, n);
}

/* ---- the look ------------------------------------------------------------ */

static int
on_device(const char *id, const char *json, void *arg)
{
	struct look_job *j = arg;
	uint32_t sum = sum_of(json);
	const struct told *t = find(j->fb, id);

	if ((t != NULL && t->sum == sum) || !id_ok(id))
		return 0;
	if (j->n == j->max) {
		j->more = true;
		return 1;
	}
	j->row[j->n] = (struct told){ xstrdup(id), sum };
	j->json[j->n++] = xstrdup(json);
	return 0;
}

static void
run_look(void *arg)
{
	struct look_job *j = arg;

	cache_device_each(j->fb->f->cache, NULL, on_device, j);
}

static void
job_free(struct look_job *j)
{
	for (size_t i = 0; i < j->n; i++) {
		free(j->row[i].id);
		free(j->json[i]);
	}
	free(j);
}

/* ---- telling ------------------------------------------------------------- */

static void
forget(struct feedback *fb)
{
	for (size_t i = 0; i < fb->n; i++)
		free(fb->v[i].id);
	free(fb->v);
	fb->v = NULL;
	fb->n = 0;
}

static void
mark_told(struct feedback *fb, struct look_job *j)
{
	size_t old = fb->n;

	if (old + j->n > TOLD_MAX) {
		forget(fb); /* of devices that are long gone, too */
		old = 0;
	}
	fb->v = xrealloc(fb->v, (old + j->n + 1) * sizeof(*fb->v));
	for (size_t i = 0; i < j->n; i++) {
		struct told key = j->row[i],
			    *t = old > 0
		    ? bsearch(&key, fb->v, old, sizeof(key), by_id)
		    : NULL;

		if (t != NULL) {
			t->sum = key.sum;
			continue;
		}
		fb->v[fb->n++] = key;
		j->row[i].id = NULL;
	}
	qsort(fb->v, fb->n, sizeof(*fb->v), by_id);
}

static void
again(struct feedback *fb, int64_t ms)
{
	fb->busy = false;
	fb->due_ms = clock_ms() + ms;
}

static void
on_told(const struct signer_answer *a, void *arg)
{
	struct feedback *fb = arg;
	struct look_job *j = fb->sent;
	bool refused = a->rc == 0 &&
	    (a->status == 400 || a->status == 413 || a->status == 422);

	fb->call = NULL;
	fb->sent = NULL;
	if (a->error != NULL && !refused) {
		/* One without this call is asked now and then. */
		fb->wait_ms = a->rc == 0 && a->status == 404
		    ? CAP_MS
		    : backoff_next(fb->wait_ms, CAP_MS, arc4random_uniform);
		again(fb, fb->wait_ms);
		job_free(j);
		return;
	}
	if (refused && j->n > 1) { /* one by one: which is it? */
		fb->max = 1;
		again(fb, 0);
		job_free(j);
		return;
	}
	if (refused)
		log_warn("firmware: the signer refuses what a device runs: %s",
		    a->error);
	else
		fb->max = fb->max * 2 < BATCH_MAX ? fb->max * 2 : BATCH_MAX;
	mark_told(fb, j);
	fb->wait_ms = 0;
	if (!j->more)
		fb->txn = j->txn;
	again(fb, j->more ? 0 : EACH_MS);
	job_free(j);
}

static void
tell(struct feedback *fb, struct look_job *j)
{
	cJSON *o = cJSON_CreateObject();
	cJSON *list = cJSON_AddArrayToObject(o, "devices");
	char *text;

	for (size_t i = 0; i < j->n; i++) {
		cJSON *v = json_parse(j->json[i], strlen(j->json[i]),
		    CACHE_DEVICE_JSON_MAX, NULL);

		if (!cJSON_IsObject(v)) {
			cJSON_Delete(v);
			continue;
		}
		cJSON_DeleteItemFromObjectCaseSensitive(v, "id");
		json_add_text(v, "id", j->row[i].id);
		cJSON_AddItemToArray(list, v);
	}
	text = json_line(o);
	cJSON_Delete(o);
	fb->sent = j;
	fb->call = signer_call(fb->f->agent->signer, "/v1/firmware/feedback",
	    text, TIMEOUT_MS, false, on_told, fb);
	free(text);
}

static void
ran_look(void *arg)
{
	struct look_job *j = arg;
	struct feedback *fb = j->fb;

	if (fb->f->stopping || j->n == 0) {
		fb->txn = j->txn;
		again(fb, EACH_MS);
		job_free(j);
		return;
	}
	tell(fb, j);
}

void
feedback_tick(struct feedback *fb)
{
	struct look_job *j;
	uint64_t txn = cache_last_txn(fb->f->cache);

	if (fb->busy || txn == fb->txn || clock_ms() < fb->due_ms)
		return;
	fb->busy = true;
	j = xcalloc(1, sizeof(*j));
	j->fb = fb;
	j->max = fb->max;
	j->txn = txn;
	pool_run(fb->f->pool, run_look, ran_look, j);
}

struct feedback *
feedback_new(struct firmware *f)
{
	struct feedback *fb = xcalloc(1, sizeof(*fb));

	fb->f = f;
	fb->max = BATCH_MAX;
	return fb;
}

void
feedback_stop(struct feedback *fb)
{
	signer_cancel(fb->call);
	fb->call = NULL;
	if (fb->sent != NULL)
		job_free(fb->sent);
	fb->sent = NULL;
}

void
feedback_free(struct feedback *fb)
{
	forget(fb);
	free(fb);
}
