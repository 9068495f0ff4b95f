/*
 * spool_name.c - tests of lib/name_table.c and lib/spool_name.c
 */
#include "name_table.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <event2/event.h>

#include "log.h"
#include "own_folder.h"
#include "spool.h"
#include "xalloc.h"

/* ---- the table ------------------------------------------------------------
 */

struct asked {
	uint64_t seqs[1000];
	size_t n, stop_at;
	enum name_verdict verdict;
};

static enum name_verdict
on_number(uint64_t seq, void *arg)
{
	struct asked *a = arg;

	assert_true(a->n < 1000);
	a->seqs[a->n++] = seq;
	return a->n == a->stop_at ? NAME_STOP : a->verdict;
}

static bool
has(const struct asked *a, uint64_t seq)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->seqs[i] == seq)
			return true;
	return false;
}

static void
test_table(void **state)
{
	static const uint64_t seqs[] = { 0x2ffff, 7, 0x30000, 5, UINT64_MAX,
		0x500000001, 6 };
	struct name_table *nt = name_table_new();
	struct asked a = { .verdict = NAME_GO_ON };
	size_t n = sizeof(seqs) / sizeof(seqs[0]);

	for (size_t i = 0; i < n; i++)
		name_table_add(nt, seqs[i], "cam", "same");
	name_table_add(nt, 6, "cam", "another name, too late");
	assert_int_equal(name_table_count(nt), n);
	name_table_find(nt, "cam", "same", on_number, &a);
	assert_int_equal(a.n, n);
	for (size_t i = 1; i < n; i++)
		assert_true(a.seqs[i - 1] < a.seqs[i]);
	a = (struct asked){ .stop_at = 2, .verdict = NAME_GONE };
	name_table_find(nt, "cam", "same", on_number, &a);
	assert_int_equal(a.n, 2); /* 5 has gone; 6 told us to stop */
	assert_int_equal(name_table_count(nt), n - 1);
	a = (struct asked){ .verdict = NAME_GONE };
	name_table_find(nt, "cam", "same", on_number, &a);
	assert_int_equal(a.n, n - 1);
	assert_int_equal(name_table_count(nt), 0);
	name_table_free(nt);
	name_table_free(NULL);
}

/* The one that is there is among few; where device and name meet counts. */
static void
test_few_are_asked(void **state)
{
	struct name_table *nt = name_table_new();
	struct asked a = { .verdict = NAME_GO_ON };
	char name[20];

	for (uint64_t seq = 1; seq <= 300000; seq++) {
		snprintf(
		    name, sizeof(name), "%llu.jpg", (unsigned long long)seq);
		name_table_add(nt, seq, "cam", name);
	}
	name_table_find(nt, "cam", "123456.jpg", on_number, &a);
	assert_true(has(&a, 123456));
	assert_true(a.n < 60); /* 4.6 by chance */
	a.n = 0;
	name_table_find(nt, "cam1", "23456.jpg", on_number, &a);
	assert_true(a.n < 60);
	name_table_clear(nt);
	assert_int_equal(name_table_count(nt), 0);
	name_table_find(nt, "cam", "1.jpg", on_number, &a);
	name_table_free(nt);
}

/* ---- the spool ------------------------------------------------------------
 */

