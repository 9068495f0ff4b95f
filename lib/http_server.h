/*
 * http_server.h - HTTP/1.1 server on one libevent loop
 *
 * One connection is read with recv() or SSL_read() into a 64 KiB buffer that
 * all connections of the loop share, so an idle or slow connection costs little
 * memory. Bodies are streamed to the handler's
 * sink; nothing is gathered unless http_request_collect() asks for it.
 *
 * A request belongs to the server from its head until its `done` callback.
 * Handlers may answer at once or later, from the loop's thread only. No call
 * of a handler's frees its request: `done` always comes from the loop. From
 * callbacks of a request any function may be called but http_server_free().
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>

struct event_base;
struct evbuffer;
struct ssl_ctx_st;
struct http_head;
struct http_server;
struct http_request;

struct http_settings {
	size_t head_max;          /* octets of a request head */
	int64_t head_timeout_ms;  /* from its first octet to its last */
	int64_t idle_timeout_ms;  /* between requests */
	uint64_t min_rate;        /* octets per second of body, both ways, after
				     a grace of head_timeout_ms; 0: any. A fast
				     start is worth a pause of up to 60 s */
	unsigned max_connections; /* over it the idlest connection goes; over
				     3/4 of it heads and silence get a fifth
				     of their time, at least 1 s */
	unsigned max_per_address; /* 0: no limit; unix sockets are exempt */
	uint64_t drain_max;       /* octets read and dropped after a refusal */
	int64_t drain_ms;         /* and for how long */
	/* octets of all bodies that http_request_collect() holds at a time; the
	 * next ones are answered 503. 0: no bound */
	size_t collect_max;
	bool close_delimited; /* HTTP/1.0 bodies without a length end at EOF */
	bool problems;        /* http_reply_error() writes problem details */
};

/* Sensible values for all of them (DESIGN 12: limits). */
void http_settings_default(struct http_settings *s);

typedef void (*http_handler)(struct http_request *rq, void *arg);

/*
 * A row of the routing table. `path` is matched against the decoded path:
 * literal segments, ":name" for one segment, a last "*" for the rest.
 * `method` may list several: "GET HEAD". The first matching row wins; a path
 * that matches with another method only is 405 with Allow.
 */
struct http_route {
	const char *method, *path;
	http_handler handler;
};

/* Needs a base of the epoll kind (the default); ignores SIGPIPE for the
 * process, as sendfile(2) and OpenSSL require. routes must stay. */
struct http_server *http_server_new(struct event_base *base,
    const struct http_settings *s, const struct http_route *routes,
    size_t routes_n, void *arg);
/* Swap settings; open connections use them from their next request on. */
void http_server_settings(
    struct http_server *hs, const struct http_settings *s);
/*
 * Listen on "HOST:PORT" ("[::1]:0": any free port) or "unix:/path" (mode 0660;
 * a stale socket file is replaced). tls may be NULL; the server takes its own
 * reference. Logs "listening name=NAME address=HOST:PORT". -errno.
 */
int http_server_listen(struct http_server *hs, const char *name,
    const char *address, struct ssl_ctx_st *tls);
/* A new certificate or client CA for the listener of that name; connections
 * that are open keep what they have. -ENOENT: no such TLS listener. */
int http_server_set_tls(
    struct http_server *hs, const char *name, struct ssl_ctx_st *tls);
/* The TCP port of the listener of that name; -ENOENT. */
int http_server_port(const struct http_server *hs, const char *name);
/*
 * While held, no more of any request body is read: for who is behind with all
 * of them together, so that what waits in memory stays bounded however many
 * send. But for a sip each second, 2 MB of all in one hold, so that
 * clients do not give up. Deadlines of bodies wait meanwhile.
 */
void http_server_hold(struct http_server *hs, bool hold);
/* Take no new connection, end idle ones, let running requests finish; then
 * `drained` is called once (at once if there are none). */
void http_server_drain(
    struct http_server *hs, void (*drained)(void *arg), void *arg);
/* Close all; every request in hand gets its `done`. NULL is accepted. */
void http_server_free(struct http_server *hs);
unsigned http_server_connections(const struct http_server *hs);
/* Answers of that status, 100 to 599, since the start. */
uint64_t http_server_answers(const struct http_server *hs, int status);

/* What is known of the request. */
const struct http_head *http_request_head(const struct http_request *rq);
const char *http_request_method(const struct http_request *rq);
/* Path, percent-decoded once; may hold any octet but NUL. */
const char *http_request_path(const struct http_request *rq);
/* Decoded value of a ":name" of the route, or of "*" under the name "*". */
const char *http_request_param(const struct http_request *rq, const char *name);
/* Raw query without '?', or "". */
const char *http_request_query(const struct http_request *rq);
/* Decoded query parameter ('+' stays '+'), or NULL; lives as long as the
 * request. */
const char *http_request_query_get(struct http_request *rq, const char *name);
const char *http_request_header(
    const struct http_request *rq, const char *name);
/*
 * Give back the memory of method, target, query and headers, of which the
 * handler needs no more: whoever waits for a slow body calls it. They read as
 * empty from then on; what was got of them before is gone.
 */
