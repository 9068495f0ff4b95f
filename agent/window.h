/*
 * window.h - the uploads in memory: found by number, fair between devices
 *
 * Those that are ready stand in one lane per device; picking goes round the
 * lanes by deficit round robin, so that a camera with many or large files does
 * not hold up the others.
 */
#ifndef WINDOW_H
#define WINDOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "delivery.h"

#define WINDOW_BUCKETS 2048

struct lane {
	TAILQ_ENTRY(lane) link;
	char *device;
	int64_t deficit; /* octets it may still send in this round */
	int64_t quantum; /* and gets in each */
	TAILQ_HEAD(, delivery) ready;
};

struct window {
	struct delivery *table[WINDOW_BUCKETS]; /* all in hand */
	TAILQ_HEAD(lanes, lane) lanes;
	unsigned ready;
};

void window_init(struct window *w);
/* In hand from now until window_forget(). */
void window_add(struct window *w, struct delivery *d);
void window_forget(struct window *w, struct delivery *d);
struct delivery *window_find(const struct window *w, uint64_t seq);
/* Into and out of its device's lane. priority 1..9: each one gets twice the
 * share of the one below. */
void window_ready(struct window *w, struct delivery *d, unsigned priority);
void window_unready(struct window *w, struct delivery *d);
/* Whose turn is it among those that may go? Out of its lane, or NULL. */
struct delivery *window_pick(
    struct window *w, bool (*may)(const struct delivery *d));

#endif
