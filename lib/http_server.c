/*
 * http_server.c - the server: settings, deadlines, who must go, drain
 *
 * Deadlines stand in a wheel of slots of TICK_MS. A connection lies in the
 * slot of its deadline or an earlier one and is looked at when the wheel gets
 * there: a deadline that moves on, as most do, costs a store. The wheel turns
 * only while there is something on it.
 *
 * The turn: what cannot be done inside a user's callback is done by one event
 * when that callback has returned to the loop.
 */
#include "http_internal.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "log.h"
#include "xalloc.h"

#define LOOK_MAX 64   /* busy connections looked at for one that may go */
#define QUIET_MS 1000 /* and which has been quiet this long */
#define SIP_CONNS 32
#define SIP_ROUND (256u << 10) /* octets */
#define SIPS 8
#define TELL_MAX 10 /* lines of refusal a second */

/* ---- deadlines ----------------------------------------------------------- */

static void
wheel_put(struct conn *c)
{
	struct http_server *hs = c->hs;
	int64_t slot = c->deadline / TICK_MS + 1,
		first = hs->wheel_ms / TICK_MS;

	if (slot <= first)
		slot = first + 1;
	if (slot >= first + WHEEL)
		slot = first + WHEEL - 1;
	c->slot_ms = slot * TICK_MS;
	c->slot = (unsigned char)(slot % WHEEL);
	TAILQ_INSERT_TAIL(&hs->wheel[c->slot], c, slot_link);
	if (hs->wheel_n++ == 0) {
		struct timeval tv = { .tv_usec = TICK_MS * 1000 };

		event_add(hs->tick, &tv);
	}
}

static void
wheel_take(struct conn *c)
{
	TAILQ_REMOVE(&c->hs->wheel[c->slot], c, slot_link);
	c->slot = SLOT_NONE;
	c->hs->wheel_n--;
}

void
server_deadline(struct conn *c, int64_t at_ms)
{
	struct http_server *hs = c->hs;

	c->deadline = at_ms;
	if (at_ms == 0)
		return; /* its slot finds that out */
	if (hs->wheel_n == 0)
		hs->wheel_ms = hs->now;
	if (c->slot < WHEEL && at_ms < c->slot_ms - TICK_MS)
		wheel_take(c);
	if (c->slot == SLOT_NONE)
		wheel_put(c);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *hs = arg;
	struct conns *due = &hs->wheel[SLOT_DUE];
	struct conn *c;
	int64_t from, to;

	hs->now = clock_ms();
	from = hs->wheel_ms / TICK_MS + 1;
	to = hs->now / TICK_MS;
	hs->wheel_ms = hs->now;
	if (to - from >= WHEEL)
		from = to - WHEEL + 1;
	for (; from <= to; from++)
		TAILQ_CONCAT(due, &hs->wheel[from % WHEEL], slot_link);
	TAILQ_FOREACH(c, due, slot_link)
	c->slot = SLOT_DUE;
	while ((c = TAILQ_FIRST(due)) != NULL) {
		wheel_take(c);
		if (c->deadline == 0)
			continue;
		if (c->deadline <= hs->now)
			conn_expired(c); /* it may be gone then */
		else
			wheel_put(c);
	}
	hello_start_more(hs);
	if (hs->wheel_n == 0)
		event_del(hs->tick);
}

/* ---- the turn ------------------------------------------------------------ */

static void
drained(struct http_server *hs)
{
	void (*fn)(void *) = hs->drained;

	hs->drained = NULL;
	fn(hs->drained_arg);
}

static void
on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *hs = arg;
	struct conn *c, *last = TAILQ_LAST(&hs->due, conns);

	hs->now = clock_ms();
	hs->in_turn = true;
	while ((c = TAILQ_FIRST(&hs->due)) != NULL) {
		bool end = c == last;

		TAILQ_REMOVE(&hs->due, c, due_link);
		c->due = false;
		conn_run(c);
		if (end)
			break; /* who came meanwhile waits for the next */
	}
	hs->in_turn = false;
	if (!TAILQ_EMPTY(&hs->due)) {
		struct timeval now = { 0 };

		/* by a timer, so that the sockets are looked at between */
		event_add(hs->turn, &now);
	}
	if (hs->conns_n == 0 && hs->drained != NULL)
		drained(hs); /* which may free the server */
}

