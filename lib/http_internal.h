/*
 * http_internal.h - what the files of the HTTP server share, and no one else
 *
 *	http_server.c	the server: settings, timer wheel, who must go, drain
 *	http_listen.c	listening sockets, accept
 *	http_hello.c	how many TLS handshakes run at a time
 *	http_conn.c	a connection: its states and what moves it
 *	http_deadline.c	how long it may take for what it does
 *	http_io.c	octets in and out, plain or TLS; the queue of output
 *	http_route.c	requests: routing, what handlers ask of them
 *	http_reply.c	answers
 */
#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "http_parser.h"
#include "http_server.h"

#define CONN_MAGIC 0x636f6e6e
#define READ_MAX 65536    /* octets of one recv */
#define ROOM (256 * 1024) /* octets waiting to be sent, on_room below it */
#define WHEEL 64          /* slots of the timer wheel */
#define SLOT_DUE WHEEL    /* those that a tick is looking at */
#define SLOT_NONE (WHEEL + 1)
#define TICK_MS 100   /* one slot */
#define ADDRESSES 256 /* buckets of the table of peer addresses */

struct ssl_st;
struct evbuffer;

enum conn_state {
	CONN_HELLO,  /* TLS handshake */
	CONN_IDLE,   /* no octet of the next request yet */
	CONN_HEAD,   /* some */
	CONN_WAIT,   /* the handler has it; nothing is read */
	CONN_BODY,   /* on its way to the sink */
	CONN_REPLY,  /* being answered */
	CONN_LINGER, /* answered and shut down; input is dropped until EOF */
	CONN_DEAD,
	CONN_STATES
};

/* A peer's address and how many connections it has. */
struct address {
	LIST_ENTRY(address) link;
	struct in6_addr ip; /* IPv4 is mapped */
	unsigned n;
	char text[INET6_ADDRSTRLEN];
};

/* A piece of output: octets, or a part of a file. */
struct segment {
	TAILQ_ENTRY(segment) link;
	struct evbuffer *buf; /* NULL: a file */
	int fd;
	uint64_t off, n; /* of the file */
};

/* State of an answer. */
struct reply {
	char *fields; /* header lines of the handler */
	size_t fields_n, fields_size;
	bool begun; /* the head is on its way */
	bool ended; /* and the last octet is queued */
	bool close; /* the connection ends with it */
	bool chunked, no_body;
	bool has_length;
	bool want_room; /* on_room is due when there is room */
	uint64_t left;  /* of the announced length */
	void (*on_room)(struct http_request *rq, void *arg);
	void *room_arg;
	bool (*check_file)(struct http_request *rq, int fd, uint64_t off,
	    uint64_t n, void *arg);
	void *check_arg;
};

struct http_collect {
	char *buf;
	size_t n, size, max;
	void (*fn)(
	    struct http_request *rq, const char *body, size_t n, void *arg);
	void *arg;
};

struct param {
	const char *name; /* in the route's path, up to '/' or NUL */
	unsigned at, n;   /* of the decoded path and its copy */
};
#define PARAMS_MAX 5

/* Query parameters that were asked for; they live as long as the request. */
struct query_value {
	SLIST_ENTRY(query_value) link;
	char *text;
};

struct http_request {
	struct conn *conn;
	struct http_head head;
	struct http_body body;
	const struct http_sink *sink;
	void *sink_arg, *user, *done_arg;
	void (*done)(struct http_request *rq, bool ok, void *arg);
	struct http_collect *collect;
	struct reply reply;
	SLIST_HEAD(, query_value) queries;
	const char *query;
	struct param params[PARAMS_MAX];
	unsigned params_n;
	bool keep;      /* the connection may go on after the answer */
	bool body_done; /* every octet of the body was read */
	bool lost;      /* the sink was told so */
	bool refused;   /* by the server: what the handler says is dropped */
	bool eof_ends;  /* the client's FIN ends the wait for the answer */
	char path[];    /* decoded; a copy for the parameters follows */
};

