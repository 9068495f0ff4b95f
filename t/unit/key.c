/*
 * key.c - tests of agent/key.c
 */
#include "key.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "json.h"

#define ID "0123456789abcdef0000000000000001"

static void
expands(const char *template, const char *device, const char *name,
    const char *want)
{
	struct key_values v = { .device = device,
		.gateway = "gw-1",
		.name = name,
		.id = ID,
		.sha256 = "beef",
		.received_s = 1767323045 }; /* 2026-01-02T03:04:05Z */
	char *key = key_expand(template, &v);

	assert_string_equal(key, want);
	free(key);
}

static void
test_words(void **state)
{
	expands("{device}/{date}/{time}-{id}-{name}", "cam-1", "a.jpg",
	    "cam-1/2026-01-02/030405-" ID "-a.jpg");
	expands(
	    "{gateway}/{sha256}.{ext}", "cam-1", "a.b.JPG", "gw-1/beef.JPG");
	expands("{name}", "c", "day 1/a b.jpg", "day 1/a b.jpg");
	expands("x/{ext}y", "c", "noext", "x/y");
	expands("{ext}", "c", ".hidden", ID);
	expands("{name}", "c", "", "file");
}

static void
test_hostile_names(void **state)
{
	expands("{device}/{name}", "../..", "../../etc/passwd",
	    ".._../__/__/etc/passwd");
	expands("{device}/{name}", "a/b", "//x//./y/", "a_b/x/_/y");
	expands("{name}", "c", "a\\b\nc\x7f", "a_b_c_");
	expands("{name}", "c", "\xff\xc3(\xc3\xa9", "__(\xc3\xa9");
	expands("{name}", "c", "\xc2\x85x\xc2\xa0", "_x\xc2\xa0");
	expands("{name}", "c", "\xc3", "_");
	expands("/{name}", "c", "..", "__");
}

static void
test_long_names(void **state)
{
	char name[3000], template[3000], *key;
	struct key_values v = { .device = "cam",
		.gateway = "g",
		.name = name,
		.id = ID,
		.sha256 = "" };

	/* Two octets a character: a cut must not go through one. */
	for (size_t i = 0; i + 1 < sizeof(name); i += 2)
		memcpy(name + i, "\xc3\xa9", 2);
	strcpy(name + sizeof(name) - 6, ".jpeg");
	key = key_expand("{id}-{name}", &v);
	assert_true(strlen(key) <= KEY_MAX);
	assert_memory_equal(key, ID "-", 33);
	assert_string_equal(key + strlen(key) - 5, ".jpeg");
	assert_true(json_utf8(key, strlen(key)));
	free(key);
	/* A file system's longest name, behind what the default puts there. */
	memset(name, 'n', 251);
	strcpy(name + 251, ".jpg");
	key = key_expand("{device}/{date}/{time}-{id}-{name}", &v);
	assert_in_range(strlen(strrchr(key, '/') + 1), 200, KEY_SEGMENT_MAX);
	assert_non_null(strstr(key, "-" ID "-nnn"));
	assert_string_equal(key + strlen(key) - 5, "n.jpg");
	free(key);
	/* Folders stay as they are. */
	memcpy(name + 100, "/", 1);
	memcpy(name + 200, "/", 1);
	key = key_expand("{id}-{name}", &v);
	assert_string_equal(key + 33, name);
	free(key);
	memset(template, 'x', sizeof(template) - 1);
	template[sizeof(template) - 1] = '\0';
	key = key_expand(template, &v);
	assert_string_equal(key, ID);
	free(key);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_long_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
