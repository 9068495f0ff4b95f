/*
 * http_server.c - tests of lib/http_server.c: requests, bodies, answers
 */
#include "http_world.h"

#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "log.h"
#include "xalloc.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static struct world *
world(void)
{
	struct http_settings set;

	http_settings_default(&set);
	return world_new(&set);
}

static void
test_routes(void **state)
{
	static const struct {
		const char *ask, *status, *body;
	} rows[] = {
		{ GET("/hello/a"), " 200 OK\r\n",
		    "hello a q=(none) peer=127.0.0.1 cn=(none)" },
		{ GET("/hello/%41%20b?x=1&q=2+%263"), " 200 ",
		    "hello A b q=2+&3 peer" },
		{ GET("/hello/a?q"), " 200 ", "hello a q= peer" },
		{ GET("/hel%6co/a?%71=1"), " 200 ", "hello a q=1 peer" },
		{ GET("/hello/"), " 404 ", "{\"error\":\"" },
		{ GET("/hello/a/b"), " 404 ", "{\"error\":\"" },
		{ GET("/hello"), " 404 ", "{\"error\":\"" },
		{ GET("/hello/%00"), " 400 ", "{\"error\":\"" },
		{ GET("/hello/%"), " 400 ", "{\"error\":\"" },
		{ GET("/hello/%zz"), " 400 ", "{\"error\":\"" },
		{ GET("/hello/%252e"), " 200 ", "hello %2e q" },
		{ GET("/put/a"), " 405 ", "{\"error\":\"" },
		{ GET("/refuse"), " 413 ",
		    "{\"error\":\"too \\\"large\\\"\",\"hint\":\"smaller"
		    "\xef\xbf\xbd\"}\n" },
	};
	struct world *w = world();
	struct client *c = client_tcp(w);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *body = client_ask(c, rows[i].ask);

		if (strncmp(body, rows[i].body, strlen(rows[i].body)) != 0 ||
		    strstr(c->in, rows[i].status) == NULL)
			fail_msg("%s: %s", rows[i].ask, c->in);
		assert_null(strstr(c->in, "Connection:"));
	}
	client_ask(c, GET("/put/a"));
	assert_non_null(strstr(c->in, "\r\nAllow: PUT\r\n"));
	client_ask(c,
	    "PATCH /refuse HTTP/1.1\r\nHost: x\r\n"
	    "Content-Length: 0\r\n\r\n");
	assert_non_null(strstr(c->in, "\r\nAllow: PUT, GET\r\n"));
	client_free(c);
	world_free(w);
}

static void
test_keep_alive(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);

	for (int i = 0; i < 3; i++)
		assert_memory_equal(
		    client_ask(c, GET("/hello/x")), "hello x", 7);
	assert_int_equal(http_server_connections(w->hs), 1);
	assert_string_equal(w->log, "done done done ");
	/* HEAD: the length, no body; the next answer follows at once */
	client_forget(c);
	client_say(c, "HEAD /hello/x HTTP/1.1\r\nHost: x\r\n\r\n");
	client_say(c, GET("/hello/y"));
	assert_true(client_sees(c, "\r\n\r\nHTTP/1.1 200 OK\r\n"));
	assert_true(client_sees(c, "hello y"));
	assert_null(strstr(c->in, "hello x"));
	client_ask(
	    c, "GET /hello/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	assert_non_null(strstr(c->in, "Connection: keep-alive\r\n"));
	/* closed at once when asked, without waiting for the client */
	client_ask(c,
	    "GET /hello/x HTTP/1.1\r\nHost: x\r\n"
	    "Connection: close\r\n\r\n");
	assert_true(client_ends(c));
	assert_non_null(strstr(c->in, "Connection: close\r\n"));
	assert_false(c->reset);
	client_free(c);
	c = client_tcp(w);
	client_ask(c, "GET /hello/x HTTP/1.0\r\n\r\n");
	assert_true(client_ends(c));
	client_free(c);
	world_free(w);
}

