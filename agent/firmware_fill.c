/*
 * firmware_fill.c - brings slices of blobs into the cache
 *
 * What must stay true: whatever the number of readers, a slice is asked of one
 * origin at a time and kept once; nothing is asked for that no manifest of the
 * policy names; a blob's room is reserved whole before its first slice; what
 * devices wait for goes before what is fetched ahead; uploads go before both
 * for the disk.
 *
 * A want that goes on from slices in place, as one who reads through makes it,
 * is met with whole runs; one in the middle with its own slices only.
 */
#include "firmware_run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backoff.h"
#include "clock.h"
#include "digest.h"
#include "json.h"
#include "log.h"
#include "pool.h"
#include "slices.h"
#include "transfer.h"
#include "url.h"
#include "xalloc.h"

#define RUNS_MAX 6      /* at one time */
#define RUNS_PER_FILL 3 /* of them for one blob */
#define FILLS_MAX 64
#define WANT_MS 15000 /* a reader who waits rings each second */
#define IDLE_MS 60000
#define CAP_MS 60000
#define ROOM_MARGIN (1 << 20) /* of the disk, above the floor */

/* A look at the cache, or a blob to be added. */
struct fill_job {
	struct fill *fl; /* counted in its jobs */
	struct cache *cache;
	struct cache_blob b; /* to add */
	bool add, have;
	uint8_t *list; /* to keep, or what is kept */
	size_t list_n;
	bool put_list;
	size_t adopted;
	uint64_t short_of;
	int rc;
};

/* ---- fills --------------------------------------------------------------- */

static struct fill *
fill_find(struct fills *fs, const uint8_t sha256[32])
{
	struct fill *fl;

	TAILQ_FOREACH(fl, &fs->list, link)
	if (memcmp(fl->sha256, sha256, 32) == 0)
		return fl;
	return NULL;
}

static void
fill_free(struct fill *fl)
{
	TAILQ_REMOVE(&fl->fs->list, fl, link);
	free(fl->bitmap);
	free(fl->inflight);
	free(fl->without);
	free(fl->list);
	free(fl);
}

static bool
complete(const struct fill *fl)
{
	if (fl->state != FILL_READY)
		return false;
	for (size_t i = 0; i < fl->slices; i++)
		if (!bit_get(fl->bitmap, i))
			return false;
	return true;
}

/* Find or make it, if a manifest has it. */
static struct fill *
fill_get(struct fills *fs, const uint8_t sha256[32])
{
	struct fill *fl = fill_find(fs, sha256);
	const struct fw_feed *fd;
	const struct manifest_file *mf;
	size_t n = 0, map;

	if (fl != NULL)
		return fl->dropped ? NULL : fl;
	TAILQ_FOREACH(fl, &fs->list, link)
	n++;
	mf = feeds_find(fs->f, sha256, &fd);
	if (mf == NULL || n >= FILLS_MAX)
		return NULL;
	fl = xcalloc(1, sizeof(*fl));
	fl->fs = fs;
	memcpy(fl->sha256, sha256, 32);
	hex_encode(sha256, 32, fl->hex);
	memcpy(fl->list_sha256, mf->slices_sha256, 32);
	fl->size = mf->size;
	fl->slices = slices_count(mf->size);
	snprintf(fl->product, sizeof(fl->product), "%s", fd->product);
	snprintf(fl->channel, sizeof(fl->channel), "%s", fd->channel);
	snprintf(fl->path, sizeof(fl->path), "%s", mf->path);
	map = fl->slices / 8 + 1;
	fl->bitmap = xcalloc(1, map);
	fl->inflight = xcalloc(1, map);
	fl->without = xcalloc(1, fl->slices);
	fl->used_ms = clock_ms();
	TAILQ_INSERT_TAIL(&fs->list, fl, link);
	return fl;
}

static const char *
storage_of(const struct fill *fl)
{
	const struct fw_feed *fd =
	    feed_find(fl->fs->f, fl->product, fl->channel);

	return fd != NULL ? fd->storage : NULL;
}