struct site {
	struct event_base *base;
	char dir[OWN_FOLDER];
	struct spool *sp;
	unsigned called;
	int rc;
	size_t n;
	uint64_t seqs[64];
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

static void
site_open(struct site *s)
{
	static const struct spool_options options = { .max_size = 64 << 20,
		.index_size = 32 << 20,
		.committers = 4,
		.max_upload = 32 << 20 };
	char *why;

	assert_int_equal(
	    spool_open(s->base, s->dir, SPOOL_WRITER, &options, &s->sp, &why),
	    0);
}

static int
setup(void **state)
{
	struct site *s = xcalloc(1, sizeof(*s));

	log_level = LOG_ERROR;
	own_folder_make(s->dir, "name");
	s->base = event_base_new();
	site_open(s);
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

static void
put_begin(struct site *s, const char *device, const char *name)
{
	struct spool_meta meta = { device, name, "", "10.0.0.7" };
	struct spool_upload *u;
	const char *why;

	assert_int_equal(spool_reserve(s->sp, 1, &u, &why), 0);
	spool_write(u, "x", 1);
	spool_commit(u, &meta, on_commit, s);
}

static void
put(struct site *s, const char *device, const char *name)
{
	put_begin(s, device, name);
	wait_called(s, 1);
}

static void
on_items(int rc, struct spool_item *items, size_t n, void *arg)
{
	struct site *s = arg;

	s->called++;
	s->rc = rc;
	s->n = n;
	for (size_t i = 0; i < n; i++)
		s->seqs[i] = items[i].seq;
}

static size_t
same(struct site *s, const char *device, const char *name, size_t max)
{
	spool_same_name(s->sp, device, name, max, on_items, s);
	wait_called(s, 1);
	assert_int_equal(s->rc, 0);
	return s->n;
}

static void
on_rc(int rc, void *arg)
{
	struct site *s = arg;

	s->rc = rc;
	s->called++;
}

static void
on_stat(int rc, const struct spool_status *st, void *arg)
{
	struct site *s = arg;

	s->n = st->not_indexed;
	s->called++;
}

static void
wait_indexed(struct site *s)
{
	do {
		spool_status(s->sp, on_stat, s);
		wait_called(s, 1);
	} while (s->n > 0);
}

static void
test_same_name(void **state)
{
	struct site *s = *state;

	assert_int_equal(same(s, "cam", "a", 9), 0);
	put(s, "cam", "a");
	put(s, "cam2", "a");
	put(s, "cam", "b");
	assert_int_equal(same(s, "cam", "a", 9), 1); /* its row is to come */
	wait_indexed(s);
	assert_int_equal(same(s, "cam", "a", 9), 1);
	put(s, "cam", "a");
	put(s, "cam", "a");
	wait_indexed(s);
	assert_int_equal(same(s, "cam", "a", 9), 3);
	assert_true(s->seqs[0] < s->seqs[1] && s->seqs[1] < s->seqs[2]);
	assert_int_equal(same(s, "cam", "a", 2), 2);
	spool_end(s->sp, s->seqs[0], SPOOL_DELIVERED, "", on_rc, s);
	wait_called(s, 1);
	assert_int_equal(same(s, "cam", "a", 9), 2);
	spool_quarantine(s->sp, s->seqs[1], "bad", on_rc, s);
	wait_called(s, 1);
	assert_int_equal(same(s, "cam", "a", 9), 1);
	assert_int_equal(same(s, "cam", "c", 9), 0);
}

/* After a start the first questions, many at once, read the index in steps;
 * what is added meanwhile is found as well. */
static void
test_after_a_start(void **state)
{
	struct site *s = *state;
	char name[20];

	for (int i = 0; i < 10000; i += 500) {
		for (int k = 0; k < 500; k++) {
			snprintf(name, sizeof(name), "%d", i + k);
			put_begin(s, "cam", name);
		}
		wait_called(s, 500);
		wait_indexed(s);
	}
	spool_close(s->sp);
	site_open(s);
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "%d", i * 500);
		spool_same_name(s->sp, "cam", name, 9, on_items, s);
	}
	put_begin(s, "cam", "new");
	wait_called(s, 21);
	for (int i = 0; i < 10000; i += 999) {
		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(same(s, "cam", name, 9), 1);
	}
	assert_int_equal(same(s, "cam", "new", 9), 1);
	wait_indexed(s);
	assert_int_equal(same(s, "cam", "new", 9), 1);
	assert_int_equal(same(s, "cam", "10000", 9), 0);
}

/* A question that is open when the spool closes has its answer. */
static void
test_close(void **state)
{
	struct site *s = *state;

	put(s, "cam", "a");
	spool_same_name(s->sp, "cam", "a", 9, on_items, s);
	spool_close(s->sp);
	s->sp = NULL;
	assert_int_equal(s->called, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_few_are_asked),
		cmocka_unit_test_setup_teardown(
		    test_same_name, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_after_a_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
