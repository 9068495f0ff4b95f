/*
 * resident.c - tests of proxy/resident.c
 */
#include "../../proxy/resident.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <cmocka.h>

#define SIZE (3u << 20)
#define TMPFS 0x01021994

/* A file whose pages can be dropped; in the current folder. */
static int
make(char path[32], int flags)
{
	static char data[SIZE];
	int fd, again;

	strcpy(path, "resident-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	memset(data, 7, sizeof(data));
	assert_int_equal(write(fd, data, SIZE), SIZE);
	assert_int_equal(fsync(fd), 0);
	again = open(path, flags);
	assert_true(again >= 0);
	close(fd);
	return again;
}

static bool
in_memory_only(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS;
}

static void
check(int fd, const struct resident *r)
{
	char octet;

	assert_true(resident_has(r, fd, 0, SIZE));
	assert_true(resident_has(r, fd, SIZE - 1, 1));
	assert_true(resident_has(r, fd, 4095, 2));
	assert_false(resident_has(r, fd, SIZE - 1, 2)); /* behind the end */
	if (in_memory_only(fd))
		return;                             /* its pages go nowhere */
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); /* no reading ahead */
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_false(resident_has(r, fd, 0, SIZE));
	if (r->map == NULL && !r->counts)
		return; /* the question itself has begun to read them */
	assert_false(resident_has(r, fd, 0, 1));
	assert_false(resident_has(r, fd, SIZE - 1, 1));
	assert_int_equal(pread(fd, &octet, 1, 8192), 1);
	assert_true(resident_has(r, fd, 8192, 4096));
	assert_false(resident_has(r, fd, 0, 3 * 4096));
	assert_false(resident_has(r, fd, 2 << 20, 1));
}

static void
test_counted(void **state)
{
	struct resident r;
	char path[32];
	int fd = make(path, O_RDONLY);

	resident_init(&r, fd, SIZE);
	if (!r.counts) {
		print_message("# kernel: no cachestat()\n");
	} else {
		check(fd, &r);
	}
	resident_fini(&r);
	close(fd);
	unlink(path);
}

/* The kernels before 6.5. */
static void
test_mapped(void **state)
{
	struct resident r;
	char path[32];
	int fd = make(path, O_RDONLY);

	resident_init_before(&r, fd, SIZE);
	assert_non_null(r.map); /* we may write it */
	check(fd, &r);
	resident_fini(&r);
	close(fd);
	unlink(path);
}

/* Where mincore() would say yes to all: by reading without waiting. */
static void
test_read(void **state)
{
	struct resident r = { .size = SIZE };
	char path[32];
	int fd = make(path, O_RDONLY);

	if (!in_memory_only(fd))
		check(fd, &r);
	close(fd);
	unlink(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counted),
		cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_read),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
