/*
 * ranges.c - tests of proxy/ranges.c
 */
#include "../../proxy/ranges.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "xalloc.h"

/* "whole", "none", or "FIRST+N FIRST+N" */
static void
expect(const char *value, uint64_t size, const char *want)
{
	char got[4096] = "";
	struct range r[RANGES_MAX];
	size_t n = 0, len = 0;

	switch (ranges_parse(value, size, r, &n)) {
	case RANGES_WHOLE:
		strcpy(got, "whole");
		break;
	case RANGES_NONE:
		strcpy(got, "none");
		break;
	case RANGES_SOME:
		for (size_t i = 0; i < n; i++)
			len += (size_t)snprintf(got + len, sizeof(got) - len,
			    "%s%" PRIu64 "+%" PRIu64, i > 0 ? " " : "",
			    r[i].first, r[i].n);
		break;
	}
	assert_string_equal(got, want);
}

static void
test_one(void **state)
{
	expect(NULL, 100, "whole");
	expect("bytes=0-0", 100, "0+1");
	expect("bytes=0-99", 100, "0+100");
	expect("bytes=0-", 100, "0+100");
	expect("Bytes=5-", 100, "5+95");
	expect("bytes=99-", 100, "99+1");
	expect("bytes=90-200", 100, "90+10");
	expect("bytes=90-18446744073709551615", 100, "90+10");
	expect("bytes=0-99999999999999999999999999", 100, "0+100");
	expect("bytes=-1", 100, "99+1");
	expect("bytes=-100", 100, "0+100");
	expect("bytes=-1000", 100, "0+100");
	expect("bytes= 1-2 ", 100, "1+2");
	expect("bytes=0-0", 1, "0+1");
}

static void
test_none(void **state)
{
	expect("bytes=100-", 100, "none");
	expect("bytes=100-200", 100, "none");
	expect("bytes=99999999999999999999999-", 100, "none");
	expect("bytes=-0", 100, "none");
	expect("bytes=0-", 0, "none");
	expect("bytes=-5", 0, "none");
	expect("bytes=200-300,100-", 100, "none");
}

static void
test_ignored(void **state)
{
	expect("", 100, "whole");
	expect("bytes", 100, "whole");
	expect("bytes=", 100, "whole");
	expect("bytes=,", 100, "whole");
	expect("items=0-5", 100, "whole");
	expect("bytes=5-3", 100, "whole");
	expect("bytes=a-b", 100, "whole");
	expect("bytes=-", 100, "whole");
	expect("bytes=1", 100, "whole");
	expect("bytes=1-2-3", 100, "whole");
	expect("bytes=1-2;3-4", 100, "whole");
	expect("bytes=+1-2", 100, "whole");
	expect("bytes=1-2,x", 100, "whole");
	expect("bytes=--5", 100, "whole");
}

static void
test_several(void **state)
{
	expect("bytes=0-9,20-29", 100, "0+10 20+10");
	expect("bytes=20-29, 0-9", 100, "0+10 20+10");
	expect("bytes=0-9,10-19", 100, "0+20");
	expect("bytes=0-50,10-19,40-60", 100, "0+61");
	expect("bytes=0-,5-9,-3", 100, "0+100");
	expect("bytes=,0-1,,\t5-6,", 100, "0+2 5+2");
	expect("bytes=0-1,500-", 100, "0+2");
	expect("bytes=0-1,-1", 100, "0+2 99+1");
}

/* Every other octet, k times. */
static char *
many(size_t k, bool touching)
{
	char *s = xmalloc(8 + k * 24), *p = s + sprintf(s, "bytes=");

	for (size_t i = 0; i < k; i++) {
		size_t at = touching ? i : 2 * i;

		p += sprintf(p, "%s%zu-%zu", i > 0 ? "," : "", at, at);
	}
	return s;
}

