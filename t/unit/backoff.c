/*
 * backoff.c - tests of agent/backoff.c
 */
#include "backoff.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static uint32_t
lowest(uint32_t bound)
{
	assert_true(bound > 0);
	return 0;
}

static uint32_t
highest(uint32_t bound)
{
	assert_true(bound > 0);
	return bound - 1;
}

static void
test_bounds(void **state)
{
	int64_t wait = 0;

	assert_int_equal(backoff_next(0, BACKOFF_CAP_MS, lowest), 1000);
	assert_int_equal(backoff_next(90000, BACKOFF_CAP_MS, lowest), 1000);
	for (int i = 0; i < 50; i++) {
		int64_t next = backoff_next(wait, BACKOFF_CAP_MS, highest);

		assert_true(next >= wait && next <= BACKOFF_CAP_MS);
		wait = next;
	}
	assert_int_equal(wait, BACKOFF_CAP_MS);
	assert_int_equal(backoff_next(INT64_MAX, 5000, highest), 5000);
	assert_int_equal(backoff_next(7, 500, highest), 500);
}

static void
test_grows_with_tries(void **state)
{
	assert_int_equal(backoff_wait(1, -1, highest), 2000);
	assert_int_equal(backoff_wait(2, -1, highest), 6000);
	assert_int_equal(backoff_wait(3, -1, highest), 18000);
	assert_int_equal(backoff_wait(UINT32_MAX, -1, highest), 300000);
	assert_int_equal(backoff_wait(UINT32_MAX, -1, lowest), 1000);
	assert_int_equal(backoff_wait(0, -1, highest), 2000);
}

static void
test_spreads(void **state)
{
	int64_t least = INT64_MAX, most = 0;

	for (int i = 0; i < 2000; i++) {
		int64_t wait = backoff_wait(6, -1, arc4random_uniform);

		assert_true(wait >= 1000 && wait <= 300000);
		least = wait < least ? wait : least;
		most = wait > most ? wait : most;
	}
	assert_true(least < 5000 && most > 60000);
}

static void
test_retry_after(void **state)
{
	assert_int_equal(backoff_wait(1, 120000, lowest), 120000);
	assert_true(backoff_wait(1, 120000, highest) > 120000);
	/* Less than we would wait anyhow. */
	assert_int_equal(backoff_wait(3, 10, highest), 18000);
	assert_int_equal(backoff_wait(1, 0, lowest), 1000);
	/* More than is believed. */
	assert_int_equal(
	    backoff_wait(1, INT64_MAX, lowest), RETRY_AFTER_MAX_MS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_grows_with_tries),
		cmocka_unit_test(test_spreads),
		cmocka_unit_test(test_retry_after),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