/* It cannot go on for ms: who waits may be told to come back. */
static void
trouble(struct fill *fl, int64_t ms)
{
	int64_t now = clock_ms();

	fl->retry_ms = now + ms;
	if (fl->wants_n == 0 || now - fl->told_ms < 1000)
		return;
	fl->told_ms = now;
	firmware_tell(
	    fl->fs->f, "trouble %s %" PRId64, fl->hex, (ms + 999) / 1000);
}

/* ---- jobs of the cache --------------------------------------------------- */

static int
list_of_cache(struct fill_job *j)
{
	/* A file of one slice: its list is its own hash. */
	if (cache_list_get(j->cache, j->b.sha256, &j->list, &j->list_n) == 0)
		return 0;
	if (slices_count(j->b.size) != 1)
		return -ENOENT;
	j->list = xmalloc(32);
	memcpy(j->list, j->b.sha256, 32);
	j->list_n = 32;
	if (cache_list_put(j->cache, j->b.sha256, j->list, 32) == 0)
		return 0;
	free(j->list);
	j->list = NULL;
	return -ENOENT;
}

static void
run_look(void *arg)
{
	struct fill_job *j = arg;
	struct cache_blob have;

	if (j->add) {
		j->rc = cache_blob_add(j->cache, &j->b);
		if (j->rc == -ENOSPC)
			j->short_of = cache_short_of(j->cache, j->b.size);
	}
	if (j->rc >= 0 && j->put_list) {
		j->rc =
		    cache_list_put(j->cache, j->b.sha256, j->list, j->list_n);
	} else if (j->rc >= 0) {
		list_of_cache(j);
	}
	/* Also what a crash left written and not yet marked. */
	if (j->rc >= 0 && j->list != NULL && j->add)
		cache_adopt(j->cache, j->b.sha256, 0, slices_count(j->b.size),
		    &j->adopted);
	if (j->rc >= 0) {
		j->rc = cache_blob_get(j->cache, j->b.sha256, &have);
		if (j->rc == 0 && have.size != j->b.size) {
			cache_blob_free(&have);
			j->rc = -EINVAL;
		}
		j->have = j->rc == 0;
		if (j->have)
			j->b.bitmap = have.bitmap;
	}
}

static void
tell_all(struct fill *fl)
{
	for (size_t i = 0; i < fl->wants_n; i++) {
		const struct fill_want *w = &fl->wants[i];

		if (w->first < w->end && bit_get(fl->bitmap, w->first))
			firmware_tell(fl->fs->f, "filled %s %zu %zu", fl->hex,
			    w->first, (size_t)1);
	}
}

static void
looked(struct fill *fl, struct fill_job *j)
{
	if (j->rc == -ENOSPC) {
		firmware_tell(fl->fs->f, "room %" PRIu64, j->short_of);
		fl->retry_ms = clock_ms() + 1000;
		return;
	}
	if (j->rc == -EDQUOT || j->rc == -EINVAL ||
	    (j->rc < 0 && j->rc != -ENOENT)) {
		if (fl->wait_ms == 0)
			log_error("firmware %s: not kept: %s", fl->path,
			    j->rc == -EDQUOT ? "the disk is needed for uploads"
				: j->rc == -EINVAL
				? "another size or list was published under "
				  "this content"
				: strerror(-j->rc));
		if (j->rc == -EDQUOT)
			firmware_tell(fl->fs->f, "room %" PRIu64, fl->size);
		fl->wait_ms =
		    backoff_next(fl->wait_ms, CAP_MS, arc4random_uniform);
		trouble(fl, fl->wait_ms);
		return;
	}
	if (!j->have)
		return; /* evicted: NEW, added again when wanted */
	for (size_t i = 0; i < fl->slices; i++)
		bit_put(fl->bitmap, i, bit_get(j->b.bitmap, i));
	if (j->list != NULL && fl->list == NULL) {
		fl->list = j->list;
		j->list = NULL;
	}
	fl->fs->adopted += j->adopted;
	if (j->adopted > 0)
		log_info("firmware %s: %zu slices were on the disk", fl->path,
		    j->adopted);
	fl->state = fl->list != NULL ? FILL_READY : FILL_LIST;
	tell_all(fl);
}

