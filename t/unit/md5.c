/*
 * md5.c - tests of lib/md5.c against libcrypto
 */
#include "md5.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/evp.h>

#define MANY 19

#define SIZE 5000

static unsigned char octets[MANY][SIZE];

static void
check(struct md5_message *m, size_t n)
{
	uint8_t want[MD5_SIZE];

	md5_many(m, n);
	for (size_t i = 0; i < n; i++) {
		EVP_Digest(m[i].p, m[i].n, want, NULL, EVP_md5(), NULL);
		assert_memory_equal(m[i].digest, want, MD5_SIZE);
	}
}

static int
fill(void **state)
{
	uint32_t x = 1;

	for (size_t i = 0; i < MANY * SIZE; i++) {
		x = x * 1664525 + 1013904223;
		octets[i / SIZE][i % SIZE] = (unsigned char)(x >> 24);
	}
	return 0;
}

/* Each length around the blocks' ends, all side by side. */
static void
test_lengths(void **state)
{
	struct md5_message m[MANY];

	for (size_t n = 1; n <= MANY; n++)
		for (size_t length = 0; length < 200; length++) {
			for (size_t i = 0; i < n; i++)
				m[i] =
				    (struct md5_message){ octets[i], length };
			check(m, n);
		}
}

/* One that is long beside others that are short, at any alignment. */
static void
test_mixed(void **state)
{
	struct md5_message m[MANY];
	uint32_t x = 7;

	for (int round = 0; round < 500; round++) {
		for (size_t i = 0; i < MANY; i++) {
			x = x * 1664525 + 1013904223;
			m[i].p = octets[i] + (x >> 16) % 64;
			m[i].n = (x >> 8) % (i % 3 == 0 ? 4900 : 130);
		}
		check(m, 1 + (size_t)round % MANY);
	}
}

static void
test_none(void **state)
{
	struct md5_message m = { NULL, 0, { 1 } };

	md5_many(&m, 0);
	assert_int_equal(m.digest[0], 1);
	md5_many(&m, 1);
	assert_int_equal(m.digest[0], 0xd4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_none),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, fill, NULL);
}