static void
test_cap(void **state)
{
	struct range r[RANGES_MAX];
	size_t n;
	char *s = many(RANGES_MAX, false);

	assert_int_equal(ranges_parse(s, 1000, r, &n), RANGES_SOME);
	assert_int_equal(n, RANGES_MAX);
	free(s);
	s = many(RANGES_MAX + 1, false);
	expect(s, 1000, "whole");
	free(s);
	s = many(RANGES_ASKED, true); /* one range, whatever was asked */
	expect(s, 1000, "0+256");
	free(s);
	s = many(RANGES_ASKED + 1, true);
	expect(s, 1000, "whole");
	free(s);
}

static void
test_conditions(void **state)
{
	static const char tag[] = "\"ab12\"";

	assert_true(ranges_if_range(NULL, tag));
	assert_true(ranges_if_range("\"ab12\"", tag));
	assert_false(ranges_if_range("W/\"ab12\"", tag));
	assert_false(ranges_if_range("\"ab1\"", tag));
	assert_false(ranges_if_range("Thu, 01 Jan 2026 00:00:00 GMT", tag));
	assert_false(ranges_none_match(NULL, tag));
	assert_true(ranges_none_match("*", tag));
	assert_true(ranges_none_match("\"x\", W/\"ab12\"", tag));
	assert_true(ranges_none_match("\"ab12\"", tag));
	assert_true(ranges_none_match("\"a,b\",\"ab12\"", tag));
	assert_false(ranges_none_match("\"ab1\", \"b12\"", tag));
	assert_false(ranges_none_match("ab12", tag));
	assert_false(ranges_none_match("\"ab12", tag));
	assert_false(ranges_none_match("", tag));
	assert_true(ranges_match(NULL, tag));
	assert_true(ranges_match("*", tag));
	assert_true(ranges_match("\"x\", \"ab12\"", tag));
	assert_false(ranges_match("W/\"ab12\"", tag));
	assert_false(ranges_match("\"ab1\"", tag));
}

/* The whole body from pieces that each begin where `step` octets were taken. */
static char *
body_of(const struct ranges_body *b, uint64_t step, size_t *n_out)
{
	char *out = xmalloc(65536);
	struct ranges_piece p;
	uint64_t at = 0;

	for (;;) {
		ranges_piece(b, at, &p);
		if (p.n == 0)
			break;
		if (p.n > step)
			p.n = step;
		for (uint64_t i = 0; i < p.n; i++)
			out[at + i] =
			    p.file ? (char)((p.off + i) % 251) : p.text[i];
		at += p.n;
	}
	*n_out = at;
	return out;
}

static void
test_body(void **state)
{
	struct range list[] = { { 0, 10 }, { 300, 1 }, { 990, 10 } };
	struct ranges_body b = { .list = list, .n = 3, .size = 1000 };
	size_t n, m;
	char *whole, *again, *at;

	ranges_boundary(b.boundary);
	assert_int_equal(strlen(b.boundary), RANGES_BOUNDARY);
	whole = body_of(&b, UINT64_MAX, &n);
	assert_int_equal(n, ranges_length(&b));
	for (uint64_t step = 1; step < 7; step++) {
		again = body_of(&b, step, &m);
		assert_int_equal(m, n);
		assert_memory_equal(again, whole, n);
		free(again);
	}
	assert_memory_equal(whole, "--", 2);
	at = memmem(whole, n, "Content-Range: bytes 300-300/1000\r\n\r\n", 37);
	assert_non_null(at);
	assert_int_equal((unsigned char)at[37], 300 % 251);
	assert_memory_equal(at + 38, "\r\n--", 4);
	assert_memory_equal(whole + n - 4, "--\r\n", 4);
	free(whole);
	b.n = 1;
	assert_int_equal(ranges_length(&b), 10);
	whole = body_of(&b, 3, &n);
	assert_int_equal(n, 10);
	free(whole);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_ignored),
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_cap),
		cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_body),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
