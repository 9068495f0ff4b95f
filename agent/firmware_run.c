/*
 * firmware_run.c - a range of a blob, from one origin into the cache
 *
 * What must stay true: a slice is compared with the signed list before its
 * first octet is written, synced before its bit is set, and told to the proxy
 * after that. What arrives goes on slice by slice, so that a device gets the
 * first ones while the last are on the way: the slices that came while the ones
 * before were being written go together, with one sync and one commit. A
 * connection is paused while 1 MiB waits to be written.
 */
#include "firmware_run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "pool.h"
#include "slices.h"
#include "transfer.h"
#include "xalloc.h"

/* Slices on their way to the disk. */
struct run_job {
	struct run *r;
	struct cache *cache;
	uint8_t sha256[32];
	uint64_t size;
	const uint8_t *list; /* the fill's, which stays while runs last */
	size_t first, n;
	char *data[RUN_QUEUE + 1];
	size_t good; /* that fitted, from the first; all of them are set */
	bool bad;
	int rc; /* of the disk */
};

static void job_start(struct run *r);

/* ---- the end ------------------------------------------------------------- */

static void
maybe_over(struct run *r)
{
	struct fill *fl = r->fl;
	bool short_of = false;

	if (r->get != NULL || r->job != NULL)
		return;
	for (size_t i = 0; i < r->n; i++) {
		short_of = short_of || !bit_get(fl->bitmap, r->first + i);
		bit_put(fl->inflight, r->first + i, false);
	}
	uplink_leave(&fl->fs->downlink, &r->waiter);
	TAILQ_REMOVE(&fl->fs->runs, r, link);
	fl->fs->runs_n--;
	fl->runs--;
	fill_run_over(fl, r, short_of);
	for (size_t i = 0; i < r->queue_n; i++)
		free(r->queue[i]);
	free(r->buf);
	free(r);
}

static void
stop_get(struct run *r)
{
	fw_get_cancel(r->get);
	r->get = NULL;
	for (size_t i = 0; i < r->queue_n; i++)
		free(r->queue[i]);
	r->queue_n = 0;
}

void
run_cancel(struct run *r)
{
	r->cancelled = true;
	stop_get(r);
	maybe_over(r);
}

/* ---- to the disk --------------------------------------------------------- */

