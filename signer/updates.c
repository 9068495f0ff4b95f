/*
 * updates.c - long polls that wait for a change of their tenant
 *
 * A parked call costs its memory and a timer. On a change of the tenant all of
 * its calls run again; a call whose time is up runs once more and is answered
 * whatever it finds (version -1). They run a few at a time: a thousand answers
 * at once would all lie in memory.
 */
#include "updates.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <event2/event.h>

#include "api.h"
#include "pool.h"
#include "signer.h"
#include "store.h"
#include "xalloc.h"

#define AT_ONCE 32

struct parked {
	TAILQ_ENTRY(parked) link;
	bool woken; /* on the other list */
	struct updates *u;
	struct api_call *call;
	struct event *timer;
};
TAILQ_HEAD(parkeds, parked);

/* What a tenant's counter of changes was when it was last looked at. */
struct version {
	char *tenant, *text;
};

struct updates {
	struct signer *sg;
	struct parkeds list;
	struct parkeds woken; /* to be run again, in this order */
	unsigned running;     /* of those that were */
	struct timeval wait;
	const struct timeval *common; /* one queue for all timers */
	unsigned n, generation;
	/* Of a store that others change, too: looked at twice a second. */
	struct event *look;
	bool looking;
	struct version *seen, *found;
	size_t seen_n, found_n;
};

/* ---- a store that is shared ---------------------------------------------- */

static void
versions_free(struct version *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].tenant);
		free(v[i].text);
	}
	free(v);
}

static int
on_version(const char *id, const char *doc, size_t n, void *arg)
{
	struct updates *u = arg;
	struct version *v;

	u->found = xrealloc(u->found, (u->found_n + 1) * sizeof(*u->found));
	v = &u->found[u->found_n++];
	v->tenant = xstrndup(id, strcspn(id, "/"));
	v->text = xstrndup(doc, n);
	return 0;
}

static int
read_versions(struct store_txn *t, void *arg)
{
	struct updates *u = arg;

	versions_free(u->found, u->found_n);
	u->found = NULL;
	u->found_n = 0;
	return store_scan(t, KIND_CHANGE, NULL, NULL, on_version, u);
}

static void
run_look(void *arg)
{
	struct updates *u = arg;

	if (store_view(u->sg->store, read_versions, u) != 0) {
		versions_free(u->found, u->found_n);
		u->found = NULL;
		u->found_n = 0;
	}
}

static bool
was_seen(const struct updates *u, const struct version *v)
{
	for (size_t i = 0; i < u->seen_n; i++)
		if (strcmp(u->seen[i].tenant, v->tenant) == 0)
			return strcmp(u->seen[i].text, v->text) == 0;
	return false;
}

static void
ran_look(void *arg)
{
	struct updates *u = arg;

	u->looking = false;
	if (u->found == NULL)
		return;
	for (size_t i = 0; i < u->found_n; i++)
		if (!was_seen(u, &u->found[i]))
			updates_wake(u, u->found[i].tenant);
	versions_free(u->seen, u->seen_n);
	u->seen = u->found;
	u->seen_n = u->found_n;
	u->found = NULL;
	u->found_n = 0;
}

static void
on_look(evutil_socket_t fd, short what, void *arg)
{
	struct updates *u = arg;

	if (u->looking || u->n == 0)
		return;
	u->looking = true;
	pool_run(u->sg->readers, run_look, ran_look, u);
}

struct updates *
updates_new(struct signer *sg)
{
	struct updates *u = xcalloc(1, sizeof(*u));

	u->sg = sg;
	TAILQ_INIT(&u->list);
	TAILQ_INIT(&u->woken);
	u->wait.tv_sec = UPDATES_WAIT_S;
	if (sg->store->ops->shared) {
		u->look = event_new(sg->base, -1, EV_PERSIST, on_look, u);
		event_add(u->look, &(struct timeval){ 0, 500000 });
	}
	u->common = event_base_init_common_timeout(sg->base, &u->wait);
	return u;
}

static void
unpark(struct parked *p)
{
	TAILQ_REMOVE(p->woken ? &p->u->woken : &p->u->list, p, link);
	p->u->n--;
	p->call->parked = NULL;
	event_free(p->timer);
	free(p);
}

static void
run_some(struct updates *u)
{
	struct parked *p;

	while (u->running < AT_ONCE && (p = TAILQ_FIRST(&u->woken)) != NULL) {
		struct api_call *c = p->call;

		unpark(p);
		c->woken = true;
		u->running++;
		api_again(c);
	}
}

static void
wake(struct parked *p)
{
	TAILQ_REMOVE(&p->u->list, p, link);
	TAILQ_INSERT_TAIL(&p->u->woken, p, link);
	p->woken = true;
	event_del(p->timer);
}

void
updates_ran(struct updates *u, struct api_call *c)
{
	if (!c->woken)
		return;
	c->woken = false;
	u->running--;
	run_some(u);
}

static void
on_time(evutil_socket_t fd, short what, void *arg)
{
	struct parked *p = arg;

	p->call->version = -1;
	wake(p);
	run_some(p->u);
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
		next = TAILQ_NEXT(p, link);
		if (tenant != NULL && strcmp(p->call->who.tenant, tenant) != 0)
			continue;
		if (tenant == NULL)
			p->call->version = -1;
		wake(p);
	}
	run_some(u);
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
	while (!TAILQ_EMPTY(&u->woken))
		unpark(TAILQ_FIRST(&u->woken));
	if (u->look != NULL)
		event_free(u->look);
	versions_free(u->seen, u->seen_n);
	versions_free(u->found, u->found_n);
	free(u);
}
