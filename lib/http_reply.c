/*
 * http_reply.c - answers
 *
 * A whole answer is written with one system call straight from the handler's
 * body; only what the socket does not take is copied. A long one goes through
 * the connection's queue. There is no Date: the gateway's clock may be wrong
 * (RFC 9110 section 6.6.1), and devices want heads short.
 *
 * An answer that leaves before its request was read to the end says
 * "Connection: close", since the client may not be able to tell whether the
 * rest of its body was taken for a request.
 */
#include "http_internal.h"

#include <assert.h>
#include <event2/buffer.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "xalloc.h"

// clang-format off
static const struct {
	int status;
	const char *text;
} reasons[] = {
	{ 100, "Continue" }, { 200, "OK" }, { 201, "Created" },
	{ 202, "Accepted" }, { 204, "No Content" }, { 206, "Partial Content" },
	{ 301, "Moved Permanently" }, { 302, "Found" }, { 303, "See Other" },
	{ 304, "Not Modified" }, { 307, "Temporary Redirect" },
	{ 308, "Permanent Redirect" }, { 400, "Bad Request" },
	{ 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
	{ 405, "Method Not Allowed" }, { 406, "Not Acceptable" },
	{ 408, "Request Timeout" }, { 409, "Conflict" }, { 410, "Gone" },
	{ 411, "Length Required" }, { 412, "Precondition Failed" },
	{ 413, "Content Too Large" }, { 414, "URI Too Long" },
	{ 415, "Unsupported Media Type" }, { 416, "Range Not Satisfiable" },
	{ 417, "Expectation Failed" }, { 421, "Misdirected Request" },
	{ 422, "Unprocessable Content" }, { 428, "Precondition Required" },
	{ 429, "Too Many Requests" }, { 431, "Request Header Fields Too Large" },
	{ 500, "Internal Server Error" }, { 501, "Not Implemented" },
	{ 502, "Bad Gateway" }, { 503, "Service Unavailable" },
	{ 504, "Gateway Timeout" }, { 505, "HTTP Version Not Supported" },
	{ 507, "Insufficient Storage" },
};
// clang-format on

const char *
http_reason(int status)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return "Unknown";
}

void
reply_reset(struct http_request *rq)
{
	assert(!rq->reply.begun);
	free(rq->reply.fields);
	memset(&rq->reply, 0, sizeof(rq->reply));
}

void
reply_100(struct conn *c)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct iovec iov = { (void *)(uintptr_t)text, sizeof(text) - 1 };

	io_send(c, &iov, 1);
}

/* ---- the head ------------------------------------------------------------ */

void
http_reply_header(struct http_request *rq, const char *name, const char *value)
{
	struct reply *rp = &rq->reply;
	size_t a = strlen(name), b = strlen(value), n = a + b + 4;

	if (rq->refused)
		return;
	assert(!rp->begun);
	assert(strpbrk(name, "\r\n: ") == NULL);
	assert(strpbrk(value, "\r\n") == NULL);
	if (rp->fields_n + n > rp->fields_size) {
		rp->fields_size = 2 * (rp->fields_n + n);
		rp->fields = xrealloc(rp->fields, rp->fields_size);
	}
	memcpy(rp->fields + rp->fields_n, name, a);
	memcpy(rp->fields + rp->fields_n + a, ": ", 2);
	memcpy(rp->fields + rp->fields_n + a + 2, value, b);
	memcpy(rp->fields + rp->fields_n + n - 2, "\r\n", 2);
	rp->fields_n += n;
}

void
http_reply_close(struct http_request *rq)
{
	rq->reply.close = true;
}

static size_t
put(char *to, size_t at, const char *fmt, ...)
{
	size_t size = sizeof(((struct http_server *)0)->text);
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(to + at, size - at, fmt, ap);
	va_end(ap);
	assert(n >= 0 && (size_t)n < size - at);
	return at + (size_t)n;
}

/* The rest of a small body is here already: pass over it, so that a refusal
 * costs no connection. */
