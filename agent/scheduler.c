/*
 * scheduler.c - which uploads go when
 *
 * A bounded window of uploads that may go is kept in memory. From it a few
 * more than can be sent at once are marked in the spool (one commit), signed
 * (one request) and sent. What belongs to a storage that does not work is
 * passed over, but for one upload that probes, so no storage holds up another.
 *
 * scheduler_go() is the only writer of a delivery's state: it keeps lists and
 * counts right. All that follows from a change is done by turn(), from the
 * loop, never from within the change.
 */
#include "scheduler.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <event2/event.h>

#include "agent.h"
#include "blocklist.h"
#include "clock.h"
#include "fill.h"
#include "json.h"
#include "log.h"
#include "scheduler_private.h"
#include "shrink.h"
#include "sign.h"
#include "signer_client.h"
#include "window.h"
#include "xalloc.h"

#define SIGN_CALLS 4 /* under way at a time */
#define PREPARED_MAX 32
#define TICK_MS 1000
#define REST_TICKS 10

#define TO(s) (1u << (s))
static const struct {
	const char *name;
	unsigned next; /* states that may follow */
} states[DELIVERY_STATES] = {
	[DELIVERY_READY] = { "ready",
	    TO(DELIVERY_SHRINK) | TO(DELIVERY_OFFER) },
	[DELIVERY_SHRINK] = { "shrink", TO(DELIVERY_SHRUNK) },
	[DELIVERY_SHRUNK] = { "shrunk", TO(DELIVERY_OFFER) },
	[DELIVERY_OFFER] = { "offer", TO(DELIVERY_SIGN) },
	[DELIVERY_SIGN] = { "sign", TO(DELIVERY_ASKED) | TO(DELIVERY_MARK) },
	[DELIVERY_ASKED] = { "asked",
	    TO(DELIVERY_SIGN) | TO(DELIVERY_SIGNED) | TO(DELIVERY_MARK) },
	[DELIVERY_SIGNED] = { "signed",
	    TO(DELIVERY_RUN) | TO(DELIVERY_SIGN) | TO(DELIVERY_MARK) },
	[DELIVERY_RUN] = { "run", TO(DELIVERY_SIGN) | TO(DELIVERY_MARK) },
	[DELIVERY_MARK] = { "mark", 0 },
};

/* ---- states -------------------------------------------------------------- */

/* Lists hold those of one state. */
static struct deliveries *
list_of(struct scheduler *s, enum delivery_state state)
{
	return state == DELIVERY_READY ? NULL : &s->lists[state];
}

static bool
in_pipeline(enum delivery_state s)
{
	return s == DELIVERY_SHRINK || s == DELIVERY_SHRUNK ||
	    s == DELIVERY_OFFER || s == DELIVERY_SIGN || s == DELIVERY_ASKED ||
	    s == DELIVERY_SIGNED;
}

static void
count(struct scheduler *s, struct delivery *d, enum delivery_state to)
{
	bool pipeline = in_pipeline(to), slot = to == DELIVERY_RUN;

	if (pipeline != d->counted) {
		s->pipeline += pipeline ? 1 : -1U;
		d->st->pipeline += pipeline ? 1 : -1U;
		d->counted = pipeline;
	}
	s->shrinking += (to == DELIVERY_SHRINK) - (d->state == DELIVERY_SHRINK);
	if (slot != d->slot) {
		s->running += slot ? 1 : -1U;
		d->st->running += slot ? 1 : -1U;
		d->slot = slot;
	}
}

void
scheduler_go(struct scheduler *s, struct delivery *d, enum delivery_state to)
{
	assert(d->state != to && (states[d->state].next & TO(to)) != 0);
	log_debug("id=%s %s", d->it.id, states[to].name);
	if (d->state != DELIVERY_READY) /* window_pick() took it out */
		TAILQ_REMOVE(list_of(s, d->state), d, link);
	count(s, d, to);
	/* What was begun goes on before what waits. */
	if (to == DELIVERY_SIGN && d->begun_ms != 0)
		TAILQ_INSERT_HEAD(list_of(s, to), d, link);
	else
		TAILQ_INSERT_TAIL(list_of(s, to), d, link);
	d->state = to;
	scheduler_kick(s);
}

void
scheduler_over(struct scheduler *s, struct delivery *d)
{
	if (d->state == DELIVERY_READY) {
		if (d->lane != NULL)
			window_unready(&s->window, d);
	} else {
		TAILQ_REMOVE(list_of(s, d->state), d, link);
	}
	if (d->counted) {
		s->pipeline--;
		d->st->pipeline--;
	}
	if (d->slot) {
		s->running--;
		d->st->running--;
	}
	s->shrinking -= d->state == DELIVERY_SHRINK;
	if (d->state != DELIVERY_MARK || d->mark != MARK_DEFER)
		image_forget(s->agent->images, d->it.seq);
	circuit_cancel(&d->st->circuit, d->probe);
	window_forget(&s->window, d);
	delivery_free(d);
	scheduler_kick(s);
}

/* ---- signing ------------------------------------------------------------- */

