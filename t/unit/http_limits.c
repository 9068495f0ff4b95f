/*
 * http_limits.c - tests of lib/http_server.c: time, loss, limits, the end
 */
#include "http_world.h"

#include <event2/event.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "clock.h"
#include "log.h"
#include "xalloc.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define PUT(length)                                                            \
	"PUT /put/a HTTP/1.1\r\nHost: x\r\nContent-Length: " length "\r\n\r\n"

static struct world *
world(void)
{
	struct http_settings set;

	http_settings_default(&set);
	set.head_timeout_ms = 300;
	set.idle_timeout_ms = 600;
	set.min_rate = 500;
	return world_new(&set);
}

/* ---- waiting for an answer ----------------------------------------------- */

static void
test_reset_in_wait(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);

	client_say(c, GET("/later"));
	client_reset(c);
	assert_string_equal(w->log, "later failed ");
	assert_true(world_has(w, 0));
	client_free(c);
	/* with more octets unread */
	w->log[0] = '\0';
	c = client_tcp(w);
	client_say(c, GET("/later") GET("/hello/a"));
	client_reset(c);
	assert_string_equal(w->log, "later failed ");
	client_free(c);
	/* a closed Unix socket says as much */
	w->log[0] = '\0';
	c = client_unix(w);
	client_say(c, GET("/later"));
	client_free(c);
	world_spin(w, 20);
	assert_string_equal(w->log, "later failed ");
	assert_true(world_has(w, 0));
	world_free(w);
}

static void
test_half_close(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);

	client_say(c, GET("/later"));
	shutdown(c->fd, SHUT_WR);
	world_spin(w, 50);
	assert_string_equal(w->log, "later ");
	world_answer(w, "after all");
	assert_true(client_ends(c));
	assert_non_null(strstr(c->in, "after all"));
	assert_string_equal(w->log, "later done ");
	client_free(c);
	/* FIN in the same segment as the request, and pipelined ones */
	c = client_tcp(w);
	send(c->fd, GET("/hello/a") GET("/hello/b"),
	    2 * strlen(GET("/hello/a")), 0);
	shutdown(c->fd, SHUT_WR);
	assert_true(client_ends(c));
	assert_non_null(strstr(c->in, "hello a"));
	assert_non_null(strstr(c->in, "hello b"));
	client_free(c);
	/* a poll ends with it, be it before or after the request is read */
	w->log[0] = '\0';
	c = client_tcp(w);
	client_say(c, GET("/poll"));
	world_spin(w, 20);
	assert_string_equal(w->log, "later ");
	shutdown(c->fd, SHUT_WR);
	world_spin(w, 20);
	assert_string_equal(w->log, "later failed ");
	client_free(c);
	c = client_tcp(w);
	send(c->fd, GET("/poll"), strlen(GET("/poll")), 0);
	shutdown(c->fd, SHUT_WR);
	world_spin(w, 20);
	assert_string_equal(w->log, "later failed later failed ");
	client_free(c);
	world_free(w);
}

/* Waiting must cost nothing, even while octets wait to be read. */
static void
test_wait_does_not_spin(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);
	clock_t from;

	client_say(c, GET("/later"));
	client_say(c, GET("/hello/a"));
	shutdown(c->fd, SHUT_WR);
	world_spin(w, 50);
	from = clock();
	world_spin(w, 500);
	assert_true(clock() - from < CLOCKS_PER_SEC / 20);
	world_answer(w, "x");
	assert_true(client_sees(c, "hello a"));
	client_free(c);
	world_free(w);
}

static void
test_lost_body(void **state)
{
	static const char *const parts[] = {
		PUT("10") "hello",
		"PUT /put/a HTTP/1.1\r\nHost: x\r\n"
		"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	};
	struct world *w = world();

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct client *c = client_tcp(w);

		w->log[0] = '\0';
		client_say(c, parts[i]);
		shutdown(c->fd, SHUT_WR);
		assert_true(client_ends(c));
		assert_non_null(strstr(c->in, "400 Bad Request"));
		assert_null(strstr(c->in, "late"));
		assert_null(strstr(c->in, "X-Late"));
		assert_string_equal(w->log, "put lost failed ");
		client_free(c);
		w->log[0] = '\0';
		c = client_tcp(w);
		client_say(c, parts[i]);
		client_reset(c);
		assert_string_equal(w->log, "put lost failed ");
		client_free(c);
	}
	assert_true(world_has(w, 0));
	world_free(w);
}

