/*
 * spool_ended.c - the drainer asks what ended, and notes what it has seen to
 *
 * What must stay true: a look without a change since the last one does not
 * touch the index (as in spool_view.c), and none goes twice over records that
 * are of no interest.
 */
#include "spool.h"

#include <stdlib.h>
#include <string.h>

#include "index_ends.h"
#include "spool_internal.h"
#include "xalloc.h"

struct ended_job {
	struct index_job job;
	struct spool *sp;
	enum spool_reader reader;
	uint64_t number; /* after this; or seen to up to this */
	size_t max, n;
	struct spool_ended *list;
	struct index_txn *t;
	spool_ended_fn fn;
	void *arg;
};

const char *
spool_ended_name(unsigned how)
{
	static const char *const names[] = { "delivered", "expired", "evicted",
		"dropped", "quarantined", "" };

	return how < SPOOL_ENDED_PARTS ? names[how] : "";
}

static void
forget(struct ended_job *e)
{
	for (size_t i = 0; i < e->n; i++)
		spool_item_fini(&e->list[i].item);
	e->n = 0;
}

static int
on_end(uint64_t number, unsigned how, struct row *r, void *arg)
{
	struct ended_job *e = arg;
	struct spool_ended *x;

	if (e->reader == SPOOL_FREE && r->item.kept[0] == '\0') {
		if (e->n == 0)
			e->sp->ended[e->reader].passed = number;
		return 0;
	}
	spool_item_from_row(e->sp, e->t, r);
	e->list = xrealloc(e->list, (e->n + 1) * sizeof(*e->list));
	x = &e->list[e->n++];
	x->number = number;
	x->how = how;
	x->ago_ms = e->t->now > r->due_clock ? e->t->now - r->due_clock : 0;
	x->item = r->item;
	memset(&r->item, 0, sizeof(r->item));
	return e->n >= e->max;
}

static bool
still_quiet(struct index_job *j)
{
	struct ended_job *e = (struct ended_job *)j;
	const struct ended_seen *seen = &e->sp->ended[e->reader];

	return seen->quiet && e->number >= seen->after &&
	    index_last_txn(e->sp->ix) == seen->txn;
}

static int
run_look(struct index_txn *t, struct index_job *j)
{
	struct ended_job *e = (struct ended_job *)j;
	struct ended_seen *seen = &e->sp->ended[e->reader];
	uint64_t from = index_ends_mark(t, e->reader);
	int rc;

	e->t = t;
	forget(e);
	if (e->number > from)
		from = e->number;
	if (from < seen->from || from > seen->passed)
		seen->from = seen->passed = from;
	from = seen->passed;
	rc = index_ends_walk(t, from, on_end, e);
	seen->quiet = rc == 0 && e->n == 0;
	seen->after = e->number;
	seen->txn = mdb_txn_id(t->txn);
	return rc;
}

static void
on_looked(struct index_job *j)
{
	struct ended_job *e = (struct ended_job *)j;

	e->fn(j->rc, e->list, e->n, e->arg);
	forget(e);
	free(e->list);
	free(e);
}

void
spool_ended(struct spool *sp, enum spool_reader reader, uint64_t after,
    size_t max, spool_ended_fn fn, void *arg)
{
	struct ended_job *e = xcalloc(1, sizeof(*e));

	e->job = (struct index_job){
		.skip = still_quiet, .run = run_look, .done = on_looked
	};
	e->sp = sp;
	e->reader = reader;
	e->number = after;
	e->max = max;
	e->fn = fn;
	e->arg = arg;
	index_submit(sp->ix, &e->job);
}

static int
run_seen(struct index_txn *t, struct index_job *j)
{
	struct ended_job *e = (struct ended_job *)j;

	return index_ends_set_mark(t, e->reader, e->number);
}

static void
on_seen(struct index_job *j)
{
	free(j); /* if that failed, they come again after a restart */
}

void
spool_ended_seen(struct spool *sp, enum spool_reader reader, uint64_t number)
{
	struct ended_job *e = xcalloc(1, sizeof(*e));

	e->job = (struct index_job){
		.writes = true, .lazy = true, .run = run_seen, .done = on_seen
	};
	e->sp = sp;
	e->reader = reader;
	e->number = number;
	index_submit(sp->ix, &e->job);
}
