/*
 * http_world.c - an HTTP server and its clients in one process, for tests
 */
#include "http_world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "clock.h"
#include "xalloc.h"

/* ---- handlers ------------------------------------------------------------ */

static void
note(struct world *w, const char *word)
{
	size_t n = strlen(w->log);

	snprintf(w->log + n, sizeof(w->log) - n, "%s ", word);
}

static void
on_done(struct http_request *rq, bool ok, void *arg)
{
	struct world *w = arg;

	note(w, ok ? "done" : "failed");
	for (unsigned i = 0; i < w->waiting_n; i++)
		if (w->waiting[i] == rq)
			w->waiting[i] = NULL;
	if (w->paused == rq)
		w->paused = NULL;
}

static void
on_hello(struct http_request *rq, void *arg)
{
	char text[512];
	const char *q = http_request_query_get(rq, "q");
	const char *cn = http_request_peer_name(rq);

	http_request_on_done(rq, on_done, arg);
	snprintf(text, sizeof(text), "hello %s q=%s peer=%s cn=%s",
	    http_request_param(rq, "name"), q != NULL ? q : "(none)",
	    http_request_peer(rq), cn != NULL ? cn : "(none)");
	http_reply_header(rq, "X-Two", "2");
	http_reply(rq, 200, "text/plain", text, strlen(text));
}

static void
on_later(struct http_request *rq, void *arg)
{
	struct world *w = arg;

	note(w, "later");
	assert_true(w->waiting_n < 16);
	w->waiting[w->waiting_n++] = rq;
	http_request_on_done(rq, on_done, w);
	if (strcmp(http_request_path(rq), "/poll") == 0)
		http_request_eof_ends(rq);
}

static int
on_data(struct http_request *rq, const char *p, size_t n, void *arg)
{
	struct world *w = arg;

	w->body = xrealloc(w->body, w->body_n + n + 1);
	memcpy(w->body + w->body_n, p, n);
	w->body_n += n;
	w->body[w->body_n] = '\0';
	if (!w->pause)
		return 0;
	w->paused = rq;
	return 1;
}

static void
on_end(struct http_request *rq, void *arg)
{
	note(arg, "end");
	http_reply(rq, 201, "text/plain", "kept\n", 5);
}

static void
on_lost(struct http_request *rq, void *arg)
{
	note(arg, "lost");
	http_reply_header(rq, "X-Late", "1"); /* is dropped */
	http_reply(rq, 500, "text/plain", "late", 4);
}

static void
on_put(struct http_request *rq, void *arg)
{
	static const struct http_sink sink = { on_data, on_end, on_lost };
	struct world *w = arg;

	note(w, "put");
	w->body_n = 0;
	http_request_on_done(rq, on_done, w);
	http_request_receive(rq, &sink, w);
}

static void
on_refuse(struct http_request *rq, void *arg)
{
	note(arg, "refuse");
	http_request_on_done(rq, on_done, arg);
	http_reply_error(rq, 413, "too \"large\"", "smaller\xff");
}

static void
on_body(struct http_request *rq, const char *body, size_t n, void *arg)
{
	assert_int_equal(strlen(body), n);
	http_reply(rq, 200, "text/plain", body, n);
}

static void
on_collect(struct http_request *rq, void *arg)
{
	http_request_on_done(rq, on_done, arg);
	http_request_collect(rq, 1000, on_body, arg);
}

/* The last 100 octets, a word, the first FILE_N - 100. */
static void
on_file(struct http_request *rq, void *arg)
{
	struct world *w = arg;
	struct evbuffer *b = evbuffer_new();

	http_request_on_done(rq, on_done, w);
	http_reply_begin(
	    rq, 200, "application/octet-stream", FILE_N + 4, NULL, NULL);
	http_reply_sendfile(rq, w->fd, FILE_N - 100, 100);
	evbuffer_add(b, "word", 4);
	http_reply_write(rq, b);
	http_reply_sendfile(rq, w->fd, 0, FILE_N - 100);
	http_reply_end(rq);
	evbuffer_free(b);
}

/* Two of three times what is queued goes back. */
static bool
on_check(struct http_request *rq, int fd, uint64_t off, uint64_t n, void *arg)
{
	struct world *w = arg;

	return ++w->asked % 3 == 0;
}

/* FILE_N octets, a word in their middle, all of it queued at once. */
static void
on_check_room(struct http_request *rq, void *arg)
{
	struct world *w = arg;
	struct evbuffer *b = evbuffer_new();
	uint64_t at = FILE_N + 4 - http_reply_left(rq), half = FILE_N / 2;

	if (at < half)
		http_reply_sendfile(rq, w->fd, at, half - at);
	if (at < half + 4) {
		size_t from = at > half ? (size_t)(at - half) : 0;

		evbuffer_add(b, "word" + from, 4 - from);
		http_reply_write(rq, b);
		at = half + 4;
	}
	http_reply_sendfile(rq, w->fd, at - 4, FILE_N + 4 - at);
	http_reply_end(rq);
	evbuffer_free(b);
}

