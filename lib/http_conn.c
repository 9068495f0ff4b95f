/*
 * http_conn.c - a connection: its states and what moves it
 *
 * conn_run() does one step after the other until nothing more can be done
 * now; it alone calls handlers, sinks, on_room and done, and never itself.
 * What a handler calls from elsewhere (an answer that comes later, a sink that
 * resumes) sends at most, notes the rest and asks for a turn of the loop. So a
 * request lives through any call of its handler and is freed in one place,
 * request_over(), and a connection in one, at the end of conn_run().
 *
 * One request at a time: the next is not parsed before the answer has left.
 * After a refused framing nothing is parsed any more, since nobody knows where
 * the next message begins (RFC 9112 section 11.2).
 *
 * Every way out that the client should read ends in CONN_LINGER: our side is
 * shut down and input is dropped until the client closes, because to close
 * over unread octets resets the connection and takes the answer along.
 */
#include "http_internal.h"

#include <assert.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "xalloc.h"

#define STEPS_MAX 64 /* of one connection in a turn */

#define TO(s) (1u << (s))

/* What may follow a state; how long it may last: http_deadline.c. */
// clang-format off
static const struct {
	const char *name;
	unsigned next;
} states[CONN_STATES] = {
	[CONN_HELLO]  = { "hello",  TO(CONN_IDLE) | TO(CONN_DEAD) },
	[CONN_IDLE]   = { "idle",   TO(CONN_HEAD) | TO(CONN_WAIT) | TO(CONN_DEAD) },
	[CONN_HEAD]   = { "head",   TO(CONN_WAIT) | TO(CONN_DEAD) },
	[CONN_WAIT]   = { "wait",   TO(CONN_BODY) | TO(CONN_REPLY) | TO(CONN_DEAD) },
	[CONN_BODY]   = { "body",   TO(CONN_WAIT) | TO(CONN_REPLY) | TO(CONN_DEAD) },
	[CONN_REPLY]  = { "reply",  TO(CONN_IDLE) | TO(CONN_LINGER) | TO(CONN_DEAD) },
	[CONN_LINGER] = { "linger", TO(CONN_DEAD) },
	[CONN_DEAD]   = { "dead",   0 },
};
// clang-format on

/* The idle may be ended for others; they stand in the order of their time. */
static void
relist(struct conn *c, bool idle)
{
	struct http_server *hs = c->hs;

	if (idle == c->is_idle)
		return;
	TAILQ_REMOVE(c->is_idle ? &hs->idle : &hs->busy, c, link);
	c->is_idle = idle;
	TAILQ_INSERT_TAIL(idle ? &hs->idle : &hs->busy, c, link);
}

void
conn_go(struct conn *c, enum conn_state to)
{
	int64_t ms = deadline_ms(c, to);

	assert(c->magic == CONN_MAGIC && (states[c->state].next & TO(to)));
	log_debug("conn=%d %s", c->fd, states[to].name);
	if (c->state == CONN_HELLO)
		hello_over(c);
	c->state = (unsigned char)to;
	relist(c, to == CONN_IDLE || to == CONN_LINGER);
	server_deadline(c, ms > 0 ? c->hs->now + ms : 0);
}

/* ---- the end of a request ------------------------------------------------ */

static void
tell_lost(struct http_request *rq)
{
	if (rq->sink == NULL || rq->lost)
		return;
	rq->lost = rq->refused = true;
	rq->sink->lost(rq, rq->sink_arg);
}

static void
request_over(struct conn *c, bool ok)
{
	struct http_request *rq = c->rq;

	if (rq->done != NULL)
		rq->done(rq, ok && !rq->lost, rq->done_arg);
	c->rq = NULL;
	c->paused = false;
	request_free(rq);
}

void
conn_kill(struct conn *c)
{
	if (c->state == CONN_DEAD)
		return;
	if (c->rq != NULL) {
		if (c->state == CONN_BODY)
			tell_lost(c->rq);
		request_over(c, false);
	}
	conn_go(c, CONN_DEAD);
}

static void
conn_free(struct conn *c)
{
	struct http_server *hs = c->hs;

	server_deadline(c, 0);
	if (c->slot != SLOT_NONE) {
		TAILQ_REMOVE(&hs->wheel[c->slot], c, slot_link);
		hs->wheel_n--;
	}
	if (c->due)
		TAILQ_REMOVE(&hs->due, c, due_link);
	TAILQ_REMOVE(c->is_idle ? &hs->idle : &hs->busy, c, link);
	io_close(c);
	http_head_reader_fini(&c->reader);
	server_address_drop(c->address);
	free(c->peer_name);
	c->magic = 0;
	free(c);
	hs->conns_n--;
	server_check_drained(hs);
}

const char *
conn_peer(const struct conn *c)
{
	return c->address != NULL ? c->address->text : "unix";
}