static void
ran_look(void *arg)
{
	struct fill_job *j = arg;
	struct fill *fl = j->fl;

	fl->jobs--;
	fl->state = FILL_NEW;
	if (!fl->fs->f->stopping && !fl->dropped)
		looked(fl, j);
	free(j->b.bitmap);
	free(j->list);
	free(j);
	if (!fl->fs->f->stopping)
		fills_plan(fl->fs);
}

/* list (taken) to keep; NULL: none. */
static void
look(struct fill *fl, bool add, uint8_t *list, size_t list_n)
{
	struct fill_job *j = xcalloc(1, sizeof(*j));

	j->fl = fl;
	j->cache = fl->fs->f->cache;
	j->add = add;
	j->list = list;
	j->list_n = list_n;
	j->put_list = list != NULL;
	memcpy(j->b.sha256, fl->sha256, 32);
	memcpy(j->b.list_sha256, fl->list_sha256, 32);
	j->b.size = fl->size;
	j->b.pinned = fl->ahead;
	j->b.last_use = firmware_now(fl->fs->f);
	strcpy(j->b.product, fl->product);
	strcpy(j->b.channel, fl->channel);
	strcpy(j->b.path, fl->path);
	fl->jobs++;
	fl->state = FILL_BUSY;
	pool_run(fl->fs->f->pool, run_look, ran_look, j);
}

/* ---- the list ------------------------------------------------------------ */

static void
on_list(const struct fw_result *r, void *arg)
{
	struct fill *fl = arg;
	struct fills *fs = fl->fs;
	const char *why = r->why;
	uint8_t *list;

	fl->list_get = NULL;
	if (why == NULL && r->status == 200 &&
	    slices_list_ok((const uint8_t *)r->body, r->body_n, fl->size,
		fl->list_sha256)) {
		fw_origins_ok(fs->f->origins, fl->list_from, r->body_n);
		fl->list_without = 0;
		fl->wait_ms = 0;
		list = xmalloc(r->body_n);
		memcpy(list, r->body, r->body_n);
		look(fl, true, list, r->body_n);
		return;
	}
	if (why == NULL)
		why = "its slice list is not what was published";
	fw_origins_failed(fs->f->origins, fl->list_from, why);
	fl->list_without |= FW_BIT(fl->list_from);
	fills_plan(fs);
}

/* The origin to ask, or -1 and trouble was told. */
static int
pick(struct fill *fl, unsigned without, const char *storage)
{
	int64_t wait;
	int from = fw_origins_pick(
	    fl->fs->f->origins, without, storage, clock_ms(), &wait);

	if (from >= 0 && wait == 0)
		return from;
	if (from < 0) { /* each was tried: all again, later */
		fl->wait_ms =
		    backoff_next(fl->wait_ms, CAP_MS, arc4random_uniform);
		wait = fl->wait_ms;
		fl->list_without = 0;
		memset(fl->without, 0, fl->slices);
	}
	trouble(fl, wait);
	return -1;
}

static bool
others(struct fill *fl, unsigned without, const char *storage)
{
	int64_t wait;

	return fw_origins_pick(fl->fs->f->origins, without, storage, clock_ms(),
		   &wait) >= 0;
}

static void
get_list(struct fill *fl)
{
	const char *storage = storage_of(fl);
	struct fw_get_request rq = { .storage = storage,
		.answer_max = fl->slices * 32 + 1 };
	int from = pick(fl, fl->list_without, storage);
	char *path;

	if (from < 0)
		return;
	path = xasprintf("%s.slices", fl->path);
	rq.path = path;
	rq.from = fl->list_from = (enum fw_from)from;
	rq.hurry =
	    others(fl, fl->list_without | FW_BIT(fl->list_from), storage);
	fl->list_get = fw_get(fl->fs->f->origins, &rq, on_list, fl);
	free(path);
}

