/*
 * spool_evict.c - the oldest give way to the newest, or to time
 *
 * What must stay true: an upload that is being sent is never evicted (the
 * states that are looked at are those of the same transaction), each one that
 * goes has its log line and its column in the ledger, the file goes after the
 * row.
 */
#include "spool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "repeat.h"
#include "spool_internal.h"
#include "xalloc.h"

#define MANY 256

struct evict_job {
	struct index_job job;
	struct spool *sp;
	uint64_t octets, files; /* evict until so many have gone, or */
	uint64_t freed;
	int64_t max_age_ms; /* expire what is older; 0: evict */
	struct spool_item gone[MANY];
	size_t n;
	int rc; /* known before it runs */
	spool_fn fn;
	void *arg;
	struct index_txn *t;
};

static void
forget(struct evict_job *e)
{
	for (size_t i = 0; i < e->n; i++)
		spool_item_fini(&e->gone[i]);
	e->n = 0;
	e->freed = 0;
}

static int
on_row(uint64_t seq, struct row *r, void *arg)
{
	struct evict_job *e = arg;

	if (r == NULL ||
	    (r->item.state != SPOOL_WAITING && r->item.state != SPOOL_HELD))
		return 0;
	spool_item_from_row(e->sp, e->t, r);
	if (e->max_age_ms != 0 && r->item.age_ms <= e->max_age_ms)
		return 1; /* the next ones are younger */
	e->freed += r->item.size;
	e->gone[e->n++] = r->item;
	memset(&r->item, 0, sizeof(r->item));
	return (e->max_age_ms == 0 && e->freed >= e->octets &&
		   e->n >= e->files) ||
	    e->n == MANY;
}

static const char *
reason(const struct evict_job *e)
{
	return e->max_age_ms != 0 ? "it waited for longer than max_age"
				  : "the spool is full, the oldest goes";
}

static int
run_evict(struct index_txn *t, struct index_job *j)
{
	struct evict_job *e = (struct evict_job *)j;
	int rc;

	forget(e); /* of a batch that was tried again */
	e->t = t;
	rc = index_walk(t, 0, -1, on_row, e);
	if (rc > 0)
		rc = 0;
	for (size_t i = 0; rc == 0 && i < e->n; i++) {
		struct row r;

		rc = index_get(t, e->gone[i].seq, &r);
		if (rc == 0) {
			spool_set_text(&r.item.last_error, reason(e));
			rc = spool_row_end(t, &r,
			    e->max_age_ms != 0 ? SPOOL_EXPIRED : SPOOL_EVICTED);
			spool_item_fini(&r.item);
		}
	}
	return rc;
}

static void
settle_evict(struct index_job *j)
{
	struct evict_job *e = (struct evict_job *)j;
	struct spool *sp = e->sp;
	struct log_text dev;
	uint64_t before;

	spool_measure_disk(sp);
	before = sp->disk_free;
	for (size_t i = 0; j->rc == 0 && i < e->n; i++) {
		const struct spool_item *it = &e->gone[i];

		repeat_forget(sp->repeat, it->seq);
		spool_unlink_item(e->sp, it);
		log_warn("id=%s %s: %s dev=%s bytes=%llu", it->id,
		    e->max_age_ms != 0 ? "expired" : "evicted", reason(e),
		    log_text(&dev, it->device, strlen(it->device)),
		    (unsigned long long)it->size);
	}
	/* Some file systems free what was unlinked a little later: it must not
	 * be asked for twice. */
	spool_measure_disk(sp);
	if (j->rc == 0 && sp->disk_free < before + e->freed)
		sp->disk_free = before + e->freed;
}

static void
on_evicted(struct index_job *j)
{
	struct evict_job *e = (struct evict_job *)j;
	bool asked = e->octets > 0 || e->files > 0;

	e->sp->leaving_octets -= e->octets;
	e->sp->leaving_files -= e->files;
	if (e->fn != NULL)
		e->fn(j->rc != 0             ? j->rc
			: asked && e->n == 0 ? -ENOSPC
					     : e->rc,
		    e->arg);
	forget(e);
	free(e);
}

static struct evict_job *
job_new(struct spool *sp)
{
	struct evict_job *e = xcalloc(1, sizeof(*e));

	e->job = (struct index_job){ .writes = true,
		.run = run_evict,
		.settle = settle_evict,
		.done = on_evicted };
	e->sp = sp;
	return e;
}

static int
on_first(uint64_t seq, struct row *r, void *arg)
{
	struct evict_job *e = arg;
	bool young;

	if (r == NULL ||
	    (r->item.state != SPOOL_WAITING && r->item.state != SPOOL_HELD))
		return 0;
	spool_item_from_row(e->sp, e->t, r);
	young = r->item.age_ms <= e->max_age_ms;
	e->freed = !young;
	return 1;
}

static int
run_look(struct index_txn *t, struct index_job *j)
{
	struct evict_job *e = (struct evict_job *)j;
	int rc;

	e->t = t;
	rc = index_walk(t, 0, -1, on_first, e);
	return rc < 0 ? rc : 0;
}

/* On the loop: only if something is that old is there anything to write. */
static void
on_looked(struct index_job *j)
{
	struct evict_job *e = (struct evict_job *)j, *next;

	if (j->rc == 0 && e->freed != 0 && !e->sp->closing) {
		next = job_new(e->sp);
		next->max_age_ms = e->max_age_ms;
		index_submit(e->sp->ix, &next->job);
	}
	free(e);
}

void
spool_expire(struct spool *sp, int64_t max_age_ms)
{
	struct index_state st;
	struct evict_job *e;

	index_snapshot(sp->ix, &st);
	if (st.waiting == 0)
		return; /* even a look would write, to the lock file */
	e = xcalloc(1, sizeof(*e));
	e->job = (struct index_job){ .run = run_look, .done = on_looked };
	e->sp = sp;
	e->max_age_ms = max_age_ms;
	index_submit(sp->ix, &e->job);
}

static int
run_nothing(struct index_txn *t, struct index_job *j)
{
	return 0;
}

static uint64_t
less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

void
spool_make_room(struct spool *sp, uint64_t size, spool_fn fn, void *arg)
{
	struct evict_job *e = job_new(sp);
	struct spool_lack lack;
	struct index_state st;

	spool_lacks(sp, size, &lack);
	index_snapshot(sp->ix, &st);
	if (lack.octets > lack.held || lack.files > st.waiting) {
		e->rc = -ENOSPC;
	} else { /* what goes for others already is not to go twice */
		e->octets = less(lack.octets, sp->leaving_octets);
		e->files = less(lack.files, sp->leaving_files);
	}
	if (e->octets == 0 && e->files == 0)
		e->job = (struct index_job){ .run = run_nothing,
			.done = on_evicted };
	sp->leaving_octets += e->octets;
	sp->leaving_files += e->files;
	e->fn = fn;
	e->arg = arg;
	index_submit(sp->ix, &e->job);
}
