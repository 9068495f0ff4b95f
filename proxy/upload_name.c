/*
 * upload_name.c - names that wait already
 *
 * Conditions, and on_same_name = reject or replace-waiting. What may not
 * be there twice is asked for twice: by the head, so that a body that will not
 * be kept need not be sent, and again once all of it is here. From then until
 * it is durable the upload has a claim on its names, which two that come at
 * once cannot both have.
 */
#include "upload_private.h"

#include <stdlib.h>
#include <string.h>

#include "gateway_conf.h"
#include "http_server.h"
#include "log.h"
#include "proxy.h"
#include "shares.h"
#include "xalloc.h"

/* So many that wait are compared with a condition's ETags, the oldest. */
#define COMPARED 64

bool
upload_name_rule(struct upload *up)
{
	if (condition_read(up->rq, &up->condition) != 0) {
		upload_stop(up, 400,
		    "If-Match or If-None-Match is not readable",
		    "send *, or ETags in double quotes, or none of them");
		return false;
	}
	/* Kept here: a reload may come before the body has. */
	switch (shares_same_name(up->px->conf, up->who.camera)) {
	case SAME_NAME_REJECT:
		up->rule = NAME_REJECT;
		break;
	case SAME_NAME_REPLACE_WAITING:
		up->rule = NAME_REPLACE;
		break;
	default:
		up->rule = NAME_KEEP;
	}
	return true;
}

static void
refuse(struct upload *up, const char *error)
{
	if (condition_any(&up->condition))
		upload_stop(up, 412, error,
		    "send it without If-Match and If-None-Match, or under "
		    "another name");
	else
		upload_stop(up, 409, error,
		    "use another name, or set on_same_name of [spool] or of "
		    "its [camera]");
}

static void ask_next(struct upload *up);

static void
on_same_name(int rc, struct spool_item *items, size_t n, void *arg)
{
	struct upload *up = arg;
	const char *why;

	if (!upload_came_back(up))
		return;
	why = condition_fails(&up->condition, items, n);
	if (why == NULL && n > 0 && up->rule == NAME_REJECT)
		why = "a file of this device and name waits already";
	if (rc != 0)
		upload_stop(up, 503, "the index cannot be read",
		    "look for \"index\" in the proxy's log");
	else if (why != NULL)
		refuse(up, why);
	else
		ask_next(up);
}

static void
ask(struct upload *up, const char *name)
{
	up->waiting++;
	spool_same_name(up->px->spool, up->who.device, name,
	    condition_any(&up->condition) ? COMPARED : 1, on_same_name, up);
}

/* The names of all files, one after the other. */
static void
ask_next(struct upload *up)
{
	if (up->claims && up->asked_n < up->files_n)
		ask(up, upload_file_name(up->files[up->asked_n++]));
	else
		up->then(up);
}

static bool
asks(const struct upload *up)
{
	return up->rule == NAME_REJECT || condition_any(&up->condition);
}

void
upload_name_first(struct upload *up, void (*then)(struct upload *up))
{
	up->then = then;
	/* The parts of a form have names of their own. */
	if (asks(up) && up->form == NULL)
		ask(up, up->who.name[0] != '\0' ? up->who.name : "upload");
	else
		then(up);
}

static bool
share_a_name(const struct upload *a, const struct upload *b)
{
	if (strcmp(a->who.device, b->who.device) != 0)
		return false;
	for (unsigned i = 0; i < a->files_n; i++)
		for (unsigned k = 0; k < b->files_n; k++)
			if (strcmp(upload_file_name(a->files[i]),
				upload_file_name(b->files[k])) == 0)
				return true;
	return false;
}

void
upload_name_last(struct upload *up, void (*then)(struct upload *up))
{
	struct upload *other;

	up->then = then;
	if (!asks(up)) {
		then(up);
		return;
	}
	LIST_FOREACH(other, &up->px->claims, claim)
	if (share_a_name(up, other)) {
		refuse(up, "a file of this device and name comes just now");
		return;
	}
	LIST_INSERT_HEAD(&up->px->claims, up, claim);
	up->claims = true;
	ask_next(up);
}

void
upload_name_release(struct upload *up)
{
	if (up->claims)
		LIST_REMOVE(up, claim);
	up->claims = false;
}

/* ---- replace-waiting ------------------------------------------------------
 */

struct replacing {
	struct spool *sp;
	uint64_t seq; /* of the new one */
};

static void
on_older(int rc, struct spool_item *items, size_t n, void *arg)
{
	struct replacing *r = arg;

	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (items[i].seq >= r->seq)
			continue;
		log_info("id=%s evicted: replaced by a newer one of its name",
		    items[i].id);
		spool_evict(r->sp, items[i].seq, "replaced", NULL, NULL);
	}
	free(r);
}

void
upload_name_accepted(struct upload *up, const struct spool_item *it)
{
	struct replacing *r;

	if (up->rule != NAME_REPLACE)
		return;
	r = xcalloc(1, sizeof(*r));
	r->sp = up->px->spool;
	r->seq = it->seq;
	spool_same_name(r->sp, it->device, it->name, 64, on_older, r);
}