struct conn {
	unsigned magic;
	unsigned char state; /* enum conn_state, written by conn_go() alone */
	bool readable : 1;   /* there may be octets in the socket */
	bool fin : 1;        /* its end is among them */
	bool eof : 1;        /* and was read */
	bool broken : 1;     /* an error: no octet passes any more */
	bool blocked : 1;    /* the socket takes no more */
	bool writes : 1;     /* the event watches for room, too */
	bool running : 1;    /* inside conn_run() */
	bool again : 1;      /* has more to do, after the others */
	bool due : 1;        /* on the list of the turn */
	bool paused : 1;     /* by its sink */
	bool sip : 1;        /* one read although hs->hold */
	bool served : 1;     /* has had a request */
	bool is_idle : 1;    /* on the list of the idle */
	unsigned char slot;  /* of the wheel, or SLOT_NONE */
	int fd;
	struct http_server *hs;
	struct http_request *rq;
	struct ssl_st *ssl;      /* NULL: plain, or no handshake yet */
	struct ssl_ctx_st *tls;  /* until the handshake is over */
	struct address *address; /* NULL: a Unix socket */
	int64_t deadline;        /* 0: none */
	int64_t slot_ms;         /* when its slot is looked at */
	int64_t active_ms;       /* last octet either way */
	uint64_t moved;     /* octets: sent in this reply; dropped in linger */
	uint64_t sent_seen; /* of them, acknowledged when last looked */
	const char *in;     /* unparsed input, in ahead or hs->buf */
	size_t in_n;
	char *ahead; /* keeps it when the loop turns */
	size_t ahead_n;
	TAILQ_HEAD(segments, segment) out;
	uint64_t out_n; /* octets in it */
	TAILQ_ENTRY(conn) link, slot_link;
	TAILQ_ENTRY(conn) due_link;
	/* http_hello.c's */
	TAILQ_ENTRY(conn) hello_link;
	int64_t hello_ms;
	unsigned char hello;
	struct http_head_reader reader;
	struct event ev; /* edge-triggered, so it stands as long as we do */
	char *peer_name; /* CN of the verified certificate */
};

struct listener {
	LIST_ENTRY(listener) link;
	struct http_server *hs;
	struct event *ev;
	int fd;
	char *name, *path; /* of a Unix socket */
	struct ssl_ctx_st *tls;
};

TAILQ_HEAD(conns, conn);

struct http_server {
	struct event_base *base;
	struct http_settings set;
	const struct http_route *routes;
	size_t routes_n;
	void *arg;
	LIST_HEAD(, listener) listeners;
	struct event *resume; /* accept again, after EMFILE */
	struct event *turn, *tick;
	struct conns due; /* to be run when the loop turns */
	bool in_turn, draining;
	bool hold;       /* no body is read */
	unsigned sips;   /* rounds of sips in this hold */
	size_t sip_size; /* octets of one, at most READ_MAX */
	struct event *sip;
	struct conns idle, busy; /* the idle ones in order of time */
	unsigned conns_n;
	/* http_hello.c's: handshakes that count, in order of time; and waits */
	struct conns hellos, hello_waits;
	unsigned hellos_n;
	struct conns wheel[WHEEL + 1];
	unsigned wheel_n; /* connections on it */
	int64_t wheel_ms; /* slots before it were looked at */
	int64_t now;      /* clock_ms() of this turn */
	size_t ahead;     /* octets of all connections' ahead */
	size_t collected; /* and of all their collects */
	uint64_t seed;    /* of the address table */
	LIST_HEAD(, address) addresses[ADDRESSES];
	int64_t told_ms; /* a line of refusal was logged */
	unsigned untold;
	uint64_t answers[500]; /* by status, from 100 */
	void (*drained)(void *arg);
	void *drained_arg;
	char buf[READ_MAX];
	char text[16384]; /* of a head to be sent; a TLS record */
};

