/*
 * spool_view.c - looking into the spool
 *
 * What must stay true: a look is one short read transaction on the index
 * thread, and none at all while nothing has changed, because even a reader
 * writes: its slot lies in the lock file. What the writer has acknowledged but
 * not yet indexed is told as well.
 */
#include "spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "footer.h"
#include "json.h"
#include "log.h"
#include "spool_internal.h"
#include "xalloc.h"

void
spool_item_from_row(
    const struct spool *sp, const struct index_txn *t, struct row *r)
{
	struct spool_item *it = &r->item;

	layout_id(sp->l.epoch, it->seq, it->id);
	it->due_in_ms = it->state == SPOOL_WAITING && r->due_clock > t->now
	    ? r->due_clock - t->now
	    : 0;
	it->age_ms =
	    t->now > r->received_clock ? t->now - r->received_clock : 0;
}

void
spool_row_damaged(struct spool *sp, uint64_t seq)
{
	log_error("index row seq=%llu is damaged: the index is made anew at "
		  "the next start of edgehaul-proxy",
	    (unsigned long long)seq);
	index_mark_damaged(sp->ix);
}

/* ---- lists ----------------------------------------------------------------
 */

enum view { VIEW_READY, VIEW_LIST, VIEW_FIND };

struct view_job {
	struct index_job job;
	struct spool *sp;
	enum view what;
	uint64_t after;
	int64_t ahead_ms;
	size_t max, n;
	struct spool_item *items;
	struct index_txn *t;
	spool_items_fn fn;
	void *arg;
};

static int
keep_row(struct view_job *v, struct row *r)
{
	spool_item_from_row(v->sp, v->t, r);
	v->items = xrealloc(v->items, (v->n + 1) * sizeof(*v->items));
	v->items[v->n++] = r->item;
	memset(&r->item, 0, sizeof(r->item)); /* its texts are ours now */
	return v->n >= v->max;
}

static int
on_row(uint64_t seq, struct row *r, void *arg)
{
	struct view_job *v = arg;

	if (r == NULL) {
		spool_row_damaged(v->sp, seq);
		return 0;
	}
	if (v->what == VIEW_READY && r->due_clock != 0)
		return 0; /* the table of due times tells of it */
	return keep_row(v, r);
}

static int
on_due(uint64_t seq, void *arg)
{
	struct view_job *v = arg;
	struct row r;

	if (index_get(v->t, seq, &r) != 0)
		return 0;
	if (r.item.state != SPOOL_WAITING) {
		spool_item_fini(&r.item);
		return 0;
	}
	return keep_row(v, &r);
}

/* Nothing committed since a look that found nothing, and nothing fell due:
 * then a read transaction would only dirty the lock file. */
static bool
still_quiet(struct index_job *j)
{
	struct view_job *v = (struct view_job *)j;
	struct spool *sp = v->sp;

	return sp->quiet && v->ahead_ms == 0 && v->after >= sp->quiet_after &&
	    index_last_txn(sp->ix) == sp->quiet_txn &&
	    clock_ms() < sp->quiet_until;
}

static int
view_ready(struct view_job *v)
{
	struct spool *sp = v->sp;
	int64_t next,
	    until = v->ahead_ms > INT64_MAX - v->t->now
	    ? INT64_MAX - 1
	    : v->t->now + v->ahead_ms;
	uint64_t txn = index_last_txn(sp->ix);
	int rc = index_walk_due(v->t, until, on_due, v, &next);

	if (rc == 0 && v->n < v->max) {
		rc = index_walk(v->t, v->after, SPOOL_WAITING, on_row, v);
		if (rc > 0)
			rc = 0;
	}
	sp->next_due = next == INT64_MAX ? -1 : clock_ms() + (next - v->t->now);
	sp->quiet = rc == 0 && v->n == 0 && v->ahead_ms == 0;
	sp->quiet_txn = txn;
	sp->quiet_after = v->after;
	sp->quiet_until = next == INT64_MAX ? INT64_MAX : sp->next_due;
	return rc;
}

