/*
 * condition.c - tests of proxy/condition.c
 */
#include "../../proxy/condition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "etag.h"
#include "spool.h"

#define A "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""
#define B "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\""

/* Do If-Match: match and If-None-Match: none (NULL: not sent) hold while a and
 * b wait? */
static bool
holds(const char *match, const char *none, size_t n)
{
	struct spool_item items[2] = { 0 };
	struct condition c = { (char *)match, (char *)none };

	memset(items[0].sha256, 0xaa, 32);
	memset(items[1].sha256, 0xbb, 32);
	return condition_fails(&c, items, n) == NULL;
}

static void
test_none_match(void **state)
{
	assert_true(holds(NULL, "*", 0));
	assert_false(holds(NULL, "*", 1));
	assert_true(holds(NULL, A, 0));
	assert_false(holds(NULL, A, 1));
	assert_true(holds(NULL, B, 1));
	assert_false(holds(NULL, B, 2));
	assert_false(holds(NULL, "\"x\" ,, W/" A, 1));
	assert_true(holds(NULL, "\"x\", \"y, *\"", 1));
}

static void
test_match(void **state)
{
	assert_false(holds("*", NULL, 0));
	assert_true(holds("*", NULL, 1));
	assert_false(holds(A, NULL, 0));
	assert_true(holds("\"\", " A, NULL, 1));
	assert_false(holds(B, NULL, 1));
	assert_false(holds("W/" A, NULL, 1));
	assert_true(holds(A, B, 1));
	assert_false(holds(A, B, 2));
}

static void
test_readable(void **state)
{
	static const char *const bad[] = { "", ",", "a", "\"a", "\"a\" \"b\"",
		"*, " A, A ", *", "w/" A, "W/", "\"a\"b" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (etag_readable(bad[i]))
			fail_msg("taken: %s", bad[i]);
	assert_true(etag_readable("*"));
	assert_true(etag_readable("\"\""));
	assert_true(etag_readable(", W/\"a\" ,\"*\""));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none_match),
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_readable),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
