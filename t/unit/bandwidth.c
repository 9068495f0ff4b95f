/*
 * bandwidth.c - tests of agent/bandwidth.c
 */
#include "bandwidth.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* What goes through in ms by steps of step_ms, taking up to want at a time. */
static int64_t
run(struct bandwidth *b, int64_t *now, int64_t ms, int64_t step_ms, size_t want)
{
	int64_t sum = 0, end = *now + ms;
	size_t n;

	for (; *now < end; *now += step_ms)
		while ((n = bandwidth_take(b, want, *now)) > 0)
			sum += (int64_t)n;
	return sum;
}

static void
test_no_limit(void **state)
{
	struct bandwidth b;

	bandwidth_init(&b, 0, 0);
	assert_int_equal(bandwidth_take(&b, SIZE_MAX / 2, 0), SIZE_MAX / 2);
	assert_int_equal(bandwidth_wait_ms(&b, 0), 0);
}

static void
holds(int64_t rate, size_t want)
{
	struct bandwidth b;
	int64_t now = 1000, sum;

	bandwidth_init(&b, rate, now);
	run(&b, &now, 2000, 7, want); /* the bucket was full */
	sum = run(&b, &now, 20000, 7, want);
	assert_true(sum <= rate * 20 * 102 / 100);
	assert_true(sum >= rate * 20 * 98 / 100);
}

static void
test_rates(void **state)
{
	holds(1024, 65536);
	holds(50 * 1024, 65536);
	holds(50 * 1024, 100);
	holds(12500000, 16384);
	holds(1250000000, 65536);
}

static void
test_burst_is_bounded(void **state)
{
	struct bandwidth b;

	bandwidth_init(&b, 100000, 0);
	assert_int_equal(bandwidth_take(&b, 1000000, 3600000), 25000);
	assert_int_equal(bandwidth_take(&b, 1000000, 3600000), 0);
	assert_true(bandwidth_wait_ms(&b, 3600000) > 0);
	/* A clock that goes back gives nothing and takes nothing. */
	assert_int_equal(bandwidth_take(&b, 1000000, 0), 0);
	assert_true(bandwidth_take(&b, 1000000, 3600100) > 0);
}

static void
test_wait_is_enough(void **state)
{
	struct bandwidth b;
	int64_t now = 0, wait;

	bandwidth_init(&b, 3000, now);
	while (bandwidth_take(&b, 65536, now) > 0)
		;
	for (int i = 0; i < 100; i++) {
		wait = bandwidth_wait_ms(&b, now);
		assert_true(wait > 0);
		now += wait;
		assert_true(bandwidth_take(&b, 65536, now) > 0);
	}
}

static void
test_return(void **state)
{
	struct bandwidth b;
	size_t n;

	bandwidth_init(&b, 100000, 0);
	n = bandwidth_take(&b, 20000, 0);
	bandwidth_return(&b, n);
	assert_int_equal(bandwidth_take(&b, 1000000, 0), 25000);
}

static void
test_set(void **state)
{
	struct bandwidth b;

	bandwidth_init(&b, 100000, 0);
	bandwidth_take(&b, 1000000, 0);
	bandwidth_set(&b, 100000, 0); /* the same: nothing is given */
	assert_int_equal(bandwidth_take(&b, 1000000, 0), 0);
	bandwidth_set(&b, 0, 0);
	assert_int_equal(bandwidth_take(&b, 1000000, 0), 1000000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_limit),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_burst_is_bounded),
		cmocka_unit_test(test_wait_is_enough),
		cmocka_unit_test(test_return),
		cmocka_unit_test(test_set),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
