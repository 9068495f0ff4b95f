/*
 * window.c - tests of agent/window.c: fair between devices
 */
#include "window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct window w;
static struct storage st, other;
static struct delivery all[WINDOW_BUCKETS + 8];
static unsigned used;

static int
setup(void **state)
{
	window_init(&w);
	memset(all, 0, sizeof(all));
	memset(&st, 0, sizeof(st));
	memset(&other, 0, sizeof(other));
	used = 0;
	return 0;
}

static int
teardown(void **state)
{
	for (unsigned i = 0; i < used; i++)
		if (all[i].lane != NULL)
			window_unready(&w, &all[i]);
	assert_true(TAILQ_EMPTY(&w.lanes));
	assert_int_equal(w.ready, 0);
	assert_int_equal(st.ready + other.ready, 0);
	return 0;
}

static struct delivery *
add_as(char *device, uint64_t size, struct storage *to, unsigned priority)
{
	struct delivery *d = &all[used];

	d->it.seq = ++used;
	d->it.device = device;
	d->it.size = size;
	d->st = to;
	window_add(&w, d);
	window_ready(&w, d, priority);
	return d;
}

static struct delivery *
add(char *device, uint64_t size, struct storage *to)
{
	return add_as(device, size, to, 5);
}

static bool
any(const struct delivery *d)
{
	return true;
}

static bool
not_other(const struct delivery *d)
{
	return d->st != &other;
}

static void
test_order_in_a_lane(void **state)
{
	for (int i = 0; i < 10; i++)
		add("a", 100, &st);
	for (uint64_t i = 1; i <= 10; i++)
		assert_int_equal(window_pick(&w, any)->it.seq, i);
	assert_null(window_pick(&w, any));
}

static void
test_priority(void **state)
{
	unsigned high = 0;

	for (int i = 0; i < 400; i++) {
		add_as("low", 1000000, &st, 5);
		add_as("high", 1000000, &st, 7);
	}
	for (int i = 0; i < 200; i++)
		high += window_pick(&w, any)->it.device[0] == 'h';
	assert_in_range(high, 150, 170); /* four of five */
}

static void
test_many_of_one_device(void **state)
{
	struct delivery *late;
	unsigned before = 0;

	for (int i = 0; i < 500; i++)
		add("flood", 100000, &st);
	late = add("quiet", 100000, &st);
	while (window_pick(&w, any) != late)
		before++;
	assert_true(before <= 16);
}

static void
test_large_ones_pay(void **state)
{
	uint64_t sent[2] = { 0, 0 };

	for (int i = 0; i < 40; i++)
		add("large", 20 << 20, &st);
	for (int i = 0; i < 900; i++)
		add("small", 1 << 20, &st);
	for (int i = 0; i < 300; i++) {
		struct delivery *d = window_pick(&w, any);

		sent[d->it.device[0] == 's'] += d->it.size;
	}
	/* About the same octets, not the same number. */
	assert_true(sent[0] > sent[1] / 2 && sent[1] > sent[0] / 2);
}

static void
test_passes_over(void **state)
{
	struct delivery *d;

	for (int i = 0; i < 20; i++)
		add("a", 5 << 20, &other);
	add("b", 5 << 20, &other);
	d = add("a", 7 << 20, &st);
	assert_ptr_equal(window_pick(&w, not_other), d);
	assert_null(window_pick(&w, not_other));
	assert_int_equal(w.ready, 21);
	assert_int_equal(other.ready, 21);
}

static void
test_found_by_number(void **state)
{
	struct delivery *first = add("a", 1, &st);

	for (unsigned i = 1; i < WINDOW_BUCKETS + 5; i++)
		add("a", 1, &st);
	assert_ptr_equal(window_find(&w, 1), first);
	assert_ptr_equal(
	    window_find(&w, WINDOW_BUCKETS + 1), &all[WINDOW_BUCKETS]);
	window_forget(&w, first);
	assert_null(window_find(&w, 1));
	assert_ptr_equal(
	    window_find(&w, WINDOW_BUCKETS + 1), &all[WINDOW_BUCKETS]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_order_in_a_lane, setup, teardown),
		cmocka_unit_test_setup_teardown(test_priority, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_many_of_one_device, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_large_ones_pay, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_passes_over, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_found_by_number, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