void
server_turn(struct conn *c)
{
	struct http_server *hs = c->hs;

	if (c->running || c->due)
		return;
	c->due = true;
	if (TAILQ_EMPTY(&hs->due) && !hs->in_turn)
		event_active(hs->turn, EV_TIMEOUT, 0);
	TAILQ_INSERT_TAIL(&hs->due, c, due_link);
}

void
server_enter(struct conn *c)
{
	if (!c->running)
		c->hs->now = clock_ms();
}

/* Clients give up when nothing is taken from them for some seconds. So while
 * held, SIP_ROUND octets are taken each second, the fewer there are the more
 * of each (TCP tells a peer of room only when there is some), for SIPS rounds:
 * 2 MB in one hold. */
static void
on_sip(evutil_socket_t fd, short what, void *arg)
{
	struct timeval tv = { 1, 0 };
	struct http_server *hs = arg;
	struct conn *c, *first;
	unsigned n = 0;

	if (!hs->hold || hs->sips++ == SIPS)
		return;
	hs->now = clock_ms();
	first = TAILQ_FIRST(&hs->busy);
	for (unsigned i = 0; first != NULL && i < LOOK_MAX && n < SIP_CONNS;
	     i++) {
		c = TAILQ_FIRST(&hs->busy);
		if (c == first && i > 0)
			break; /* once round */
		TAILQ_REMOVE(&hs->busy, c, link);
		TAILQ_INSERT_TAIL(&hs->busy, c, link);
		if (c->state != CONN_BODY)
			continue;
		c->sip = true;
		server_turn(c);
		n++;
	}
	hs->sip_size = SIP_ROUND / (n > 4 ? n : 4);
	event_add(hs->sip, &tv);
}

void
http_server_hold(struct http_server *hs, bool hold)
{
	struct timeval tv = { 1, 0 };
	int64_t grace = clock_ms() + hs->set.head_timeout_ms;
	struct conn *c;

	if (hs->hold == hold)
		return;
	hs->hold = hold;
	if (hold) {
		hs->sips = 0;
		event_add(hs->sip, &tv);
		return;
	}
	TAILQ_FOREACH(c, &hs->busy, link)
	if (c->state == CONN_BODY) {
		c->sip = false;
		if (c->deadline < grace)
			server_deadline(c, grace);
		server_turn(c);
	}
}

/* ---- who must go --------------------------------------------------------- */

bool
server_evict(struct http_server *hs)
{
	struct conn *c = TAILQ_FIRST(&hs->idle), *worst = NULL;

	for (unsigned i = 0; c == NULL && i < LOOK_MAX; i++) {
		struct conn *b = TAILQ_FIRST(&hs->busy);

		if (b == NULL)
			break;
		TAILQ_REMOVE(&hs->busy, b, link);
		TAILQ_INSERT_TAIL(&hs->busy, b, link);
		if (b->state == CONN_WAIT || b->running)
			continue;
		if (worst == NULL || b->active_ms < worst->active_ms)
			worst = b;
	}
	if (c == NULL && worst != NULL &&
	    worst->active_ms + QUIET_MS <= hs->now)
		c = worst;
	if (c == NULL)
		return false;
	log_debug("conn=%d goes: too many connections", c->fd);
	conn_kill(c);
	conn_run(c);
	return true;
}

static unsigned
bucket(const struct http_server *hs, const struct in6_addr *ip)
{
	uint64_t a, b;

	memcpy(&a, ip, 8);
	memcpy(&b, (const char *)ip + 8, 8);
	a = (a ^ hs->seed) * 0x9e3779b97f4a7c15u;
	a = (a ^ (a >> 29) ^ b) * 0xbf58476d1ce4e5b9u;
	return (unsigned)(a >> 32) % ADDRESSES;
}

struct address *
server_address(
    struct http_server *hs, const struct in6_addr *ip, const char *text)
{
	unsigned b = bucket(hs, ip);
	struct address *a;

	LIST_FOREACH(a, &hs->addresses[b], link)
	if (memcmp(&a->ip, ip, sizeof(*ip)) == 0)
		break;
	if (a != NULL && hs->set.max_per_address > 0 &&
	    a->n >= hs->set.max_per_address)
		return NULL;
	if (a == NULL) {
		a = xcalloc(1, sizeof(*a));
		a->ip = *ip;
		snprintf(a->text, sizeof(a->text), "%s", text);
		LIST_INSERT_HEAD(&hs->addresses[b], a, link);
	}
	a->n++;
	return a;
}

void
server_address_drop(struct address *a)
{
	if (a == NULL || --a->n > 0)
		return;
	LIST_REMOVE(a, link);
	free(a);
}

