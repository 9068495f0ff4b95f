/*
 * blocks.c - tests of proxy/blocks.c
 */
#include "../../proxy/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "log.h"
#include "own_folder.h"
#include "xalloc.h"

struct site {
	char dir[OWN_FOLDER];
	struct blocks *b;
};

static int
setup(void **state)
{
	struct site *s = xcalloc(1, sizeof(*s));

	log_level = LOG_ERROR;
	own_folder_make(s->dir, "blocks");
	s->b = blocks_new(s->dir);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct site *s = *state;

	blocks_free(s->b);
	own_folder_remove(s->dir);
	free(s);
	return 0;
}

static bool
told(struct site *s, const char *list)
{
	char *text = xasprintf("{\"devices\": [%s]}", list);
	bool changed = blocks_told(s->b, text, strlen(text));

	free(text);
	return changed;
}

static bool
refuses(struct site *s, const char *device, const char *address)
{
	return blocks_refuse(s->b, device, address, false);
}

static void
test_names_and_addresses(void **state)
{
	struct site *s = *state;

	assert_false(refuses(s, "b", "10.0.0.2"));
	assert_false(refuses(s, "c", "10.0.0.3"));
	assert_true(told(s, "\"d\", \"b\", \"a\""));
	assert_false(told(s, "\"d\", \"b\", \"a\""));
	assert_true(refuses(s, "a", "10.0.0.1"));
	assert_true(refuses(s, "another", "10.0.0.1"));
	assert_true(refuses(s, "another", "10.0.0.2"));
	assert_false(blocks_refuse(s->b, "another", "10.0.0.2", true));
	assert_false(refuses(s, "c", "10.0.0.3"));
	assert_false(refuses(s, "bb", "10.0.0.4"));
	assert_false(refuses(s, "", "10.0.0.4"));
	assert_true(told(s, "\"d\""));
	assert_false(refuses(s, "b", "10.0.0.1"));
	assert_true(told(s, ""));
	assert_false(refuses(s, "d", "10.0.0.9"));
}

/* Of a long name as much is remembered as tells it from most; the name itself
 * is compared whole. */
static void
test_long_names(void **state)
{
	struct site *s = *state;
	char name[200], list[420];

	memset(name, 'n', 199);
	name[199] = '\0';
	name[150] = '\0';
	assert_false(refuses(s, name, "10.0.0.1"));
	snprintf(list, sizeof(list), "\"%s\"", name);
	assert_true(told(s, list));
	assert_true(refuses(s, "x", "10.0.0.1"));
	assert_true(refuses(s, name, "10.0.0.2"));
	name[149] = '\0';
	assert_false(refuses(s, name, "10.0.0.3"));
	name[79] = '\0';
	assert_false(refuses(s, name, "10.0.0.4"));
}

/* The cloud may block very many. */
static void
test_many(void **state)
{
	struct site *s = *state;
	enum { N = 100000 };
	char *list = xmalloc(N * 16), device[20], address[48];
	size_t n = 0;

	for (int i = 0; i < 4000; i++) {
		snprintf(device, sizeof(device), "cam-%d", i);
		snprintf(
		    address, sizeof(address), "10.0.%d.%d", i / 256, i % 256);
		assert_false(refuses(s, device, address));
	}
	for (int i = 0; i < N; i++)
		n += (size_t)sprintf(list + n, "%s\"cam-%d\"", i > 0 ? "," : "",
		    (i + N / 2) % N * 2);
	assert_true(told(s, list));
	free(list);
	for (int i = 0; i < 2 * N; i++) {
		snprintf(device, sizeof(device), "cam-%d", i);
		assert_int_equal(
		    blocks_has(s->b, device, "10.1.0.0", true), i % 2 == 0);
	}
	assert_true(refuses(s, "x", "10.0.15.158"));  /* 3998 */
	assert_false(refuses(s, "x", "10.0.15.159")); /* 3999 */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_names_and_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_long_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
