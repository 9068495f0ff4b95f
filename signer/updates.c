/*
 * updates.c - long polls that wait for a change of their tenant
 *
 * A parked call costs its memory and a timer. On a change of the tenant all of
 * its calls run again; a call whose time is up runs once more and is answered
 * whatever it finds (version -1).
 */
#include "updates.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <event2/event.h>

#include "api.h"
#include "signer.h"
#include "xalloc.h"

struct parked {
	TAILQ_ENTRY(parked) link;
	struct updates *u;
	struct api_call *call;
	struct event *timer;
};
TAILQ_HEAD(parkeds, parked);

struct updates {
	struct signer *sg;
	struct parkeds list;
	struct timeval wait;
	const struct timeval *common; /* one queue for all timers */
	unsigned n, generation;
};

struct updates *
updates_new(struct signer *sg)
{
	struct updates *u = xcalloc(1, sizeof(*u));

	u->sg = sg;
	TAILQ_INIT(&u->list);
	u->wait.tv_sec = UPDATES_WAIT_S;
	u->common = event_base_init_common_timeout(sg->base, &u->wait);
	return u;
}

static void
unpark(struct parked *p)
{
	TAILQ_REMOVE(&p->u->list, p, link);
	p->u->n--;
	p->call->parked = NULL;
	event_free(p->timer);
	free(p);
}

static void
on_time(evutil_socket_t fd, short what, void *arg)
{
	struct parked *p = arg;
	struct api_call *c = p->call;

	unpark(p);
	c->version = -1;
	api_again(c);
}

void
updates_park(struct updates *u, struct api_call *c)
{
	struct parked *p = xcalloc(1, sizeof(*p));

	p->u = u;
	p->call = c;
	p->timer = evtimer_new(u->sg->base, on_time, p);
	evtimer_add(p->timer, u->common != NULL ? u->common : &u->wait);
	c->parked = p;
	TAILQ_INSERT_TAIL(&u->list, p, link);
	u->n++;
}

void
updates_forget(struct updates *u, struct api_call *c)
{
	if (c->parked != NULL)
		unpark(c->parked);
}

/* tenant NULL: all, for good. */
static void
run_again(struct updates *u, const char *tenant)
{
	struct parked *p, *next;

	for (p = TAILQ_FIRST(&u->list); p != NULL; p = next) {
		struct api_call *c = p->call;

		next = TAILQ_NEXT(p, link);
		if (tenant != NULL && strcmp(c->who.tenant, tenant) != 0)
			continue;
		unpark(p);
		if (tenant == NULL)
			c->version = -1;
		api_again(c);
	}
}

void
updates_wake(struct updates *u, const char *tenant)
{
	u->generation++;
	run_again(u, tenant);
}

unsigned
updates_generation(const struct updates *u)
{
	return u->generation;
}

void
updates_stop(struct updates *u)
{
	run_again(u, NULL);
}

unsigned
updates_waiting(const struct updates *u)
{
	return u->n;
}

void
updates_free(struct updates *u)
{
	if (u == NULL)
		return;
	while (!TAILQ_EMPTY(&u->list))
		unpark(TAILQ_FIRST(&u->list));
	free(u);
}