void http_request_forget_head(struct http_request *rq);
/* Peer address without port, "unix" for a Unix socket. */
const char *http_request_peer(const struct http_request *rq);
/* "ADDRESS:PORT" where the request came in, "" for a Unix socket. */
#define HTTP_LOCAL_MAX 64
void http_request_local(
    const struct http_request *rq, char out[HTTP_LOCAL_MAX]);
bool http_request_tls(const struct http_request *rq);
/* The verified peer certificate's subject CN, or NULL. */
const char *http_request_peer_name(const struct http_request *rq);
/* Has it a body (one of Content-Length: 0, too; without one a PUT gets 411),
 * and is its length known (else UINT64_MAX)? */
bool http_request_has_body(const struct http_request *rq);
uint64_t http_request_length(const struct http_request *rq);
/* One pointer of the handler's, handed back by http_request_user(). */
void http_request_set_user(struct http_request *rq, void *user);
void *http_request_user(const struct http_request *rq);
/* Called exactly once when the request is over: answered in full (ok) or its
 * connection lost (!ok). After it rq is gone. */
void http_request_on_done(struct http_request *rq,
    void (*done)(struct http_request *rq, bool ok, void *arg), void *arg);
/*
 * While a request waits for its answer, a reset or a closed Unix socket ends
 * it (`done` with !ok). A FIN of TCP does not: a client may shut down its side
 * and read the answer. After this call it does: for long polls and event
 * streams, which nobody reads any more.
 */
void http_request_eof_ends(struct http_request *rq);

/* Receives a body. All run on the loop. */
struct http_sink {
	/* n > 0 octets. Return 0 to go on or 1 to pause until
	 * http_request_resume(); the octets are taken either way. The sink
	 * may call http_reply*() instead: the rest is then drained. */
	int (*data)(
	    struct http_request *rq, const char *p, size_t n, void *arg);
	/* The whole body has arrived, framing intact. Answer now or later. */
	void (*end)(struct http_request *rq, void *arg);
	/* It never will: connection lost, deadline, broken framing. The
	 * server answers (400, 408) by itself and drops replies of the
	 * handler's; `done` follows, with !ok. Not called after a reply of the
	 * handler's own. */
	void (*lost)(struct http_request *rq, void *arg);
};
/* Take the body: sends 100 Continue if it is waited for. Only from the
 * handler or later, once, before any reply. */
void http_request_receive(
    struct http_request *rq, const struct http_sink *sink, void *arg);
void http_request_resume(struct http_request *rq);
/* Gather at most max octets, then call fn (body NUL-terminated, valid during
 * the call); more is answered by 413. For APIs, not for uploads. */
void http_request_collect(struct http_request *rq, size_t max,
    void (*fn)(struct http_request *rq, const char *body, size_t n, void *arg),
    void *arg);

/* Headers of the answer, before http_reply*(). CR, LF, NUL in a value: assert.
 */
void http_reply_header(
    struct http_request *rq, const char *name, const char *value);
/* Always with Content-Length. body may be NULL for none; HEAD sends none. A
 * reply before the body was received drains the body up to the cap, then
 * closes (DESIGN 5). */
void http_reply(struct http_request *rq, int status, const char *type,
    const void *body, size_t n);
/* Takes v. One JSON line. */
void http_reply_json(struct http_request *rq, int status, cJSON *v);
/* {"error": ..., "hint": ...} in one line, as every refusal of the gateway;
 * with `problems` application/problem+json (RFC 9457), as those of the signer.
 */
void http_reply_error(
    struct http_request *rq, int status, const char *error, const char *hint);
/* Close the connection after the answer. */
void http_reply_close(struct http_request *rq);

/*
 * A long answer: begin, any number of writes, end. length is announced;
 * UINT64_MAX sends chunks (or closes, for HTTP/1.0). on_room (may be NULL) is
 * called from the loop when less than 256 KiB wait to be sent: once after begin
 * and then after each write. write moves the buffer's content; nothing is sent
 * before the caller returns to the loop. An end before the announced length
 * cuts the connection.
 */
void http_reply_begin(struct http_request *rq, int status, const char *type,
    uint64_t length, void (*on_room)(struct http_request *rq, void *arg),
    void *arg);
void http_reply_write(struct http_request *rq, struct evbuffer *from);
void http_reply_end(struct http_request *rq);
/* After begin with a length: send n octets of fd from off by sendfile(2),
 * which the caller keeps open until `done`. Counts as a write. */
void http_reply_sendfile(
    struct http_request *rq, int fd, uint64_t off, uint64_t n);
/*
 * For files that may not be sent unseen: before each sendfile(2) of this answer
 * fn is asked whether n octets of fd from off are fit to be sent now. If not,
 * all that is queued is taken back, an end too, and on_room follows;
 * http_reply_left() then tells from where to go on.
 */
void http_reply_check_files(struct http_request *rq,
    bool (*fn)(
	struct http_request *rq, int fd, uint64_t off, uint64_t n, void *arg),
    void *arg);
/* Cut an answer that was begun: nothing more of it is sent, the connection
 * ends. */
void http_reply_abort(struct http_request *rq);
/* Octets of the announced length that were not handed over yet. */
uint64_t http_reply_left(const struct http_request *rq);

const char *http_reason(int status);

#endif
