/*
 * prom.c - tests of lib/prom.c
 */
#include "prom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void
test_text(void **state)
{
	struct text t = { 0 };

	prom_family(&t, "a_total", "counter", "What it is.");
	prom_u64(&t, "a_total", UINT64_MAX, (char *)NULL);
	prom_sample(&t, "a_total", "0.5", "l", "x", "m", "", (char *)NULL);
	assert_string_equal(t.s,
	    "# HELP edgehaul_a_total What it is.\n"
	    "# TYPE edgehaul_a_total counter\n"
	    "edgehaul_a_total 18446744073709551615\n"
	    "edgehaul_a_total{l=\"x\",m=\"\"} 0.5\n");
	text_fini(&t);
}

static void
test_escape(void **state)
{
	struct text t = { 0 };

	prom_u64(&t, "a", 0, "l", "\"}\n\\n \xc3\xa4\t", (char *)NULL);
	assert_string_equal(
	    t.s, "edgehaul_a{l=\"\\\"}\\n\\\\n \xc3\xa4\t\"} 0\n");
	text_fini(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_escape),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