void
server_tell(
    struct http_server *hs, const char *peer, int status, const char *why)
{
	if (hs->told_ms / 1000 != hs->now / 1000) {
		if (hs->untold > TELL_MAX)
			log_info("http: %u more refusals were not logged",
			    hs->untold - TELL_MAX);
		hs->told_ms = hs->now;
		hs->untold = 0;
	}
	if (++hs->untold <= TELL_MAX)
		log_info(
		    "http refused peer=%s status=%d: %s", peer, status, why);
}

/* ---- life ---------------------------------------------------------------- */

void
http_settings_default(struct http_settings *s)
{
	*s = (struct http_settings){
		.head_max = 16384,
		.head_timeout_ms = 10000,
		.idle_timeout_ms = 60000,
		.min_rate = 500,
		.max_connections = 8192,
		.max_per_address = 0,
		.drain_max = 32u << 20,
		.drain_ms = 15000,
	};
}

struct http_server *
http_server_new(struct event_base *base, const struct http_settings *s,
    const struct http_route *routes, size_t routes_n, void *arg)
{
	struct http_server *hs = xcalloc(1, sizeof(*hs));

	assert(event_base_get_features(base) & EV_FEATURE_ET);
	assert(event_base_get_features(base) & EV_FEATURE_EARLY_CLOSE);
	/* sendfile(2) and OpenSSL cannot be told MSG_NOSIGNAL */
	signal(SIGPIPE, SIG_IGN);
	hs->base = base;
	hs->set = *s;
	hs->routes = routes;
	hs->routes_n = routes_n;
	hs->arg = arg;
	hs->now = hs->wheel_ms = clock_ms();
	LIST_INIT(&hs->listeners);
	TAILQ_INIT(&hs->due);
	TAILQ_INIT(&hs->idle);
	TAILQ_INIT(&hs->busy);
	TAILQ_INIT(&hs->hellos);
	TAILQ_INIT(&hs->hello_waits);
	for (unsigned i = 0; i <= SLOT_DUE; i++)
		TAILQ_INIT(&hs->wheel[i]);
	if (getrandom(&hs->seed, sizeof(hs->seed), GRND_NONBLOCK) < 0)
		hs->seed = (uint64_t)hs->now;
	hs->turn = event_new(base, -1, 0, on_turn, hs);
	hs->tick = event_new(base, -1, EV_PERSIST, on_tick, hs);
	hs->sip = evtimer_new(base, on_sip, hs);
	if (hs->turn == NULL || hs->tick == NULL || hs->sip == NULL)
		abort();
	return hs;
}

void
http_server_settings(struct http_server *hs, const struct http_settings *s)
{
	hs->set = *s;
}

uint64_t
http_server_answers(const struct http_server *hs, int status)
{
	return status >= 100 && status < 600 ? hs->answers[status - 100] : 0;
}

unsigned
http_server_connections(const struct http_server *hs)
{
	return hs->conns_n;
}

void
server_check_drained(struct http_server *hs)
{
	if (hs->conns_n == 0 && hs->drained != NULL && !hs->in_turn)
		event_active(hs->turn, EV_TIMEOUT, 0);
}

void
http_server_drain(struct http_server *hs, void (*fn)(void *arg), void *arg)
{
	struct conn *c;

	hs->now = clock_ms();
	while (!LIST_EMPTY(&hs->listeners))
		listener_free(LIST_FIRST(&hs->listeners));
	hs->draining = true;
	TAILQ_FOREACH(c, &hs->idle, link)
	{
		if (c->state == CONN_LINGER)
			server_deadline(c, hs->now + 500);
		else
			server_turn(c); /* ends there, if nothing has come */
	}
	hs->drained = fn;
	hs->drained_arg = arg;
	if (hs->conns_n == 0)
		drained(hs);
}

void
http_server_free(struct http_server *hs)
{
	struct conn *c;

	if (hs == NULL)
		return;
	hs->drained = NULL;
	hs->now = clock_ms();
	while (!LIST_EMPTY(&hs->listeners))
		listener_free(LIST_FIRST(&hs->listeners));
	while ((c = TAILQ_FIRST(&hs->busy)) != NULL ||
	    (c = TAILQ_FIRST(&hs->idle)) != NULL) {
		conn_kill(c);
		conn_run(c);
	}
	if (hs->resume != NULL)
		event_free(hs->resume);
	event_free(hs->turn);
	event_free(hs->tick);
	event_free(hs->sip);
	free(hs);
}