static void
test_close_delimited(void **state)
{
	struct world *w = world();
	struct http_settings set = w->set;
	struct client *c;

	for (int on = 0; on <= 1; on++) {
		set.close_delimited = on;
		http_server_settings(w->hs, &set);
		w->log[0] = '\0';
		w->body_n = 0;
		c = client_tcp(w);
		client_say(c, "PUT /put/a HTTP/1.0\r\n\r\nhello");
		shutdown(c->fd, SHUT_WR);
		assert_true(client_ends(c));
		assert_string_equal(w->log, "put end done ");
		assert_int_equal(w->body_n, on ? 5 : 0);
		client_free(c);
	}
	/* a reset is no end */
	w->log[0] = '\0';
	c = client_tcp(w);
	client_say(c, "PUT /put/a HTTP/1.0\r\n\r\nhello");
	client_reset(c);
	assert_string_equal(w->log, "put lost failed ");
	client_free(c);
	world_free(w);
}

/* ---- deadlines ----------------------------------------------------------- */

static void
test_head_deadline(void **state)
{
	struct world *w = world();
	struct client *silent = client_tcp(w), *slow = client_tcp(w);
	struct client *idle = client_tcp(w);
	int64_t from;

	client_ask(idle, GET("/hello/a"));
	from = clock_ms();
	/* each octet comes in time, the head does not */
	for (int i = 0; i < 40 && !slow->closed; i++) {
		client_say(slow, i == 0 ? "GET / HTTP/1.1\r\nX: " : "x");
		world_spin(w, 20);
	}
	assert_true(client_ends(slow));
	assert_non_null(strstr(slow->in, "408 Request Timeout"));
	assert_true(client_ends(silent));
	assert_true(clock_ms() - from < 4000);
	assert_int_equal(silent->n, 0);
	client_forget(idle);
	assert_true(client_ends(idle));
	assert_int_equal(idle->n, 0);
	assert_true(clock_ms() - from >= 550);
	client_free(idle);
	client_free(silent);
	client_free(slow);
	world_free(w);
}

static void
test_body_rate(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w), *slow = client_tcp(w);
	char piece[101];
	int64_t from = clock_ms();

	memset(piece, 'x', 100);
	piece[100] = '\0';
	client_say(slow, PUT("2000"));
	client_say(c, PUT("2000"));
	/* 2000 octets a second for longer than the head's time: fine */
	for (int i = 0; i < 20; i++) {
		client_say(c, piece);
		client_say(slow, "x");
		world_spin(w, 50);
	}
	assert_true(client_sees(c, "201 Created"));
	assert_true(clock_ms() - from > 900);
	/* 20 octets a second are not */
	assert_true(client_ends(slow));
	assert_non_null(strstr(slow->in, "408 Request Timeout"));
	assert_non_null(strstr(w->log, "lost failed"));
	client_free(c);
	client_free(slow);
	world_free(w);
}

/* A pause of ours is not held against the client. */
static void
test_pause_has_no_deadline(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w);

	w->pause = true;
	client_say(c, PUT("10") "hello");
	world_spin(w, 800);
	assert_string_equal(w->log, "put ");
	w->pause = false;
	http_request_resume(w->paused);
	client_say(c, "world");
	assert_true(client_sees(c, "201 Created"));
	client_free(c);
	world_free(w);
}

static void
test_answer_not_read(void **state)
{
	struct world *w = world();
	struct http_settings set = w->set;
	struct client *c = client_tcp(w);
	int size = 4096;

	set.min_rate = 100u << 20; /* what buffers take is worth little time */
	http_server_settings(w->hs, &set);
	setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	client_say(c, GET("/stream"));
	world_spin(w, 200);
	assert_string_equal(w->log, "");
	for (int i = 0; i < 10 && w->log[0] == '\0'; i++)
		world_spin(w, 300);
	assert_string_equal(w->log, "failed ");
	assert_true(world_has(w, 0));
	client_free(c);
	world_free(w);
}

/* ---- limits -------------------------------------------------------------- */

