/*
 * fill.c - brings uploads from the spool into the window
 *
 * The spool gives deferred uploads that are due, then those never tried behind
 * a cursor. The cursor passes over what belongs to a storage that does not
 * work, so that others behind it are found; it goes back to the oldest when a
 * storage or the signer comes back, when a probe is due, and now and then.
 */
#include "fill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "clock.h"
#include "key.h"
#include "log.h"
#include "scheduler.h"
#include "scheduler_private.h"
#include "shrink.h"
#include "signer_client.h"
#include "url.h"
#include "xalloc.h"

#define PAGE_MAX 16384
#define SWEEP_MS 30000
#define SOUGHT_MS 15000
#define OTHERS_MS 100
#define PRIORITY_NORMAL 5

/* ---- what an upload is offered as ---------------------------------------- */

/* The [camera] section of the item's device, or NULL. */
static const struct camera_conf *
camera_of(const struct agent *a, const struct spool_item *it)
{
	const struct gateway_conf *c = a->conf;

	for (size_t i = 0; i < c->cameras_n; i++)
		if (strcmp(c->cameras[i].name, it->device) == 0)
			return &c->cameras[i];
	return NULL;
}

static const char *
storage_name(const struct agent *a, const struct spool_item *it)
{
	const struct camera_conf *cam = camera_of(a, it);

	if (it->offered)
		return it->storage;
	return cam != NULL && cam->storage != NULL ? cam->storage
						   : a->conf->storage;
}

static unsigned
priority(const struct agent *a, const struct spool_item *it)
{
	const struct camera_conf *cam = camera_of(a, it);

	return cam != NULL ? (unsigned)cam->priority : PRIORITY_NORMAL;
}

/*
 * When it was received, by the best clock there is: if the gateway's was wrong
 * then, the signer's time less the upload's age.
 */
static int64_t
received_s(const struct agent *a, const struct spool_item *it)
{
	int64_t offset = signer_clock_offset_ms(a->signer);
	int64_t by_age = clock_wall_ms() + offset - it->age_ms;
	int64_t differs = by_age - it->received_wall_ms;

	if (offset == 0 || it->age_ms < 0 ||
	    (differs > -60000 && differs < 60000))
		return it->received_wall_ms / 1000;
	return by_age / 1000;
}

void
fill_offer(struct agent *a, struct delivery *d)
{
	struct spool_item *it = &d->it;
	struct key_values v = { .device = it->device,
		.gateway = a->conf->name,
		.name = it->name,
		.id = it->id };
	char sha256[65];

	if (it->offered)
		return;
	hex_encode(it->sha256, 32, sha256);
	v.sha256 = sha256;
	v.received_s = received_s(a, it);
	free(it->storage);
	free(it->key);
	free(it->encoding);
	it->storage = xstrdup(d->st->name);
	it->key = key_expand(a->conf->key_template, &v);
	it->encoding = xstrdup("");
	it->offer_size = it->size;
	memcpy(it->offer_sha256, it->sha256, 32);
	shrink_offer(d);
}

/* ---- the window ---------------------------------------------------------- */

static bool
wanted(struct scheduler *s, const struct spool_item *it, struct storage *st)
{
	if (it->due_in_ms > 0 && !s->hurry && !st->hurry)
		return false;
	/* A slow storage leaves room for others; it is come back to. */
	if (st->ready >= WINDOW_MAX / 2) {
		s->passed = true;
		return false;
	}
	if (!st->circuit.open)
		return true;
	/* One to probe with. */
	return st->ready + st->pipeline + st->running == 0;
}

/* Take an item the spool gave. True: it is in the window now. */
static bool
take(struct scheduler *s, struct spool_item *it)
{
	struct storage *st;
	struct delivery *d;

	shrink_note_age(s, it->age_ms);
	if (window_find(&s->window, it->seq) != NULL)
		return false;
	st = storages_get(&s->agent->storages, storage_name(s->agent, it));
	if (st == NULL && !s->told) {
		s->told = true;
		log_error("more than %d storages are named: id=%s and others "
			  "wait for a restart with fewer",
		    STORAGES_MAX, it->id);
	}
	if (st == NULL || !wanted(s, it, st))
		return false;
	d = delivery_new(s->agent, it, st);
	window_add(&s->window, d);
	window_ready(&s->window, d, priority(s->agent, &d->it));
	return true;
}

