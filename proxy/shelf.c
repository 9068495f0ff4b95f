/*
 * shelf.c - the blobs that are being read, and what may be sent of them
 *
 * A blob is opened when its first reader comes: a job on the disk thread reads
 * its row, opens the file and fetches the signed slice list. The bitmap is a
 * snapshot, read again when the agent rings or, while somebody waits, once a
 * second. Bits of the snapshot only tell which slices are worth comparing; what
 * is sent is decided by `good` alone.
 */
#include "shelf_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <event2/buffer.h>

#include "cache.h"
#include "clock.h"
#include "log.h"
#include "pool.h"
#include "slices.h"
#include "url.h"
#include "xalloc.h"

#define IDLE_MAX 16 /* blobs that are kept open without readers */
#define WANT_AGAIN_MS 900
#define TOUCH_S 3600
#define AHEAD 2 /* slices compared before they are asked for */

static void blob_drop(struct blob *b);

/* ---- life ---------------------------------------------------------------- */

struct shelf *
shelf_new(struct pool *disk, struct pool *readers, struct cache **cache,
    const struct shelf_calls *calls)
{
	struct shelf *s = xcalloc(1, sizeof(*s));

	s->disk = disk;
	s->readers = readers;
	s->cache = cache;
	s->calls = *calls;
	s->now_ms = clock_ms();
	TAILQ_INIT(&s->idle);
	return s;
}

void
blob_forget_idle(struct shelf *s, unsigned keep)
{
	while (s->idle_n > keep)
		blob_drop(TAILQ_FIRST(&s->idle));
}

void
shelf_stop(struct shelf *s)
{
	s->stopping = true;
}

void
shelf_free(struct shelf *s)
{
	if (s == NULL)
		return;
	blob_forget_idle(s, 0);
	for (int i = 0; i < BLOBS_BUCKETS; i++)
		assert(LIST_EMPTY(&s->buckets[i]));
	free(s);
}

/* Manifests may name one hash with different sizes or lists: one of them is
 * wrong, and its readers get nothing of the other's. */
static struct blob *
find(struct shelf *s, const uint8_t sha256[32], const uint8_t list_sha256[32],
    uint64_t size)
{
	struct blob *b;

	LIST_FOREACH(b, &s->buckets[sha256[0] % BLOBS_BUCKETS], link)
	if (!b->gone && b->size == size && memcmp(b->sha256, sha256, 32) == 0 &&
	    memcmp(b->list_sha256, list_sha256, 32) == 0)
		break;
	return b;
}

static void
set_idle(struct blob *b, bool idle)
{
	struct shelf *s = b->shelf;

	if (b->is_idle == idle)
		return;
	b->is_idle = idle;
	if (idle) {
		TAILQ_INSERT_TAIL(&s->idle, b, idle_link);
		s->idle_n++;
	} else {
		TAILQ_REMOVE(&s->idle, b, idle_link);
		s->idle_n--;
	}
}

/* Nobody reads it and no job needs it. */
static void
blob_drop(struct blob *b)
{
	assert(b->readers == 0 && b->jobs == 0);
	set_idle(b, false);
	LIST_REMOVE(b, link);
	b->shelf->counts.open--;
	resident_fini(&b->mem);
	if (b->fd >= 0)
		close(b->fd);
	free(b->have);
	free(b->good);
	free(b->list);
	free(b);
}

static void
maybe_idle(struct blob *b)
{
	if (b->readers > 0 || b->jobs > 0)
		return;
	if (b->gone || b->fd < 0) {
		blob_drop(b);
		return;
	}
	set_idle(b, true);
	blob_forget_idle(b->shelf, IDLE_MAX);
}

void
blob_job_done(struct blob *b)
{
	b->jobs--;
	maybe_idle(b);
}

/* ---- looking at the index ------------------------------------------------ */

struct look {
	struct blob *b;
	struct cache **cache;
	uint8_t sha256[32], list_sha256[32];
	uint64_t size;
	bool open, touch; /* in: the file is to be opened, the row touched */
	int rc, fd;
	struct cache_blob row;
	struct resident mem;
	uint8_t *list;
	size_t list_n;
	int64_t now_s;
};

