/*
 * expect.c - tests of proxy/expect.c: digests in all their spellings
 */
#include "../../proxy/expect.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/evp.h>

#include "checksum.h"

/* Of "abc". */
#define MD5 "kAFQmDzST7DWlj99KOF/cg=="
#define SHA1 "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="
#define SHA256 "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
#define SHA512                                                                 \
	"3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/"        \
	"uu9RU1EI2Q"                                                           \
	"86A4qmslPpUyknw=="
/* Of something else. */
#define OTHER "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

/* What comes of a line: the kinds that fit "abc" as bits, -1 if one does not,
 * -2 if it is refused. Lines end in "\n". */
static int
judge(const char *lines)
{
	struct checksums want = { 0 };
	struct checksum_run *r;
	char buf[600], *line = buf, *end;
	bool fits;

	snprintf(buf, sizeof(buf), "%s", lines);
	for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		char *colon = strchr(line, ':');

		*end = *colon = '\0';
		if (expect_header(line, colon + 2, &want) != 0)
			return -2;
	}
	r = checksum_begin(&want, ~0U);
	assert_true((r == NULL) == (want.has == 0));
	checksum_update(r, "a", 1);
	checksum_update(r, "bc", 2);
	fits = checksum_fits(r);
	checksum_free(r);
	return fits ? (int)want.has : -1;
}

#define BIT(kind) (1 << CHECKSUM_##kind)

static void
test_known(void **state)
{
	assert_int_equal(judge("Content-MD5: " MD5 "\n"), BIT(MD5));
	assert_int_equal(judge("Digest: SHA-256=" SHA256 "\n"), BIT(SHA256));
	assert_int_equal(
	    judge("Digest: sha=" SHA1 ",MD5=" MD5 "\n"), BIT(SHA1) | BIT(MD5));
	assert_int_equal(judge("Digest: sha-512=" SHA512 "\n"), BIT(SHA512));
	assert_int_equal(
	    judge("Repr-Digest: sha-512=:" SHA512 ":, sha-256=:" SHA256
		  ":;x=1\nContent-Digest: md5=:" MD5 ":\n"),
	    BIT(SHA512) | BIT(SHA256) | BIT(MD5));
	assert_int_equal(
	    judge("DIGEST: , sha-256=" SHA256 " ,,\n"), BIT(SHA256));
	/* padding may be missing (RFC 8941 section 4.2.7) */
	assert_int_equal(
	    judge("Content-MD5: kAFQmDzST7DWlj99KOF/cg\n"), BIT(MD5));
	assert_int_equal(judge("Other: x\n"), 0);
}

static void
test_wrong(void **state)
{
	assert_int_equal(judge("Digest: SHA-256=" OTHER "\n"), -1);
	assert_int_equal(judge("Repr-Digest: sha-256=:" OTHER ":\n"), -1);
	assert_int_equal(
	    judge("Digest: sha=AAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), -1);
	assert_int_equal(
	    judge("Digest: md5=" MD5 "\nDigest: sha-256=" OTHER "\n"), -1);
}

/* One that is told twice must be the same. */
static void
test_contradicting(void **state)
{
	assert_int_equal(judge("Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==\n"
			       "Digest: md5=" MD5 "\n"),
	    -2);
	assert_int_equal(
	    judge("Digest: sha-256=" OTHER ", sha-256=" SHA256 "\n"), -2);
	assert_int_equal(judge("Digest: sha-256=" SHA256
			       "\nRepr-Digest: sha-256=:" SHA256 ":\n"),
	    BIT(SHA256));
}

static void
test_unknown(void **state)
{
	assert_int_equal(judge("Digest: UNIXsum=30637, crc32c=x/y==\n"), 0);
	assert_int_equal(
	    judge("Repr-Digest: a, b=1, c=\"x, sha-256=:y:\", d=:AA==:\n"), 0);
}

static void
test_unreadable(void **state)
{
	static const char *const lines[] = {
		"Content-MD5: \n",
		"Content-MD5: 900150983cd24fb0d6963f7d28e17f72\n",
		"Content-MD5: kAFQmDzST7DWlj99KOF/cg===\n",
		"Digest: sha-256\n",
		"Digest: sha-256:" SHA256 "\n",
		"Digest: sha-256 = " SHA256 "\n",
		"Digest: =" SHA256 "\n",
		"Digest: sha-256=" SHA256 ";q=1\n",
		"Digest: sha-256=" MD5 "\n",
		"Digest: md5=" SHA256 "\n",
		"Digest: "
		"sha-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=\n",
		"Digest: sha-512=" SHA512 "AAAAAAAA\n",
		"Repr-Digest: sha-256=" SHA256 "\n",
		"Repr-Digest: sha-256=:" SHA256 "\n",
		"Repr-Digest: sha-256=:" SHA256 ":x\n",
		"Repr-Digest: sha-256\n",
		"Repr-Digest: sha-256=:\n",
		"Repr-Digest: sha-256=::\n",
		"Repr-Digest: \"abc\n",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (judge(lines[i]) != -2)
			fail_msg("taken: %s", lines[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_contradicting),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_unreadable),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
