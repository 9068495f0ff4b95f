/*
 * clock.c - dates are written as strftime() writes them
 */
#include "clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

static void
same(int64_t s)
{
	char got[21], want[40];
	time_t t = (time_t)s;
	struct tm tm;

	assert_non_null(gmtime_r(&t, &tm));
	clock_rfc3339(s, got);
	strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%SZ", &tm);
	assert_string_equal(got, want);
	clock_basic(s, got);
	strftime(want, sizeof(want), "%Y%m%dT%H%M%SZ", &tm);
	assert_string_equal(got, want);
}

/* Each day of four centuries, which is a whole round of leap years. */
static void
test_days(void **state)
{
	for (int64_t day = 0; day < 146097; day++) {
		same(day * 86400);
		same(day * 86400 + 86399);
	}
}

static void
test_edges(void **state)
{
	static const int64_t times[] = { 0, 1, 59, 3599, 951782400, 951868800,
		1709164800, 4107542399, 253402300799 };

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		same(times[i]);
}

static void
test_window(void **state)
{
	static const char *const bad[] = { "", "01:00", "01:00-01:00",
		"24:00-01:00", "01:60-02:00", "1:00-02:00", "01:00 02:00",
		"01:00-02:00 ", "-1:00-02:00" };
	int from = -1, to = -1;

	assert_int_equal(clock_parse_window("23:30-05:00", &from, &to), 0);
	assert_int_equal(from, 23 * 60 + 30);
	assert_int_equal(to, 300);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    clock_parse_window(bad[i], &from, &to), -EINVAL);
	assert_int_equal(from, 23 * 60 + 30);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_days),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_window),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
