/*
 * memory.c - tests of agent/memory.c
 *
 * The kernel's files are made in a folder.
 */
#include "memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "xalloc.h"

static char root[64];

static void
put(const char *path, const char *text)
{
	char *p = xasprintf("%s/%s", root, path);
	FILE *f;

	for (char *s = p + 1; (s = strchr(s, '/')) != NULL; s++) {
		*s = '\0';
		mkdir(p, 0755);
		*s = '/';
	}
	f = fopen(p, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	free(p);
}

static int
folder(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(root, sizeof(root), "%s/edgehaul-memory-XXXXXX",
	    tmp != NULL && strlen(tmp) < 30 ? tmp : "/tmp");
	return mkdtemp(root) != NULL ? 0 : -1;
}

static int
remove_folder(void **state)
{
	char *cmd = xasprintf("rm -r '%s'", root);
	int rc = system(cmd);

	free(cmd);
	return rc;
}

static void
test_groups(void **state)
{
	uint64_t machine = memory_of_box(root); /* nothing is there */

	assert_true(machine > (1 << 20) && machine < UINT64_MAX);
	/* version 2: the least of the group and those above */
	put("proc/self/cgroup", "0::/system.slice/edgehaul.service\n");
	put("sys/fs/cgroup/system.slice/edgehaul.service/memory.max",
	    "67108864\n");
	put("sys/fs/cgroup/system.slice/memory.max", "max\n");
	assert_int_equal(memory_of_box(root), 67108864);
	put("sys/fs/cgroup/system.slice/memory.max", "33554432\n");
	assert_int_equal(memory_of_box(root), 33554432);
	/* what is not there above a container's root does no harm */
	put("proc/self/cgroup", "0::/some/where/else\n");
	assert_int_equal(memory_of_box(root), machine);
	put("sys/fs/cgroup/memory.max", "44444444\n");
	assert_int_equal(memory_of_box(root), 44444444);
	/* version 1, among other controllers */
	put("proc/self/cgroup",
	    "9:name=systemd:/\n7:memoryx:/b\n5:cpu,memory:/a/b\n0::/\n");
	put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "40000000\n");
	put("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
	    "9223372036854771712\n");
	assert_int_equal(memory_of_box(root), 40000000);
	/* none of it is a number */
	put("proc/self/cgroup", "\n:\n::\nmemory\n0::/x\n");
	put("sys/fs/cgroup/memory.max", "a lot\n");
	assert_int_equal(memory_of_box(root), machine);
}

static void
test_workers(void **state)
{
	static const struct {
		unsigned box_mb, count, count_out, each_mb;
	} rows[] = { { 16, 4, 1, 8 }, { 64, 4, 1, 32 }, { 128, 4, 2, 32 },
		{ 256, 1, 1, 128 }, { 512, 4, 4, 64 }, { 1024, 1, 1, 512 },
		{ 8192, 4, 4, 512 } };

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct memory_share s = memory_for_workers(
		    (uint64_t)rows[i].box_mb << 20, rows[i].count);

		assert_int_equal(s.count, rows[i].count_out);
		assert_int_equal(s.each >> 20, rows[i].each_mb);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_groups, folder, remove_folder),
		cmocka_unit_test(test_workers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