static int
run_view(struct index_txn *t, struct index_job *j)
{
	struct view_job *v = (struct view_job *)j;
	struct row r;
	int rc = 0;

	v->t = t;
	if (v->what == VIEW_READY) {
		rc = view_ready(v);
	} else if (v->what == VIEW_LIST) {
		rc = index_walk(t, v->after, -1, on_row, v);
		if (rc > 0)
			rc = 0;
	} else if ((rc = index_get(t, v->after, &r)) == 0) {
		keep_row(v, &r);
	} else if (rc == -ENOENT) {
		rc = 0;
	}
	return rc;
}

static void
on_viewed(struct index_job *j)
{
	struct view_job *v = (struct view_job *)j;

	v->fn(j->rc, v->items, v->n, v->arg);
	for (size_t i = 0; i < v->n; i++)
		spool_item_fini(&v->items[i]);
	free(v->items);
	free(v);
}

static struct view_job *
view_new(struct spool *sp, enum view what, uint64_t after, size_t max,
    spool_items_fn fn, void *arg)
{
	struct view_job *v = xcalloc(1, sizeof(*v));

	v->job = (struct index_job){ .run = run_view, .done = on_viewed };
	v->sp = sp;
	v->what = what;
	v->after = after;
	v->max = max;
	v->fn = fn;
	v->arg = arg;
	return v;
}

void
spool_ready(struct spool *sp, uint64_t after, int64_t ahead_ms, size_t max,
    spool_items_fn fn, void *arg)
{
	struct view_job *v = view_new(sp, VIEW_READY, after, max, fn, arg);

	v->ahead_ms = ahead_ms;
	v->job.skip = still_quiet;
	index_submit(sp->ix, &v->job);
}

int64_t
spool_next_due_ms(const struct spool *sp)
{
	int64_t next = sp->next_due, now = clock_ms();

	return next < 0 ? -1 : next > now ? next - now : 0;
}

void
spool_list(
    struct spool *sp, uint64_t after, size_t max, spool_items_fn fn, void *arg)
{
	struct view_job *v = view_new(sp, VIEW_LIST, after, max, fn, arg);

	index_submit(sp->ix, &v->job);
}

/* The writer may know it before the index does. */
static bool
find_unindexed(struct spool *sp, uint64_t seq, struct spool_item *out)
{
	struct add_job *a;
	bool found = false;

	pthread_mutex_lock(&sp->mutex);
	STAILQ_FOREACH(a, &sp->unindexed, link)
	if (a->item.seq == seq) {
		*out = a->item; /* texts are borrowed */
		found = true;
		break;
	}
	pthread_mutex_unlock(&sp->mutex);
	return found;
}

void
spool_find(struct spool *sp, const char *id, spool_items_fn fn, void *arg)
{
	struct spool_item it;
	struct view_job *v;
	uint64_t seq;

	if (!layout_parse_id(sp->l.epoch, id, &seq)) {
		fn(0, NULL, 0, arg);
		return;
	}
	/* Only the loop frees what stands in unindexed. */
	if (find_unindexed(sp, seq, &it)) {
		it.age_ms = 0;
		fn(0, &it, 1, arg);
		return;
	}
	v = view_new(sp, VIEW_FIND, seq, 1, fn, arg);
	index_submit(sp->ix, &v->job);
}

/* ---- status ---------------------------------------------------------------
 */

struct status_job {
	struct index_job job;
	uint64_t folders, txn;
	struct spool *sp;
	struct index_state st;
	int64_t oldest_ms;
	uint64_t order; /* rows of uploads up to it are in st */
	void (*fn)(int rc, const struct spool_status *st, void *arg);
	void *arg;
	struct index_txn *t;
};

static int
on_oldest(uint64_t seq, struct row *r, void *arg)
{
	struct status_job *s = arg;

	if (r == NULL || r->item.state == SPOOL_QUARANTINED)
		return 0;
	spool_item_from_row(s->sp, s->t, r);
	s->oldest_ms = r->item.age_ms;
	return 1;
}

