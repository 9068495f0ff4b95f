/*
 * circuit.c - tests of agent/circuit.c and agent/pace.c
 */
#include "circuit.h"
#include "pace.h"

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
	return 0;
}

static uint32_t
highest(uint32_t bound)
{
	return bound - 1;
}

static void
test_opens_after_limit(void **state)
{
	struct circuit c = { 0 };

	for (int i = 1; i < CIRCUIT_LIMIT; i++)
		assert_false(circuit_fail(&c, false, 0, 0, lowest));
	assert_true(circuit_may(&c, 0));
	assert_int_equal(circuit_wait_ms(&c, 0), 0);
	assert_true(circuit_fail(&c, false, 0, 0, lowest));
	assert_false(circuit_may(&c, 999));
	assert_int_equal(circuit_wait_ms(&c, 400), 600);
	assert_true(circuit_may(&c, 1000));
}

static void
test_success_between(void **state)
{
	struct circuit c = { 0 };

	for (int i = 0; i < 100; i++) {
		for (int k = 1; k < CIRCUIT_LIMIT; k++)
			assert_false(circuit_fail(&c, false, 0, 0, lowest));
		assert_false(circuit_ok(&c));
	}
	assert_false(c.open);
}

static void
open_at(struct circuit *c, int64_t now)
{
	for (int i = 0; i < CIRCUIT_LIMIT; i++)
		circuit_fail(c, false, now, 0, lowest);
	assert_true(c->open);
}

static void
test_one_probe(void **state)
{
	struct circuit c = { 0 };

	open_at(&c, 0);
	assert_true(circuit_begin(&c));
	assert_false(circuit_may(&c, 5000));
	assert_int_equal(circuit_wait_ms(&c, 5000), -1);
	assert_false(circuit_begin(&c));
	/* Who began before it opened changes nothing. */
	assert_false(circuit_fail(&c, false, 5000, 0, highest));
	assert_int_equal(c.probe_ms, 1000);
	assert_false(circuit_fail(&c, true, 5000, 0, highest));
	assert_int_equal(c.probe_ms, 5000 + 3000);
	assert_true(circuit_may(&c, 8000));
	assert_true(circuit_begin(&c));
	circuit_cancel(&c, true);
	assert_true(circuit_may(&c, 8000));
}

static void
test_waits_grow_to_cap(void **state)
{
	struct circuit c = { 0 };
	int64_t now = 0;

	open_at(&c, now);
	for (int i = 0; i < 30; i++) {
		now = c.probe_ms;
		assert_true(circuit_begin(&c));
		circuit_fail(&c, true, now, 0, highest);
		assert_true(c.probe_ms - now <= CIRCUIT_CAP_MS);
	}
	assert_int_equal(c.probe_ms - now, CIRCUIT_CAP_MS);
	circuit_begin(&c);
	circuit_fail(&c, true, now, 90000, highest);
	assert_int_equal(c.probe_ms - now, 90000); /* it was asked for */
}

static void
test_success_closes(void **state)
{
	struct circuit c = { 0 };

	open_at(&c, 0);
	circuit_begin(&c);
	assert_true(circuit_ok(&c));
	assert_true(circuit_may(&c, 0));
	assert_false(circuit_ok(&c));
	assert_false(circuit_begin(&c));
}

static void
test_pace(void **state)
{
	struct pace p;

	pace_init(&p);
	assert_true(pace_may(&p, 3));
	assert_false(pace_may(&p, 4));
	pace_ok(&p, 1, 16); /* room was not used: no more of it */
	assert_false(pace_may(&p, 4));
	for (int i = 0; i < 40; i++)
		pace_ok(&p, (unsigned)p.limit, 16);
	assert_true(pace_may(&p, 15));
	assert_false(pace_may(&p, 16));
	pace_fail(&p, 1000);
	pace_fail(&p, 1500); /* the same trouble */
	assert_true(pace_may(&p, 7));
	assert_false(pace_may(&p, 8));
	for (int i = 0; i < 8; i++)
		pace_ok(&p, 8, 16);
	assert_false(pace_may(&p, 9)); /* about one more a round */
	for (int i = 2; i < 20; i++)
		pace_fail(&p, i * 1000);
	assert_true(pace_may(&p, 0));
	assert_false(pace_may(&p, 1));
	pace_ok(&p, 300, 2);
	pace_ok(&p, 300, 2);
	pace_ok(&p, 300, 2);
	assert_false(pace_may(&p, 2));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_opens_after_limit),
		cmocka_unit_test(test_success_between),
		cmocka_unit_test(test_one_probe),
		cmocka_unit_test(test_waits_grow_to_cap),
		cmocka_unit_test(test_success_closes),
		cmocka_unit_test(test_pace),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