static void
on_checked(struct http_request *rq, void *arg)
{
	struct world *w = arg;

	http_request_on_done(rq, on_done, w);
	http_reply_check_files(rq, on_check, w);
	http_reply_begin(
	    rq, 200, "application/octet-stream", FILE_N + 4, on_check_room, w);
}

struct stream {
	struct world *w;
	size_t at;
};

static void
on_stream_done(struct http_request *rq, bool ok, void *arg)
{
	struct stream *s = arg;

	on_done(rq, ok, s->w);
	free(s);
}

static void
on_stream_room(struct http_request *rq, void *arg)
{
	struct stream *s = arg;
	struct evbuffer *b = evbuffer_new();
	char text[10000];
	size_t n = sizeof(text);

	if (n > STREAM_N - s->at)
		n = STREAM_N - s->at;
	for (size_t i = 0; i < n; i++)
		text[i] = (char)((s->at + i) % 251);
	s->at += n;
	evbuffer_add(b, text, n);
	http_reply_write(rq, b);
	evbuffer_free(b);
	s->w->most = s->at;
	if (s->at == STREAM_N)
		http_reply_end(rq);
}

static void
on_stream(struct http_request *rq, void *arg)
{
	struct stream *s = xcalloc(1, sizeof(*s));

	s->w = arg;
	http_request_on_done(rq, on_stream_done, s);
	http_reply_begin(rq, 200, "text/plain", UINT64_MAX, on_stream_room, s);
}

/* An answer that ends before its length. */
static void
on_short(struct http_request *rq, void *arg)
{
	struct evbuffer *b = evbuffer_new();

	http_request_on_done(rq, on_done, arg);
	http_reply_begin(rq, 200, "text/plain", 10, NULL, NULL);
	evbuffer_add(b, "short", 5);
	http_reply_write(rq, b);
	evbuffer_free(b);
	http_reply_end(rq);
}

static const struct http_route routes[] = {
	{ "GET HEAD", "/hello/:name", on_hello },
	{ "GET", "/later", on_later },
	{ "GET", "/poll", on_later },
	{ "PUT", "/put/*", on_put },
	{ "PUT GET", "/refuse", on_refuse },
	{ "POST", "/collect", on_collect },
	{ "GET HEAD", "/file", on_file },
	{ "GET", "/checked", on_checked },
	{ "GET HEAD", "/stream", on_stream },
	{ "GET", "/short", on_short },
};

/* ---- the world ----------------------------------------------------------- */

static int
make_file(void)
{
	char path[] = "http-file-XXXXXX", *p = xmalloc(FILE_N);
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	for (size_t i = 0; i < FILE_N; i++)
		p[i] = (char)(i % 251);
	assert_int_equal(write(fd, p, FILE_N), FILE_N);
	free(p);
	return fd;
}

struct world *
world_new(const struct http_settings *set)
{
	struct world *w = xcalloc(1, sizeof(*w));
	char address[80];

	w->set = *set;
	w->base = event_base_new();
	w->hs = http_server_new(
	    w->base, set, routes, sizeof(routes) / sizeof(routes[0]), w);
	snprintf(w->path, sizeof(w->path), "world-%d.sock", (int)getpid());
	snprintf(address, sizeof(address), "unix:%s", w->path);
	assert_int_equal(http_server_listen(w->hs, "unix", address, NULL), 0);
	assert_int_equal(
	    http_server_listen(w->hs, "tcp", "127.0.0.1:0", NULL), 0);
	w->port = http_server_port(w->hs, "tcp");
	assert_true(w->port > 0);
	w->fd = make_file();
	return w;
}

void
world_free(struct world *w)
{
	http_server_free(w->hs);
	event_base_free(w->base);
	close(w->fd);
	free(w->body);
	free(w);
}

bool
world_until(struct world *w, bool (*cond)(void *arg), void *arg)
{
	int64_t end = clock_ms() + WORLD_MS;

	while (!cond(arg)) {
		if (clock_ms() > end)
			return false;
		event_base_loop(w->base, EVLOOP_NONBLOCK);
	}
	return true;
}

static bool
has(void *arg)
{
	struct world *w = arg;

	return http_server_connections(w->hs) == w->want;
}

bool
world_has(struct world *w, unsigned n)
{
	w->want = n;
	return world_until(w, has, w);
}

void
world_spin(struct world *w, int ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	event_base_loopexit(w->base, &tv);
	event_base_dispatch(w->base);
}

void
world_answer(struct world *w, const char *text)
{
	for (unsigned i = 0; i < w->waiting_n; i++) {
		struct http_request *rq = w->waiting[i];

		if (rq == NULL)
			continue;
		w->waiting[i] = NULL;
		http_reply(rq, 200, "text/plain", text, strlen(text));
		return;
	}
	fail_msg("nobody waits");
}

/* ---- clients ------------------------------------------------------------- */

static struct client *
client_new(struct world *w, int family, const void *addr, socklen_t len)
{
	struct client *c = xcalloc(1, sizeof(*c));

	c->w = w;
	c->in = xstrdup("");
	c->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(c->fd >= 0);
	assert_int_equal(connect(c->fd, addr, len), 0);
	return c;
}

