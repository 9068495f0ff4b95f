/*
 * http_deadline.c - how long a connection may take for what it does
 *
 * What must stay true: nobody holds a connection by saying nothing, and nobody
 * is cut off for being slow while it keeps the least rate. A head, a handshake
 * and a pause between requests have a time; a body and an answer have one that
 * goes on with each octet. While the server waits for itself no time runs.
 */
#include "http_internal.h"

#include <event2/event.h>
#include <sys/queue.h>

#define LOAD_PART 5 /* of a deadline is left when there are many */
#define LOAD_LEAST_MS 1000
#define CREDIT_MS 60000   /* a fast start is worth a pause of this length */
#define DRAIN_LAST_MS 500 /* of lingering when the server drains */

/* When there are many, those who say nothing get a part of their time, but a
 * second at least: so there is room for who comes. */
static int64_t
under_load(const struct http_server *hs, int64_t ms)
{
	int64_t less = ms / LOAD_PART;

	if (hs->conns_n <= hs->set.max_connections / 4 * 3)
		return ms;
	if (less < LOAD_LEAST_MS)
		less = LOAD_LEAST_MS;
	return less < ms ? less : ms;
}

int64_t
deadline_ms(const struct conn *c, enum conn_state s)
{
	const struct http_settings *set = &c->hs->set;

	switch (s) {
	case CONN_HELLO:
	case CONN_HEAD:
		return under_load(c->hs, set->head_timeout_ms);
	case CONN_BODY:
	case CONN_REPLY:
		return set->head_timeout_ms;
	case CONN_IDLE: /* the first request must not let us wait as long */
		return under_load(c->hs,
		    c->served || set->idle_timeout_ms < set->head_timeout_ms
			? set->idle_timeout_ms
			: set->head_timeout_ms);
	case CONN_LINGER:
		return c->hs->draining && set->drain_ms > DRAIN_LAST_MS
		    ? DRAIN_LAST_MS
		    : set->drain_ms;
	case CONN_WAIT:
	case CONN_DEAD:
	case CONN_STATES:
		break;
	}
	return 0;
}

void
deadline_moved(struct conn *c, uint64_t n)
{
	const struct http_settings *set = &c->hs->set;
	int64_t cap =
	    set->head_timeout_ms > CREDIT_MS ? set->head_timeout_ms : CREDIT_MS;
	uint64_t ms =
	    set->min_rate == 0 ? (uint64_t)cap : n * 1000 / set->min_rate;
	int64_t at = c->deadline;

	at += ms < (uint64_t)cap ? (int64_t)ms : cap;
	if (at > c->hs->now + cap)
		at = c->hs->now + cap;
	if (at > c->deadline)
		server_deadline(c, at);
}

/* The peer has had its time. In REPLY it may have read from its side's buffers
 * without our seeing it, so ask. */
static void
slow_reply(struct conn *c)
{
	uint64_t acked = io_acked(c);
	bool queued = !TAILQ_EMPTY(&c->out);

	if (!queued || c->hs->set.min_rate == 0) {
		server_deadline(c, c->hs->now + c->hs->set.head_timeout_ms);
		return;
	}
	if (acked > c->sent_seen) {
		uint64_t n = acked - c->sent_seen;

		c->sent_seen = acked;
		deadline_moved(c, n);
	}
	if (c->deadline <= c->hs->now)
		conn_kill(c);
}

void
conn_expired(struct conn *c)
{
	switch ((enum conn_state)c->state) {
	case CONN_HEAD:
		conn_refuse(c, 408, "the request head took too long");
		break;
	case CONN_BODY:
		if (c->paused || c->hs->hold || c->rq->body_done)
			server_deadline(
			    c, c->hs->now + c->hs->set.head_timeout_ms);
		else
			conn_refuse(c, 408, "the body came too slowly");
		break;
	case CONN_REPLY:
		slow_reply(c);
		break;
	case CONN_HELLO:
	case CONN_IDLE:
	case CONN_LINGER:
		conn_go(c, CONN_DEAD);
		break;
	case CONN_WAIT:
	case CONN_DEAD:
	case CONN_STATES:
		break;
	}
	conn_run(c);
}
