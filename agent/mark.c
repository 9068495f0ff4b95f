/*
 * mark.c - the outcome of a delivery is committed in the spool
 *
 * A commit that fails (a full or failing disk) is tried again for as long as
 * it takes: until then the upload stays in hand, so that it is not sent again.
 */
#include "delivery.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <event2/event.h>

#include "agent.h"
#include "backoff.h"
#include "clock.h"
#include "json.h"
#include "log.h"
#include "scheduler.h"

static void commit(struct delivery *d);

/* Text of a peer, in one line of a log and in JSON. Returns d->why. */
static const char *
words(struct delivery *d, const char *why)
{
	bool utf8 = json_utf8(why, strlen(why));
	size_t n = 0;

	for (; *why != '\0' && n + 1 < sizeof(d->why); why++) {
		unsigned char c = (unsigned char)*why;

		if (c < 0x20 || c == 0x7f)
			c = ' ';
		d->why[n++] = c >= 0x80 && !utf8 ? '?' : (char)c;
	}
	while (utf8 && *why != '\0' && n > 0 &&
	    ((unsigned char)d->why[n - 1] & 0x80) != 0)
		n--; /* maybe half of a character */
	d->why[n] = '\0';
	return d->why;
}

static void
on_again(evutil_socket_t fd, short what, void *arg)
{
	commit(arg);
}

static void
on_committed(int rc, void *arg)
{
	struct delivery *d = arg;
	struct timeval tv;

	if (rc == 0 || rc == -ENOENT || rc == -ECANCELED) {
		scheduler_over(d->agent->scheduler, d);
		return;
	}
	if (d->again_ms == 0)
		log_error("id=%s cannot note in the spool that it is %s: %s; "
			  "tried again",
		    d->it.id,
		    d->mark == MARK_DELIVERED ? "delivered" : "to be deferred",
		    strerror(-rc));
	d->again_ms = backoff_next(d->again_ms, 60000, arc4random_uniform);
	if (d->again == NULL)
		d->again = evtimer_new(d->agent->base, on_again, d);
	tv = (struct timeval){ d->again_ms / 1000, d->again_ms % 1000 * 1000 };
	event_add(d->again, &tv);
}

static void
commit(struct delivery *d)
{
	struct spool *sp = d->agent->spool;
	uint64_t seq = d->it.seq;

	switch (d->mark) {
	case MARK_DELIVERED:
		spool_end(sp, seq, SPOOL_DELIVERED, "", on_committed, d);
		break;
	case MARK_DEFER:
		spool_defer(
		    sp, seq, d->wait_ms, d->counts, d->why, on_committed, d);
		break;
	case MARK_HOLD:
		spool_hold(sp, seq, d->why, on_committed, d);
		break;
	case MARK_QUARANTINE:
		spool_quarantine(sp, seq, d->why, on_committed, d);
		break;
	}
}

static void
mark(struct delivery *d, enum delivery_mark how)
{
	d->mark = how;
	delivery_stop(d);
	circuit_cancel(&d->st->circuit, d->probe);
	d->probe = false;
	scheduler_go(d->agent->scheduler, d, DELIVERY_MARK);
	commit(d);
}

void
delivery_store_ok(struct delivery *d)
{
	struct storage *st = d->st;

	d->probe = false; /* closing forgets the probe */
	st->error[0] = '\0';
	if (circuit_ok(&st->circuit)) {
		log_info("storage=%s works again", st->name);
		scheduler_storage_back(d->agent->scheduler, st);
	}
}

void
delivery_done(struct delivery *d)
{
	struct agent *a = d->agent;
	struct storage *st = d->st;
	struct log_text t;

	delivery_store_ok(d);
	pace_ok(&st->pace, st->running, (unsigned)a->conf->parallel);
	st->delivered++;
	st->delivered_bytes += d->it.offer_size;
	a->delivered++;
	a->delivered_bytes += d->it.offer_size;
	log_info("id=%s delivered dev=%s bytes=%" PRIu64 " ms=%" PRId64
		 " tries=%u",
	    d->it.id, log_text(&t, d->it.device, strlen(d->it.device)),
	    d->it.offer_size, clock_ms() - d->begun_ms, d->it.attempts + 1);
	mark(d, MARK_DELIVERED);
}

void
delivery_defer(
    struct delivery *d, int64_t wait_ms, bool counts, const char *why)
{
	d->agent->deferred++;
	d->wait_ms = wait_ms;
	d->counts = counts;
	why = words(d, why);
	log_warn("id=%s deferred try=%u next=%" PRId64 ".%03ds: %s", d->it.id,
	    d->it.attempts + counts, wait_ms / 1000, (int)(wait_ms % 1000),
	    why);
	mark(d, MARK_DEFER);
}

void
delivery_failed(
    struct delivery *d, int status, int64_t retry_after_ms, const char *why)
{
	struct agent *a = d->agent;
	struct storage *st = d->st;
	int64_t now = clock_ms();
	bool probe = d->probe;

	why = words(d, why);
	d->probe = false;
	st->failed++;
	snprintf(st->error, sizeof(st->error), "%s", why);
	if (status == 0 || status == 408 || status == 429 || status >= 500)
		pace_fail(&st->pace, now);
	if (circuit_fail(&st->circuit, probe, now,
		retry_after_ms > 0 ? retry_after_ms : 0, arc4random_uniform)) {
		log_warn("storage=%s failed %u times in a row: one upload at a "
			 "time until it works: %s",
		    st->name, st->circuit.failures, why);
		scheduler_give_back(
		    a->scheduler, st, circuit_wait_ms(&st->circuit, now), why);
	}
	delivery_defer(d,
	    backoff_wait(
		d->it.attempts + 1, retry_after_ms, arc4random_uniform),
	    true, why);
}

void
delivery_hold(struct delivery *d, const char *why)
{
	struct log_text t;

	why = words(d, why);
	log_warn("id=%s held dev=%s: %s", d->it.id,
	    log_text(&t, d->it.device, strlen(d->it.device)), why);
	mark(d, MARK_HOLD);
}

void
delivery_quarantine(struct delivery *d, const char *why)
{
	why = words(d, why);
	d->agent->quarantined++;
	log_error("id=%s quarantined, it is kept and not sent again: %s",
	    d->it.id, why);
	mark(d, MARK_QUARANTINE);
}
