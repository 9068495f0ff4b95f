/*
 * shelf_check.c - slices compared with the signed list, on threads
 *
 * A thread reads the slice into memory and compares that. If the file did not
 * change meanwhile and is not being written, the slice counts as good and
 * leaves by sendfile(2) while it stays in memory; else, for instance during a
 * fill, the very octets that were compared are sent to all who wait for them.
 *
 * A copy that was lent comes back when it was sent, so who does not read keeps
 * it. Hence a reader has one at most, the readers of one address LENT_MAX, and
 * half of all copies are for addresses that have none. A few octets of a slice
 * are copied instead.
 *
 * A file that was changed less than RACY_MS before is taken for one that is
 * being written: clocks of file systems are coarse, two changes may have one
 * ctime.
 */
#include "shelf_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <event2/buffer.h>

#include "cache.h"
#include "log.h"
#include "pool.h"
#include "read_at.h"
#include "slices.h"
#include "text_hash.h"
#include "xalloc.h"

#define COPIES_MAX 32 /* slices in memory at one time */
#define LENT_MAX 8    /* of them to one address */
#define SMALL 8192    /* octets that are copied rather than lent */
#define RACY_MS 20

/* One slice; shared by those who send it. */
struct check {
	LIST_ENTRY(check) link; /* of the blob, while under way */
	struct blob *blob;
	struct shelf *shelf;
	size_t slice, n;
	int fd, rc;
	bool still; /* the file did not change while it was read */
	struct timespec ctime;
	unsigned refs, loans;
	struct shelf_share *share; /* begun for; NULL: ahead */
	char *data;
};

/* The readers of one address. */
struct shelf_share {
	LIST_ENTRY(shelf_share) link;
	char *address;
	unsigned refs, lent, coming; /* coming: checks begun for its readers */
};
/* A copy on its way to a reader. */
struct shelf_loan {
	struct check *check;
	struct shelf_share *share;
	struct shelf_reader *reader; /* NULL: it is gone */
};

static void start(struct blob *b, size_t slice, struct shelf_share *sh);

/* ---- what is lent -------------------------------------------------------- */

/* Somebody waits who could not be served for want of memory. */
static void
feed_starved(struct shelf *s)
{
	struct shelf_reader *r;
	struct blob *b;

	s->starved = false;
	for (int i = 0; i < BLOBS_BUCKETS; i++)
		LIST_FOREACH(b, &s->buckets[i], link)
	LIST_FOREACH(r, &b->waiting, link)
	if (b->fd >= 0 && bit_get(b->have, r->slice))
		check_for(r);
}

static void
put_check(struct check *c)
{
	struct shelf *s = c->shelf;

	if (--c->refs > 0)
		return;
	s->copies--;
	free(c->data);
	free(c);
	if (s->starved)
		feed_starved(s);
}

static struct shelf_share *
share_find(struct shelf *s, const char *address)
{
	unsigned i = text_hash(address) % SHARES_BUCKETS;
	struct shelf_share *sh;

	LIST_FOREACH(sh, &s->shares[i], link)
	if (strcmp(sh->address, address) == 0)
		return sh;
	sh = xcalloc(1, sizeof(*sh));
	sh->address = xstrdup(address);
	LIST_INSERT_HEAD(&s->shares[i], sh, link);
	return sh;
}

static void
share_put(struct shelf_share *sh)
{
	if (--sh->refs > 0)
		return;
	LIST_REMOVE(sh, link);
	free(sh->address);
	free(sh);
}

void
share_enter(struct shelf *s, struct shelf_reader *r, const char *address)
{
	r->share = share_find(s, address);
	r->share->refs++;
	r->loan = NULL;
}

void
share_leave(struct shelf *s, struct shelf_reader *r)
{
	if (r->loan != NULL)
		r->loan->reader = NULL;
	r->loan = NULL;
	share_put(r->share);
	r->share = NULL;
}