static void
pass_body(struct http_request *rq)
{
	struct conn *c = rq->conn;

	if (!rq->keep || rq->body_done ||
	    rq->body.framing != HTTP_BODY_LENGTH || c->in_n < rq->body.left)
		return;
	c->in += rq->body.left;
	c->in_n -= rq->body.left;
	rq->body.left = 0;
	rq->body_done = true;
}

/*
 * Write the head but for the handler's fields to hs->text; its length. The
 * state moves on: from here on the answer is on its way.
 */
static size_t
head(struct http_request *rq, int status, const char *type, uint64_t length)
{
	struct conn *c = rq->conn;
	struct reply *rp = &rq->reply;
	char *t = c->hs->text;
	bool framed = status != 204 && status != 304;
	size_t n;

	assert(!rp->begun && c->rq == rq);
	assert(c->state == CONN_WAIT || c->state == CONN_BODY);
	server_enter(c);
	pass_body(rq);
	rp->begun = true;
	if (status >= 100 && status < 600)
		c->hs->answers[status - 100]++;
	rp->close = rp->close || !rq->keep || !rq->body_done ||
	    c->hs->draining || status == 408;
	rp->no_body = !framed || strcmp(rq->head.method, "HEAD") == 0;
	n = put(t, 0, "HTTP/1.1 %d %s\r\n", status, http_reason(status));
	if (type != NULL && framed)
		n = put(t, n, "Content-Type: %s\r\n", type);
	if (length == UINT64_MAX && framed && rq->head.minor == 0) {
		rp->close = true;
	} else if (length == UINT64_MAX && framed) {
		rp->chunked = true;
		n = put(t, n, "Transfer-Encoding: chunked\r\n");
	} else if (framed) {
		n = put(t, n, "Content-Length: %" PRIu64 "\r\n", length);
	}
	if (rp->close)
		n = put(t, n, "Connection: close\r\n");
	else if (rq->head.minor == 0)
		n = put(t, n, "Connection: keep-alive\r\n");
	conn_go(c, CONN_REPLY);
	return n;
}

/* ---- whole answers ------------------------------------------------------- */

void
http_reply(struct http_request *rq, int status, const char *type,
    const void *body, size_t n)
{
	struct conn *c = rq->conn;
	struct reply *rp = &rq->reply;
	struct iovec iov[4];
	size_t k;

	if (rq->refused)
		return;
	k = head(rq, status, type, n);
	iov[0].iov_base = c->hs->text;
	iov[0].iov_len = k;
	iov[1].iov_base = rp->fields;
	iov[1].iov_len = rp->fields_n;
	iov[2].iov_base = (void *)(uintptr_t) "\r\n";
	iov[2].iov_len = 2;
	iov[3].iov_base = (void *)(uintptr_t)body;
	iov[3].iov_len = rp->no_body ? 0 : n;
	rp->ended = true;
	io_send(c, iov, 4);
	server_turn(c);
}

/* Takes v. */
static void
reply_line(struct http_request *rq, int status, const char *type, cJSON *v)
{
	char *text = json_line(v);
	size_t n;

	cJSON_Delete(v);
	n = strlen(text);
	text[n] = '\n'; /* instead of the NUL */
	http_reply(rq, status, type, text, n + 1);
	free(text);
}

void
http_reply_json(struct http_request *rq, int status, cJSON *v)
{
	reply_line(rq, status, "application/json", v);
}

void
http_reply_error(
    struct http_request *rq, int status, const char *error, const char *hint)
{
	bool problem = rq->conn->hs->set.problems;
	cJSON *v = cJSON_CreateObject();

	if (problem)
		json_add_text(v, "type", "about:blank");
	json_add_text(v, problem ? "title" : "error", error);
	if (problem)
		json_add_int(v, "status", status);
	if (hint != NULL)
		json_add_text(v, "hint", hint);
	reply_line(rq, status,
	    problem ? "application/problem+json" : "application/json", v);
}

/* ---- long answers -------------------------------------------------------- */

static struct evbuffer *
buffer_new(void)
{
	struct evbuffer *b = evbuffer_new();

	if (b == NULL)
		abort();
	return b;
}

