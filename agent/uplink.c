/*
 * uplink.c - what all bodies share: the rate and whose turn it is
 *
 * Who finds the bucket empty waits in line; a timer lets them go in the order
 * they came, so that no body starves.
 */
#include "uplink.h"

#include <event2/event.h>

#include "clock.h"

/* The most that one body takes at its turn, when there is a rate. */
#define TURN (16 * 1024)

static void
arm(struct uplink *u)
{
	int64_t ms = bandwidth_wait_ms(&u->bucket, clock_ms());
	struct timeval tv;

	if (ms < 2)
		ms = 2;
	tv = (struct timeval){ ms / 1000, (ms % 1000) * 1000 };
	event_add(u->timer, &tv);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct uplink *u = arg;
	struct uplink_waiter *w;

	/* One who goes may wait again, at the end of the line. */
	while ((w = TAILQ_FIRST(&u->waiters)) != NULL &&
	    bandwidth_wait_ms(&u->bucket, clock_ms()) == 0) {
		uplink_leave(u, w);
		w->go(w->arg);
	}
	if (!TAILQ_EMPTY(&u->waiters))
		arm(u);
}

void
uplink_init(struct uplink *u, struct event_base *base, int64_t rate)
{
	bandwidth_init(&u->bucket, rate, clock_ms());
	TAILQ_INIT(&u->waiters);
	u->timer = evtimer_new(base, on_timer, u);
	u->sent = 0;
}

void
uplink_fini(struct uplink *u)
{
	event_free(u->timer);
}

void
uplink_set_rate(struct uplink *u, int64_t rate)
{
	bandwidth_set(&u->bucket, rate, clock_ms());
	if (!TAILQ_EMPTY(&u->waiters))
		arm(u);
}

size_t
uplink_take(struct uplink *u, struct uplink_waiter *w, size_t want)
{
	size_t n;

	if (u->bucket.rate > 0 && want > TURN)
		want = TURN;
	n = bandwidth_take(&u->bucket, want, clock_ms());
	u->sent += n;
	if (n == 0 && !w->waits) {
		w->waits = 1;
		TAILQ_INSERT_TAIL(&u->waiters, w, link);
		arm(u);
	}
	return n;
}

void
uplink_return(struct uplink *u, size_t n)
{
	u->sent -= n;
	bandwidth_return(&u->bucket, n);
}

void
uplink_leave(struct uplink *u, struct uplink_waiter *w)
{
	if (w->waits)
		TAILQ_REMOVE(&u->waiters, w, link);
	w->waits = 0;
}