size_t
scheduler_to_sign(struct scheduler *s, struct delivery **out, size_t max)
{
	struct delivery *d;
	size_t n = 0;

	TAILQ_FOREACH(d, &s->lists[DELIVERY_SIGN], link)
	{
		if (n == max || (d->alone && n > 0))
			break;
		out[n++] = d;
		if (d->alone)
			break;
	}
	return n;
}

static void
on_batch_over(struct sign_batch *b, void *arg)
{
	struct scheduler *s = arg;

	for (size_t i = 0; i < s->batches_n; i++)
		if (s->batches[i] == b)
			s->batches[i] = s->batches[--s->batches_n];
	scheduler_kick(s);
}

static void
sign(struct scheduler *s)
{
	struct delivery *ds[SIGN_MAX];
	size_t n;

	while (s->batches_n < SIGN_CALLS && signer_may(s->agent->signer) &&
	    clock_ms() >= s->sign_after_ms) {
		n = scheduler_to_sign(s, ds, SIGN_MAX);
		if (n == 0)
			return;
		s->batches[s->batches_n++] =
		    sign_start(s->agent, ds, n, on_batch_over, s);
	}
}

void
scheduler_hold_signing(struct scheduler *s, int64_t ms)
{
	s->sign_after_ms = clock_ms() + ms;
}

void
scheduler_give_back(
    struct scheduler *s, struct storage *st, int64_t wait_ms, const char *why)
{
	static const enum delivery_state from[] = { DELIVERY_SIGN,
		DELIVERY_SIGNED };
	struct delivery *d, *next;

	for (size_t i = 0; i < sizeof(from) / sizeof(*from); i++)
		for (d = TAILQ_FIRST(&s->lists[from[i]]); d != NULL; d = next) {
			next = TAILQ_NEXT(d, link);
			/* A recipe at hand needs no signer. */
			if (st == NULL ? d->state == DELIVERY_SIGN
				       : d->st == st && !d->probe)
				delivery_defer(d,
				    wait_ms +
					arc4random_uniform(
					    (uint32_t)wait_ms / 4 + 500),
				    false, why);
		}
	fill_drop(s, st);
}

void
scheduler_block(struct scheduler *s, const cJSON *devices)
{
	static const enum delivery_state from[] = { DELIVERY_SIGN,
		DELIVERY_SIGNED, DELIVERY_RUN };
	struct delivery *d, *next;

	for (size_t i = 0; i < sizeof(from) / sizeof(*from); i++)
		for (d = TAILQ_FIRST(&s->lists[from[i]]); d != NULL; d = next) {
			next = TAILQ_NEXT(d, link);
			if (blocklist_has(devices, d->it.device))
				delivery_hold(d, "the device is blocked");
		}
}

/* ---- sending ------------------------------------------------------------- */

/* After the next probe, not all at once. */
static int64_t
back_ms(const struct circuit *c)
{
	int64_t ms = circuit_wait_ms(c, clock_ms());

	return (ms > 0 ? ms : 1000) + arc4random_uniform(2000);
}

static void
start(struct scheduler *s)
{
	struct delivery *d, *next;
	int64_t now = clock_ms();

	for (d = TAILQ_FIRST(&s->lists[DELIVERY_SIGNED]); d != NULL; d = next) {
		struct storage *st = d->st;

		next = TAILQ_NEXT(d, link);
		if (s->running >= (unsigned)s->agent->conf->parallel)
			return;
		if (st->circuit.open && !d->probe) {
			delivery_defer(
			    d, back_ms(&st->circuit), false, st->error);
			continue;
		}
		if (now >= d->expires_ms) {
			delivery_sign_again(d);
			continue;
		}
		if (!pace_may(&st->pace, st->running))
			continue;
		scheduler_go(s, d, DELIVERY_RUN);
		delivery_start(d);
		/* It may have moved others: begin again. */
		next = TAILQ_FIRST(&s->lists[DELIVERY_SIGNED]);
	}
}

/*
 * The next few are read ahead, so that a transfer need not wait for a disk.
 * Not one each time one goes, but many when half of them are gone: a reader
 * takes several at once.
 */
static void
prepare(struct scheduler *s)
{
	unsigned n = 2 * (unsigned)s->agent->conf->parallel, at = 0, ready = 0;
	struct delivery *d;

	n = n < PREPARED_MAX ? n : PREPARED_MAX;
	TAILQ_FOREACH(d, &s->lists[DELIVERY_SIGNED], link)
	{
		if (at++ == n)
			break;
		ready += d->body != NULL;
	}
	if (ready > n / 2)
		return;
	TAILQ_FOREACH(d, &s->lists[DELIVERY_SIGNED], link)
	{
		if (n-- == 0)
			break;
		delivery_prepare(d);
	}
}

/* ---- turns --------------------------------------------------------------- */

/* What could go now has gone, or waits for something that will tell. */
static void
soonest(int64_t *ms, int64_t other)
{
	if (other > 0 && other < *ms)
		*ms = other;
}

