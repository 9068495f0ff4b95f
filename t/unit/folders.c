/*
 * folders.c - names get into item/ in groups, and each by itself
 */
#include "folders.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "layout.h"

#define THREADS 24
#define EACH 40

struct at {
	char dir[64];
	struct layout l;
	struct folders *f;
};

struct job {
	struct at *at;
	unsigned number;
	bool single;
	int bad; /* results that are not what they should be */
};

static int
setup(void **state)
{
	struct at *at = calloc(1, sizeof(*at));
	char *why = NULL;

	strcpy(at->dir, "folders-XXXXXX");
	assert_non_null(mkdtemp(at->dir));
	assert_int_equal(
	    layout_open(at->dir, true, "writer", 1 << 20, &at->l, &why), 0);
	at->f = folders_new(&at->l);
	*state = at;
	return 0;
}

static int
teardown(void **state)
{
	struct at *at = *state;
	char cmd[96];

	folders_free(at->f);
	layout_close(&at->l);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", at->dir);
	assert_int_equal(system(cmd), 0);
	free(at);
	return 0;
}

/* One file with its number in it. */
static int
receive(const struct at *at, uint64_t seq, const char *temp)
{
	int fd = openat(at->l.incoming, temp,
	    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, &seq, sizeof(seq)) != sizeof(seq))
		return -1;
	return fd;
}

static bool
lies_there(const struct at *at, uint64_t seq)
{
	char name[31];
	uint64_t found = 0;
	int fd;

	layout_item_name(seq, name);
	fd = openat(at->l.item, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, &found, sizeof(found)) != sizeof(found))
		found = 0;
	close(fd);
	return found == seq;
}

/* Numbers on both sides of the end of a folder; each seventh file is not where
 * it should be, and its neighbours must not mind. */
static void *
publish_many(void *arg)
{
	struct job *j = arg;

	for (unsigned i = 0; i < EACH; i++) {
		uint64_t seq =
		    4096 - THREADS * EACH / 2 + 1 + i * THREADS + j->number;
		char temp[24];
		int fd, rc, want = seq % 7 == 0 ? -ENOENT : 0;

		snprintf(temp, sizeof(temp), "%u-%u", j->number, i);
		fd = receive(j->at, seq, temp);
		if (want != 0)
			unlinkat(j->at->l.incoming, temp, 0);
		rc = folders_publish(
		    j->at->f, seq, j->at->l.incoming, temp, fd, j->single);
		close(fd);
		j->bad += rc != want || lies_there(j->at, seq) != (want == 0);
	}
	return NULL;
}

static void
from_many_threads(struct at *at, bool single)
{
	struct job jobs[THREADS];
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		jobs[i] = (struct job){ at, i, single, 0 };
		assert_int_equal(
		    pthread_create(&threads[i], NULL, publish_many, &jobs[i]),
		    0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(jobs[i].bad, 0);
	}
}

static void
test_groups(void **state)
{
	from_many_threads(*state, false);
}

static void
test_single(void **state)
{
	from_many_threads(*state, true);
}

/* What cannot be synced leaves no name behind. */
static void
test_failed_sync(void **state)
{
	struct at *at = *state;
	int fd = receive(at, 9, "temp"), pipes[2];

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(
	    folders_publish(at->f, 9, at->l.incoming, "temp", pipes[1], false),
	    -EINVAL); /* a pipe has no fdatasync */
	assert_false(lies_there(at, 9));
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_groups, setup, teardown),
		cmocka_unit_test_setup_teardown(test_single, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_failed_sync, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