void
conn_refuse(struct conn *c, int status, const char *why)
{
	struct http_head none = { .method = "", .target = "", .host = "" };

	server_tell(c->hs, conn_peer(c), status, why);
	if (c->rq == NULL) {
		none.minor = 1;
		none.text = NULL;
		c->rq = request_new(c, &none);
	} else {
		tell_lost(c->rq);
		reply_reset(c->rq);
		c->rq->refused = false;
	}
	c->rq->keep = false;
	c->rq->body_done = false;
	if (c->state != CONN_WAIT && c->state != CONN_BODY)
		conn_go(c, CONN_WAIT);
	http_reply_error(c->rq, status, why,
	    status == 408 ? "check the link to the device"
			  : "the device's HTTP client is at fault");
	c->rq->refused = true;
}

/* ---- steps: each true if another may follow at once ---------------------- */

static bool
step_hello(struct conn *c)
{
	int rc;

	if (c->blocked || !hello_may(c))
		return false;
	rc = io_hello(c);
	if (rc > 0) {
		conn_go(c, CONN_IDLE);
	} else if (rc == -EPROTO) {
		io_plain(c);
		conn_go(c, CONN_IDLE);
		conn_refuse(c, 400,
		    "plain HTTP came to the port for TLS: use https://, or "
		    "the plain port");
	} else if (rc < 0) {
		conn_go(c, CONN_DEAD);
	}
	return rc != 0;
}

/* How the body ends, if there is one (RFC 9112 section 6.3). */
static void
framing(struct http_request *rq)
{
	const struct http_head *h = &rq->head;
	bool sends = strcmp(h->method, "PUT") == 0 ||
	    strcmp(h->method, "POST") == 0 || strcmp(h->method, "PATCH") == 0;

	if (h->chunked) {
		http_body_init(&rq->body, HTTP_BODY_CHUNKED, 0);
	} else if (h->has_length) {
		http_body_init(&rq->body, HTTP_BODY_LENGTH, h->length);
		rq->body_done = h->length == 0;
	} else if (sends && h->minor == 0 &&
	    rq->conn->hs->set.close_delimited) {
		http_body_init(&rq->body, HTTP_BODY_CLOSE, 0);
		rq->keep = false;
	} else {
		http_body_init(&rq->body, HTTP_BODY_NONE, 0);
		rq->body_done = !sends; /* else who knows what follows */
		rq->keep = rq->keep && !sends;
	}
}

static void
begin_request(struct conn *c, struct http_head *head)
{
	struct http_request *rq = request_new(c, head);

	c->rq = rq;
	c->served = true;
	c->moved = c->sent_seen = 0;
	rq->keep = rq->head.keep_alive && !c->hs->draining;
	framing(rq);
	conn_go(c, CONN_WAIT);
	request_route(rq);
}

static bool
step_head(struct conn *c)
{
	struct http_head head;
	const char *why;
	size_t used;
	int rc = io_fill(c);

	if (rc <= 0) {
		if (rc < 0) /* no whole request is lost */
			conn_go(c, CONN_DEAD);
		return rc < 0;
	}
	if (c->state == CONN_IDLE)
		c->reader.max = c->hs->set.head_max;
	rc = http_head_read(&c->reader, c->in, c->in_n, &used, &head, &why);
	c->in += used;
	c->in_n -= used;
	if (rc < 0)
		conn_refuse(c, -rc, why);
	else if (rc > 0)
		begin_request(c, &head);
	else if (c->state == CONN_IDLE && c->reader.n > 0)
		conn_go(c, CONN_HEAD);
	return true;
}

/* No more octets will come. */
static bool
body_eof(struct conn *c)
{
	if (c->broken)
		conn_kill(c);
	else if (c->rq->body.framing == HTTP_BODY_CLOSE)
		c->rq->body_done = true;
	else
		conn_refuse(c, 400, "the body is shorter than announced");
	return true;
}

static bool
step_body(struct conn *c)
{
	struct http_request *rq = c->rq;
	const char *data, *why;
	size_t used, n;
	int rc;

	if (c->paused)
		return false;
	if (rq->body_done || rq->body.framing == HTTP_BODY_NONE) {
		conn_go(c, CONN_WAIT);
		rq->sink->end(rq, rq->sink_arg);
		return true;
	}
	if (c->hs->hold && c->in_n == 0 && !c->sip)
		return false;
	rc = io_fill(c);
	c->sip = false;
	if (rc <= 0)
		return rc < 0 ? body_eof(c) : false;
	rc = http_body_read(&rq->body, c->in, c->in_n, &used, &data, &n, &why);
	c->in += used;
	c->in_n -= used;
	if (rc < 0) {
		conn_refuse(c, -rc, why);
		return true;
	}
	rq->body_done = rc == 1;
	if (n > 0) {
		deadline_moved(c, n);
		if (rq->sink->data(rq, data, n, rq->sink_arg) == 1 &&
		    c->state == CONN_BODY)
			c->paused = true;
	}
	return true;
}

/* Drop input, so that a client that still sends comes to read the answer.
 * false: nothing to drop now, or the cap is reached. */
static bool
drop_input(struct conn *c, uint64_t *dropped)
{
	if (*dropped > c->hs->set.drain_max || io_fill(c) <= 0)
		return false;
	*dropped += c->in_n;
	c->in_n = 0;
	return true;
}