/* When to look again by ourselves. */
static void
arm(struct scheduler *s)
{
	int64_t now = clock_ms(), ms = TICK_MS;
	struct storage *st;
	struct timeval tv;

	if (!TAILQ_EMPTY(&s->lists[DELIVERY_SIGN]) && s->sign_after_ms > now)
		soonest(&ms, s->sign_after_ms - now);
	if (s->window.ready > 0)
		soonest(&ms, signer_wait_ms(s->agent->signer));
	TAILQ_FOREACH(st, &s->agent->storages, link)
	{
		if (st->circuit.open)
			soonest(&ms, circuit_wait_ms(&st->circuit, now));
	}
	soonest(&ms, spool_next_due_ms(s->agent->spool));
	soonest(&ms, s->balance_ms);
	if (ms < 10)
		ms = 10; /* never a hot loop */
	tv = (struct timeval){ ms / 1000, ms % 1000 * 1000 };
	event_add(s->timer, &tv);
}

static void
turn(evutil_socket_t fd, short what, void *arg)
{
	struct scheduler *s = arg;

	if (s->stopping)
		return;
	s->kicked = false;
	start(s);
	prepare(s);
	sign(s);
	scheduler_offer(s);
	fill_look(s);
	s->balance_ms = shrink_balance(s);
	if (!s->kicked)
		arm(s);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct scheduler *s = arg;

	s->looked = false; /* a ring may have been lost */
	if (s->running + s->pipeline + s->window.ready > 0)
		s->rested = 0;
	else if (++s->rested == REST_TICKS)
		malloc_trim(0); /* what a burst needed goes back */
	turn(fd, what, arg);
}

void
scheduler_kick(struct scheduler *s)
{
	if (s->kicked || s->stopping)
		return;
	s->kicked = true;
	event_active(s->now, EV_TIMEOUT, 0);
}

void
scheduler_ring(struct scheduler *s)
{
	s->looked = false;
	scheduler_kick(s);
}

void
scheduler_signer_back(struct scheduler *s)
{
	int64_t now = clock_ms();

	s->sign_after_ms = 0;
	if (now - s->hurried_ms >= HURRY_MS || s->hurried_ms == 0) {
		s->hurried_ms = now;
		s->hurry = true;
	}
	fill_again(s);
}

void
scheduler_storage_back(struct scheduler *s, struct storage *st)
{
	int64_t now = clock_ms();

	if (now - st->hurried_ms >= HURRY_MS || st->hurried_ms == 0) {
		st->hurried_ms = now;
		st->hurry = true;
	}
	fill_again(s);
}

/* ---- life ---------------------------------------------------------------- */

static void
on_requeued(int rc, void *arg)
{
	struct scheduler *s = arg;

	if (rc == -ECANCELED)
		return;
	if (rc != 0)
		log_error("spool: what was under way cannot be taken up "
			  "again: %s",
		    strerror(-rc));
	s->open = true;
	fill_again(s);
}

struct scheduler *
scheduler_new(struct agent *a)
{
	struct scheduler *s = xcalloc(1, sizeof(*s));

	s->agent = a;
	s->page = FILL_PAGE;
	window_init(&s->window);
	for (unsigned i = 0; i < DELIVERY_STATES; i++)
		TAILQ_INIT(&s->lists[i]);
	s->timer = evtimer_new(a->base, on_tick, s);
	s->now = evtimer_new(a->base, turn, s);
	spool_requeue(a->spool, on_requeued, s);
	return s;
}

void
scheduler_stop(struct scheduler *s)
{
	struct delivery *d;

	s->stopping = true;
	while (s->batches_n > 0)
		sign_cancel(s->batches[--s->batches_n]);
	for (unsigned i = 0; i < WINDOW_BUCKETS; i++)
		for (d = s->window.table[i]; d != NULL; d = d->next_same)
			delivery_stop(d);
}

void
scheduler_free(struct scheduler *s)
{
	struct delivery *d;

	if (s == NULL)
		return;
	for (unsigned i = 0; i < WINDOW_BUCKETS; i++)
		while ((d = s->window.table[i]) != NULL)
			scheduler_over(s, d);
	event_free(s->timer);
	event_free(s->now);
	free(s);
}

static void
running_json(cJSON *list, const struct delivery *d)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddItemToArray(list, o);
	json_add_text(o, "id", d->it.id);
	json_add_text(o, "device", d->it.device);
	json_add_text(o, "storage", d->st->name);
	json_add_int(o, "size", (int64_t)d->it.offer_size);
	json_add_int(o, "attempts", d->it.attempts);
	json_add_int(o, "ms", clock_ms() - d->begun_ms);
}

void
scheduler_status(struct scheduler *s, cJSON *o)
{
	cJSON *list = cJSON_AddArrayToObject(o, "uploads");
	struct delivery *d;
	unsigned n = 0;

	json_add_int(o, "running", s->running);
	json_add_int(o, "parallel", s->agent->conf->parallel);
	json_add_int(o, "signing", s->pipeline);
	json_add_int(o, "ready", s->window.ready);
	TAILQ_FOREACH(d, &s->lists[DELIVERY_RUN], link)
	{
		if (n++ == 16)
			break;
		running_json(list, d);
	}
}