static void
test_pipelined(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);

	/* the second waits for the first, whose answer comes late */
	client_say(c,
	    GET("/later") "PUT /put/a HTTP/1.1\r\nHost: x\r\n"
			  "Transfer-Encoding: chunked\r\n\r\n"
			  "3\r\nabc\r\n0\r\n\r\n" GET("/hello/z"));
	world_spin(w, 30);
	assert_string_equal(w->log, "later ");
	client_say(c, GET("/hello/y"));
	world_answer(w, "first");
	assert_true(client_sees(c, "hello y"));
	assert_string_equal(w->log, "later done put end done done done ");
	assert_true(strstr(c->in, "first") < strstr(c->in, "kept"));
	assert_true(strstr(c->in, "kept") < strstr(c->in, "hello z"));
	assert_true(strstr(c->in, "hello z") < strstr(c->in, "hello y"));
	assert_string_equal(w->body, "abc");
	/* what is no request after a whole one ends the connection */
	client_forget(c);
	client_say(c, GET("/hello/a") "\001\002\r\n\r\n");
	assert_true(client_ends(c));
	assert_non_null(strstr(c->in, "hello a"));
	assert_non_null(strstr(c->in, "HTTP/1.1 400 Bad Request\r\n"));
	client_free(c);
	world_free(w);
}

static void
test_after_close(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);

	client_say(c,
	    "GET /hello/a HTTP/1.1\r\nHost: x\r\n"
	    "Connection: close\r\n\r\n" GET("/hello/b"));
	assert_true(client_ends(c));
	assert_false(c->reset);
	assert_null(strstr(c->in, "hello b"));
	client_free(c);
	world_free(w);
}

#define EXPECT "Host: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"

static void
test_expect(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);

	client_say(c, "PUT /put/a HTTP/1.1\r\n" EXPECT);
	assert_true(client_sees(c, "HTTP/1.1 100 Continue\r\n\r\n"));
	client_say(c, "hello");
	assert_true(client_sees(c, "201 Created"));
	/* not asked for any more when the body is here */
	client_forget(c);
	client_say(c, "PUT /put/a HTTP/1.1\r\n" EXPECT "hello");
	assert_true(client_sees(c, "201 Created"));
	assert_null(strstr(c->in, "100 Continue"));
	/* nor by HTTP/1.0, nor by who does not ask */
	client_forget(c);
	client_say(c,
	    "PUT /put/a HTTP/1.1\r\nHost: x\r\n"
	    "Content-Length: 5\r\n\r\n");
	world_spin(w, 20);
	assert_int_equal(recv(c->fd, &(char){ 0 }, 1, MSG_DONTWAIT), -1);
	client_say(c, "hello");
	assert_true(client_sees(c, "201 Created"));
	/* nor if the body is refused */
	client_forget(c);
	client_say(c, "PUT /refuse HTTP/1.1\r\n" EXPECT);
	assert_true(client_ends(c));
	assert_non_null(strstr(c->in, "413 Content Too Large"));
	assert_non_null(strstr(c->in, "Connection: close"));
	assert_null(strstr(c->in, "100 Continue"));
	client_free(c);
	c = client_tcp(w);
	client_say(c, "PUT /put/a HTTP/1.0\r\n" EXPECT);
	world_spin(w, 20);
	client_say(c, "hello");
	assert_true(client_sees(c, "201 Created"));
	assert_null(strstr(c->in, "100 Continue"));
	client_free(c);
	world_free(w);
}

/* A client that sends all before it reads must come to see the refusal. */
static void
test_refuse_early(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);
	size_t n = 10u << 20;
	char *body = xcalloc(1, n);

	client_say(c,
	    "PUT /refuse HTTP/1.1\r\nHost: x\r\n"
	    "Content-Length: 10485760\r\n\r\n");
	assert_true(client_send(c, body, n));
	assert_true(client_ends(c));
	assert_false(c->reset);
	assert_non_null(strstr(c->in, "413 Content Too Large"));
	assert_string_equal(w->log, "refuse done ");
	client_free(c);
	/* broken framing, in the middle of much */
	w->log[0] = '\0';
	c = client_tcp(w);
	client_say(c,
	    "PUT /put/a HTTP/1.1\r\nHost: x\r\n"
	    "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX");
	assert_true(client_send(c, body, n));
	assert_true(client_ends(c));
	assert_false(c->reset);
	assert_non_null(strstr(c->in, "400 Bad Request"));
	assert_string_equal(w->log, "put lost failed ");
	client_free(c);
	/* a small body that came along costs no connection */
	c = client_tcp(w);
	client_ask(c,
	    "PUT /refuse HTTP/1.1\r\nHost: x\r\n"
	    "Content-Length: 5\r\n\r\nhello");
	assert_null(strstr(c->in, "Connection: close"));
	assert_memory_equal(client_ask(c, GET("/hello/x")), "hello x", 7);
	client_free(c);
	free(body);
	world_free(w);
}