/* On the disk thread. */
static void
run_look(void *arg)
{
	struct look *l = arg;

	l->fd = -1;
	l->rc = *l->cache != NULL
	    ? cache_blob_get(*l->cache, l->sha256, &l->row)
	    : -EAGAIN;
	if (l->rc != 0)
		return;
	if (l->row.size != l->size ||
	    memcmp(l->row.list_sha256, l->list_sha256, 32) != 0) {
		cache_blob_free(&l->row);
		l->rc = -EBADMSG;
		return;
	}
	if (l->touch)
		cache_blob_touch(*l->cache, l->sha256, l->now_s);
	if (!l->open || !l->row.have_list)
		return;
	if (cache_list_get(*l->cache, l->sha256, &l->list, &l->list_n) != 0)
		return;
	l->fd = cache_blob_open_file(*l->cache, l->sha256, false);
	if (l->fd >= 0) {
		/* Nothing comes into memory but what is being compared. */
		posix_fadvise(l->fd, 0, 0, POSIX_FADV_RANDOM);
		resident_init(&l->mem, l->fd, l->size);
	} else if (l->fd == -ENOENT &&
	    cache_blob_lost(*l->cache, l->sha256) == 1) {
		log_error("firmware cache: a file was taken away: fetched "
			  "again");
		cache_blob_free(&l->row);
		l->rc = -ENOENT;
	}
}

/* The row and what came with it are the blob's now. */
static void
take_row(struct blob *b, struct look *l)
{
	size_t octets = (b->slices + 7) / 8;

	if (l->row.slices != b->slices)
		return;
	if (b->have == NULL)
		b->have = xcalloc(1, octets + 1);
	if (octets > 0)
		memcpy(b->have, l->row.bitmap, octets);
	for (int i = 0; i < WANTS; i++) /* of these something has come */
		if (bit_get(b->have, b->wants[i].first))
			b->wants[i].count = 0;
	if (l->fd < 0)
		return;
	if (l->list_n != 32 * b->slices) {
		close(l->fd);
		resident_fini(&l->mem);
		return;
	}
	b->fd = l->fd;
	b->mem = l->mem;
	b->list = l->list;
	l->list = NULL;
	b->good = xcalloc(1, octets + 1);
	memset(&b->ctime, 0, sizeof(b->ctime));
}

static void
on_looked(void *arg)
{
	struct look *l = arg;
	struct blob *b = l->b;

	b->looking = false;
	b->looked = l->rc != -EAGAIN;
	if (l->rc == 0) {
		take_row(b, l);
		cache_blob_free(&l->row);
	} else if (b->fd >= 0) {
		log_warn("firmware %s is not in the cache any more: %s", b->hex,
		    strerror(-l->rc));
		b->gone = true;
	} else if (l->rc != -ENOENT && l->rc != -EAGAIN) {
		log_error("firmware %s: the cache's index: %s", b->hex,
		    strerror(-l->rc));
	}
	free(l->list);
	free(l);
	if (b->again)
		blob_look(b);
	blob_wake(b, SIZE_MAX);
	blob_job_done(b);
}

void
blob_look(struct blob *b)
{
	struct look *l;
	int64_t now_s = clock_wall_ms() / 1000;

	b->again = b->looking;
	if (b->looking || b->gone || b->shelf->stopping)
		return;
	l = xcalloc(1, sizeof(*l));
	l->b = b;
	l->cache = b->shelf->cache;
	memcpy(l->sha256, b->sha256, 32);
	memcpy(l->list_sha256, b->list_sha256, 32);
	l->size = b->size;
	l->open = b->fd < 0;
	l->now_s = now_s;
	if (b->readers > 0 && now_s - b->touched_s >= TOUCH_S) {
		l->touch = true;
		b->touched_s = now_s;
	}
	b->looking = true;
	b->jobs++;
	set_idle(b, false);
	pool_run(b->shelf->disk, run_look, on_looked, l);
}

void
shelf_look(struct shelf *s, const uint8_t sha256[32])
{
	struct blob *b;

	for (int i = 0; i < BLOBS_BUCKETS; i++)
		LIST_FOREACH(b, &s->buckets[i], link)
	if (sha256 == NULL || memcmp(b->sha256, sha256, 32) == 0)
		blob_look(b);
}

