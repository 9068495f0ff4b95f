/*
 * lost.c - offers of a smaller copy that cannot be made again
 *
 * What was offered is committed and never changes, with one exception: its
 * octets are gone for good (other settings, another library), and the store
 * says that it does not have them. Then the original is offered under the same
 * key. doc/images.md tells why that is safe.
 */
#include "delivery.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "log.h"
#include "scheduler.h"
#include "xalloc.h"

static void
offer_as_received(struct spool_item *it)
{
	free(it->encoding);
	it->encoding = xstrdup("");
	it->offer_size = it->size;
	memcpy(it->offer_sha256, it->sha256, 32);
}

static void
on_offered_anew(int rc, void *arg)
{
	struct delivery *d = arg;

	if (rc == -ECANCELED)
		return; /* the spool is being closed */
	if (rc != 0) {
		delivery_defer(d, 5000, false, "cannot offer it anew: spool");
		return;
	}
	delivery_sign_again(d);
}

/*
 * The store does not have the smaller copy that was offered, and it cannot be
 * made again: the original goes under the same key.
 */
void
delivery_offer_original(struct delivery *d)
{
	struct spool_item *it = &d->it;

	log_info("id=%s the original is offered instead", it->id);
	d->lost = false;
	d->ask = ASK_SEND;
	delivery_forget_parts(d);
	offer_as_received(it);
	spool_offer_anew(d->agent->spool, it, on_offered_anew, d);
}

/*
 * A rebuilt index does not know what was offered, so the store is asked for
 * the smaller copy first. If it has other octets: are they the original's?
 */
bool
delivery_original_instead(struct delivery *d)
{
	struct spool_item *it = &d->it;

	if (!it->found || d->ask != ASK_LOOK || d->made == NULL ||
	    !d->made->smaller)
		return false;
	image_made_unref(d->made);
	d->made = NULL;
	offer_as_received(it);
	return true;
}
