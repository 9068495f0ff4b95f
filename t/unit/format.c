/*
 * format.c - tests of ctl/format.c
 */
#include "../../ctl/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "xalloc.h"

static void
test_size(void **state)
{
	struct small b;

	assert_string_equal(format_size(&b, 0), "0 B");
	assert_string_equal(format_size(&b, 1023), "1023 B");
	assert_string_equal(format_size(&b, 1024), "1.0 KB");
	assert_string_equal(format_size(&b, 10 * 1024), "10 KB");
	assert_string_equal(format_size(&b, 3 * 512 * 1024), "1.5 MB");
	assert_string_equal(format_size(&b, (1 << 20) - 1), "1.0 MB");
	assert_string_equal(format_size(&b, INT64_MAX), "8192 PB");
	assert_string_equal(format_size(&b, -5), "0 B");
}

static void
test_time(void **state)
{
	struct small b;

	assert_string_equal(format_time(&b, 0), "0 s");
	assert_string_equal(format_time(&b, 99000), "99 s");
	assert_string_equal(format_time(&b, 100000), "2 min");
	assert_string_equal(format_time(&b, 90 * 60000), "90 min");
	assert_string_equal(format_time(&b, 5 * 3600000), "5 h");
	assert_string_equal(format_time(&b, 72 * 3600000LL), "3 d");
	assert_string_equal(format_time(&b, -1), "0 s");
}

static void
test_count(void **state)
{
	struct small b;

	assert_string_equal(format_count(&b, 0), "0");
	assert_string_equal(format_count(&b, 999), "999");
	assert_string_equal(format_count(&b, 1000), "1 000");
	assert_string_equal(format_count(&b, 1234567), "1 234 567");
	assert_string_equal(format_count(&b, -123456), "-123 456");
	assert_string_equal(
	    format_count(&b, INT64_MIN), "-9 223 372 036 854 775 808");
}

static void
expect_text(const char *s, size_t columns, const char *want)
{
	char *got = format_text(s, columns);

	assert_string_equal(got, want);
	free(got);
}

static void
test_text(void **state)
{
	expect_text("a b\xc3\xa9\xe2\x82\xac", 0, "a b\xc3\xa9\xe2\x82\xac");
	expect_text("\x1b[31mred\n", 0, "\\x1b[31mred\\x0a");
	expect_text("\xc2\x9b"
		    "2J",
	    0, "\\xc2\\x9b2J"); /* C1 CSI */
	expect_text("a\xe2\x80\xae"
		    "b",
	    0, "a\\xe2\\x80\\xaeb"); /* RLO */
	expect_text("\xe2\x80\xa8", 0, "\\xe2\\x80\\xa8");
	expect_text("\xff\xe2\x82", 0, "\\xff\\xe2\\x82");
	expect_text("\xf0\x9f\x98\x80", 0, "\xf0\x9f\x98\x80");
	expect_text("a\\x1b\x7f", 0, "a\\x5cx1b\\x7f");
	expect_text("", 0, "");
	expect_text("0123456789", 10, "0123456789");
	expect_text("0123456789a", 10, "0123456...");
	expect_text("01234567\n", 10, "0123456...");
	expect_text("\n\n\n\n", 10, "\\x0a...");
	assert_int_equal(format_columns("a\xc3\xa9\xe2\x82\xac"), 3);
}

static void
test_table(void **state)
{
	const char *const head[] = { "A", "B", "C" };
	const char *const row[] = { "long", "\xc3\xa9", "x" };
	struct table *t = table_new(3);
	char *out = NULL;
	size_t n;
	FILE *f = open_memstream(&out, &n);

	table_row(t, head);
	table_row(t, row);
	table_print(t, 1u << 0, f);
	fclose(f);
	table_free(t);
	assert_string_equal(out, "   A  B  C\nlong  \xc3\xa9  x\n");
	free(out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_count),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_table),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
