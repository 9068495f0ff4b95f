/*
 * leftover_list.c - which leftovers are in hand, and whose turn it is
 *
 * What must stay true: of a storage, records are taken in order and none twice:
 * all up to shop->taken were; a record is taken only by a reading that began at
 * or before that, or when nothing of the storage was left out before.
 */
#include "leftover_list.h"

#include <stdlib.h>
#include <string.h>

#include "backoff.h"
#include "xalloc.h"

#define CAP_MS 600000

void
leftover_list_init(struct leftover_list *l)
{
	memset(l, 0, sizeof(*l));
	TAILQ_INIT(&l->shops);
}

static void
item_free(struct leftover *x)
{
	TAILQ_REMOVE(&x->shop->list, x, link);
	x->shop->n--;
	spool_item_fini(&x->it);
	free(x);
}

void
leftover_list_fini(struct leftover_list *l)
{
	struct leftover_shop *s;

	while ((s = TAILQ_FIRST(&l->shops)) != NULL) {
		while (!TAILQ_EMPTY(&s->list))
			item_free(TAILQ_FIRST(&s->list));
		TAILQ_REMOVE(&l->shops, s, link);
		free(s);
	}
}

static struct leftover_shop *
shop_get(struct leftover_list *l, const char *name)
{
	struct leftover_shop *s;

	if (l->shops_n >= LEFTOVERS_SHOPS - 1) {
		TAILQ_FOREACH(s, &l->shops, link)
		if (strcmp(s->name, name) == 0)
			return s;
		name = ""; /* of all others */
	}
	TAILQ_FOREACH(s, &l->shops, link)
	if (strcmp(s->name, name) == 0)
		return s;
	s = xcalloc(1, sizeof(*s));
	strncpy(s->name, name, sizeof(s->name) - 1);
	TAILQ_INIT(&s->list);
	TAILQ_INSERT_TAIL(&l->shops, s, link);
	l->shops_n++;
	return s;
}

static bool
has_more(const struct leftover_shop *s)
{
	return s->more > s->taken;
}

/* ---- reading ------------------------------------------------------------- */

uint64_t
leftover_list_from(const struct leftover_list *l)
{
	const struct leftover_shop *s;
	uint64_t from = l->high;

	TAILQ_FOREACH(s, &l->shops, link)
	if (has_more(s) && s->n <= LEFTOVERS_SHARE / 2 && s->taken < from)
		from = s->taken;
	return from;
}

void
leftover_list_begin(struct leftover_list *l, uint64_t after)
{
	struct leftover_shop *s;

	l->after = after;
	TAILQ_FOREACH(s, &l->shops, link)
	s->passed = false;
}

void
leftover_list_offer(struct leftover_list *l, uint64_t number, int64_t ended_ms,
    struct spool_item *it)
{
	struct leftover_shop *s = shop_get(l, it->storage);
	struct leftover *x;

	if (number <= s->taken)
		return;
	if (s->passed || s->n >= LEFTOVERS_SHARE ||
	    (has_more(s) && l->after > s->taken)) {
		s->passed = true;
		if (number > s->more)
			s->more = number;
		return;
	}
	x = xcalloc(1, sizeof(*x));
	x->shop = s;
	x->number = number;
	x->ended_ms = ended_ms;
	x->it = *it;
	memset(it, 0, sizeof(*it));
	TAILQ_INSERT_TAIL(&s->list, x, link);
	s->n++;
	s->taken = number;
}

void
leftover_list_end(struct leftover_list *l, uint64_t last, bool all)
{
	struct leftover_shop *s;

	/* What was left out once may be forgotten by the spool. */
	if (all && last < l->high)
		last = l->high;
	/* Those that left none out have none up to there. */
	TAILQ_FOREACH(s, &l->shops, link)
	if (!s->passed && s->taken < last &&
	    (!has_more(s) || l->after <= s->taken))
		s->taken = last;
	if (l->high < last)
		l->high = last;
}

uint64_t
leftover_list_mark(const struct leftover_list *l)
{
	const struct leftover_shop *s;
	const struct leftover *x;
	uint64_t mark = l->high;

	TAILQ_FOREACH(s, &l->shops, link)
	{
		if (has_more(s) && s->taken < mark)
			mark = s->taken;
		x = TAILQ_FIRST(&s->list);
		if (x != NULL && x->number - 1 < mark)
			mark = x->number - 1;
	}
	return mark;
}

/* ---- turns --------------------------------------------------------------- */

/* The one that was tried least, then the oldest. */
static struct leftover *
pick(struct leftover_shop *s, int64_t now_ms)
{
	struct leftover *x, *best = NULL;

	TAILQ_FOREACH(x, &s->list, link)
	if (x->next_ms <= now_ms && (best == NULL || x->tries < best->tries))
		best = x;
	return best;
}

struct leftover *
leftover_list_next(struct leftover_list *l, int64_t now_ms)
{
	struct leftover_shop *s;
	struct leftover *x;

	if (l->busy >= LEFTOVERS_PARALLEL)
		return NULL;
	TAILQ_FOREACH(s, &l->shops, link)
	{
		if (s->now != NULL || s->next_ms > now_ms ||
		    (x = pick(s, now_ms)) == NULL)
			continue;
		TAILQ_REMOVE(&l->shops, s, link);
		TAILQ_INSERT_TAIL(&l->shops, s, link);
		s->now = x;
		l->busy++;
		return x;
	}
	return NULL;
}

static void
leave(struct leftover_list *l, struct leftover *x)
{
	if (x->shop->now != x)
		return;
	x->shop->now = NULL;
	l->busy--;
}

void
leftover_list_again(
    struct leftover_list *l, struct leftover *x, bool storage, int64_t now_ms)
{
	struct leftover_shop *s = x->shop;

	leave(l, x);
	x->tries++;
	x->wait_ms = backoff_next(x->wait_ms, CAP_MS, arc4random_uniform);
	x->next_ms = now_ms + x->wait_ms;
	s->wait_ms =
	    storage ? backoff_next(s->wait_ms, CAP_MS, arc4random_uniform) : 0;
	s->next_ms = now_ms + s->wait_ms;
}

void
leftover_list_done(struct leftover_list *l, struct leftover *x, bool works)
{
	struct leftover_shop *s = x->shop;

	leave(l, x);
	if (works)
		s->wait_ms = s->next_ms = 0;
	item_free(x);
}
