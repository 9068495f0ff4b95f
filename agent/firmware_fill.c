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

#include "clock.h"
#include "json.h"
#include "log.h"
#include "pool.h"
#include "slices.h"
#include "url.h"
#include "xalloc.h"

#define RUNS_MAX 4      /* at one time; each has 2 MiB at most */
#define RUNS_PER_FILL 2 /* of them for one blob */
#define FILLS_MAX 64
#define WANT_MS 15000 /* a reader who waits rings each second */
#define IDLE_MS 60000
#define ROOM_MARGIN (1 << 20) /* of the disk, above the floor */
#define ROOM_AGE_MS 2000      /* how long a look at it holds */

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

static bool
is_unused(const struct fill *fl)
{
	return fl->runs == 0 && fl->jobs == 0 && fl->list_get == NULL &&
	    fl->wants_n == 0 && !fl->adopt && (!fl->ahead || complete(fl));
}

/* Not under way, and no device asks: ahead_tick() brings it back. */
static bool
can_wait(const struct fill *fl)
{
	return fl->runs == 0 && fl->jobs == 0 && fl->list_get == NULL &&
	    fl->wants_n == 0 && !fl->dropped;
}

/* Room for one more: what nobody waits for goes, for a device also what is to
 * be fetched ahead. */
static bool
make_room(struct fills *fs, bool device)
{
	struct fill *fl, *unused = NULL, *ahead = NULL;
	size_t n = 0;

	TAILQ_FOREACH(fl, &fs->list, link)
	{
		n++;
		if (unused == NULL && is_unused(fl))
			unused = fl;
		if (ahead == NULL && device && can_wait(fl))
			ahead = fl;
	}
	if (n < FILLS_MAX)
		return true;
	if (unused == NULL)
		unused = ahead;
	if (unused != NULL)
		fill_free(unused);
	return unused != NULL;
}

/* Find or make it, if a manifest has it. */
static struct fill *
fill_get(struct fills *fs, const uint8_t sha256[32], bool device)
{
	struct fill *fl = fill_find(fs, sha256);
	const struct fw_feed *fd;
	const struct manifest_file *mf;
	size_t map;

	if (fl != NULL)
		return fl->dropped ? NULL : fl;
	mf = feeds_find(fs->f, sha256, &fd);
	if (mf == NULL || !make_room(fs, device))
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
		fill_trouble(fl, r->local == -ENOENT ? 0 : 5000);
	} else if (short_of || r->why[0] != '\0') {
		if (r->status == 404 || r->status == 410)
			log_warn("firmware %s: %s has it not", fl->path,
			    fw_from_name(r->from));
		else
			fw_origins_failed(o, r->from,
			    r->why[0] != '\0' ? r->why : "sent too little");
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

struct room_job {
	struct fills *fs;
	struct cache *cache;
};

static void
run_room(void *arg)
{
	struct room_job *j = arg;

	cache_disk_room(j->cache);
}

static void
ran_room(void *arg)
{
	struct room_job *j = arg;
	struct fills *fs = j->fs;

	fs->room_busy = false;
	free(j);
	if (!fs->f->stopping)
		fills_plan(fs);
}

/* The disk has room for n more slices; false also while it is looked at, then
 * all is planned again. Each write looks as well (firmware_run.c). */
static bool
has_room(struct fill *fl, size_t n)
{
	struct fills *fs = fl->fs;
	uint64_t octets = (uint64_t)n * FIRMWARE_SLICE, room;
	struct room_job *j;

	if (cache_disk_room_seen(fs->f->cache, ROOM_AGE_MS, &room)) {
		if (room >= octets + ROOM_MARGIN)
			return true;
		firmware_tell(fs->f, "disk %" PRIu64, octets);
		fill_trouble(fl, 5000);
	} else if (!fs->room_busy) {
		fs->room_busy = true;
		j = xcalloc(1, sizeof(*j));
		j->fs = fs;
		j->cache = fs->f->cache;
		pool_run(fs->f->pool, run_room, ran_room, j);
	}
	return false;
}

static bool
start_run(struct fill *fl, size_t m, size_t max, bool ahead)
{
	const char *storage = fill_storage(fl);
	size_t n = reach(fl, m, max);
	int from;

	if (n == 0 || !has_room(fl, n))
		return false;
	from = fill_pick(fl, fl->without[m], storage);
	if (from < 0)
		return false;
	run_start(fl, (enum fw_from)from, m, n, storage,
	    fill_others(fl, fl->without[m] | FW_BIT(from), storage), ahead);
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
		fw_fill_look(fl, true, NULL, 0);
	if (fl->state == FILL_LIST && fl->list_get == NULL)
		fill_get_list(fl);
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
	if (fl->dropped)
		return fl->runs == 0 && fl->jobs == 0 && fl->list_get == NULL;
	return is_unused(fl) && now - fl->used_ms > IDLE_MS;
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
	struct fill *fl = fill_get(fs, sha256, true);

	if (fl == NULL || first >= fl->slices || count == 0)
		return;
	if (count > fl->slices - first)
		count = fl->slices - first;
	fl->used_ms = clock_ms();
	note_want(fl, first, first + count);
	/* There, and yet he waits: the proxy may have found it damaged. */
	if (fl->state == FILL_READY && fl->runs == 0 &&
	    bit_get(fl->bitmap, first))
		fw_fill_look(fl, false, NULL, 0);
	fills_plan(fs);
}

void
fills_ahead(struct fills *fs, const uint8_t sha256[32])
{
	struct fill *fl = fill_get(fs, sha256, false);

	if (fl == NULL || fl->ahead)
		return;
	fl->ahead = true;
	fl->used_ms = clock_ms();
}

void
fills_adopt(struct fills *fs, const uint8_t sha256[32])
{
	struct fill *fl = fill_get(fs, sha256, false);

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
