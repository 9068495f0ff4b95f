/*
 * spool_name.c - what waits under a device and a name
 *
 * The index has no table by name: it would be written at random places by
 * every upload, for a question that most gateways never ask. So the writer
 * keeps a small table in memory (name_table.h), on the index thread, from the
 * first question on: that one, and those which come meanwhile, read the index
 * in steps of some thousand rows, between which other work is done; start-up
 * reads nothing. Rows that the writer adds are noted as they are committed;
 * rows that the drainer takes out are noticed when they are asked for. Where
 * most entries have gone the table is read anew.
 *
 * What must stay true: while the table is filled, each row up to `upto` has
 * its entry; once full, each row.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "name_table.h"
#include "spool_internal.h"
#include "xalloc.h"

#define STEP 4096 /* rows read at once */

/* The index thread's own. */
struct spool_names {
	struct name_table *table; /* NULL: nobody has asked yet */
	uint64_t upto;            /* UINT64_MAX: full */
};

struct name_job {
	struct index_job job;
	struct spool *sp;
	char *device, *name;
	size_t max, n;
	struct spool_item *items;
	struct index_txn *t;
	unsigned steps; /* rows read of this one */
	bool again;     /* the table is not full yet */
	spool_items_fn fn;
	void *arg;
};

struct spool_names *
spool_names_new(void)
{
	return xcalloc(1, sizeof(struct spool_names));
}

void
spool_names_free(struct spool_names *names)
{
	if (names == NULL)
		return;
	name_table_free(names->table);
	free(names);
}

void
spool_names_note(struct spool_names *names, const struct spool_item *it)
{
	if (names->table != NULL && it->seq <= names->upto)
		name_table_add(names->table, it->seq, it->device, it->name);
}

static int
on_row(uint64_t seq, struct row *r, void *arg)
{
	struct name_job *q = arg;
	struct spool_names *names = q->sp->names;

	if (r == NULL)
		spool_row_damaged(q->sp, seq);
	else
		name_table_add(names->table, seq, r->item.device, r->item.name);
	names->upto = seq;
	return ++q->steps == STEP;
}

/* A step of filling the table. 1: there is more. */
static int
fill(struct index_txn *t, struct name_job *q)
{
	struct spool_names *names = q->sp->names;
	uint64_t rows = t->st->waiting + t->st->quarantined;
	int rc;

	if (names->table == NULL) {
		names->table = name_table_new();
	} else if (names->upto == UINT64_MAX &&
	    name_table_count(names->table) > 2 * rows + 65536) {
		name_table_clear(names->table);
		names->upto = 0;
	}
	if (names->upto == UINT64_MAX)
		return 0;
	q->steps = 0;
	rc = index_walk(t, names->upto, -1, on_row, q);
	if (rc == 0)
		names->upto = UINT64_MAX;
	return rc;
}

static enum name_verdict
on_number(uint64_t seq, void *arg)
{
	struct name_job *q = arg;
	struct row r;
	int rc = index_get(q->t, seq, &r);

	if (rc == -ENOENT)
		return NAME_GONE;
	if (rc != 0) {
		spool_row_damaged(q->sp, seq);
		return NAME_GO_ON;
	}
	if (r.item.state == SPOOL_QUARANTINED ||
	    strcmp(r.item.name, q->name) != 0 ||
	    strcmp(r.item.device, q->device) != 0) {
		spool_item_fini(&r.item);
		return NAME_GO_ON;
	}
	spool_item_from_row(q->sp, q->t, &r);
	q->items = xrealloc(q->items, (q->n + 1) * sizeof(*q->items));
	q->items[q->n++] = r.item;
	return q->n == q->max ? NAME_STOP : NAME_GO_ON;
}

static int
run_name(struct index_txn *t, struct index_job *j)
{
	struct name_job *q = (struct name_job *)j;
	int rc = fill(t, q);

	q->again = rc == 1;
	q->t = t;
	if (rc == 0)
		name_table_find(
		    q->sp->names->table, q->device, q->name, on_number, q);
	return rc < 0 ? rc : 0;
}

/* What is not yet indexed waits as well: copies, as they may get their rows
 * while the answer is on its way. */
static void
settle_name(struct index_job *j)
{
	struct name_job *q = (struct name_job *)j;
	struct spool *sp = q->sp;
	struct add_job *a;

	if (q->again)
		return;
	pthread_mutex_lock(&sp->mutex);
	STAILQ_FOREACH(a, &sp->unindexed, link)
	{
		if (q->n >= q->max || strcmp(a->item.name, q->name) != 0 ||
		    strcmp(a->item.device, q->device) != 0)
			continue;
		q->items = xrealloc(q->items, (q->n + 1) * sizeof(*q->items));
		q->items[q->n++] = incoming_item_copy(&a->item);
	}
	pthread_mutex_unlock(&sp->mutex);
}

static void
on_name_done(struct index_job *j)
{
	struct name_job *q = (struct name_job *)j;

	if (j->rc == 0 && q->again && !q->sp->closing) {
		index_submit(q->sp->ix, j);
		return;
	}
	q->fn(q->again && j->rc == 0 ? -ECANCELED : j->rc, q->items, q->n,
	    q->arg);
	for (size_t i = 0; i < q->n; i++)
		spool_item_fini(&q->items[i]);
	free(q->items);
	free(q->device);
	free(q->name);
	free(q);
}

void
spool_same_name(struct spool *sp, const char *device, const char *name,
    size_t max, spool_items_fn fn, void *arg)
{
	struct name_job *q = xcalloc(1, sizeof(*q));

	assert(sp->role == SPOOL_WRITER);
	q->job = (struct index_job){
		.run = run_name, .settle = settle_name, .done = on_name_done
	};
	q->sp = sp;
	q->device = xstrdup(device);
	q->name = xstrdup(name);
	q->max = max;
	q->fn = fn;
	q->arg = arg;
	index_submit(sp->ix, &q->job);
}

static void
on_prepared(int rc, struct spool_item *items, size_t n, void *arg)
{
}

void
spool_prepare_names(struct spool *sp)
{
	spool_same_name(sp, "", "", 1, on_prepared, NULL);
}