/* http_server.c */
/* Set c's deadline, 0 for none. */
void server_deadline(struct conn *c, int64_t at_ms);
/* Run c soon from the loop; callbacks of users may call it any time. */
void server_turn(struct conn *c);
/* Make room for one more connection; false if no one may go. */
bool server_evict(struct http_server *hs);
/* One more connection of ip, which is written `text`; NULL: too many. */
struct address *server_address(
    struct http_server *hs, const struct in6_addr *ip, const char *text);
void server_address_drop(struct address *a);
/* Called when a connection is gone. */
void server_check_drained(struct http_server *hs);
/* A call from outside of a request's connection: what time is it? */
void server_enter(struct conn *c);
/* Log a refusal, at most ten lines a second. */
void server_tell(
    struct http_server *hs, const char *peer, int status, const char *why);

/* http_listen.c */
void listener_free(struct listener *l);

/* http_hello.c */
/* May the handshake go on? If not it is run again later. Makes c->ssl. */
bool hello_may(struct conn *c);
/* It is over, well or not. */
void hello_over(struct conn *c);
/* A tick: some have taken too long to count. */
void hello_start_more(struct http_server *hs);

/* http_conn.c */
/* Take fd, accepted from l. */
void conn_new(struct listener *l, int fd, struct address *a);
/* Its address as text, "unix" if it has none. */
const char *conn_peer(const struct conn *c);
/* Do all that can be done now. */
void conn_run(struct conn *c);
/* End it now: `lost` and `done` are called if a request is in hand. */
void conn_kill(struct conn *c);
/* The only writer of c->state. */
void conn_go(struct conn *c, enum conn_state to);
/* Answer a message that is refused as such; nothing of it goes on. */
void conn_refuse(struct conn *c, int status, const char *why);

/* http_deadline.c */
/* How long a connection may be in a state from now on; 0: for ever. */
int64_t deadline_ms(const struct conn *c, enum conn_state s);
/* n octets of BODY or REPLY have moved: its deadline goes on by their worth at
 * the least rate. */
void deadline_moved(struct conn *c, uint64_t n);
/* The deadline has passed. */
void conn_expired(struct conn *c);

/* http_io.c */
/* Have input at c->in. 1: there is some. 0: none now. -1: EOF or error, as
 * c->eof and c->broken tell. */
int io_fill(struct conn *c);
/* Keep unparsed input over the turn of the loop. */
void io_keep(struct conn *c);
/* Drop it. */
void io_drop(struct conn *c);
/* Send now what can be, queue the rest. Never fails: c->broken tells. */
void io_send(struct conn *c, struct iovec *iov, int n);
/* Queue octets (taken from `from`) or a file's. */
void io_queue(struct conn *c, struct evbuffer *from);
void io_queue_file(struct conn *c, int fd, uint64_t off, uint64_t n);
/* Forget what is queued. */
void io_unqueue(struct conn *c);
/* Send what is queued, a few hundred KiB at most. true: nothing is left. */
bool io_flush(struct conn *c);
/* TLS handshake. 1: done. 0: goes on. -EPROTO: the peer speaks HTTP without
 * TLS. -EIO: failed, which was told. */
int io_hello(struct conn *c);
void io_plain(struct conn *c);    /* go on without TLS */
void io_shutdown(struct conn *c); /* our side of the connection */
void io_close(struct conn *c);
/* Has the peer reset or left (not: shut down its side)? */
bool io_gone(const struct conn *c);
/* Octets of c->moved that the peer has taken. */
uint64_t io_acked(const struct conn *c);

/* http_route.c */
/* Takes what is in head. */
struct http_request *request_new(struct conn *c, struct http_head *head);
void request_free(struct http_request *rq);
/* Find the route and call its handler, or answer 400, 404, 405. */
void request_route(struct http_request *rq);

/* http_reply.c */
void reply_100(struct conn *c);
/* Drop what a handler has prepared. */
void reply_reset(struct http_request *rq);
/* May n octets of the file be sent now? */
bool reply_may_send(struct http_request *rq, int fd, uint64_t off, uint64_t n);
/* n octets that were queued are taken back. */
void reply_taken_back(struct http_request *rq, uint64_t n);

#endif