/* ---- runs ---------------------------------------------------------------- */

void
fill_run_over(struct fill *fl, struct run *r, bool short_of)
{
	struct fw_origins *o = fl->fs->f->origins;
	size_t i = r->first;

	if (fl->fs->f->stopping || fl->dropped || r->cancelled)
		return;
	if (r->local != 0) {
		if (r->local != -ENOENT)
			log_error("firmware %s: cannot be written: %s",
			    fl->path, strerror(-r->local));
		fl->state = fl->jobs > 0 ? fl->state : FILL_NEW;
		trouble(fl, r->local == -ENOENT ? 0 : 5000);
	} else if (short_of || r->why[0] != '\0') {
		fw_origins_failed(
		    o, r->from, r->why[0] != '\0' ? r->why : "sent too little");
		while (i < r->first + r->n && bit_get(fl->bitmap, i))
			i++;
		if (short_of)
			fl->without[i] |= (uint8_t)FW_BIT(r->from);
	} else {
		fw_origins_ok(o, r->from, r->n * FIRMWARE_SLICE);
		fl->wait_ms = 0;
	}
	fills_plan(fl->fs);
}

/* How many slices from m on are missing, free, and have failed nowhere else. */
static size_t
reach(const struct fill *fl, size_t m, size_t max)
{
	size_t n = 0;

	while (n < max && m + n < fl->slices && !bit_get(fl->bitmap, m + n) &&
	    !bit_get(fl->inflight, m + n) &&
	    fl->without[m + n] == fl->without[m])
		n++;
	return n;
}

/* Is one of its runs bringing what stands before m in this want? */
static bool
is_served(const struct fill *fl, const struct fill_want *w, size_t m)
{
	const struct run *r;

	TAILQ_FOREACH(r, &fl->fs->runs, link)
	if (r->fl == fl && r->first < w->end && r->first + r->n <= m &&
	    r->first + r->n > w->first)
		return true;
	return false;
}

static bool
start_run(struct fill *fl, size_t m, size_t max, bool ahead)
{
	const char *storage = storage_of(fl);
	uint64_t room = cache_disk_room(fl->fs->f->cache);
	size_t n = reach(fl, m, max);
	int from;

	if (n == 0)
		return false;
	if (room < (uint64_t)n * FIRMWARE_SLICE + ROOM_MARGIN) {
		firmware_tell(
		    fl->fs->f, "room %" PRIu64, (uint64_t)n * FIRMWARE_SLICE);
		trouble(fl, 5000);
		return false;
	}
	from = pick(fl, fl->without[m], storage);
	if (from < 0)
		return false;
	run_start(fl, (enum fw_from)from, m, n, storage,
	    others(fl, fl->without[m] | FW_BIT(from), storage), ahead);
	return true;
}

/* Nothing that was fetched ahead stands in the way of who waits. */
static void
yield_to(struct fill *fl)
{
	struct run *r, *next;

	for (r = TAILQ_FIRST(&fl->fs->runs); r != NULL; r = next) {
		next = TAILQ_NEXT(r, link);
		if (r->ahead && r->fl != fl && !r->cancelled)
			run_cancel(r);
	}
}

static void
serve_want(struct fill *fl, const struct fill_want *w)
{
	size_t m = w->first, n;

	while (m < w->end && bit_get(fl->bitmap, m))
		m++;
	if (m == w->end || bit_get(fl->inflight, m) || is_served(fl, w, m) ||
	    fl->runs >= RUNS_PER_FILL || fl->fs->runs_n >= RUNS_MAX)
		return;
	n = w->end - m;
	if (n > RUN_SLICES || (m > 0 && bit_get(fl->bitmap, m - 1)))
		n = RUN_SLICES;
	yield_to(fl);
	start_run(fl, m, n, false);
}

