/*
 * http_server.c - fuzz target: any octets on a connection of the server
 *
 * The first octet seeds how they are cut and whether the client shuts down its
 * side or resets at the end. Handlers answer at once, late, early, in pieces,
 * and pause. Whatever comes, each request gets its `done` once and no
 * connection is left when the client has gone.
 */
#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "http_server.h"
#include "log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define LATE 8

struct server {
	struct event_base *base;
	struct http_server *hs;
	struct sockaddr_un un;
	struct http_request *late[LATE], *paused;
	unsigned begun, done;
};

static void
on_done(struct http_request *rq, bool ok, void *arg)
{
	struct server *s = arg;

	s->done++;
	for (unsigned i = 0; i < LATE; i++)
		if (s->late[i] == rq)
			s->late[i] = NULL;
	if (s->paused == rq)
		s->paused = NULL;
}

static void
begin(struct server *s, struct http_request *rq)
{
	s->begun++;
	http_request_on_done(rq, on_done, s);
}

static void
on_get(struct http_request *rq, void *arg)
{
	struct server *s = arg;

	begin(s, rq);
	http_request_query_get(rq, "q");
	if (strlen(http_request_param(rq, "*")) % 2 == 0) {
		http_reply(rq, 200, "text/plain", "hello", 5);
		return;
	}
	for (unsigned i = 0; i < LATE; i++)
		if (s->late[i] == NULL) {
			s->late[i] = rq;
			return;
		}
	http_reply_error(rq, 503, "busy", NULL);
}

static int
on_data(struct http_request *rq, const char *p, size_t n, void *arg)
{
	struct server *s = arg;

	if (p[0] == 'R') {
		http_reply_error(rq, 413, "early", NULL);
		return 0;
	}
	if (n % 3 != 0 || s->paused != NULL)
		return 0;
	s->paused = rq;
	return 1;
}

static void
on_end(struct http_request *rq, void *arg)
{
	http_reply(rq, 201, NULL, "kept", 4);
}

static void
on_lost(struct http_request *rq, void *arg)
{
}

static void
on_put(struct http_request *rq, void *arg)
{
	static const struct http_sink sink = { on_data, on_end, on_lost };

	begin(arg, rq);
	http_request_receive(rq, &sink, arg);
}

static void
on_body(struct http_request *rq, const char *body, size_t n, void *arg)
{
	struct evbuffer *b = evbuffer_new();

	http_reply_begin(rq, 200, "text/plain", UINT64_MAX, NULL, NULL);
	evbuffer_add(b, body, n);
	http_reply_write(rq, b);
	evbuffer_free(b);
	http_reply_end(rq);
}

static void
on_post(struct http_request *rq, void *arg)
{
	begin(arg, rq);
	http_request_collect(rq, 100, on_body, NULL);
}

static struct server *
server(void)
{
	static const struct http_route routes[] = {
		{ "GET HEAD", "/*", on_get },
		{ "PUT", "/*", on_put },
		{ "POST", "/:a", on_post },
	};
	static struct server s;
	struct http_settings set;
	char address[80];

	if (s.base != NULL)
		return &s;
	log_level = LOG_ERROR;
	http_settings_default(&set);
	set.head_max = 2048;
	set.close_delimited = true;
	s.base = event_base_new();
	s.hs = http_server_new(s.base, &set, routes, 3, &s);
	s.un.sun_family = AF_UNIX;
	snprintf(s.un.sun_path, sizeof(s.un.sun_path), "/tmp/http-fuzz-%d",
	    (int)getpid());
	snprintf(address, sizeof(address), "unix:%s", s.un.sun_path);
	if (http_server_listen(s.hs, "fuzz", address, NULL) != 0)
		abort();
	return &s;
}

static void
turn(struct server *s, unsigned n)
{
	while (n-- > 0) {
		struct http_request *rq = s->paused;

		event_base_loop(s->base, EVLOOP_NONBLOCK);
		if (rq != NULL && rq == s->paused) {
			s->paused = NULL;
			http_request_resume(rq);
		}
	}
}

static void
answer_late(struct server *s)
{
	for (unsigned i = 0; i < LATE; i++) {
		struct http_request *rq = s->late[i];

		s->late[i] = NULL;
		if (rq != NULL)
			http_reply(rq, 200, NULL, "late", 4);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct server *s = server();
	unsigned seed, how;
	char buf[4096];
	int fd;

	if (n == 0)
		return 0;
	how = data[0];
	seed = how * 2654435761u + 1;
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0 ||
	    connect(fd, (struct sockaddr *)&s->un, sizeof(s->un)) != 0)
		abort();
	for (size_t at = 1; at < n;) {
		size_t k;

		seed = seed * 1103515245u + 12345u;
		k = how % 4 == 0 ? n - at : 1 + (seed >> 16) % (how + 1);
		k = k < n - at ? k : n - at;
		if (send(fd, data + at, k, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		at += k;
		turn(s, 1);
		if (seed >> 30 == 0)
			answer_late(s);
	}
	if (how & 64)
		shutdown(fd, SHUT_WR);
	turn(s, 3);
	if (how & 32)
		answer_late(s);
	turn(s, 3);
	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	close(fd);
	for (int i = 0; i < 100 && http_server_connections(s->hs) > 0; i++)
		turn(s, 1);
	assert(http_server_connections(s->hs) == 0);
	assert(s->begun == s->done);
	return 0;
}