static void
after_reply(struct conn *c)
{
	struct http_request *rq = c->rq;
	bool keep = rq->keep && !rq->reply.close && rq->body_done;
	/* a GET whose client has said that nothing follows: there is nothing
	 * to linger for, and devices that fetch by ranges make thousands */
	bool over = !rq->head.keep_alive && !rq->refused && c->in_n == 0 &&
	    rq->body.framing == HTTP_BODY_NONE && rq->body_done &&
	    c->ssl == NULL;

	request_over(c, true);
	if (keep) {
		conn_go(c, CONN_IDLE);
		return;
	}
	if (c->eof || c->broken || over) {
		conn_go(c, CONN_DEAD);
		return;
	}
	io_shutdown(c);
	c->moved = 0;
	conn_go(c, CONN_LINGER);
}

static bool
step_reply(struct conn *c)
{
	struct http_request *rq = c->rq;
	struct reply *rp = &rq->reply;
	uint64_t before = c->moved;
	bool all = io_flush(c);

	if (c->moved > before)
		rp->want_room = true;
	if (c->broken) {
		conn_kill(c);
		return true;
	}
	if (all && rp->ended) {
		if (rp->has_length && rp->left > 0)
			conn_kill(c); /* cut short: the client must see it */
		else
			after_reply(c);
		return true;
	}
	if (rp->want_room && !rp->ended && c->out_n < ROOM) {
		rp->want_room = false;
		if (rp->on_room != NULL) {
			rp->on_room(rq, rp->room_arg);
			return true;
		}
	}
	if (rq->body_done || drop_input(c, &rq->body.total))
		return !rq->body_done;
	if (c->broken)
		conn_kill(c);
	return c->broken;
}

static bool
step_linger(struct conn *c)
{
	if (drop_input(c, &c->moved))
		return true;
	if (!c->eof && !c->broken && c->moved <= c->hs->set.drain_max)
		return false;
	conn_go(c, CONN_DEAD);
	return true;
}

static bool
step(struct conn *c)
{
	switch ((enum conn_state)c->state) {
	case CONN_HELLO:
		return step_hello(c);
	case CONN_IDLE:
		if (c->hs->draining && io_fill(c) <= 0) {
			conn_go(c, CONN_DEAD);
			return true;
		}
		return step_head(c);
	case CONN_HEAD:
		return step_head(c);
	case CONN_WAIT:
		if (c->broken)
			conn_kill(c);
		return c->broken;
	case CONN_BODY:
		return step_body(c);
	case CONN_REPLY:
		return step_reply(c);
	case CONN_LINGER:
		return step_linger(c);
	case CONN_DEAD:
	case CONN_STATES:
		break;
	}
	return false;
}

void
conn_run(struct conn *c)
{
	unsigned n = 0;

	assert(c->magic == CONN_MAGIC && !c->running);
	c->running = true;
	c->again = false;
	while (!c->again && step(c))
		c->again = ++n == STEPS_MAX; /* the others are waiting, too */
	c->running = false;
	if (c->state == CONN_DEAD) {
		conn_free(c);
		return;
	}
	io_keep(c);
	if (c->again)
		server_turn(c);
}

/* ---- what moves it from outside ------------------------------------------ */

/* In a state that waits for us, not for octets, an event may be the end. (A
 * paused body finds out when it is resumed; there events are the rule.) */
static bool
check_gone(struct conn *c)
{
	if (c->state != CONN_WAIT && c->state != CONN_REPLY)
		return false;
	return io_gone(c) || (c->fin && c->rq->eof_ends);
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	assert(c->magic == CONN_MAGIC);
	c->hs->now = clock_ms();
	if (what & EV_CLOSED)
		c->fin = true;
	if (what & (EV_READ | EV_CLOSED)) {
		c->readable = true;
		if (check_gone(c)) {
			c->broken = true;
			conn_kill(c);
		}
	}
	if (what & EV_WRITE)
		c->blocked = false;
	conn_run(c);
}

void
conn_new(struct listener *l, int fd, struct address *a)
{
	struct http_server *hs = l->hs;
	struct conn *c = xcalloc(1, sizeof(*c));

	c->magic = CONN_MAGIC;
	c->hs = hs;
	c->fd = fd;
	c->slot = SLOT_NONE;
	c->address = a;
	c->state = l->tls != NULL ? CONN_HELLO : CONN_IDLE;
	c->active_ms = hs->now;
	TAILQ_INIT(&c->out);
	http_head_reader_init(&c->reader, hs->set.head_max);
	if (l->tls != NULL) {
		SSL_CTX_up_ref(l->tls);
		c->tls = l->tls;
	}
	hs->conns_n++;
	TAILQ_INSERT_TAIL(&hs->idle, c, link);
	c->is_idle = true;
	relist(c, c->state == CONN_IDLE);
	server_deadline(c, hs->now + deadline_ms(c, c->state));
	event_assign(&c->ev, hs->base, fd,
	    EV_READ | EV_CLOSED | EV_ET | EV_PERSIST, on_event, c);
	event_add(&c->ev, NULL);
}
