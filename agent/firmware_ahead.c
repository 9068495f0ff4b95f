/*
 * firmware_ahead.c - what is kept and fetched before a device asks
 *
 * For each product that a device of this site was seen with: of each hardware,
 * the current release (the newest that all may have) and the next one (the
 * newest at all). They are pinned, and fetched within the time of day and the
 * octets a day of [firmware] prefetch. What devices ask for goes first, always.
 *
 * What must stay true: only products of the policy that the proxy has really
 * seen (seen/PRODUCT) count, so no device can make us fetch or pin all there
 * is; what is pinned never exceeds the cache.
 */
#include "firmware.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "log.h"
#include "pool.h"
#include "url.h"
#include "xalloc.h"

#define EACH_MS (10 * 60 * 1000) /* looked at again */
#define NEWS_MS 5000             /* when the cache has changed meanwhile */
#define SEEN_S (30 * 86400)      /* a product not seen for so long is gone */
#define SPENT_STEP (8 << 20)     /* octets between two notes of the budget */
#define PINS_MAX 1024
#define HW_MAX 64

struct pin {
	uint8_t sha256[32];
	uint64_t size;
	bool fetch; /* not only kept */
};

struct ahead {
	struct firmware *f;
	int64_t due_ms, looked_ms;
	uint64_t txn; /* of the cache, at the last look */
	bool busy;
	char day[12]; /* of spent */
	uint64_t spent, noted;
};

/* A look at the cache, then the pins that differ. */
struct ahead_job {
	struct ahead *h;
	struct cache *cache;
	char **products;
	bool *seen;
	size_t products_n;
	uint8_t (*files)[32]; /* of all manifests */
	bool *orphan;
	size_t files_n;
	char *budget;
	int64_t now;
	struct pin *pins;
	size_t pins_n;
};

/* ---- the budget ---------------------------------------------------------- */

static void
today(const struct firmware *f, char day[12], int *minute_out)
{
	time_t t = (time_t)firmware_now(f);
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(day, 12, "%Y-%m-%d", &tm);
	*minute_out = tm.tm_hour * 60 + tm.tm_min;
}

static void
new_day(struct ahead *h, const char *day)
{
	if (strcmp(h->day, day) == 0)
		return;
	snprintf(h->day, sizeof(h->day), "%s", day);
	h->spent = h->noted = 0;
}

bool
ahead_may(struct ahead *h, uint64_t octets)
{
	const struct gateway_conf *c = h->f->agent->conf;
	char day[12];
	bool may = false;
	int minute;

	today(h->f, day, &minute);
	new_day(h, day);
	return gateway_conf_prefetch(c->prefetch, minute, &may) == 0 && may &&
	    (c->prefetch_max == CONF_NONE ||
		h->spent + octets <= (uint64_t)c->prefetch_max);
}

struct note_job {
	struct cache *cache;
	char *value;
};

static void
run_note(void *arg)
{
	struct note_job *j = arg;

	cache_meta_put(j->cache, "prefetch", j->value);
}

static void
ran_note(void *arg)
{
	struct note_job *j = arg;

	free(j->value);
	free(j);
}

void
ahead_spent(struct ahead *h, uint64_t octets)
{
	struct note_job *j;
	char day[12];
	int minute;

	today(h->f, day, &minute);
	new_day(h, day);
	h->spent += octets;
	if (h->f->agent->conf->prefetch_max == CONF_NONE ||
	    h->spent < h->noted + SPENT_STEP)
		return;
	h->noted = h->spent;
	j = xcalloc(1, sizeof(*j));
	j->cache = h->f->cache;
	j->value = xasprintf("%s %" PRIu64, h->day, h->spent);
	pool_run(h->f->pool, run_note, ran_note, j);
}

/* ---- which ones ---------------------------------------------------------- */

struct hw_line {
	const char *hw;
	bool next, current;
};

static struct hw_line *
line_of(struct hw_line *v, size_t *n, const char *hw)
{
	for (size_t i = 0; i < *n; i++)
		if (strcmp(v[i].hw, hw) == 0)
			return &v[i];
	if (*n == HW_MAX)
		return NULL;
	v[*n] = (struct hw_line){ .hw = hw };
	return &v[(*n)++];
}