static void
test_idlest_goes(void **state)
{
	struct http_settings set;
	struct world *w;
	struct client *c[4];

	http_settings_default(&set);
	set.max_connections = 3;
	w = world_new(&set);
	for (int i = 0; i < 3; i++) {
		c[i] = client_tcp(w);
		client_ask(c[i], GET("/hello/a"));
	}
	client_ask(c[0], GET("/hello/a")); /* so the second is the idlest */
	c[3] = client_tcp(w);
	assert_memory_equal(client_ask(c[3], GET("/hello/x")), "hello x", 7);
	assert_true(client_ends(c[1]));
	assert_int_equal(http_server_connections(w->hs), 3);
	/* who waits for an answer stays, who is at work does not wait */
	client_say(c[0], GET("/later"));
	client_say(c[2], GET("/later"));
	client_say(c[3], GET("/later"));
	client_free(c[1]);
	c[1] = client_tcp(w);
	assert_true(client_ends(c[1]));
	for (int i = 0; i < 3; i++)
		world_answer(w, "here");
	for (int i = 0; i < 4; i++) {
		assert_true(i == 1 || client_sees(c[i], "here"));
		client_free(c[i]);
	}
	world_free(w);
}

/* With few connections silence may last; with many it ends soon. */
static void
test_silence_under_load(void **state)
{
	struct http_settings set;
	struct world *w;
	struct client *c[8];

	http_settings_default(&set);
	set.max_connections = 8;
	set.head_timeout_ms = set.idle_timeout_ms = 60000;
	w = world_new(&set);
	for (int i = 0; i < 8; i++) {
		c[i] = client_tcp(w);
		if (i != 7)
			client_ask(c[i], GET("/hello/a"));
	}
	client_say(c[7], "GET / HT");
	world_spin(w, 500);
	assert_int_equal(http_server_connections(w->hs), 8);
	set.idle_timeout_ms = 2000; /* a fifth is under a second: a second */
	set.head_timeout_ms = 60000;
	http_server_settings(w->hs, &set);
	client_ask(c[0], GET("/hello/a"));
	world_spin(w, 700);
	assert_int_equal(http_server_connections(w->hs), 8);
	world_spin(w, 700);
	assert_int_equal(http_server_connections(w->hs), 7);
	assert_true(client_ends(c[0]));
	client_free(c[1]);
	client_free(c[2]);
	world_spin(w, 50);
	client_ask(c[3], GET("/hello/a")); /* 5 of 8: all of its time */
	world_spin(w, 1500);
	assert_int_equal(http_server_connections(w->hs), 5);
	for (int i = 0; i < 8; i++)
		if (i != 1 && i != 2)
			client_free(c[i]);
	world_free(w);
}

static void
test_per_address(void **state)
{
	struct http_settings set;
	struct world *w;
	struct client *c[4];

	http_settings_default(&set);
	set.max_per_address = 2;
	w = world_new(&set);
	for (int i = 0; i < 3; i++)
		c[i] = client_tcp(w);
	assert_true(client_ends(c[2])); /* the newest goes */
	assert_memory_equal(client_ask(c[0], GET("/hello/x")), "hello x", 7);
	c[3] = client_unix(w); /* and has no address here */
	assert_memory_equal(client_ask(c[3], GET("/hello/x")), "hello x", 7);
	client_free(c[0]);
	world_spin(w, 20);
	client_free(c[2]);
	c[2] = client_tcp(w);
	assert_memory_equal(client_ask(c[2], GET("/hello/x")), "hello x", 7);
	for (int i = 1; i < 4; i++)
		client_free(c[i]);
	world_free(w);
}

static void
test_out_of_descriptors(void **state)
{
	struct world *w = world();
	struct client *c = client_tcp(w), *d;
	struct rlimit old, low;
	clock_t from;

	client_say(c, GET("/later"));
	d = client_tcp(w); /* not accepted yet */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)d->fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	from = clock();
	world_spin(w, 500);
	assert_true(clock() - from < CLOCKS_PER_SEC / 20);
	assert_int_equal(http_server_connections(w->hs), 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_memory_equal(client_ask(d, GET("/hello/x")), "hello x", 7);
	world_answer(w, "here");
	assert_true(client_sees(c, "here"));
	client_free(c);
	client_free(d);
	world_free(w);
}

