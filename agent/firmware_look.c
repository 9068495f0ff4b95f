/*
 * firmware_look.c - what the cache has of a blob, and the list of its slices
 *
 * What must stay true: a fill is ready only when its room is reserved and its
 * list has the SHA-256 that the manifest names. What a crash left on the disk
 * is compared with the list and taken over before anything is fetched.
 */
#include "firmware_run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backoff.h"
#include "clock.h"
#include "log.h"
#include "pool.h"
#include "slices.h"
#include "xalloc.h"

#define CAP_MS 60000

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
	int rc;
};

const char *
fill_storage(const struct fill *fl)
{
	const struct fw_feed *fd =
	    feed_find(fl->fs->f, fl->product, fl->channel);

	return fd != NULL ? fd->storage : NULL;
}

/* It cannot go on for ms: who waits may be told to come back. */
void
fill_trouble(struct fill *fl, int64_t ms)
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

	if (j->add)
		j->rc = cache_blob_add(j->cache, &j->b);
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
		/* all of it: the proxy itself counts what is free */
		firmware_tell(fl->fs->f, "room %" PRIu64, fl->size);
		/* Each try makes a file: who only fetches ahead has time. */
		fl->wait_ms =
		    backoff_next(fl->wait_ms, CAP_MS, arc4random_uniform);
		fl->retry_ms =
		    clock_ms() + (fl->wants_n > 0 ? 1000 : fl->wait_ms);
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
			firmware_tell(fl->fs->f, "disk %" PRIu64, fl->size);
		fl->wait_ms =
		    backoff_next(fl->wait_ms, CAP_MS, arc4random_uniform);
		fill_trouble(fl, fl->wait_ms);
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
void
fw_fill_look(struct fill *fl, bool add, uint8_t *list, size_t list_n)
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
		fw_fill_look(fl, true, list, r->body_n);
		return;
	}
	if (why == NULL)
		why = "its slice list is not what was published";
	/* One that lacks this file may have all others. */
	if (r->status == 404 || r->status == 410)
		log_warn("firmware %s: %s has no list of it", fl->path,
		    fw_from_name(fl->list_from));
	else
		fw_origins_failed(fs->f->origins, fl->list_from, why);
	fl->list_without |= FW_BIT(fl->list_from);
	fills_plan(fs);
}

/* The origin to ask, or -1 and trouble was told. */
int
fill_pick(struct fill *fl, unsigned without, const char *storage)
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
	fill_trouble(fl, wait);
	return -1;
}

bool
fill_others(struct fill *fl, unsigned without, const char *storage)
{
	int64_t wait;

	return fw_origins_pick(fl->fs->f->origins, without, storage, clock_ms(),
		   &wait) >= 0;
}

void
fill_get_list(struct fill *fl)
{
	const char *storage = fill_storage(fl);
	struct fw_get_request rq = { .storage = storage,
		.answer_max = fl->slices * 32 + 1 };
	int from = fill_pick(fl, fl->list_without, storage);
	char *path;

	if (from < 0)
		return;
	path = xasprintf("%s.slices", fl->path);
	rq.path = path;
	rq.from = fl->list_from = (enum fw_from)from;
	rq.hurry =
	    fill_others(fl, fl->list_without | FW_BIT(fl->list_from), storage);
	fl->list_get = fw_get(fl->fs->f->origins, &rq, on_list, fl);
	free(path);
}
