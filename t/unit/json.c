/*
 * json.c - tests of lib/json.c
 */
#include "json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "xalloc.h"

static const char *
why_of(const char *s, size_t n)
{
	const char *why = NULL;
	cJSON *v = json_parse(s, n, 1 << 20, &why);

	cJSON_Delete(v);
	return v != NULL ? NULL : why;
}

static void
test_good(void **state)
{
	static const char *const good[] = { "{}", "[]", "null", "true", "-0",
		" [1, -2.5e+3, 0.1, \"a\\u00e9\\\"\\ud83d\\ude00\"]\r\n",
		"{\"a\": {\"b\": [false, null]}, \"A\": 1}", "\"\xc3\xa9\"",
		"1E5" };

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (why_of(good[i], strlen(good[i])) != NULL)
			fail_msg("%s: %s", good[i],
			    why_of(good[i], strlen(good[i])));
}

static void
test_bad(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "", "empty" },
		{ "   ", "ends too early" },
		{ "{", "ends too early" },
		{ "[1", "ends too early" },
		{ "[1,]", "not JSON" },
		{ "{\"a\":1,}", "a string must stand here" },
		{ "{a:1}", "a string must stand here" },
		{ "{\"a\" 1}", "not JSON" },
		{ "1 2", "text after the value" },
		{ "{} x", "text after the value" },
		{ "01", "text after the value" },
		{ "+1", "not JSON" },
		{ "1.", "not a number" },
		{ "-", "not a number" },
		{ "1e", "not a number" },
		{ "1e999", "a number is too large" },
		{ "NaN", "not JSON" },
		{ "\xef\xbb\xbf{}",
		    "begins with a byte order mark: save it without" },
		{ "tru", "not JSON" },
		{ "'a'", "not JSON" },
		{ "\"a", "a string does not end" },
		{ "\"a\\", "a string does not end" },
		{ "\"\\x41\"", "unknown escape in a string" },
		{ "\"\\u12g4\"", "a \\u escape needs four digits" },
		{ "\"\\u12", "a \\u escape needs four digits" },
		{ "\"\\u0000\"", "NUL in a string" },
		{ "\"\\ud800\"", "half a surrogate pair in a string" },
		{ "\"\\ud800\\u0041\"", "half a surrogate pair in a string" },
		{ "\"\\udc00\"", "half a surrogate pair in a string" },
		{ "\"a\nb\"", "control character in a string" },
		{ "\"\xff\"", "not UTF-8" },
		{ "\"\xc0\x80\"", "not UTF-8" },
		{ "\x01[]", "not JSON" },
		{ "{\"a\":1,\"b\":2,\"a\":3}",
		    "a key stands twice in one object" },
		{ "[{\"x\":{\"\\u0061\":1,\"a\":2}}]",
		    "a key stands twice in one object" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *why = why_of(bad[i].text, strlen(bad[i].text));

		if (why == NULL || strcmp(why, bad[i].why) != 0)
			fail_msg("%s: %s", bad[i].text,
			    why != NULL ? why : "accepted");
	}
	assert_string_equal(why_of("[1,\0 2]", 7), "NUL in the text");
	assert_null(json_parse("[1]", 3, 2, NULL));
}

static void
test_deep(void **state)
{
	char text[200001];

	memset(text, '[', 100000);
	memset(text + 100000, ']', 100000);
	assert_string_equal(why_of(text, 200000), "nested deeper than 32");
	assert_null(why_of(text + 100000 - 32, 64));
	assert_string_equal(
	    why_of(text + 100000 - 33, 66), "nested deeper than 32");
}

/* Many keys must not cost their square. */
static void
test_many_keys(void **state)
{
	char *text = xmalloc(1 << 20), *w = text;

	w += sprintf(w, "{\"k0\":0");
	for (int i = 1; i < 60000; i++)
		w += sprintf(w, ",\"k%d\":%d", i, i);
	strcpy(w, "}");
	assert_null(why_of(text, strlen(text)));
	strcpy(w, ",\"k7\":1}");
	assert_non_null(why_of(text, strlen(text)));
	free(text);
}

static void
test_members(void **state)
{
	static const char text[] = "{\"s\":\"x\",\"i\":5,\"f\":1.5,\"b\":true,"
				   "\"big\":9007199254740994,\"n\":null}";
	cJSON *o = json_parse(text, sizeof(text) - 1, 1000, NULL);
	int64_t v = 7;

	assert_string_equal(json_string(o, "s"), "x");
	assert_null(json_string(o, "i"));
	assert_null(json_string(o, "S"));
	assert_int_equal(json_int(o, "i", 0, 5, &v), 0);
	assert_int_equal(v, 5);
	assert_int_equal(json_int(o, "i", 6, 9, &v), -ERANGE);
	assert_int_equal(json_int(o, "f", 0, 9, &v), -EINVAL);
	assert_int_equal(json_int(o, "s", 0, 9, &v), -EINVAL);
	assert_int_equal(json_int(o, "none", 0, 9, &v), -ENOENT);
	assert_int_equal(json_int(o, "big", 0, INT64_MAX, &v), -ERANGE);
	assert_int_equal(v, 5);
	assert_true(json_bool(o, "b", false));
	assert_true(json_bool(o, "n", true));
	cJSON_Delete(o);
}

static void
test_build(void **state)
{
	cJSON *o = cJSON_CreateObject();
	int64_t v;
	char *s;

	json_add_int(o, "n", INT64_MAX);
	json_add_text(o, "t", "a\xff\xc3\xa9\"\n");
	json_add_text(o, "z", NULL);
	assert_int_equal(json_int(o, "n", 0, INT64_MAX, &v), 0);
	assert_true(v == INT64_MAX);
	s = json_line(o);
	assert_string_equal(s,
	    "{\"n\":9223372036854775807,\"t\":\"a\xef\xbf\xbd\xc3\xa9\\\"\\n\","
	    "\"z\":null}");
	assert_null(why_of(s, strlen(s)));
	free(s);
	cJSON_Delete(o);
}

static void
test_utf8(void **state)
{
	assert_true(json_utf8("", 0));
	assert_true(
	    json_utf8("\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf", 11));
	assert_false(json_utf8("\xe2\x82", 2));
	assert_false(json_utf8("\xe0\x80\x80", 3)); /* overlong */
	assert_false(json_utf8("\xed\xa0\x80", 3)); /* surrogate */
	assert_false(json_utf8("\xf4\x90\x80\x80", 4));
	assert_false(json_utf8("\xf0\x80\x80\x80", 4));
	assert_false(json_utf8("\x80", 1));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_deep),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_build),
		cmocka_unit_test(test_utf8),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