void
http_reply_begin(struct http_request *rq, int status, const char *type,
    uint64_t length, void (*on_room)(struct http_request *rq, void *arg),
    void *arg)
{
	struct conn *c = rq->conn;
	struct reply *rp = &rq->reply;
	struct evbuffer *b;
	size_t k;

	if (rq->refused)
		return;
	k = head(rq, status, type, length);
	b = buffer_new();
	evbuffer_add(b, c->hs->text, k);
	evbuffer_add(b, rp->fields, rp->fields_n);
	evbuffer_add(b, "\r\n", 2);
	io_queue(c, b);
	evbuffer_free(b);
	rp->on_room = on_room;
	rp->room_arg = arg;
	rp->want_room = true;
	rp->has_length = length != UINT64_MAX && !rp->no_body;
	rp->left = length;
	server_turn(c);
}

/* n octets of the body follow. false: they are not to be sent. */
static bool
may_write(struct http_request *rq, uint64_t n)
{
	struct conn *c = rq->conn;
	struct reply *rp = &rq->reply;

	if (rq->refused)
		return false;
	assert(rp->begun && !rp->ended);
	if (rp->no_body || n == 0 || c->broken)
		return false;
	assert(!rp->has_length || n <= rp->left);
	rp->left -= n;
	rp->want_room = true;
	server_enter(c);
	if (c->out_n == 0) /* the peer's time begins now */
		server_deadline(c, c->hs->now + c->hs->set.head_timeout_ms);
	server_turn(c);
	return true;
}

void
http_reply_write(struct http_request *rq, struct evbuffer *from)
{
	size_t n = evbuffer_get_length(from);
	struct evbuffer *b;

	if (!may_write(rq, n)) {
		evbuffer_drain(from, n);
		return;
	}
	if (!rq->reply.chunked) {
		io_queue(rq->conn, from);
		return;
	}
	b = buffer_new();
	evbuffer_add_printf(b, "%zx\r\n", n);
	evbuffer_add_buffer(b, from);
	evbuffer_add(b, "\r\n", 2);
	io_queue(rq->conn, b);
	evbuffer_free(b);
}

void
http_reply_sendfile(struct http_request *rq, int fd, uint64_t off, uint64_t n)
{
	if (!may_write(rq, n))
		return;
	assert(rq->reply.has_length);
	io_queue_file(rq->conn, fd, off, n);
}

void
http_reply_check_files(struct http_request *rq,
    bool (*fn)(
	struct http_request *rq, int fd, uint64_t off, uint64_t n, void *arg),
    void *arg)
{
	rq->reply.check_file = fn;
	rq->reply.check_arg = arg;
}

bool
reply_may_send(struct http_request *rq, int fd, uint64_t off, uint64_t n)
{
	struct reply *rp = &rq->reply;

	return rp->check_file == NULL ||
	    rp->check_file(rq, fd, off, n, rp->check_arg);
}

void
reply_taken_back(struct http_request *rq, uint64_t n)
{
	rq->reply.left += n;
	rq->reply.ended = false;
	rq->reply.want_room = true;
}

void
http_reply_abort(struct http_request *rq)
{
	struct conn *c = rq->conn;

	if (rq->refused)
		return;
	assert(rq->reply.begun);
	server_enter(c);
	io_unqueue(c);
	c->broken = true;
	server_turn(c);
}

uint64_t
http_reply_left(const struct http_request *rq)
{
	return rq->reply.left;
}

void
http_reply_end(struct http_request *rq)
{
	struct conn *c = rq->conn;
	struct reply *rp = &rq->reply;

	if (rq->refused)
		return;
	assert(rp->begun && !rp->ended);
	rp->ended = true;
	if (rp->chunked && !rp->no_body && !c->broken) {
		struct evbuffer *b = buffer_new();

		evbuffer_add(b, "0\r\n\r\n", 5);
		io_queue(c, b);
		evbuffer_free(b);
	}
	server_enter(c);
	server_turn(c);
}