static void
expire_wants(struct fill *fl, int64_t now)
{
	size_t n = 0;

	for (size_t i = 0; i < fl->wants_n; i++) {
		struct fill_want w = fl->wants[i];

		while (fl->state == FILL_READY && w.first < w.end &&
		    bit_get(fl->bitmap, w.first))
			w.first++;
		if (w.first < w.end && now - w.seen_ms < WANT_MS)
			fl->wants[n++] = w;
	}
	fl->wants_n = n;
}

static void
plan_fill(struct fill *fl, int64_t now)
{
	expire_wants(fl, now);
	if (fl->state == FILL_READY)
		fl->adopt = false;
	if (now < fl->retry_ms ||
	    (fl->wants_n == 0 && !fl->ahead && !fl->adopt))
		return;
	if (fl->state == FILL_NEW && fl->runs == 0)
		look(fl, true, NULL, 0);
	if (fl->state == FILL_LIST && fl->list_get == NULL)
		get_list(fl);
	for (size_t i = 0;
	     i < fl->wants_n && fl->state == FILL_READY && now >= fl->retry_ms;
	     i++)
		serve_want(fl, &fl->wants[i]);
}

/* One run at a time, when no device waits. */
static void
plan_ahead(struct fills *fs, int64_t now)
{
	struct fill *fl;

	if (fs->runs_n > 0)
		return;
	TAILQ_FOREACH(fl, &fs->list, link)
	{
		size_t m = 0;

		if (!fl->ahead || fl->state != FILL_READY || fl->wants_n > 0 ||
		    now < fl->retry_ms || fl->dropped)
			continue;
		while (m < fl->slices && bit_get(fl->bitmap, m))
			m++;
		if (m == fl->slices) {
			fl->ahead = false;
			log_info("firmware %s: complete", fl->path);
			continue;
		}
		if (!ahead_may(fs->f->ahead, FIRMWARE_SLICE))
			return;
		if (start_run(fl, m, RUN_SLICES, true))
			return;
	}
}

static bool
is_idle(const struct fill *fl, int64_t now)
{
	return fl->runs == 0 && fl->jobs == 0 && fl->list_get == NULL &&
	    (fl->dropped ||
		(fl->wants_n == 0 && (!fl->ahead || complete(fl)) &&
		    !fl->adopt && now - fl->used_ms > IDLE_MS));
}

void
fills_plan(struct fills *fs)
{
	struct fill *fl, *next;
	int64_t now = clock_ms();

	TAILQ_FOREACH(fl, &fs->list, link)
	if (!fl->dropped)
		plan_fill(fl, now);
	plan_ahead(fs, now);
	for (fl = TAILQ_FIRST(&fs->list); fl != NULL; fl = next) {
		next = TAILQ_NEXT(fl, link);
		if (is_idle(fl, now))
			fill_free(fl);
	}
}

/* ---- who wants what ------------------------------------------------------ */

static void
note_want(struct fill *fl, size_t first, size_t end)
{
	struct fill_want *oldest = &fl->wants[0];
	int64_t now = clock_ms();

	for (size_t i = 0; i < fl->wants_n; i++) {
		struct fill_want *w = &fl->wants[i];

		/* The same reader a second later is further on. */
		if (w->end == end && first >= w->first) {
			w->seen_ms = now;
			return;
		}
		if (w->seen_ms < oldest->seen_ms)
			oldest = w;
	}
	if (fl->wants_n < FILL_WANTS_MAX)
		oldest = &fl->wants[fl->wants_n++];
	*oldest = (struct fill_want){ first, end, now };
}

void
fills_want(
    struct fills *fs, const uint8_t sha256[32], size_t first, size_t count)
{
	struct fill *fl = fill_get(fs, sha256);