static void
hurry_over(struct scheduler *s)
{
	struct storage *st;

	s->hurry = false;
	TAILQ_FOREACH(st, &s->agent->storages, link)
	{
		st->hurry = false;
	}
}

static void
on_items(int rc, struct spool_item *items, size_t n, void *arg)
{
	struct scheduler *s = arg;
	uint64_t last = 0, highest = s->cursor;
	size_t taken = 0, i;
	bool whole = n < s->page, last_is_new = false;

	s->filling = false;
	if (s->stopping)
		return;
	if (rc != 0) {
		s->looked = true;
		return;
	}
	for (i = 0; i < n && s->window.ready < WINDOW_MAX; i++) {
		/* Those never tried come last, in order. */
		last = items[i].seq;
		if (last > highest)
			highest = last;
		last_is_new = !items[i].offered && items[i].attempts == 0;
		taken += take(s, &items[i]);
	}
	if (i < n)
		whole = false; /* the window is full */
	if (s->again) {
		s->again = false;
		s->cursor = 0;
	} else if (whole) {
		s->cursor = highest; /* what comes is numbered above it */
	} else if (last_is_new && last > s->cursor) {
		s->cursor = last;
	}
	if (whole) {
		hurry_over(s);
		s->looked = true;
		s->page = FILL_PAGE;
	} else if (taken == 0 && !last_is_new && s->page < PAGE_MAX) {
		s->page *= 2; /* behind what is deferred there may be more */
	}
	scheduler_kick(s);
}

/*
 * The window is half full. Is it worth to look behind that for other storages?
 * If there are some, a page at a time, now and then; and back to the oldest
 * when what is at hand runs low.
 */
static bool
others(struct scheduler *s)
{
	struct storage *first = TAILQ_FIRST(&s->agent->storages);
	int64_t now = clock_ms();

	if (TAILQ_NEXT(first, link) == NULL || now - s->others_ms < OTHERS_MS)
		return false;
	s->others_ms = now;
	return true;
}

void
fill_look(struct scheduler *s)
{
	int64_t now = clock_ms(), ahead = 0;
	struct storage *st;

	if (!s->open || s->filling || s->window.ready >= WINDOW_MAX ||
	    (s->window.ready >= WINDOW_MAX / 2 && !others(s)))
		return;
	if (!signer_may(s->agent->signer) && s->window.ready > 0)
		return; /* nothing can go, and one to try with is there */
	TAILQ_FOREACH(st, &s->agent->storages, link)
	{
		if (st->hurry)
			ahead = INT64_MAX;
		/* A probe is due and there is nothing to probe with. */
		if (st->circuit.open && circuit_may(&st->circuit, now) &&
		    st->ready + st->pipeline + st->running == 0 &&
		    (now - st->sought_ms >= SOUGHT_MS || st->sought_ms == 0)) {
			st->sought_ms = now;
			s->cursor = 0;
			s->looked = false;
			ahead = INT64_MAX;
			st->hurry = true;
		}
	}
	if (s->hurry)
		ahead = INT64_MAX;
	if (s->passed && s->window.ready < WINDOW_MAX / 8) {
		s->passed = false;
		s->cursor = 0;
		s->looked = false;
	}
	if (now - s->swept_ms >= SWEEP_MS) {
		s->swept_ms = now;
		s->cursor = 0;
		s->looked = false;
	}
	if (s->looked)
		return;
	s->filling = true;
	spool_ready(s->agent->spool, s->cursor, ahead, s->page, on_items, s);
}

void
fill_again(struct scheduler *s)
{
	s->looked = false;
	s->cursor = 0;
	s->again = s->filling;
	scheduler_kick(s);
}

void
fill_drop(struct scheduler *s, struct storage *st)
{
	struct lane *lane, *next_lane;
	struct delivery *d, *next;

	if (st == NULL)
		return;
	for (lane = TAILQ_FIRST(&s->window.lanes); lane != NULL;
	     lane = next_lane) {
		next_lane = TAILQ_NEXT(lane, link);
		for (d = TAILQ_FIRST(&lane->ready); d != NULL; d = next) {
			next = TAILQ_NEXT(d, link);
			if (d->st == st && st->ready > 1)
				scheduler_over(s, d);
		}
	}
}