/* The last look, for when nothing has changed since. */
struct status_seen {
	uint64_t txn, folders;
	int64_t oldest_ms, at_ms;
	struct index_state st;
};

static bool
status_same(struct index_job *j)
{
	struct status_job *s = (struct status_job *)j;
	const struct status_seen *seen = s->sp->status;

	if (seen == NULL || seen->txn != index_last_txn(s->sp->ix))
		return false;
	s->st = seen->st;
	s->order = s->sp->order_done;
	s->folders = seen->folders;
	s->oldest_ms = seen->oldest_ms < 0
	    ? -1
	    : seen->oldest_ms + clock_ms() - seen->at_ms;
	return true;
}

static int
run_status(struct index_txn *t, struct index_job *j)
{
	struct status_job *s = (struct status_job *)j;
	int rc;

	s->t = t;
	s->st = *t->st;
	s->txn = mdb_txn_id(t->txn);
	s->order = s->sp->order_done;
	s->oldest_ms = -1;
	rc = index_walk(t, 0, -1, on_oldest, s);
	return rc < 0 ? rc : 0;
}

/* On the index thread: folders are looked at, no file is. */
static void
settle_status(struct index_job *j)
{
	struct status_job *s = (struct status_job *)j;
	uint64_t *prefixes = NULL;
	size_t n = 0;

	if (recover_list_dirs(&s->sp->l, &prefixes, &n) == 0)
		s->folders = n;
	free(prefixes);
	if (j->rc != 0)
		return;
	if (s->sp->status == NULL)
		s->sp->status = xcalloc(1, sizeof(*s->sp->status));
	*s->sp->status = (struct status_seen){ s->txn, s->folders, s->oldest_ms,
		clock_ms(), s->st };
}

/* The ledger as the world sees it: what was acknowledged counts. */
static void
on_status(struct index_job *j)
{
	struct status_job *s = (struct status_job *)j;
	struct spool *sp = s->sp;
	struct index_state *x = &s->st;
	const char *trouble;
	struct spool_status st = { .accepted = x->accepted,
		.quarantined = x->quarantined,
		.waiting = x->waiting,
		.waiting_bytes = x->waiting_bytes,
		.accepted_bytes = x->accepted_bytes,
		.delivered_bytes = x->delivered_bytes,
		.sending = x->sending,
		.held = x->held,
		.since_wall_ms = x->since_wall_ms,
		.oldest_age_ms = s->oldest_ms,
		.disk_free = sp->disk_free,
		.folders = s->folders,
		.max_size = sp->opt.max_size,
		.rebuilding =
		    x->rebuild_next <= x->rebuild_end && x->rebuild_end != 0,
		.full = sp->full };

	memcpy(st.ends, x->ends, sizeof(st.ends));
	pthread_mutex_lock(&sp->mutex);
	st.not_indexed = sp->order > s->order ? sp->order - s->order : 0;
	pthread_mutex_unlock(&sp->mutex);
	st.accepted += st.not_indexed;
	st.waiting += st.not_indexed;
	st.index_percent = (unsigned)(sp->index_used * 100 / sp->l.index_size);
	trouble = spool_trouble(sp);
	st.failing = trouble != NULL;
	if (st.failing || sp->full)
		snprintf(st.why, sizeof(st.why), "%s",
		    st.failing ? trouble : sp->why);
	s->fn(j->rc, &st, s->arg);
	free(s);
}

void
spool_status(struct spool *sp,
    void (*fn)(int rc, const struct spool_status *st, void *arg), void *arg)
{
	struct status_job *s = xcalloc(1, sizeof(*s));

	s->job = (struct index_job){ .skip = status_same,
		.run = run_status,
		.settle = settle_status,
		.done = on_status };
	s->sp = sp;
	s->fn = fn;
	s->arg = arg;
	index_submit(sp->ix, &s->job);
}