void
blob_watch(struct blob *b)
{
	struct stat st;

	if (b->fd < 0)
		return;
	if (fstat(b->fd, &st) != 0)
		memset(&st, 0, sizeof(st));
	if (st.st_ctim.tv_sec == b->ctime.tv_sec &&
	    st.st_ctim.tv_nsec == b->ctime.tv_nsec)
		return;
	b->ctime = st.st_ctim;
	memset(b->good, 0, (b->slices + 7) / 8);
}

/* ---- readers ------------------------------------------------------------- */

void
shelf_open(struct shelf *s, struct shelf_reader *r, const char *address,
    const uint8_t sha256[32], const uint8_t list_sha256[32], uint64_t size)
{
	struct blob *b = find(s, sha256, list_sha256, size);

	if (b == NULL) {
		b = xcalloc(1, sizeof(*b));
		b->shelf = s;
		memcpy(b->sha256, sha256, 32);
		memcpy(b->list_sha256, list_sha256, 32);
		hex_encode(sha256, 32, b->hex);
		b->size = size;
		b->slices = slices_count(size);
		b->fd = -1;
		LIST_INIT(&b->waiting);
		LIST_INIT(&b->checks);
		LIST_INSERT_HEAD(
		    &s->buckets[sha256[0] % BLOBS_BUCKETS], b, link);
		s->counts.open++;
	}
	set_idle(b, false);
	b->readers++;
	s->counts.readers++;
	r->blob = b;
	r->waits = false;
	share_enter(s, r, address);
	if (b->fd < 0 || clock_wall_ms() / 1000 - b->touched_s >= TOUCH_S)
		blob_look(b);
}

static void
unwait(struct shelf_reader *r)
{
	if (r->waits)
		LIST_REMOVE(r, link);
	r->waits = false;
}

void
shelf_close(struct shelf_reader *r)
{
	struct blob *b = r->blob;

	if (b == NULL)
		return;
	unwait(r);
	share_leave(b->shelf, r);
	r->blob = NULL;
	b->readers--;
	b->shelf->counts.readers--;
	maybe_idle(b);
}

void
blob_wake(struct blob *b, size_t slice)
{
	LIST_HEAD(, shelf_reader) all;
	struct shelf_reader *r, *next;

	LIST_INIT(&all);
	for (r = LIST_FIRST(&b->waiting); r != NULL; r = next) {
		next = LIST_NEXT(r, link);
		if (slice != SIZE_MAX && r->slice != slice)
			continue;
		LIST_REMOVE(r, link);
		LIST_INSERT_HEAD(&all, r, link);
	}
	b->jobs++; /* it stays while they try */
	while ((r = LIST_FIRST(&all)) != NULL) {
		unwait(r);
		r->ready(r);
	}
	b->jobs--; /* the caller has a job or a reader of its own */
}

/* ---- what is missing ----------------------------------------------------- */

/* Ring for slices from first on, unless that was done just now. */
static void
want(struct blob *b, size_t first, size_t last, int64_t now)
{
	struct shelf_calls *calls = &b->shelf->calls;
	size_t count = 0;

	for (int i = 0; i < WANTS; i++)
		if (b->wants[i].count > 0 && first >= b->wants[i].first &&
		    first - b->wants[i].first < b->wants[i].count &&
		    now - b->wants[i].at_ms < WANT_AGAIN_MS)
			return;
	do
		count++;
	while (first + count <= last && !bit_get(b->have, first + count));
	b->wants[b->wants_at].first = first;
	b->wants[b->wants_at].count = count;
	b->wants[b->wants_at].at_ms = now;
	b->wants_at = (b->wants_at + 1) % WANTS;
	calls->want(b->hex, first, count, calls->arg);
}

static void
tick_blob(struct blob *b, int64_t now)
{
	struct shelf_reader *r;
	bool missing = false;

	LIST_FOREACH(r, &b->waiting, link)
	{
		if (b->fd >= 0 && bit_get(b->have, r->slice)) {
			check_for(r);
			continue;
		}
		missing = true;
		if (b->looked)
			want(b, r->slice, r->last, now);
	}
	if (missing)
		blob_look(b);
}

