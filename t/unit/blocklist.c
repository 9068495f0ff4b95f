/*
 * blocklist.c - tests of the file that says who is blocked
 */
#include "blocklist.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char path[64];

static int
set_up(void **state)
{
	char dir[] = "/tmp/edgehaul-blocklist-XXXXXX";

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/blocked.json", dir);
	return 0;
}

static int
tear_down(void **state)
{
	unlink(path);
	*strrchr(path, '/') = '\0';
	return rmdir(path);
}

/* Save n names of `length` octets; how many are read back. */
static int
kept(int n, int length)
{
	struct blocklist *bl = blocklist_new(path);
	cJSON *names = cJSON_CreateArray(), *back;
	char name[300];
	int count;

	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%0*d", length, i);
		cJSON_AddItemToArray(names, cJSON_CreateString(name));
	}
	blocklist_save(bl, names);
	blocklist_free(bl);
	bl = blocklist_new(path);
	back = blocklist_load(bl);
	blocklist_free(bl);
	count = back != NULL ? cJSON_GetArraySize(back) : -1;
	if (n > 0)
		assert_true(blocklist_has(back, name));
	cJSON_Delete(back);
	return count;
}

/* Whatever an answer of the signer can hold: else all would be let in again. */
static void
test_sizes(void **state)
{
	assert_int_equal(kept(0, 1), 0);
	assert_int_equal(kept(3, 5), 3);
	assert_int_equal(kept(15000, 255), 15000);
	assert_int_equal(kept(110000, 6), 110000);
}

static void
test_rubbish(void **state)
{
	struct blocklist *bl = blocklist_new(path);
	FILE *f = fopen(path, "w");
	cJSON *list;

	assert_non_null(f);
	fputs("{\"devices\": [\"a\", 5]}", f);
	fclose(f);
	assert_null(blocklist_load(bl));
	unlink(path);
	list = blocklist_load(bl);
	assert_int_equal(cJSON_GetArraySize(list), 0);
	cJSON_Delete(list);
	blocklist_free(bl);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_rubbish),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
