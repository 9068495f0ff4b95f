/*
 * turns.c - tests of proxy/turns.c
 */
#include "../../proxy/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const uint8_t A[32] = { 1 }, B[32] = { 2 };
static int retry;

static struct turn *
begin(struct turns *t, const char *who, const uint8_t *blob, bool goes_on,
    unsigned max, int64_t now)
{
	struct turn *v;

	retry = 0;
	return turns_begin(t, who, blob, goes_on, max, now, &v, &retry) ? v
									: NULL;
}

static void
test_at_most(void **state)
{
	struct turns *t = turns_new();
	struct turn *a, *b, *again;

	assert_non_null(a = begin(t, "a", A, false, 2, 0));
	assert_non_null(b = begin(t, "b", A, false, 2, 0));
	assert_null(begin(t, "c", A, false, 2, 0));
	assert_true(retry >= 1);
	/* all connections of a device are one turn */
	assert_non_null(again = begin(t, "a", B, false, 2, 10));
	assert_ptr_equal(a, again);
	assert_int_equal(turns_active(t, 10), 2);
	turns_end(t, a, false, 20);
	turns_end(t, a, true, 30);
	assert_int_equal(turns_active(t, 30), 1);
	turns_end(t, b, true, 30);
	turns_free(t);
}

static void
test_ranges(void **state)
{
	struct turns *t = turns_new();
	struct turn *v;

	/* one connection a range: the turn is kept in the pause */
	v = begin(t, "a", A, false, 1, 0);
	turns_end(t, v, false, 100);
	assert_null(begin(t, "b", A, false, 1, 200));
	assert_null(begin(t, "b", A, true, 1, 200)); /* of nothing admitted */
	v = begin(t, "a", A, true, 1, 300);
	turns_end(t, v, false, 400);
	/* the pause was too long, b came back in its time */
	v = begin(t, "b", A, false, 1, 6000);
	assert_non_null(v);
	/* but a continuation of what was admitted is never refused */
	assert_null(begin(t, "a", B, true, 1, 6100));
	assert_null(begin(t, "a", A, false, 1, 6100));
	assert_non_null(begin(t, "a", A, true, 1, 6100));
	turns_free(t);
}

static void
test_order(void **state)
{
	struct turns *t = turns_new();
	struct turn *v = begin(t, "a", A, false, 1, 0);
	int64_t due;

	turns_moved(v, 1000, 3000, 1000);
	assert_null(begin(t, "b", A, false, 1, 1000));
	assert_int_equal(retry, 4); /* three times what a second took */
	due = 1000 + retry * 1000;
	assert_null(begin(t, "c", A, false, 1, 1000));
	assert_true(retry > 4);
	turns_end(t, v, true, due - 100);
	/* the place is kept for who was sent away first */
	assert_null(begin(t, "d", A, false, 1, due - 50));
	assert_true(turns_wait(t, "d", 1, due - 50) > 0);
	assert_int_equal(turns_wait(t, "b", 1, due - 50), 0);
	assert_non_null(v = begin(t, "b", A, false, 1, due));
	turns_end(t, v, true, due + 10);
	/* but not for long */
	assert_non_null(begin(t, "e", A, false, 1, due + 60000));
	turns_free(t);
}

static void
test_many(void **state)
{
	struct turns *t = turns_new();
	struct turn *first = begin(t, "first", A, false, 1, 0), *v;
	char who[16];

	for (int i = 0; i < 10000; i++) {
		snprintf(who, sizeof(who), "x%d", i);
		assert_null(begin(t, who, A, false, 1, i));
		assert_in_range(retry, 1, 600);
	}
	assert_true(turns_waiting(t, 10000) <= 4096);
	assert_ptr_equal(begin(t, "first", A, true, 1, 10000), first);
	turns_end(t, first, true, 10000);
	turns_end(t, first, true, 10000);
	v = begin(t, "new", A, false, 1, 10000000);
	assert_non_null(v);
	turns_free(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_at_most),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_many),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