static int
write_all(int fd, const char *p, size_t n, off_t at)
{
	while (n > 0) {
		ssize_t k = pwrite(fd, p, n, at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		p += k;
		n -= (size_t)k;
		at += k;
	}
	return 0;
}

static void
run_write(void *arg)
{
	struct run_job *j = arg;
	struct stat st;
	int fd;

	for (j->good = 0; j->good < j->n; j->good++) {
		size_t i = j->first + j->good;

		j->bad = !slices_fit(
		    j->list, i, j->data[j->good], slices_length(j->size, i));
		if (j->bad)
			break;
	}
	if (j->good == 0)
		return;
	fd = cache_blob_open_file(j->cache, j->sha256, true);
	j->rc = fd < 0 ? fd : 0;
	for (size_t k = 0; k < j->good && j->rc == 0; k++) {
		size_t i = j->first + k;

		j->rc = write_all(fd, j->data[k], slices_length(j->size, i),
		    (off_t)i * FIRMWARE_SLICE);
	}
	if (j->rc == 0 && (fdatasync(fd) != 0 || fstat(fd, &st) != 0))
		j->rc = -errno;
	if (j->rc == 0)
		j->rc = cache_slices_set(
		    j->cache, j->sha256, j->first, j->good, &st.st_ctim);
	if (fd >= 0)
		close(fd);
	cache_disk_room(j->cache); /* for who begins the next */
}

static void
tell_filled(struct run *r, const struct run_job *j)
{
	struct fill *fl = r->fl;

	for (size_t k = 0; k < j->good; k++)
		bit_put(fl->bitmap, j->first + k, true);
	fl->fs->filled += j->good;
	if (r->ahead)
		ahead_spent(fl->fs->f->ahead, j->good * FIRMWARE_SLICE);
	firmware_tell(
	    fl->fs->f, "filled %s %zu %zu", fl->hex, j->first, j->good);
}

static void
ran_write(void *arg)
{
	struct run_job *j = arg;
	struct run *r = j->r;
	struct fill *fl = r->fl;

	r->job = NULL;
	if (j->rc != 0) {
		r->local = j->rc;
	} else if (j->good > 0) {
		tell_filled(r, j);
	}
	if (j->rc == 0 && j->bad) {
		size_t i = j->first + j->good;

		fl->fs->bad++;
		fl->without[i] |= (uint8_t)FW_BIT(r->from);
		snprintf(r->why, sizeof(r->why),
		    "slice %zu of %.150s is not what was published", i,
		    fl->path);
	}
	for (size_t k = 0; k < j->n; k++)
		free(j->data[k]);
	if (j->rc != 0 || j->bad || fl->dropped)
		stop_get(r);
	free(j);
	if (r->queue_n > 0)
		job_start(r);
	fw_get_resume(r->get); /* may start the next job as well */
	maybe_over(r);
}

static void
job_start(struct run *r)
{
	struct fill *fl = r->fl;
	struct run_job *j = xcalloc(1, sizeof(*j));

	j->r = r;
	j->cache = fl->fs->f->cache;
	memcpy(j->sha256, fl->sha256, 32);
	j->size = fl->size;
	j->list = fl->list;
	j->n = r->queue_n;
	j->first = r->first + r->got - r->queue_n;
	memcpy(j->data, r->queue, r->queue_n * sizeof(r->queue[0]));
	r->queue_n = 0;
	r->job = j;
	pool_run(fl->fs->f->pool, run_write, ran_write, j);
}

/* ---- from the origin ----------------------------------------------------- */

static void
on_room(void *arg)
{
	struct run *r = arg;

	fw_get_resume(r->get);
}

/* Enough of the rate for n octets; false: on_room() will be called. */
static bool
rate_allows(struct run *r, size_t n)
{
	while (r->credit < n) {
		size_t k = uplink_take(
		    &r->fl->fs->downlink, &r->waiter, n - r->credit);

		if (k == 0)
			return false;
		r->credit += k;
	}
	r->credit -= n;
	return true;
}

static int
on_octets(void *arg, const char *p, size_t n)
{
	struct run *r = arg;
	struct fill *fl = r->fl;

	if (r->got == r->n) {
		snprintf(
		    r->why, sizeof(r->why), "sent more than was asked for");
		return -EMSGSIZE;
	}
	if (r->buf_n + n >= slices_length(fl->size, r->first + r->got) &&
	    r->queue_n >= RUN_QUEUE)
		return -EAGAIN; /* until ran_write() */
	if (!rate_allows(r, n))
		return -EAGAIN;
	while (n > 0) {
		size_t want = slices_length(fl->size, r->first + r->got), k;

		if (r->got == r->n) {
			snprintf(r->why, sizeof(r->why),
			    "sent more than was asked for");
			return -EMSGSIZE;
		}
		if (r->buf == NULL)
			r->buf = xmalloc(want);
		k = n < want - r->buf_n ? n : want - r->buf_n;
		memcpy(r->buf + r->buf_n, p, k);
		r->buf_n += k;
		p += k;
		n -= k;
		if (r->buf_n < want)
			continue;
		r->queue[r->queue_n++] = r->buf;
		r->buf = NULL;
		r->buf_n = 0;
		r->got++;
	}
	if (r->queue_n > 0 && r->job == NULL)
		job_start(r);
	return 0;
}

static void
on_end(const struct fw_result *x, void *arg)
{
	struct run *r = arg;

	r->get = NULL;
	r->status = x->status;
	if (r->why[0] == '\0' && (x->rc != 0 || x->why != NULL))
		snprintf(r->why, sizeof(r->why), "%s",
		    x->why != NULL ? x->why : strerror(-x->rc));
	else if (r->why[0] == '\0' && r->got < r->n)
		snprintf(r->why, sizeof(r->why), "sent less than it said");
	maybe_over(r);
}

void
run_start(struct fill *fl, enum fw_from from, size_t first, size_t n,
    const char *storage, bool hurry, bool ahead)
{
	struct run *r = xcalloc(1, sizeof(*r));
	struct xfer_sink sink = { NULL, on_octets, r };
	uint64_t last = (uint64_t)(first + n) * FIRMWARE_SLICE;
	struct fw_get_request rq = { .from = from,
		.path = fl->path,
		.storage = storage,
		.ranged = true,
		.offset = (uint64_t)first * FIRMWARE_SLICE,
		.sink = &sink,
		.hurry = hurry };

	rq.length = (last < fl->size ? last : fl->size) - rq.offset;
	r->fl = fl;
	r->from = from;
	r->first = first;
	r->n = n;
	r->ahead = ahead;
	r->waiter.go = on_room;
	r->waiter.arg = r;
	for (size_t i = 0; i < n; i++)
		bit_put(fl->inflight, first + i, true);
	TAILQ_INSERT_TAIL(&fl->fs->runs, r, link);
	fl->fs->runs_n++;
	fl->fs->asked++;
	fl->runs++;
	log_debug("firmware %s: slices %zu+%zu from %s%s", fl->path, first, n,
	    fw_from_name(from), ahead ? " ahead" : "");
	r->get = fw_get(fl->fs->f->origins, &rq, on_end, r);
}