/* Is it the newest, or the newest that all may have, of any hardware? */
static bool
is_chosen(struct hw_line *v, size_t *n, const struct manifest_release *rel,
    int64_t now)
{
	bool whole = rel->percent == 100 && rel->after <= now, chosen = false;
	struct hw_line *l;

	for (size_t i = 0; i < (rel->hw_n > 0 ? rel->hw_n : 1); i++) {
		l = line_of(v, n, rel->hw_n > 0 ? rel->hw[i] : "");
		if (l == NULL)
			continue;
		chosen = chosen || !l->next || (whole && !l->current);
		l->next = true;
		l->current = l->current || whole;
	}
	return chosen;
}

static void
choose_release(struct ahead_job *j, const struct manifest_release *rel,
    bool fetch, uint64_t limit)
{
	for (size_t i = 0; i < rel->files_n && j->pins_n < PINS_MAX; i++) {
		const struct manifest_file *mf = &rel->files[i];
		uint64_t sum = mf->size;
		bool there = false;

		for (size_t k = 0; k < j->pins_n; k++) {
			sum += j->pins[k].size;
			there = there ||
			    memcmp(j->pins[k].sha256, mf->sha256, 32) == 0;
		}
		if (there || sum > limit)
			continue;
		memcpy(j->pins[j->pins_n].sha256, mf->sha256, 32);
		j->pins[j->pins_n].size = mf->size;
		j->pins[j->pins_n++].fetch = fetch;
	}
}

static void
choose(struct ahead_job *j)
{
	struct firmware *f = j->h->f;
	uint64_t limit = firmware_limit(f->agent->conf);
	const struct fw_feed *fd;

	j->pins = xcalloc(PINS_MAX, sizeof(*j->pins));
	TAILQ_FOREACH(fd, &f->feeds, link)
	{
		struct hw_line lines[HW_MAX];
		size_t lines_n = 0;
		bool seen = false;

		for (size_t i = 0; i < j->products_n; i++)
			seen = seen ||
			    (j->seen[i] &&
				strcmp(j->products[i], fd->product) == 0);
		if (!seen || !fd->wanted || fd->m == NULL)
			continue;
		for (size_t i = 0; i < fd->m->releases_n; i++) {
			const struct manifest_release *rel =
			    &fd->m->releases[i];

			if (!rel->revoked && !rel->halted &&
			    is_chosen(lines, &lines_n, rel, j->now))
				choose_release(
				    j, rel, fd->m->expires > j->now, limit);
		}
	}
}

/* ---- pinning ------------------------------------------------------------- */

static bool
is_pin(const struct ahead_job *j, const uint8_t sha256[32])
{
	for (size_t i = 0; i < j->pins_n; i++)
		if (memcmp(j->pins[i].sha256, sha256, 32) == 0)
			return true;
	return false;
}

struct repin {
	struct ahead_job *j;
	uint8_t (*v)[32];
	bool *pinned;
	size_t n;
};

static int
differs(const struct cache_blob *b, void *arg)
{
	struct repin *r = arg;
	bool pinned = is_pin(r->j, b->sha256);

	if (b->pinned == pinned)
		return 0;
	r->v = xrealloc(r->v, (r->n + 1) * sizeof(*r->v));
	r->pinned = xrealloc(r->pinned, (r->n + 1) * sizeof(*r->pinned));
	memcpy(r->v[r->n], b->sha256, 32);
	r->pinned[r->n++] = pinned;
	return 0;
}

static void
run_pins(void *arg)
{
	struct ahead_job *j = arg;
	struct repin r = { .j = j };

	cache_each_blob(j->cache, differs, &r);
	for (size_t i = 0; i < r.n; i++)
		cache_blob_pin(j->cache, r.v[i], r.pinned[i]);
	free(r.v);
	free(r.pinned);
}

static void
job_free(struct ahead_job *j)
{
	for (size_t i = 0; i < j->products_n; i++)
		free(j->products[i]);
	free(j->products);
	free(j->seen);
	free(j->files);
	free(j->orphan);
	free(j->budget);
	free(j->pins);
	free(j);
}

