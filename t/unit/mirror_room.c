/*
 * mirror_room.c - tests of agent/mirror_room.c
 */
#include "../../agent/mirror_room.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "xalloc.h"

#define KB 1024

struct world {
	char dir[64];
	struct mirror_room *r;
};

static int
setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	char *dir;

	strcpy(w->dir, "/tmp/edgehaul-mirror-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	dir = xasprintf("%s/vendor", w->dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	free(dir);
	w->r = mirror_room_new(w->dir);
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;
	char *cmd = xasprintf("rm -rf %s", w->dir);

	mirror_room_free(w->r);
	assert_int_equal(system(cmd), 0);
	free(cmd);
	free(w);
	return 0;
}

static char *
path(const struct world *w, unsigned i, const char *end)
{
	return xasprintf("%s/vendor/%064x%s", w->dir, i, end);
}

static void
make(const struct world *w, unsigned i, const char *end, off_t size, time_t at)
{
	char *p = path(w, i, end);
	struct timespec t[2] = { { at, 0 }, { at, 0 } };
	int fd = open(p, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(futimens(fd, t), 0);
	close(fd);
	free(p);
}

static int
there(const struct world *w, unsigned i, const char *end)
{
	char *p = path(w, i, end);
	int yes = access(p, F_OK) == 0;

	free(p);
	return yes;
}

/* What a crash left goes; what is complete is counted, with its .json. */
static void
test_left_overs(void **state)
{
	struct world *w = *state;

	make(w, 1, "", 100 * KB, 1);
	make(w, 1, ".json", 50, 1);
	make(w, 2, ".new", 100 * KB, 1);
	make(w, 3, "", 100 * KB, 1); /* its .json had not come yet */
	make(w, 3, ".json.new", 50, 1);
	make(w, 4, ".json", 50, 1);
	make(w, 5, ".other", 50, 1);
	mirror_room_look(w->r);
	assert_int_equal(mirror_room_sum(w->r), 104 * KB);
	assert_true(there(w, 1, "") && there(w, 1, ".json"));
	assert_false(there(w, 2, ".new"));
	assert_false(there(w, 3, "") || there(w, 3, ".json.new"));
	assert_false(there(w, 4, ".json"));
	assert_true(there(w, 5, ".other"));
}

/* What is on its way counts; the longest unused go for it. */
static void
test_room(void **state)
{
	struct world *w = *state;
	const uint64_t limit = 400 * KB;

	for (unsigned i = 1; i <= 3; i++) {
		make(w, i, "", 100 * KB - 4096, (time_t)(10 - i));
		make(w, i, ".json", 50, (time_t)(10 - i));
	}
	mirror_room_look(w->r);
	assert_int_equal(mirror_room_sum(w->r), 300 * KB);
	assert_int_equal(mirror_room_take(w->r, limit, 100 * KB), 0);
	assert_true(there(w, 3, ""));
	assert_int_equal(mirror_room_take(w->r, limit, 4 * KB), 0);
	assert_false(there(w, 3, "") || there(w, 3, ".json"));
	assert_true(there(w, 2, "") && there(w, 1, ""));
	assert_true(mirror_room_sum(w->r) <= limit);
	/* two on their way have more than there is */
	assert_int_equal(mirror_room_take(w->r, limit, 290 * KB), 0);
	assert_false(there(w, 2, "") || there(w, 1, ""));
	assert_int_equal(mirror_room_sum(w->r), 394 * KB);
	assert_int_equal(mirror_room_take(w->r, limit, 8 * KB), -ENOSPC);
	mirror_room_give(w->r, 290 * KB);
	assert_int_equal(mirror_room_take(w->r, limit, 8 * KB), 0);
	mirror_room_keep(w->r, 112 * KB);
	assert_int_equal(mirror_room_sum(w->r), 112 * KB);
}

/* Folders are not read as long as there is room: what others put there is not
 * seen before. */
static void
test_seldom(void **state)
{
	struct world *w = *state;
	const uint64_t limit = 1600 * KB;

	mirror_room_look(w->r);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(mirror_room_take(w->r, limit, 100 * KB), 0);
		make(w, 1 + i, "", 96 * KB, (time_t)i);
		make(w, 1 + i, ".json", 50, (time_t)i);
		mirror_room_keep(w->r, 100 * KB);
	}
	assert_int_equal(mirror_room_sum(w->r), limit);
	make(w, 100, "", 96 * KB, 50);
	make(w, 100, ".json", 50, 50);
	assert_int_equal(mirror_room_take(w->r, limit, 4 * KB), 0);
	/* 1700 were there, 1496 may stay: a 16th more than need be goes */
	assert_int_equal(mirror_room_sum(w->r), 1404 * KB);
	assert_false(there(w, 3, ""));
	assert_true(there(w, 4, "") && there(w, 100, ""));
	assert_int_equal(mirror_room_take(w->r, limit, 100 * KB), 0);
	assert_true(there(w, 4, ""));
	assert_int_equal(mirror_room_of(1), 8192);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_left_overs),
		TEST(test_room),
		TEST(test_seldom),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