static struct client *
client_inet(struct world *w, int port)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	return client_new(w, AF_INET, &in, sizeof(in));
}

struct client *
client_tcp(struct world *w)
{
	return client_inet(w, w->port);
}

struct client *
client_unix(struct world *w)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	strcpy(un.sun_path, w->path);
	return client_new(w, AF_UNIX, &un, sizeof(un));
}

static bool
shakes_hands(void *arg)
{
	struct client *c = arg;
	int rc = SSL_do_handshake(c->ssl);

	if (rc != 1 && SSL_get_error(c->ssl, rc) != SSL_ERROR_WANT_READ)
		c->closed = true;
	return rc == 1 || c->closed;
}

struct client *
client_tls(struct world *w, int port, struct ssl_ctx_st *ctx)
{
	struct client *c = client_inet(w, port);

	evutil_make_socket_nonblocking(c->fd);
	c->ssl = SSL_new(ctx);
	SSL_set_fd(c->ssl, c->fd);
	SSL_set_connect_state(c->ssl);
	assert_true(world_until(w, shakes_hands, c));
	return c;
}

void
client_free(struct client *c)
{
	SSL_free(c->ssl);
	close(c->fd);
	free(c->in);
	free(c);
}

static ssize_t
raw_read(struct client *c, char *p, size_t n)
{
	int rc;

	if (c->ssl == NULL)
		return recv(c->fd, p, n, MSG_DONTWAIT);
	rc = SSL_read(c->ssl, p, (int)n);
	if (rc > 0)
		return rc;
	switch (SSL_get_error(c->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		errno = EIO;
		return -1;
	}
}

static void
client_read(struct client *c)
{
	char buf[65536];
	ssize_t n;

	while (!c->closed) {
		n = raw_read(c, buf, sizeof(buf));
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			c->closed = true;
			c->reset = n < 0;
			return;
		}
		if (c->n + (size_t)n + 1 > c->size) {
			c->size = 2 * (c->n + (size_t)n + 1);
			c->in = xrealloc(c->in, c->size);
		}
		memcpy(c->in + c->n, buf, (size_t)n);
		c->n += (size_t)n;
		c->in[c->n] = '\0';
	}
}

static ssize_t
raw_send(struct client *c, const char *p, size_t n)
{
	int rc;

	if (c->ssl == NULL)
		return send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	rc = SSL_write(c->ssl, p, n > 16384 ? 16384 : (int)n);
	if (rc > 0)
		return rc;
	errno = SSL_get_error(c->ssl, rc) == SSL_ERROR_SSL ? EIO : EAGAIN;
	return -1;
}

bool
client_send(struct client *c, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = raw_send(c, p, n);

		if (k < 0 && errno != EAGAIN)
			return false;
		if (k > 0) {
			p += k;
			n -= (size_t)k;
		}
		for (int i = 0; i < 3; i++)
			event_base_loop(c->w->base, EVLOOP_NONBLOCK);
	}
	return true;
}

bool
client_say(struct client *c, const char *text)
{
	return client_send(c, text, strlen(text));
}

struct sight {
	struct client *c;
	const char *text;
	bool last; /* at the end of what came */
};

static bool
seen(void *arg)
{
	struct sight *s = arg;
	struct client *c = s->c;
	size_t n = s->text != NULL ? strlen(s->text) : 0;

	client_read(c);
	if (c->closed || n == 0)
		return c->closed;
	if (s->last)
		return c->n >= n && memcmp(c->in + c->n - n, s->text, n) == 0;
	return memmem(c->in, c->n, s->text, n) != NULL;
}

bool
client_sees(struct client *c, const char *text)
{
	struct sight s = { c, text, false };

	world_until(c->w, seen, &s);
	return memmem(c->in, c->n, text, strlen(text)) != NULL;
}

bool
client_sees_last(struct client *c, const char *text)
{
	struct sight s = { c, text, true };

	return world_until(c->w, seen, &s) && !c->closed;
}

bool
client_ends(struct client *c)
{
	struct sight s = { c, NULL, false };

	return world_until(c->w, seen, &s);
}

/* The body of the one whole answer that has come, or NULL. */
static const char *
whole(struct client *c)
{
	const char *end = strstr(c->in, "\r\n\r\n");
	const char *length = strstr(c->in, "Content-Length: ");

	if (end == NULL || length == NULL)
		return NULL;
	end += 4;
	return (size_t)(c->in + c->n - end) >= (size_t)atol(length + 16) ? end
									 : NULL;
}

static bool
answered(void *arg)
{
	struct client *c = arg;

	client_read(c);
	return c->closed || whole(c) != NULL;
}

const char *
client_ask(struct client *c, const char *text)
{
	const char *body;

	client_forget(c);
	client_say(c, text);
	world_until(c->w, answered, c);
	body = whole(c);
	return body != NULL ? body : "";
}

void
client_forget(struct client *c)
{
	c->n = 0;
	c->in[0] = '\0';
}

void
client_reset(struct client *c)
{
	struct linger l = { 1, 0 };

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(c->fd);
	c->fd = -1;
	world_spin(c->w, 20);
}
