/*
 * shrink.c - what image workers make of an upload before it is offered
 *
 * An upload that was never offered is offered as what the worker made of it.
 * One that was, and comes back after a failed try or a restart, must go as
 * what was committed with its first offer: the copy is taken from those known
 * or made again, which gives the same octets unless settings or libraries have
 * changed. If they have, the delivery is `lost`: the store is asked whether it
 * has the offer already, and if not, the original is offered anew
 * (delivery.c, doc/images.md).
 *
 * The uplink never waits for workers: when less than two uploads are under way
 * for longer than a worker takes, some that wait for one go as they are, twice
 * as many each time; then, for a while that grows while that goes on, only as
 * many are given to workers as these take at once.
 */
#include "shrink.h"

#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "clock.h"
#include "image.h"
#include "log.h"
#include "scheduler.h"
#include "scheduler_private.h"
#include "xalloc.h"

#define OLD_MS 60000 /* `when = pressure`: the queue is older than this */
#define STARVE_MS 100
#define PATIENCE_MS 1000 /* at most: workers may be stuck */
#define LOW 2            /* fewer under way: the uplink starves */
#define PASS_MIN 2       /* so many go as they are at first */
#define PASS_MAX 16
#define CALM_MS 5000
#define FAST_MS 2000 /* at first, then twice as long each time, up to: */
#define FAST_MAX_MS 16000

/* ---- whether ------------------------------------------------------------- */

void
shrink_note_age(struct scheduler *s, int64_t age_ms)
{
	if (age_ms >= OLD_MS)
		s->old_until_ms = clock_ms() + OLD_MS;
}

static bool
is_copy(const struct spool_item *it)
{
	return it->offered &&
	    (it->offer_size != it->size ||
		memcmp(it->offer_sha256, it->sha256, 32) != 0);
}

static bool
fits_offer(const struct image_made *m, const struct spool_item *it)
{
	return m->smaller && m->size == it->offer_size &&
	    memcmp(m->sha256, it->offer_sha256, 32) == 0 &&
	    strcmp(image_made_encoding(m), it->encoding) == 0;
}

/* Use what was made, if it is what may be offered. Takes m, may be NULL. */
static void
take(struct delivery *d, struct image_made *m)
{
	const struct spool_item *it = &d->it;
	bool fits = m != NULL &&
	    (!it->offered || (is_copy(it) ? fits_offer(m, it) : !m->smaller));

	image_made_unref(d->made);
	d->made = fits ? m : NULL;
	if (!fits)
		image_made_unref(m);
	if (fits || !is_copy(it))
		return;
	log_info("id=%s its smaller copy cannot be made again as it was: asks "
		 "the store for it, else the original goes",
	    it->id);
	d->lost = true;
	d->ask = ASK_LOOK;
}

bool
shrink_wanted(struct scheduler *s, struct delivery *d)
{
	struct agent *a = s->agent;
	int64_t now = clock_ms();
	struct image_made *m;

	if (d->made != NULL || a->images == NULL)
		return false;
	m = image_known(a->images, d->it.seq);
	if (m != NULL && (!is_copy(&d->it) || fits_offer(m, &d->it))) {
		take(d, m);
		return false;
	}
	image_made_unref(m);
	if (!image_wanted(a->conf, &d->it, now < s->old_until_ms, &d->wish)) {
		take(d, NULL);
		return false;
	}
	d->wish.again = is_copy(&d->it);
	d->wish.look = d->it.offered && !d->wish.again;
	if (images_unlikely(a->images, &d->it, &d->wish))
		return false;
	if (!d->it.offered && now < s->fast_until_ms &&
	    images_waiting(a->images) > 0)
		return false;
	return true;
}

static void
on_made(struct image_made *m, void *arg)
{
	struct delivery *d = arg;

	d->shrinking = NULL;
	take(d, m);
	scheduler_go(d->agent->scheduler, d, DELIVERY_SHRUNK);
}

void
shrink_start(struct scheduler *s, struct delivery *d)
{
	d->shrinking =
	    image_start(s->agent->images, &d->it, &d->wish, on_made, d);
}

void
shrink_offer(struct delivery *d)
{
	struct spool_item *it = &d->it;
	const struct image_made *m = d->made;

	if (it->offered || m == NULL || !m->smaller)
		return;
	free(it->encoding);
	it->encoding = xstrdup(image_made_encoding(m));
	it->offer_size = m->size;
	memcpy(it->offer_sha256, m->sha256, 32);
}

/* ---- balance ------------------------------------------------------------- */

static unsigned
under_way(const struct scheduler *s)
{
	return s->running + s->pipeline - s->shrinking;
}

int64_t
shrink_balance(struct scheduler *s)
{
	struct images *im = s->agent->images;
	int64_t now = clock_ms(), patience;

	if (im == NULL || images_waiting(im) == 0 || under_way(s) >= LOW) {
		s->starved_ms = 0;
		return 0;
	}
	patience = STARVE_MS + 2 * images_job_ms(im);
	if (patience > PATIENCE_MS)
		patience = PATIENCE_MS;
	if (s->starved_ms == 0)
		s->starved_ms = now;
	if (now - s->starved_ms < patience)
		return s->starved_ms + patience - now;
	if (s->pass == 0 ||
	    (now - s->passed_ms > CALM_MS &&
		now - s->fast_until_ms > CALM_MS)) {
		s->pass = PASS_MIN;
		s->fast_ms = FAST_MS;
	}
	images_pass(im, s->pass);
	s->pass *= 2;
	if (s->pass > PASS_MAX) {
		s->pass = PASS_MAX;
		s->fast_until_ms = now + s->fast_ms;
		if (s->fast_ms < FAST_MAX_MS)
			s->fast_ms *= 2;
	}
	s->passed_ms = s->starved_ms = now;
	return patience;
}
