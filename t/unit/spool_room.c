/*
 * spool_room.c - tests of room for uploads: many that want some at one time
 */
#include "spool.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <event2/event.h>

#include "log.h"
#include "own_folder.h"
#include "xalloc.h"

#define FILE_SIZE 65536
#define MAX_SIZE (8 << 20)

struct site {
	struct event_base *base;
	char dir[OWN_FOLDER];
	struct spool *sp;
	unsigned called, vain; /* vain: calls that nothing can go for */
	struct spool_status st;
};

static void
wait_called(struct site *s, unsigned times)
{
	for (int i = 0; i < 1000 && s->called < times; i++) {
		struct timeval tv = { 0, 20000 };

		event_base_loopexit(s->base, &tv);
		event_base_dispatch(s->base);
	}
	assert_int_equal(s->called, times);
	s->called = 0;
}

static int
setup(void **state)
{
	static const struct spool_options options = { .max_size = MAX_SIZE,
		.index_size = 4 << 20,
		.committers = 4,
		.max_upload = 1 << 20 };
	struct site *s = xcalloc(1, sizeof(*s));
	char *why;

	log_level = LOG_ERROR;
	own_folder_make(s->dir, "room");
	s->base = event_base_new();
	assert_int_equal(
	    spool_open(s->base, s->dir, SPOOL_WRITER, &options, &s->sp, &why),
	    0);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct site *s = *state;

	spool_close(s->sp);
	event_base_free(s->base);
	own_folder_remove(s->dir);
	free(s);
	return 0;
}

static void
on_commit(int rc, const struct spool_item *it, void *arg)
{
	struct site *s = arg;

	assert_int_equal(rc, 0);
	s->called++;
}

static int
put(struct site *s, size_t n)
{
	static const struct spool_meta meta = { "cam", "a", "", "10.0.0.7" };
	static const char body[FILE_SIZE];
	struct spool_upload *u;
	const char *why;
	int rc = spool_reserve(s->sp, n, &u, &why);

	if (rc != 0)
		return rc;
	spool_write(u, body, n);
	spool_commit(u, &meta, on_commit, s);
	wait_called(s, 1);
	return 0;
}

static void
on_stat(int rc, const struct spool_status *st, void *arg)
{
	struct site *s = arg;

	assert_int_equal(rc, 0);
	s->st = *st;
	s->called++;
}

static uint64_t
waiting(struct site *s)
{
	do {
		spool_status(s->sp, on_stat, s);
		wait_called(s, 1);
	} while (s->st.not_indexed > 0);
	return s->st.waiting;
}

static void
on_room(int rc, void *arg)
{
	struct site *s = arg;

	assert_true(rc == 0 || rc == -ENOSPC);
	s->vain += rc != 0;
	s->called++;
}

/* What goes for one is there for those who asked meanwhile, too: room to spare
 * is made once, and all are told that there is some. */
static void
test_room_for_many(void **state)
{
	struct site *s = *state;
	uint64_t before;

	while (put(s, FILE_SIZE) == 0)
		continue;
	before = waiting(s);
	assert_true(before > 100);
	for (int i = 0; i < 20; i++)
		spool_make_room(s->sp, 1000, on_room, s);
	wait_called(s, 20);
	assert_int_equal(s->vain, 0);
	assert_true(waiting(s) < before);
	assert_true(before - waiting(s) <= 4);
	for (int i = 0; i < 20; i++)
		assert_int_equal(put(s, 1000), 0);
}

/* Nothing goes for one that could never be held. */
static void
test_room_for_too_much(void **state)
{
	struct site *s = *state;
	uint64_t before;

	while (put(s, FILE_SIZE) == 0)
		continue;
	before = waiting(s);
	spool_make_room(s->sp, MAX_SIZE + 1, on_room, s);
	spool_make_room(s->sp, 1000, on_room, s);
	wait_called(s, 2);
	assert_int_equal(s->vain, 1);
	assert_true(before - waiting(s) <= 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_room_for_many, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_room_for_too_much, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
