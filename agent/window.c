/*
 * window.c - the uploads in memory: found by number, fair between devices
 */
#include "window.h"

#include <stdlib.h>
#include <string.h>

#include "xalloc.h"

#define QUANTUM (1024 * 1024) /* of priority 5; doubled by each one above */
#define NORMAL 5
#define OVERHEAD (64 * 1024) /* what an upload costs beside its octets */

void
window_init(struct window *w)
{
	memset(w, 0, sizeof(*w));
	TAILQ_INIT(&w->lanes);
}

static struct delivery **
bucket(struct window *w, uint64_t seq)
{
	return &w->table[seq % WINDOW_BUCKETS];
}

void
window_add(struct window *w, struct delivery *d)
{
	struct delivery **b = bucket(w, d->it.seq);

	d->next_same = *b;
	*b = d;
}

void
window_forget(struct window *w, struct delivery *d)
{
	struct delivery **p = bucket(w, d->it.seq);

	while (*p != d)
		p = &(*p)->next_same;
	*p = d->next_same;
}

struct delivery *
window_find(const struct window *w, uint64_t seq)
{
	struct delivery *d = w->table[seq % WINDOW_BUCKETS];

	while (d != NULL && d->it.seq != seq)
		d = d->next_same;
	return d;
}

static int64_t
quantum(unsigned priority)
{
	return priority >= NORMAL ? (int64_t)QUANTUM << (priority - NORMAL)
				  : (int64_t)QUANTUM >> (NORMAL - priority);
}

void
window_ready(struct window *w, struct delivery *d, unsigned priority)
{
	struct lane *lane;

	TAILQ_FOREACH(lane, &w->lanes, link)
	{
		if (strcmp(lane->device, d->it.device) == 0)
			break;
	}
	if (lane == NULL) {
		lane = xcalloc(1, sizeof(*lane));
		lane->device = xstrdup(d->it.device);
		TAILQ_INIT(&lane->ready);
		TAILQ_INSERT_TAIL(&w->lanes, lane, link);
	}
	lane->quantum = quantum(priority);
	d->lane = lane;
	TAILQ_INSERT_TAIL(&lane->ready, d, link);
	d->st->ready++;
	w->ready++;
}

void
window_unready(struct window *w, struct delivery *d)
{
	struct lane *lane = d->lane;

	TAILQ_REMOVE(&lane->ready, d, link);
	d->lane = NULL;
	d->st->ready--;
	w->ready--;
	if (TAILQ_EMPTY(&lane->ready)) {
		TAILQ_REMOVE(&w->lanes, lane, link);
		free(lane->device);
		free(lane);
	}
}

static struct delivery *
first_that_may(struct lane *lane, bool (*may)(const struct delivery *d))
{
	struct delivery *d;

	TAILQ_FOREACH(d, &lane->ready, link)
	{
		if (may(d))
			return d;
	}
	return NULL;
}

static int64_t
cost(const struct delivery *d)
{
	return (int64_t)d->it.size + OVERHEAD;
}

struct delivery *
window_pick(struct window *w, bool (*may)(const struct delivery *d))
{
	struct lane *lane, *last = TAILQ_LAST(&w->lanes, lanes);
	struct lane *best = NULL;
	struct delivery *d, *first = NULL;
	int64_t lack, least = INT64_MAX;

	/* One round: who can pay goes; who cannot is noted. */
	for (;;) {
		lane = TAILQ_FIRST(&w->lanes);
		if (lane == NULL)
			return NULL;
		d = first_that_may(lane, may);
		if (d != NULL && lane->deficit >= cost(d)) {
			lane->deficit -= cost(d);
			window_unready(w, d);
			return d;
		}
		if (d != NULL) {
			lack = cost(d) - lane->deficit;
			lack = (lack + lane->quantum - 1) / lane->quantum;
			if (lack < least) {
				least = lack;
				best = lane;
				first = d;
			}
		}
		TAILQ_REMOVE(&w->lanes, lane, link);
		TAILQ_INSERT_TAIL(&w->lanes, lane, link);
		if (lane == last)
			break;
	}
	if (best == NULL)
		return NULL;
	/* As many rounds as the first of them needs, at one go. */
	TAILQ_FOREACH(lane, &w->lanes, link)
	{
		if (first_that_may(lane, may) != NULL)
			lane->deficit += least * lane->quantum;
	}
	best->deficit -= cost(first);
	window_unready(w, first);
	return first;
}