/* lent: to its address; all: to everyone. */
static bool
may_lend(const struct shelf_reader *r, unsigned lent, unsigned all)
{
	return r->loan == NULL &&
	    (lent == 0 || (lent < LENT_MAX && all < COPIES_MAX / 2));
}

/* What was begun for others is theirs: so no check is made for nothing, and
 * who is refused here was not to be lent anything either. */
bool
check_for(struct shelf_reader *r)
{
	struct shelf *s = r->blob->shelf;
	struct shelf_share *sh = r->share;

	if (!may_lend(r, sh->lent + sh->coming, s->lent + s->coming)) {
		s->starved = true;
		return false;
	}
	start(r->blob, r->slice, sh);
	return true;
}

/* ---- on a thread --------------------------------------------------------- */

int
check_slice(int fd, const uint8_t *list, size_t slice, char *data, size_t n)
{
	if (read_at(fd, data, n, (off_t)slice * FIRMWARE_SLICE) != 0)
		return -EIO; /* also if it is not all there */
	return slices_fit(list, slice, data, n) ? 0 : -EBADMSG;
}

static bool
racy(const struct timespec *t)
{
	struct timespec now;
	int64_t ms;

	clock_gettime(CLOCK_REALTIME, &now);
	ms = (now.tv_sec - t->tv_sec) * 1000 +
	    (now.tv_nsec - t->tv_nsec) / 1000000;
	return ms >= 0 && ms < RACY_MS;
}

static void
run_check(void *arg)
{
	struct check *c = arg;
	struct stat before, after;

	c->rc = -EIO;
	if (fstat(c->fd, &before) != 0)
		return;
	c->rc = check_slice(c->fd, c->blob->list, c->slice, c->data, c->n);
	c->ctime = before.st_ctim;
	c->still = fstat(c->fd, &after) == 0 &&
	    after.st_ctim.tv_sec == before.st_ctim.tv_sec &&
	    after.st_ctim.tv_nsec == before.st_ctim.tv_nsec &&
	    !racy(&before.st_ctim);
}

/* ---- damage -------------------------------------------------------------- */

struct damage {
	struct blob *b;
	struct cache **cache;
	size_t slice;
	bool is;
	int rc;
};

/* The bitmap that we went by may have been old: look and compare again, then
 * take the bit away. On the disk thread. */
static void
run_damage(void *arg)
{
	struct damage *d = arg;
	const struct blob *b = d->b;
	size_t n = slices_length(b->size, d->slice);
	struct cache_blob row;
	char *data;

	d->rc = *d->cache != NULL ? cache_blob_get(*d->cache, b->sha256, &row)
				  : -EAGAIN;
	if (d->rc != 0)
		return;
	d->is = d->slice < row.slices && bit_get(row.bitmap, d->slice);
	cache_blob_free(&row);
	if (!d->is)
		return;
	data = xmalloc(n);
	d->is = check_slice(b->fd, b->list, d->slice, data, n) != 0;
	free(data);
	if (d->is)
		d->rc = cache_slices_clear(*d->cache, b->sha256, d->slice, 1);
}

static void
on_damage(void *arg)
{
	struct damage *d = arg;
	struct blob *b = d->b;

	if (d->is) {
		b->shelf->counts.damaged++;
		log_error("firmware %s slice=%zu is damaged on disk: not "
			  "served, %s",
		    b->hex, d->slice,
		    d->rc == 0 ? "fetched again"
			       : "and the index cannot be written");
	}
	free(d);
	blob_look(b);
	blob_job_done(b);
}

static void
damaged(struct blob *b, size_t slice)
{
	struct damage *d = xcalloc(1, sizeof(*d));

	d->b = b;
	d->cache = b->shelf->cache;
	d->slice = slice;
	bit_set(b->have, slice, false); /* the next look tells again */
	b->jobs++;
	pool_run(b->shelf->disk, run_damage, on_damage, d);
}

