/*
 * crc32c.c - tests of lib/crc32c.c: known values, both ways the same
 */
#include "../../lib/crc32c.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void
test_known(void **state)
{
	unsigned char b[32];

	/* RFC 3720 B.4 */
	memset(b, 0, sizeof(b));
	assert_int_equal(crc32c(b, sizeof(b)), 0x8a9136aa);
	memset(b, 0xff, sizeof(b));
	assert_int_equal(crc32c(b, sizeof(b)), 0x62a8ab43);
	for (unsigned i = 0; i < sizeof(b); i++)
		b[i] = (unsigned char)i;
	assert_int_equal(crc32c(b, sizeof(b)), 0x46dd794e);
	assert_int_equal(crc32c("123456789", 9), 0xe3069283);
	assert_int_equal(crc32c("", 0), 0);
}

static void
test_same(void **state)
{
	unsigned char b[400];
	uint32_t x = 1;

	for (size_t i = 0; i < sizeof(b); i++) {
		x = x * 1664525 + 1013904223;
		b[i] = (unsigned char)(x >> 24);
	}
	for (size_t at = 0; at < 9; at++)
		for (size_t n = 0; at + n <= sizeof(b); n++)
			assert_int_equal(crc32c(b + at, n),
			    ~by_table(0xffffffffu, b + at, n));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_same),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
