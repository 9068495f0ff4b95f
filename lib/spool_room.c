/*
 * spool_room.c - may an upload of this size be taken?
 *
 * What must stay true: what is being received counts as if it were there, in
 * octets and in rows, so that nothing accepted ever lacks room; the index
 * keeps a reserve, because even taking a row out needs pages; once full, some
 * room more than the last octet must come free before uploads are taken again.
 */
#include "spool.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "clock.h"
#include "log.h"
#include "spool_internal.h"

#define BACKLOG_MAX 4096 /* uploads not yet indexed */
#define BACKLOG_MS 10000 /* and for how long */
#define FAILURES_MAX 5   /* in a row; then ingest rests */
#define FAILURES_REST_MS 5000
#define INDEX_FULL_PERCENT 70
#define INODES_FLOOR 256
#define HYSTERESIS 50 /* 2 % */
#define PER_FILE 512  /* footer, counted with the body */
#define ROW_USUAL 512 /* octets of a row, of an upload not yet named */

/* ---- room -----------------------------------------------------------------
 */

static int
no_room(struct spool *sp, int rc, const char **why_out, const char *fmt,
    uint64_t have, uint64_t limit)
{
	snprintf(sp->why, sizeof(sp->why), fmt, (unsigned long long)have,
	    (unsigned long long)limit);
	if (rc == -ENOSPC && !sp->full) {
		sp->full = true;
		log_error("%s: refusing uploads until there is room", sp->why);
	}
	*why_out = sp->why;
	return rc;
}

/* Once full, some room more than the last byte must come free. */
static uint64_t
with_hysteresis(const struct spool *sp, uint64_t limit)
{
	return sp->full ? limit / HYSTERESIS : 0;
}

/* Octets of the map in use, or soon: rows since it was last measured, rows to
 * come, rows of uploads in hand. */
static uint64_t
index_claimed(struct spool *sp)
{
	uint64_t n =
	    sp->index_used + sp->rows_since + incoming_live(sp->in) * ROW_USUAL;

	pthread_mutex_lock(&sp->mutex);
	n += sp->unindexed_rows;
	pthread_mutex_unlock(&sp->mutex);
	return n;
}

/* lack_out: what would have to go, the slack of hysteresis included. */
static int
check_space(struct spool *sp, uint64_t size, const char **why_out,
    struct spool_lack *lack_out)
{
	uint64_t used, pending, coming, slack, limit;
	const struct add_job *a;
	struct index_state st;

	index_snapshot(sp->ix, &st);
	pthread_mutex_lock(&sp->mutex);
	pending = sp->unindexed_bytes + sp->unindexed_n * PER_FILE;
	/* Committed, and so in st, but the loop has not heard of it yet. */
	STAILQ_FOREACH(a, &sp->unindexed, link)
	{
		if (a->item.seq > st.upto)
			break;
		pending -= a->item.size + PER_FILE;
	}
	pthread_mutex_unlock(&sp->mutex);
	pending += incoming_reserved(sp->in);
	/* What the last look at the disk could not see. */
	coming = sp->disk_written; /* read first: it only grows, as this does */
	coming = sp->written - coming + incoming_to_write(sp->in);
	used = st.waiting_bytes + st.quarantined_bytes +
	    (st.waiting + st.quarantined) * PER_FILE + pending;
	*lack_out = (struct spool_lack){ .held = used - st.quarantined_bytes -
		    st.quarantined * PER_FILE };
	slack = with_hysteresis(sp, sp->opt.max_size);
	limit = sp->opt.max_size - sp->opt.max_size / HYSTERESIS;
	if (used + slack + size + PER_FILE > sp->opt.max_size) {
		lack_out->octets = used + size + PER_FILE - limit;
		return no_room(sp, -ENOSPC, why_out,
		    "spool full used=%llu max_size=%llu", used,
		    sp->opt.max_size);
	}
	slack = with_hysteresis(sp, sp->opt.free_floor);
	limit = sp->opt.free_floor + sp->opt.free_floor / HYSTERESIS;
	if (sp->disk_free < sp->opt.free_floor + slack + size + coming) {
		lack_out->octets = limit + size + coming - sp->disk_free;
		return no_room(sp, -ENOSPC, why_out,
		    "disk full free=%llu free_floor=%llu", sp->disk_free,
		    sp->opt.free_floor);
	}
	if (sp->inodes_free < INODES_FLOOR) {
		lack_out->files = 2 * INODES_FLOOR - sp->inodes_free;
		return no_room(sp, -ENOSPC, why_out,
		    "disk out of inodes free=%llu floor=%llu", sp->inodes_free,
		    INODES_FLOOR);
	}
	limit = sp->l.index_size / 100 * INDEX_FULL_PERCENT;
	used = index_claimed(sp);
	if (used + with_hysteresis(sp, limit) > limit) {
		lack_out->files =
		    (used + limit / HYSTERESIS - limit) / ROW_USUAL + 1;
		return no_room(sp, -ENOSPC, why_out,
		    "index full used=%llu limit=%llu", used, limit);
	}
	return 0;
}

void
spool_lacks(struct spool *sp, uint64_t size, struct spool_lack *lack_out)
{
	const char *why;

	check_space(sp, size, &why, lack_out);
}

const char *
spool_trouble(const struct spool *sp)
{
	int64_t failed_ms;

	if (sp->read_only)
		return "the disk is read-only";
	if (sp->in != NULL &&
	    incoming_failures(sp->in, &failed_ms) >= FAILURES_MAX &&
	    clock_ms() - failed_ms < FAILURES_REST_MS)
		return "the disk is failing";
	return NULL;
}

static int
check_backlog(struct spool *sp, const char **why_out)
{
	uint64_t n, pending;
	int64_t age;

	*why_out = spool_trouble(sp);
	if (*why_out != NULL)
		return -EBUSY;
	incoming_backlog(sp->in, &n, &age);
	pthread_mutex_lock(&sp->mutex);
	pending = sp->unindexed_n;
	if (!STAILQ_EMPTY(&sp->unindexed)) {
		int64_t a =
		    clock_ms() - STAILQ_FIRST(&sp->unindexed)->job.queued_ms;

		if (a > age)
			age = a;
	}
	pthread_mutex_unlock(&sp->mutex);
	if (n + pending > BACKLOG_MAX || age > BACKLOG_MS)
		return no_room(sp, -EBUSY, why_out,
		    "index behind uploads=%llu age_ms=%llu", n + pending,
		    (uint64_t)age);
	return 0;
}

int
spool_reserve(struct spool *sp, uint64_t size, struct spool_upload **u_out,
    const char **why_out)
{
	uint64_t known = size == UINT64_MAX ? 0 : size;
	struct spool_lack lack;
	int rc;

	assert(sp->role == SPOOL_WRITER);
	if (known > sp->opt.max_upload)
		return no_room(sp, -EFBIG, why_out,
		    "upload too large size=%llu max_upload=%llu", known,
		    sp->opt.max_upload);
	rc = check_space(sp, known, why_out, &lack);
	if (rc == 0) {
		if (sp->full)
			log_info("spool has room again: taking uploads");
		sp->full = false;
		rc = check_backlog(sp, why_out);
	}
	if (rc != 0)
		return rc;
	*u_out = incoming_begin(sp->in, size);
	return 0;
}

int
spool_room(struct spool *sp, uint64_t size, const char **why_out)
{
	struct spool_lack lack;

	return check_space(sp, size, why_out, &lack);
}