static void
test_drain_cap(void **state)
{
	struct http_settings set;
	struct world *w;
	struct client *c;
	size_t n = 8u << 20;
	char *body = xcalloc(1, n);

	http_settings_default(&set);
	set.drain_max = 100000;
	w = world_new(&set);
	c = client_tcp(w);
	client_say(c,
	    "PUT /refuse HTTP/1.1\r\nHost: x\r\n"
	    "Content-Length: 99999999\r\n\r\n");
	client_send(c, body, n);
	assert_true(world_has(w, 0));
	client_free(c);
	world_free(w);
	/* and by time */
	set.drain_ms = 800;
	w = world_new(&set);
	c = client_tcp(w);
	client_say(c,
	    "PUT /refuse HTTP/1.1\r\nHost: x\r\n"
	    "Content-Length: 99999999\r\n\r\n");
	world_spin(w, 100);
	assert_int_equal(http_server_connections(w->hs), 1);
	assert_true(world_has(w, 0));
	client_free(c);
	world_free(w);
	free(body);
}

static void
test_pause(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);
	char *body = xmalloc(300000), head[128];
	size_t sent = 0, seen;

	for (size_t i = 0; i < 300000; i++)
		body[i] = (char)(i % 253);
	w->pause = true;
	snprintf(head, sizeof(head),
	    "PUT /put/a HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n");
	client_say(c, head);
	sent += (size_t)send(c->fd, body, 200000, MSG_DONTWAIT);
	world_spin(w, 30);
	seen = w->body_n;
	assert_true(seen > 0 && seen <= 65536);
	world_spin(w, 30);
	assert_int_equal(w->body_n, seen); /* nothing while it is paused */
	while (sent < 300000 || w->paused != NULL) {
		ssize_t k =
		    send(c->fd, body + sent, 300000 - sent, MSG_DONTWAIT);
		struct http_request *rq = w->paused;

		if (k > 0)
			sent += (size_t)k;
		if (rq != NULL) {
			w->paused = NULL;
			http_request_resume(rq);
		}
		event_base_loop(w->base, EVLOOP_NONBLOCK);
	}
	assert_true(client_sees(c, "201 Created"));
	assert_int_equal(w->body_n, 300000);
	assert_memory_equal(w->body, body, 300000);
	/* chunks: what is read past the piece is kept, the end waits as well */
	client_forget(c);
	client_say(c,
	    "PUT /put/a HTTP/1.1\r\nHost: x\r\n"
	    "Transfer-Encoding: chunked\r\n\r\n"
	    "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n" GET("/hello/n"));
	world_spin(w, 20);
	assert_int_equal(w->body_n, 2);
	http_request_resume(w->paused);
	world_spin(w, 20);
	assert_string_equal(w->body, "abcde");
	assert_null(strstr(w->log, "end done put end"));
	http_request_resume(w->paused);
	assert_true(client_sees(c, "hello n"));
	client_free(c);
	free(body);
	world_free(w);
}

static void
test_collect(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);
	char text[2000];

	assert_string_equal(client_ask(c,
				"POST /collect HTTP/1.1\r\n"
				"Host: x\r\nContent-Length: 5\r\n\r\n"
				"hello"),
	    "hello");
	assert_string_equal(client_ask(c,
				"POST /collect HTTP/1.1\r\nHost: x\r\n"
				"Transfer-Encoding: chunked\r\n\r\n"
				"5\r\nhello\r\n2\r\n, \r\n0\r\n\r\n"),
	    "hello, ");
	assert_string_equal(client_ask(c,
				"POST /collect HTTP/1.1\r\n"
				"Host: x\r\nContent-Length: 0\r\n"
				"\r\n"),
	    "");
	assert_non_null(strstr(c->in, "200 OK"));
	client_ask(c,
	    "POST /collect HTTP/1.1\r\nHost: x\r\n"
	    "Content-Length: 1001\r\n\r\n");
	assert_non_null(strstr(c->in, " 413 "));
	client_free(c);
	c = client_tcp(w);
	snprintf(text, sizeof(text),
	    "POST /collect HTTP/1.1\r\nHost: x\r\n"
	    "Transfer-Encoding: chunked\r\n\r\n3e9\r\n%01001d\r\n0\r\n\r\n",
	    0);
	client_ask(c, text);
	assert_non_null(strstr(c->in, " 413 "));
	client_free(c);
	world_free(w);
}

