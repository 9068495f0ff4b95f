/*
 * shelf_scrub.c - what nobody reads is compared too, slowly
 *
 * One slice each second, in the order of the blobs' hashes, then a day's rest:
 * damage is found and repaired while the WAN is there, not when a device needs
 * the slice and the WAN is down. Slices that are in memory are passed over:
 * their octets on the disk would not be read.
 *
 * What must stay true: nothing that is read here counts as what was compared
 * before. So the slice is good no more when its turn comes, and no other is
 * read ahead with it.
 */
#include "shelf_private.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "log.h"
#include "pool.h"
#include "slices.h"
#include "url.h"
#include "xalloc.h"

#define REST_MS (24 * (int64_t)3600000)

struct scrub {
	struct shelf *shelf;
	uint8_t sha256[32];
	size_t slice;
	bool found;            /* a blob at or behind the position */
	struct cache_blob row; /* it, with its bitmap */
	bool end, bad;
};

/* The blob with the lowest hash that is not before the position. */
static int
on_blob(const struct cache_blob *b, void *arg)
{
	struct scrub *s = arg;

	if (memcmp(b->sha256, s->sha256, 32) < 0 || b->filled == 0 ||
	    (s->found && memcmp(b->sha256, s->row.sha256, 32) > 0))
		return 0;
	if (memcmp(b->sha256, s->sha256, 32) == 0 && s->slice >= b->slices)
		return 0;
	if (s->found)
		free(s->row.bitmap);
	s->row = *b;
	s->row.bitmap = xmalloc((b->slices + 7) / 8);
	memcpy(s->row.bitmap, b->bitmap, (b->slices + 7) / 8);
	s->found = true;
	return 0;
}

static void
compare(struct scrub *s, struct cache *cache, int fd, const uint8_t *list)
{
	const struct cache_blob *b = &s->row;
	size_t n = slices_length(b->size, s->slice);
	uint64_t at = (uint64_t)s->slice * FIRMWARE_SLICE;
	struct resident mem;
	char *data;

	resident_init(&mem, fd, b->size);
	if (!resident_has(&mem, fd, at, n)) {
		data = xmalloc(n);
		s->bad = check_slice(fd, list, s->slice, data, n) != 0;
		free(data);
		posix_fadvise(fd, (off_t)at, (off_t)n, POSIX_FADV_DONTNEED);
	}
	resident_fini(&mem);
	if (s->bad)
		cache_slices_clear(cache, b->sha256, s->slice, 1);
}

/* Which one is it? */
static void
run_choose(void *arg)
{
	struct scrub *s = arg;
	struct cache *cache = *s->shelf->cache;

	if (cache == NULL || cache_each_blob(cache, on_blob, s) != 0 ||
	    !s->found) {
		s->end = true;
		return;
	}
	if (memcmp(s->row.sha256, s->sha256, 32) != 0) {
		memcpy(s->sha256, s->row.sha256, 32);
		s->slice = 0;
	}
	while (s->slice < s->row.slices && !bit_get(s->row.bitmap, s->slice))
		s->slice++;
}

static void
run_scrub(void *arg)
{
	struct scrub *s = arg;
	struct cache *cache = *s->shelf->cache;
	uint8_t *list = NULL;
	size_t n;
	int fd = cache_blob_open_file(cache, s->sha256, false);

	if (fd >= 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	if (fd >= 0 && cache_list_get(cache, s->sha256, &list, &n) == 0 &&
	    n == 32 * s->row.slices)
		compare(s, cache, fd, list);
	free(list);
	if (fd >= 0)
		close(fd);
}

static void
on_scrubbed(void *arg)
{
	struct scrub *s = arg;
	struct shelf *shelf = s->shelf;
	char hex[65];

	if (s->bad) {
		hex_encode(s->sha256, 32, hex);
		log_error("firmware %s slice=%zu is damaged on disk: found by "
			  "the scrub, fetched again",
		    hex, s->slice);
		shelf->counts.damaged++;
		shelf->calls.want(hex, s->slice, 1, shelf->calls.arg);
		shelf_look(shelf, s->sha256);
	}
	if (s->found)
		free(s->row.bitmap);
	memcpy(shelf->scrub.sha256, s->sha256, 32);
	shelf->scrub.slice = s->slice + 1;
	shelf->scrub.running = false;
	if (s->end) {
		memset(&shelf->scrub.sha256, 0, 32);
		shelf->scrub.slice = 0;
		shelf->scrub.again_ms = shelf->now_ms + REST_MS;
	}
	free(s);
}

static void
on_chosen(void *arg)
{
	struct scrub *s = arg;
	struct shelf *shelf = s->shelf;
	struct blob *b;

	if (s->end || s->slice == s->row.slices) {
		on_scrubbed(s);
		return;
	}
	LIST_FOREACH(b, &shelf->buckets[s->sha256[0] % BLOBS_BUCKETS], link)
	if (b->good != NULL && s->slice < b->slices &&
	    memcmp(b->sha256, s->sha256, 32) == 0)
		bit_set(b->good, s->slice, false);
	pool_run(shelf->disk, run_scrub, on_scrubbed, s);
}

void
shelf_scrub(struct shelf *shelf)
{
	struct scrub *s;

	if (shelf->scrub.running || shelf->now_ms < shelf->scrub.again_ms)
		return;
	s = xcalloc(1, sizeof(*s));
	s->shelf = shelf;
	memcpy(s->sha256, shelf->scrub.sha256, 32);
	s->slice = shelf->scrub.slice;
	shelf->scrub.running = true;
	pool_run(shelf->disk, run_choose, on_chosen, s);
}
