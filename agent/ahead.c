/*
 * ahead.c - uploads are marked as `sending` ahead of those under way
 *
 * What must stay true: an upload is signed only when what is offered of it has
 * been committed; of no storage more are taken out of the spool's reach than
 * it will soon need. Many go in one commit: what is ahead is filled up when it
 * has come down to half.
 */
#include "scheduler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "clock.h"
#include "fill.h"
#include "log.h"
#include "scheduler_private.h"
#include "shrink.h"
#include "signer_client.h"
#include "window.h"
#include "xalloc.h"

#define PIPELINE_MAX 768
#define AHEAD_MAX 512 /* eight requests to the signer */
#define LATELY_MS 20  /* looked at so often */
#define AHEAD_MS 250  /* as many ahead as go in this time */

/*
 * So many of a storage are marked and signed ahead of those under way: enough
 * for the time that a commit and the signer take while others are sent, few on
 * a slow uplink, where what is signed would only grow old.
 */
static unsigned
high_mark(const struct storage *st)
{
	unsigned n = 2 * (unsigned)st->pace.limit + 4 + st->lately;

	return n < AHEAD_MAX ? n : AHEAD_MAX;
}

static void
measure(struct storage *st, int64_t now)
{
	int64_t ms = now - st->lately_ms;

	if (ms < LATELY_MS)
		return;
	st->lately = st->lately_ms == 0
	    ? SIGN_MAX /* nothing is known yet */
	    : (unsigned)((st->delivered - st->lately_from) * AHEAD_MS / ms);
	st->lately_from = st->delivered;
	st->lately_ms = now;
}

/* May one of it be marked and signed? */
static bool
storage_may(const struct storage *st)
{
	if (!circuit_may(&st->circuit, clock_ms()))
		return false;
	if (st->circuit.open)
		return st->pipeline + st->running == 0;
	return st->filling && st->pipeline < high_mark(st);
}

static bool
may_offer(const struct delivery *d)
{
	return storage_may(d->st);
}

/* Filled up from half: many in one commit and one request. False: it would be
 * of no use to look through the window. */
static bool
any_may(struct scheduler *s)
{
	int64_t now = clock_ms();
	struct storage *st;
	bool any = false;

	TAILQ_FOREACH(st, &s->agent->storages, link)
	{
		measure(st, now);
		if (st->pipeline >= high_mark(st))
			st->filling = false;
		else if (st->pipeline <= high_mark(st) / 2)
			st->filling = true;
		any |= st->ready > 0 && storage_may(st);
	}
	return any;
}

static void
on_offered(int rc, const uint64_t *gone, size_t gone_n, void *arg)
{
	struct offer *o = arg;
	struct scheduler *s = o->s;

	s->offers--;
	if (rc != 0 && rc != -ECANCELED && s->spool_error != rc)
		log_error("spool cannot be written to: %s; uploads wait",
		    strerror(-rc));
	s->spool_error = rc;
	if (rc != 0)
		s->offer_after_ms = clock_ms() + 5000;
	for (size_t i = 0; i < o->n; i++) {
		struct delivery *d = window_find(&s->window, o->seqs[i]);
		bool is_gone = rc != 0;

		for (size_t k = 0; k < gone_n; k++)
			is_gone |= gone[k] == o->seqs[i];
		if (is_gone) { /* still waiting in the spool, or not ours */
			scheduler_over(s, d);
		} else {
			d->it.offered = true;
			scheduler_go(s, d, DELIVERY_SIGN);
		}
	}
	if (rc != 0)
		fill_again(s);
	free(o);
}

/* Those that workers are done with; then the window's, past the workers. */
static struct delivery *
next_to_offer(struct scheduler *s, unsigned max)
{
	struct delivery *d = TAILQ_FIRST(&s->lists[DELIVERY_SHRUNK]);

	while (d == NULL && s->pipeline < max &&
	    (d = window_pick(&s->window, may_offer)) != NULL) {
		d->probe = circuit_begin(&d->st->circuit);
		if (!shrink_wanted(s, d))
			break;
		scheduler_go(s, d, DELIVERY_SHRINK);
		shrink_start(s, d);
		d = NULL;
	}
	return d;
}

void
scheduler_offer(struct scheduler *s)
{
	struct spool_item items[OFFER_MAX];
	struct delivery *d;
	struct offer *o;
	unsigned max = PIPELINE_MAX;

	if ((s->window.ready == 0 && TAILQ_EMPTY(&s->lists[DELIVERY_SHRUNK])) ||
	    s->offers > 1 || !signer_may(s->agent->signer) ||
	    clock_ms() < s->offer_after_ms)
		return;
	if (signer_error(s->agent->signer)[0] != '\0')
		max = 1; /* one to try whether it works again */
	if (!any_may(s) && TAILQ_EMPTY(&s->lists[DELIVERY_SHRUNK]))
		return;
	o = xcalloc(1, sizeof(*o));
	o->s = s;
	while (o->n < OFFER_MAX && (d = next_to_offer(s, max)) != NULL) {
		fill_offer(s->agent, d);
		items[o->n] = d->it;
		o->seqs[o->n++] = d->it.seq;
		scheduler_go(s, d, DELIVERY_OFFER);
	}
	if (o->n == 0) {
		free(o);
		return;
	}
	s->offers++;
	spool_send(s->agent->spool, items, o->n, on_offered, o);
}