/* Check n octets from p: octet i is (from + i) % 251. */
static void
check_octets(const char *p, size_t n, size_t from)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != (char)((from + i) % 251))
			fail_msg("octet %zu differs", i);
}

static void
test_check_files(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);
	const char *body = client_ask(c, GET("/checked"));

	check_octets(body, FILE_N / 2, 0);
	assert_memory_equal(body + FILE_N / 2, "word", 4);
	check_octets(body + FILE_N / 2 + 4, FILE_N - FILE_N / 2, FILE_N / 2);
	assert_true(w->asked >= 6);
	client_forget(c);
	assert_memory_equal(client_ask(c, GET("/hello/x")), "hello x", 7);
	assert_string_equal(w->log, "done done ");
	client_free(c);
	world_free(w);
}

static void
test_sendfile(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);
	const char *body = client_ask(c, GET("/file"));

	assert_non_null(strstr(c->in, "Content-Length: 3145732\r\n"));
	check_octets(body, 100, FILE_N - 100);
	assert_memory_equal(body + 100, "word", 4);
	check_octets(body + 104, FILE_N - 100, 0);
	client_forget(c);
	client_say(c, "HEAD /file HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_true(client_sees_last(c, "\r\n\r\n"));
	assert_memory_equal(client_ask(c, GET("/hello/x")), "hello x", 7);
	assert_string_equal(w->log, "done done done ");
	/* a file that has become shorter cuts the answer */
	assert_int_equal(ftruncate(w->fd, 1000), 0);
	client_ask(c, GET("/file"));
	assert_true(client_ends(c));
	assert_non_null(strstr(w->log, "failed"));
	client_free(c);
	c = client_tcp(w);
	client_ask(c, GET("/short"));
	assert_true(client_ends(c));
	assert_true(strlen(strstr(c->in, "\r\n\r\n")) == 4 + 5);
	client_free(c);
	world_free(w);
}

/* Undo chunks in place; the length of the body. */
static size_t
dechunk(char *p)
{
	char *from = p, *to = p;
	size_t n;

	while ((n = strtoul(from, &from, 16)) > 0) {
		assert_memory_equal(from, "\r\n", 2);
		memmove(to, from + 2, n);
		to += n;
		from += n + 2;
		assert_memory_equal(from, "\r\n", 2);
		from += 2;
	}
	assert_string_equal(from, "\r\n\r\n");
	return (size_t)(to - p);
}

static void
test_stream(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);
	char *body;

	/* a client that does not read holds back the writer */
	client_say(c, GET("/stream"));
	world_spin(w, 100);
	assert_true(w->most > 0);
	assert_true(w->most < STREAM_N);
	assert_true(client_sees_last(c, "\r\n0\r\n\r\n"));
	body = strstr(c->in, "\r\n\r\n") + 4;
	assert_int_equal(dechunk(body), STREAM_N);
	check_octets(body, STREAM_N, 0);
	assert_memory_equal(client_ask(c, GET("/hello/x")), "hello x", 7);
	client_free(c);
	/* HTTP/1.0: until the close */
	c = client_tcp(w);
	client_say(c, "GET /stream HTTP/1.0\r\n\r\n");
	assert_true(client_ends(c));
	assert_null(strstr(c->in, "Transfer-Encoding"));
	body = strstr(c->in, "\r\n\r\n") + 4;
	assert_int_equal(c->in + c->n - body, STREAM_N);
	check_octets(body, STREAM_N, 0);
	client_free(c);
	/* the client goes in the middle */
	w->log[0] = '\0';
	c = client_tcp(w);
	client_say(c, GET("/stream"));
	client_reset(c);
	assert_string_equal(w->log, "failed ");
	client_free(c);
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_keep_alive),
		cmocka_unit_test(test_pipelined),
		cmocka_unit_test(test_after_close),
		cmocka_unit_test(test_expect),
		cmocka_unit_test(test_refuse_early),
		cmocka_unit_test(test_drain_cap),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_collect),
		cmocka_unit_test(test_sendfile),
		cmocka_unit_test(test_check_files),
		cmocka_unit_test(test_stream),
	};

	log_level = getenv("DEBUG") ? LOG_DEBUG : LOG_ERROR;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