void
shelf_tick(struct shelf *s, int64_t now_ms)
{
	struct blob *b;

	s->now_ms = now_ms;
	for (int i = 0; i < BLOBS_BUCKETS; i++)
		LIST_FOREACH(b, &s->buckets[i], link)
	if (!LIST_EMPTY(&b->waiting))
		tick_blob(b, now_ms);
	shelf_scrub(s);
}

/* ---- what may be sent ---------------------------------------------------- */

static bool
is_good(const struct blob *b, size_t slice)
{
	return b->fd >= 0 && bit_get(b->have, slice) && bit_get(b->good, slice);
}

static enum shelf_answer
wait_for(struct shelf_reader *r, size_t slice, size_t last)
{
	struct blob *b = r->blob;

	r->slice = slice;
	r->last = last;
	r->waits = true;
	LIST_INSERT_HEAD(&b->waiting, r, link);
	if (b->fd >= 0 && bit_get(b->have, slice)) {
		if (!check_for(r))
			return SHELF_BUSY;
	} else if (b->looked) {
		want(b, slice, last, clock_ms());
	}
	return SHELF_WAIT;
}

/* Slices behind those that are sent now are compared meanwhile. */
static void
look_ahead(struct blob *b, size_t slice, size_t last)
{
	for (size_t i = slice; i <= last && i < slice + AHEAD; i++)
		if (bit_get(b->have, i) && !bit_get(b->good, i))
			check_ahead(b, i);
}

enum shelf_answer
shelf_take(struct shelf_reader *r, uint64_t off, uint64_t n, uint64_t *n_out,
    struct evbuffer *copy)
{
	struct blob *b = r->blob;
	size_t slice = off / FIRMWARE_SLICE;
	size_t last = (off + n - 1) / FIRMWARE_SLICE, k = slice;
	uint64_t end;

	assert(n > 0 && off + n <= b->size);
	unwait(r);
	if (b->gone)
		return SHELF_GONE;
	*n_out = check_copy(r, slice, off, n, copy);
	if (*n_out > 0) {
		look_ahead(b, slice + 1, last);
		return SHELF_COPY;
	}
	while (k <= last && is_good(b, k))
		k++;
	if (k == slice)
		return wait_for(r, slice, last);
	look_ahead(b, k, last);
	end = (uint64_t)k * FIRMWARE_SLICE;
	*n_out = (end < off + n ? end : off + n) - off;
	return SHELF_FILE;
}

int
shelf_fd(const struct shelf_reader *r)
{
	return r->blob->fd;
}

bool
shelf_may_send(struct shelf_reader *r, uint64_t off, uint64_t n)
{
	struct blob *b = r->blob;
	size_t first = off / FIRMWARE_SLICE;
	size_t last = (off + n - 1) / FIRMWARE_SLICE;

	if (b->gone)
		return false;
	blob_watch(b);
	for (size_t i = first; i <= last; i++)
		if (!is_good(b, i))
			return false;
	if (resident_has(&b->mem, b->fd, off, n))
		return true;
	for (size_t i = first; i <= last; i++)
		bit_set(b->good, i, false);
	return false;
}

int
shelf_holds(const struct shelf_reader *r, uint64_t off, uint64_t n)
{
	const struct blob *b = r->blob;
	size_t first = off / FIRMWARE_SLICE;
	size_t last = (off + n - 1) / FIRMWARE_SLICE, in = 0;

	if (!b->looked && b->fd < 0)
		return -1;
	for (size_t i = first; i <= last; i++)
		in += bit_get(b->have, i);
	return in == 0 ? 0 : in == last - first + 1 ? 2 : 1;
}

bool
shelf_shared(const struct shelf_reader *r)
{
	const struct shelf_reader *o;

	LIST_FOREACH(o, &r->blob->waiting, link)
	if (o != r)
		return true;
	return false;
}

void
shelf_counts(const struct shelf *s, struct shelf_counts *c_out)
{
	*c_out = s->counts;
}