/* What a connection costs while its body trickles in. */
static void
test_memory(void **state)
{
	enum { N = 400 };
	struct http_settings set;
	struct world *w;
	struct client *c[N];
	size_t before, after;

	http_settings_default(&set);
	w = world_new(&set);
	for (int i = 0; i < N; i++)
		c[i] = client_tcp(w);
	before = mallinfo2().uordblks;
	for (int i = 0; i < N; i++)
		client_say(c[i],
		    "PUT /put/some-name-or-other.jpg HTTP/1.1\r\n"
		    "Host: 192.168.100.100\r\n"
		    "User-Agent: camera/1.0\r\n"
		    "Content-Length: 100000\r\n"
		    "Content-Type: image/jpeg\r\n\r\nbody");
	assert_true(world_has(w, N));
	after = mallinfo2().uordblks;
	print_message("# %zu octets a connection\n", (after - before) / N);
#ifndef __SANITIZE_ADDRESS__
	assert_true(after - before < 2048 * N);
#endif
	for (int i = 0; i < N; i++)
		client_free(c[i]);
	assert_true(world_has(w, 0));
	world_free(w);
}

/* ---- the end ------------------------------------------------------------- */

static void
on_drained(void *arg)
{
	++*(int *)arg;
}

static void
test_drain(void **state)
{
	struct world *w = world();
	struct client *idle = client_tcp(w), *busy = client_tcp(w);
	int drained = 0;

	client_ask(idle, GET("/hello/a"));
	client_say(busy, GET("/later"));
	world_spin(w, 20);
	http_server_drain(w->hs, on_drained, &drained);
	assert_true(client_ends(idle));
	assert_int_equal(drained, 0);
	assert_int_equal(access(w->path, F_OK), -1);
	world_answer(w, "last");
	assert_true(client_ends(busy));
	assert_non_null(strstr(busy->in, "Connection: close"));
	client_free(idle);
	client_free(busy);
	world_spin(w, 20);
	assert_int_equal(drained, 1);
	world_free(w);
	/* with nobody there */
	w = world();
	http_server_drain(w->hs, on_drained, &drained);
	assert_int_equal(drained, 2);
	world_free(w);
}

static void
test_free_in_hand(void **state)
{
	struct world *w = world();
	struct client *c[4];

	for (int i = 0; i < 4; i++)
		c[i] = client_tcp(w);
	client_say(c[0], GET("/later"));
	client_say(c[1], PUT("10") "hello");
	client_say(c[2], GET("/stream"));
	client_say(c[3], "GET / HT");
	http_server_free(w->hs);
	assert_non_null(strstr(w->log, "lost failed"));
	w->hs = NULL;
	for (int i = 0; i < 4; i++)
		client_free(c[i]);
	world_free(w);
}

static void
test_listen(void **state)
{
	struct world *w = world();
	char address[80], file[] = "http-listen.tmp";
	FILE *f;

	/* in use; not a socket; nonsense */
	snprintf(address, sizeof(address), "unix:%s", w->path);
	assert_true(http_server_listen(w->hs, "a", address, NULL) < 0);
	snprintf(address, sizeof(address), "127.0.0.1:%d", w->port);
	assert_true(http_server_listen(w->hs, "a", address, NULL) < 0);
	f = fopen(file, "w");
	fclose(f);
	assert_true(
	    http_server_listen(w->hs, "a", "unix:http-listen.tmp", NULL) < 0);
	assert_int_equal(access(file, F_OK), 0);
	unlink(file);
	assert_true(http_server_listen(w->hs, "a", "127.0.0.1", NULL) < 0);
	assert_true(http_server_listen(w->hs, "a", ":80", NULL) < 0);
	assert_true(http_server_listen(w->hs, "a", "unix:", NULL) < 0);
	assert_int_equal(http_server_port(w->hs, "a"), -2 /* ENOENT */);
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_in_wait),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_wait_does_not_spin),
		cmocka_unit_test(test_lost_body),
		cmocka_unit_test(test_close_delimited),
		cmocka_unit_test(test_head_deadline),
		cmocka_unit_test(test_body_rate),
		cmocka_unit_test(test_pause_has_no_deadline),
		cmocka_unit_test(test_answer_not_read),
		cmocka_unit_test(test_idlest_goes),
		cmocka_unit_test(test_silence_under_load),
		cmocka_unit_test(test_per_address),
		cmocka_unit_test(test_out_of_descriptors),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_free_in_hand),
		cmocka_unit_test(test_listen),
	};

	log_level = LOG_ERROR;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