	if (fl == NULL || first >= fl->slices || count == 0)
		return;
	if (count > fl->slices - first)
		count = fl->slices - first;
	fl->used_ms = clock_ms();
	note_want(fl, first, first + count);
	/* There, and yet he waits: the proxy may have found it damaged. */
	if (fl->state == FILL_READY && fl->runs == 0 &&
	    bit_get(fl->bitmap, first))
		look(fl, false, NULL, 0);
	fills_plan(fs);
}

void
fills_ahead(struct fills *fs, const uint8_t sha256[32])
{
	struct fill *fl = fill_get(fs, sha256);

	if (fl == NULL || fl->ahead)
		return;
	fl->ahead = true;
	fl->used_ms = clock_ms();
}

void
fills_adopt(struct fills *fs, const uint8_t sha256[32])
{
	struct fill *fl = fill_get(fs, sha256);

	if (fl != NULL)
		fl->adopt = true;
}

void
fills_rate(struct fills *fs, int64_t rate)
{
	uplink_set_rate(&fs->downlink, rate);
}

struct drop_job {
	struct fills *fs;
	uint8_t sha256[32];
};

static void
run_drop(void *arg)
{
	struct drop_job *j = arg;
	struct cache *c = j->fs->f->cache;
	struct cache_blob b;
	uint64_t size;
	char hex[65];

	if (cache_blob_get(c, j->sha256, &b) == 0)
		cache_blob_free(&b);
	else if (!cache_orphan(c, j->sha256, &size))
		return; /* nothing to write about */
	cache_blob_remove(c, j->sha256);
	hex_encode(j->sha256, 32, hex);
	log_warn("firmware %s was revoked: removed", hex);
}

static void
ran_drop(void *arg)
{
	free(arg);
}

void
fills_drop(struct fills *fs, const uint8_t sha256[32])
{
	struct fill *fl = fill_find(fs, sha256);
	struct drop_job *j = xcalloc(1, sizeof(*j));
	struct run *r, *next;

	if (fl != NULL && !fl->dropped) {
		fl->dropped = true;
		fw_get_cancel(fl->list_get);
		fl->list_get = NULL;
		for (r = TAILQ_FIRST(&fs->runs); r != NULL; r = next) {
			next = TAILQ_NEXT(r, link);
			if (r->fl == fl)
				run_cancel(r);
		}
	}
	j->fs = fs;
	memcpy(j->sha256, sha256, 32);
	pool_run(fs->f->pool, run_drop, ran_drop, j);
}

/* ---- life ---------------------------------------------------------------- */

cJSON *
fills_status(const struct fills *fs)
{
	cJSON *o = cJSON_CreateObject();

	json_add_int(o, "running", fs->runs_n);
	json_add_int(o, "slices", (int64_t)fs->filled);
	json_add_int(o, "bad", (int64_t)fs->bad);
	json_add_int(o, "adopted", (int64_t)fs->adopted);
	json_add_int(o, "requests", (int64_t)fs->asked);
	return o;
}

struct fills *
fills_new(struct firmware *f)
{
	struct fills *fs = xcalloc(1, sizeof(*fs));

	fs->f = f;
	TAILQ_INIT(&fs->list);
	TAILQ_INIT(&fs->runs);
	uplink_init(&fs->downlink, f->agent->base, 0);
	return fs;
}

void
fills_stop(struct fills *fs)
{
	struct fill *fl;
	struct run *r, *next;

	for (r = TAILQ_FIRST(&fs->runs); r != NULL; r = next) {
		next = TAILQ_NEXT(r, link);
		run_cancel(r);
	}
	TAILQ_FOREACH(fl, &fs->list, link)
	{
		fw_get_cancel(fl->list_get);
		fl->list_get = NULL;
	}
}

void
fills_free(struct fills *fs)
{
	while (!TAILQ_EMPTY(&fs->list))
		fill_free(TAILQ_FIRST(&fs->list));
	uplink_fini(&fs->downlink);
	free(fs);
}
