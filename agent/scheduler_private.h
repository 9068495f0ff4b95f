/*
 * scheduler_private.h - what scheduler.c, ahead.c and fill.c share
 */
#ifndef SCHEDULER_PRIVATE_H
#define SCHEDULER_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "delivery.h"
#include "sign.h"
#include "window.h"

struct event;

/* Deferred uploads are called back at most this often. */
#define HURRY_MS 30000
/* So many uploads are asked of the spool at a time, at first. */
#define FILL_PAGE 256

/* So many are marked in one transaction, which may take long. */
#define OFFER_MAX 256

TAILQ_HEAD(deliveries, delivery);

/* A transaction that marks uploads as `sending`. */
struct offer {
	struct scheduler *s;
	size_t n;
	uint64_t seqs[OFFER_MAX];
};

struct scheduler {
	struct agent *agent;
	struct window window;
	struct deliveries lists[DELIVERY_STATES];
	unsigned pipeline, running, offers;
	unsigned shrinking; /* of the pipeline, with the image workers */
	struct sign_batch *batches[4];
	size_t batches_n;
	int64_t sign_after_ms, offer_after_ms, hurried_ms;
	int spool_error;
	struct event *timer, *now;
	unsigned rested; /* ticks with nothing to do */
	bool kicked, stopping;
	bool open; /* what was under way before the start is requeued */

	/* shrink.c's */
	int64_t balance_ms; /* until it is looked at again; 0: need not */
	int64_t old_until_ms, starved_ms, passed_ms, fast_until_ms, fast_ms;
	unsigned pass;

	/* fill.c's */
	bool filling; /* the spool has been asked */
	bool looked;  /* and had nothing more */
	bool hurry;   /* all that is deferred is called back */
	bool again;   /* begin with the oldest, once the answer is there */
	uint64_t cursor;
	size_t page;
	int64_t swept_ms, others_ms;
	bool told;   /* that there are too many storages */
	bool passed; /* some of a storage with many at hand */
};

/* ahead.c: mark some of those in the window, or done with by workers. */
void scheduler_offer(struct scheduler *s);

#endif
