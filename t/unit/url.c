/*
 * url.c - tests of lib/url.c
 */
#include "url.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void
test_encode(void **state)
{
	char *s = url_encode("a b/\xc3\xa9~%\0z", 9, "/");

	assert_string_equal(s, "a%20b/%C3%A9~%25%00");
	free(s);
	s = url_encode("a/b", 3, "");
	assert_string_equal(s, "a%2Fb");
	free(s);
}

static void
test_decode(void **state)
{
	char *s;
	size_t n;

	assert_int_equal(url_decode("a%20%2fB%zz%", 12, true, &s, &n), 0);
	assert_string_equal(s, "a /B%zz%");
	assert_int_equal(n, 8);
	free(s);
	assert_int_equal(url_decode("%00%41", 6, false, &s, &n), 0);
	assert_int_equal(n, 2);
	assert_memory_equal(s, "\0A", 3);
	free(s);
	assert_int_equal(url_decode("%", 1, false, &s, &n), -EINVAL);
	assert_int_equal(url_decode("%4", 2, false, &s, &n), -EINVAL);
	assert_int_equal(url_decode("%4g", 3, false, &s, &n), -EINVAL);
}

static void
test_hex(void **state)
{
	unsigned char b[2];
	char s[5];

	hex_encode("\x0f\xa0", 2, s);
	assert_string_equal(s, "0fa0");
	assert_int_equal(hex_decode("0FA0", b, 2), 0);
	assert_memory_equal(b, "\x0f\xa0", 2);
	assert_int_equal(hex_decode("0FA", b, 2), -EINVAL);
	assert_int_equal(hex_decode("0FAg", b, 2), -EINVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_encode),
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_hex),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