static void
ran_pins(void *arg)
{
	struct ahead_job *j = arg;

	j->h->busy = false;
	job_free(j);
}

/* ---- the look ------------------------------------------------------------ */

static void
run_seen(void *arg)
{
	struct ahead_job *j = arg;
	uint64_t size;

	for (size_t i = 0; i < j->products_n; i++) {
		char *name = xasprintf("seen/%s", j->products[i]), *value;

		if (cache_meta_get(j->cache, name, &value) == 0) {
			int64_t at = strtoll(value, NULL, 10);

			j->seen[i] = at > 0 && at + SEEN_S > j->now;
			free(value);
		}
		free(name);
	}
	for (size_t i = 0; i < j->files_n; i++)
		j->orphan[i] = cache_orphan(j->cache, j->files[i], &size);
	cache_meta_get(j->cache, "prefetch", &j->budget);
}

static void
ran_seen(void *arg)
{
	struct ahead_job *j = arg;
	struct ahead *h = j->h;
	char day[12];
	uint64_t spent;

	if (h->f->stopping) {
		ran_pins(j);
		return;
	}
	if (j->budget != NULL && h->day[0] == '\0' &&
	    sscanf(j->budget, "%10s %" SCNu64, day, &spent) == 2) {
		snprintf(h->day, sizeof(h->day), "%s", day);
		h->spent = h->noted = spent;
	}
	choose(j);
	for (size_t i = 0; i < j->pins_n; i++)
		if (j->pins[i].fetch &&
		    strcmp(h->f->agent->conf->prefetch, "off") != 0)
			fills_ahead(h->f->fills, j->pins[i].sha256);
	for (size_t i = 0; i < j->files_n; i++)
		if (j->orphan[i])
			fills_adopt(h->f->fills, j->files[i]);
	pool_run(h->f->pool, run_pins, ran_pins, j);
	fills_plan(h->f->fills);
}

/* All files that a manifest has, as far as a cache can hold them. */
static void
list_files(struct ahead_job *j)
{
	const struct fw_feed *fd;

	j->files = xcalloc(CACHE_BLOBS_MAX, sizeof(*j->files));
	j->orphan = xcalloc(CACHE_BLOBS_MAX, sizeof(*j->orphan));
	TAILQ_FOREACH(fd, &j->h->f->feeds, link)
	for (size_t i = 0; fd->m != NULL && i < fd->m->releases_n; i++)
		for (size_t k = 0; k < fd->m->releases[i].files_n &&
		     j->files_n < CACHE_BLOBS_MAX;
		     k++)
			memcpy(j->files[j->files_n++],
			    fd->m->releases[i].files[k].sha256, 32);
}

static void
look(struct ahead *h)
{
	struct firmware *f = h->f;
	struct ahead_job *j = xcalloc(1, sizeof(*j));

	h->busy = true;
	j->h = h;
	j->cache = f->cache;
	j->now = firmware_now(f);
	j->products = xcalloc(f->products_n + 1, sizeof(*j->products));
	j->seen = xcalloc(f->products_n + 1, sizeof(*j->seen));
	for (size_t i = 0; i < f->products_n; i++)
		j->products[j->products_n++] = xstrdup(f->products[i]);
	list_files(j);
	pool_run(f->pool, run_seen, ran_seen, j);
}

void
ahead_soon(struct ahead *h)
{
	h->due_ms = 0;
}

void
ahead_tick(struct ahead *h)
{
	int64_t now = clock_ms();
	uint64_t txn = cache_last_txn(h->f->cache);

	if (h->busy ||
	    (now < h->due_ms &&
		(txn == h->txn || now < h->looked_ms + NEWS_MS)))
		return;
	h->due_ms = now + EACH_MS;
	h->looked_ms = now;
	h->txn = txn;
	look(h);
}

struct ahead *
ahead_new(struct firmware *f)
{
	struct ahead *h = xcalloc(1, sizeof(*h));

	h->f = f;
	return h;
}

void
ahead_free(struct ahead *h)
{
	free(h);
}
