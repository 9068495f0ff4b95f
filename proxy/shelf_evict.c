/*
 * shelf_evict.c - room for other blobs: what nobody reads goes
 *
 * The cache says which blob was used least lately and is not pinned; only the
 * shelf knows who is being read.
 */
#include "shelf_private.h"

#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "log.h"
#include "pool.h"
#include "xalloc.h"

struct evict {
	struct cache **cache;
	uint64_t octets, freed;
	bool disk; /* so many are to come free on the disk */
	unsigned removed;
	size_t n;
	uint8_t (*busy)[32]; /* blobs with readers, by their hashes */
};

static bool
is_busy(const uint8_t sha256[32], void *arg)
{
	struct evict *e = arg;

	for (size_t i = 0; i < e->n; i++)
		if (memcmp(e->busy[i], sha256, 32) == 0)
			return true;
	return false;
}

static uint64_t
still_short(const struct evict *e, struct cache *c)
{
	if (!e->disk)
		return cache_short_of(c, e->octets);
	return e->freed < e->octets ? e->octets - e->freed : 0;
}

/* What it has on the disk. */
static uint64_t
filled(struct cache *c, const uint8_t sha256[32])
{
	struct cache_blob b;
	uint64_t n;

	if (cache_blob_get(c, sha256, &b) != 0)
		return 0;
	n = b.filled;
	cache_blob_free(&b);
	return n;
}

static void
run_evict(void *arg)
{
	struct evict *e = arg;
	struct cache *c = *e->cache;
	uint8_t sha256[32];
	uint64_t n;

	while (c != NULL && still_short(e, c) > 0) {
		if (cache_evict_candidate(c, is_busy, e, sha256) != 0)
			return;
		n = filled(c, sha256);
		if (cache_blob_remove(c, sha256) != 0)
			return;
		e->freed += n;
		e->removed++;
	}
}

static void
on_evicted(void *arg)
{
	struct evict *e = arg;

	if (e->removed > 0)
		log_info("firmware cache: removed blobs=%u bytes=%llu to make "
			 "room",
		    e->removed, (unsigned long long)e->freed);
	free(e->busy);
	free(e);
}

/* Blobs without readers are closed first: who opens one from now on asks the
 * index behind the eviction, on the same thread. */
void
shelf_evict(struct shelf *s, uint64_t octets, bool disk)
{
	struct evict *e = xcalloc(1, sizeof(*e));
	struct blob *b;

	blob_forget_idle(s, 0);
	e->cache = s->cache;
	e->octets = octets;
	e->disk = disk;
	e->busy = xcalloc(s->counts.open + 1, 32);
	for (int i = 0; i < BLOBS_BUCKETS; i++)
		LIST_FOREACH(b, &s->buckets[i], link)
	memcpy(e->busy[e->n++], b->sha256, 32);
	pool_run(s->disk, run_evict, on_evicted, e);
}