/* ---- on the loop --------------------------------------------------------- */

static void
on_checked(void *arg)
{
	struct check *c = arg;
	struct blob *b = c->blob;
	struct shelf *s = c->shelf;

	LIST_REMOVE(c, link);
	s->counts.checked++;
	if (c->share != NULL) {
		c->share->coming--;
		s->coming--;
		share_put(c->share);
	}
	if (c->rc != 0) {
		damaged(b, c->slice);
	} else {
		blob_watch(b);
		if (c->still && c->ctime.tv_sec == b->ctime.tv_sec &&
		    c->ctime.tv_nsec == b->ctime.tv_nsec)
			bit_set(b->good, c->slice, true);
		b->fresh = c;
		blob_wake(b, c->slice);
		b->fresh = NULL;
	}
	put_check(c);
	if (s->starved)
		feed_starved(s);
	blob_job_done(b);
}

static void
start(struct blob *b, size_t slice, struct shelf_share *sh)
{
	struct shelf *s = b->shelf;
	struct check *c;

	if (b->list == NULL || b->gone || s->stopping)
		return;
	LIST_FOREACH(c, &b->checks, link)
	if (c->slice == slice)
		return;
	if (s->copies >= COPIES_MAX) {
		s->starved = true; /* the tick tries again, too */
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->blob = b;
	c->shelf = s;
	c->slice = slice;
	c->n = slices_length(b->size, slice);
	c->fd = b->fd;
	c->refs = 1;
	c->data = xmalloc(c->n);
	s->copies++;
	b->jobs++;
	LIST_INSERT_HEAD(&b->checks, c, link);
	if (sh != NULL) {
		c->share = sh;
		sh->refs++;
		sh->coming++;
		s->coming++;
	}
	pool_run(s->readers, run_check, on_checked, c);
}

void
check_ahead(struct blob *b, size_t slice)
{
	start(b, slice, NULL);
}

/* ---- to a reader --------------------------------------------------------- */

static void
on_sent(const void *data, size_t n, void *arg)
{
	struct shelf_loan *l = arg;
	struct check *c = l->check;
	struct shelf *s = c->shelf;

	l->share->lent--;
	share_put(l->share);
	s->lent -= --c->loans == 0;
	if (l->reader != NULL)
		l->reader->loan = NULL;
	free(l);
	put_check(c);
	if (s->starved)
		feed_starved(s);
}

static bool
lend(struct shelf_reader *r, struct check *c, uint64_t at, uint64_t n,
    struct evbuffer *out)
{
	struct shelf_loan *l;

	/* what others have costs nothing more */
	if (!may_lend(r, c->loans > 0 ? 0 : r->share->lent, c->shelf->lent))
		return false;
	l = xcalloc(1, sizeof(*l));
	l->check = c;
	l->share = r->share;
	l->reader = r;
	if (evbuffer_add_reference(out, c->data + at, n, on_sent, l) != 0) {
		free(l);
		return false;
	}
	c->refs++;
	c->shelf->lent += c->loans++ == 0;
	r->loan = l;
	r->share->refs++;
	r->share->lent++;
	return true;
}

uint64_t
check_copy(struct shelf_reader *r, size_t slice, uint64_t off, uint64_t n,
    struct evbuffer *out)
{
	struct blob *b = r->blob;
	struct check *c = b->fresh;
	uint64_t at = off - (uint64_t)slice * FIRMWARE_SLICE;

	if (c == NULL || c->slice != slice ||
	    (bit_get(b->good, slice) &&
		resident_has(
		    &b->mem, b->fd, (uint64_t)slice * FIRMWARE_SLICE, c->n)))
		return 0;
	if (n > c->n - at)
		n = c->n - at;
	if (n <= SMALL ? evbuffer_add(out, c->data + at, n) != 0
		       : !lend(r, c, at, n, out))
		return 0;
	b->shelf->counts.copied++;
	return n;
}
