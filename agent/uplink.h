/*
 * uplink.h - what all bodies share: the rate and whose turn it is
 */
#ifndef UPLINK_H
#define UPLINK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "bandwidth.h"

struct event_base;
struct event;

/* One body that may wait for room; embedded by its owner. */
struct uplink_waiter {
	TAILQ_ENTRY(uplink_waiter) link;
	int waits;
	void (*go)(void *arg); /* there is room again */
	void *arg;
};

struct uplink {
	struct bandwidth bucket;
	TAILQ_HEAD(, uplink_waiter) waiters;
	struct event *timer;
	uint64_t sent; /* octets since the start */
};

void uplink_init(struct uplink *u, struct event_base *base, int64_t rate);
void uplink_fini(struct uplink *u);
void uplink_set_rate(struct uplink *u, int64_t rate);
/* How many of want octets may go; 0: w->go will be called. */
size_t uplink_take(struct uplink *u, struct uplink_waiter *w, size_t want);
/* Of those, n were not sent. */
void uplink_return(struct uplink *u, size_t n);
/* No longer waiting (also if it was not). */
void uplink_leave(struct uplink *u, struct uplink_waiter *w);

#endif
