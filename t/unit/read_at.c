/*
 * read_at.c - tests of lib/read_at.c
 */
#include "read_at.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void
test_read(void **state)
{
	FILE *f = tmpfile();
	char buf[8] = "";

	assert_non_null(f);
	assert_int_equal(fwrite("0123456789", 1, 10, f), 10);
	assert_int_equal(fflush(f), 0);
	assert_int_equal(read_at(fileno(f), buf, 4, 3), 0);
	assert_memory_equal(buf, "3456", 5);
	assert_int_equal(read_at(fileno(f), buf, 4, 6), 0);
	assert_int_equal(read_at(fileno(f), buf, 4, 7), -EBADMSG);
	assert_int_equal(read_at(fileno(f), buf, 1, 10), -EBADMSG);
	assert_int_equal(read_at(fileno(f), buf, 0, 10), 0);
	fclose(f);
	assert_int_equal(read_at(-1, buf, 1, 0), -EBADF);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
