/*
 * recover.c - tests of what a spool finds at its start: lost and damaged parts
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <event2/event.h>
#include <lmdb.h>

#include "log.h"
#include "own_folder.h"
#include "spool.h"
#include "xalloc.h"

struct site {
	struct event_base *base;
	char dir[OWN_FOLDER], spool[80];
	struct spool *sp;
	bool called; /* what follows is of the last call */
	int rc;
	char id[33];
	size_t n;
	enum spool_state state;
	uint64_t seq, size;
	char error[100];
	struct spool_status st;
};

static const struct spool_options options = { .max_size = 64 << 20,
	.index_size = 1 << 20,
	.committers = 4,
	.max_upload = 32 << 20 };

static void
run(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	assert_int_equal(system(cmd), 0);
}

static void
start(struct site *s)
{
	char *why = NULL;

	assert_int_equal(
	    spool_open(s->base, s->spool, SPOOL_WRITER, &options, &s->sp, &why),
	    0);
}

static void
stop(struct site *s)
{
	spool_close(s->sp);
	s->sp = NULL;
}

static int
setup(void **state)
{
	struct site *s = xcalloc(1, sizeof(*s));

	log_level = LOG_ERROR;
	own_folder_make(s->dir, "recover");
	snprintf(s->spool, sizeof(s->spool), "%s/spool", s->dir);
	s->base = event_base_new();
	start(s);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct site *s = *state;

	spool_close(s->sp);
	event_base_free(s->base);
	own_folder_remove(s->dir);
	free(s);
	return 0;
}

static void
wait_called(struct site *s)
{
	for (int i = 0; i < 500 && !s->called; i++) {
		struct timeval tv = { 0, 20000 };

		event_base_loopexit(s->base, &tv);
		event_base_dispatch(s->base);
	}
	assert_true(s->called);
	s->called = false;
}

static void
on_commit(int rc, const struct spool_item *it, void *arg)
{
	struct site *s = arg;

	s->rc = rc;
	s->called = true;
	if (rc == 0)
		strcpy(s->id, it->id);
}

static int
put(struct site *s, const char *name, const char *body)
{
	struct spool_meta meta = { "cam-1", name, "image/jpeg", "10.0.0.7" };
	struct spool_upload *u;
	const char *why;
	int rc = spool_reserve(s->sp, strlen(body), &u, &why);

	if (rc != 0)
		return rc;
	spool_write(u, body, strlen(body));
	spool_commit(u, &meta, on_commit, s);
	wait_called(s);
	return s->rc;
}

static void
on_items(int rc, struct spool_item *items, size_t n, void *arg)
{
	struct site *s = arg;

	s->rc = rc;
	s->n = n;
	s->called = true;
	if (n == 0)
		return;
	s->state = items[0].state;
	s->seq = items[0].seq;
	s->size = items[0].size;
	snprintf(s->error, sizeof(s->error), "%s", items[0].last_error);
}

static void
find(struct site *s, const char *id)
{
	spool_find(s->sp, id, on_items, s);
	wait_called(s);
	assert_int_equal(s->rc, 0);
}

static void
on_rc(int rc, void *arg)
{
	struct site *s = arg;

	s->rc = rc;
	s->called = true;
}

static void
on_stat(int rc, const struct spool_status *st, void *arg)
{
	struct site *s = arg;

	s->rc = rc;
	s->st = *st;
	s->called = true;
}

/* Wait until all has its row; the ledger balances. */
static void
settled(struct site *s)
{
	uint64_t ends;

	for (int i = 0; i < 200; i++) {
		spool_status(s->sp, on_stat, s);
		wait_called(s);
		assert_int_equal(s->rc, 0);
		if (s->st.not_indexed == 0 && !s->st.rebuilding)
			break;
		usleep(20000);
	}
	assert_int_equal(s->st.not_indexed, 0);
	assert_false(s->st.rebuilding);
	ends = s->st.quarantined + s->st.waiting;
	for (int i = 0; i < SPOOL_ENDS; i++)
		ends += s->st.ends[i];
	assert_int_equal(s->st.accepted, ends);
}

static void
item_path(struct site *s, const char *id, char out[200])
{
	snprintf(out, 200, "%s/item/%.13s/%s", s->spool, id + 16, id + 16);
}

/* ---- tests --------------------------------------------------------------- */

/* What was delivered leaves no trace but in the index; its number may still
 * not come again when that is lost, with items left and without. */
static void
test_no_id_twice(void **state)
{
	struct site *s = *state;
	char ids[8][33];
	int n = 0;

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 4; i++) {
			assert_int_equal(put(s, "a", "body"), 0);
			strcpy(ids[n++], s->id);
		}
		settled(s);
		for (int i = n - 4 + (round == 0); i < n; i++) {
			find(s, ids[i]);
			assert_int_equal(s->n, 1);
			spool_end(s->sp, s->seq, SPOOL_DELIVERED, "", on_rc, s);
			wait_called(s);
			assert_int_equal(s->rc, 0);
		}
		if (round == 1) {
			find(s, ids[0]); /* now nothing is left */
			spool_end(s->sp, s->seq, SPOOL_DELIVERED, "", on_rc, s);
			wait_called(s);
		}
		stop(s);
		run("rm -rf %s/index", s->spool);
		start(s);
		settled(s);
		assert_int_equal(put(s, "b", "body"), 0);
		for (int i = 0; i < n; i++)
			assert_string_not_equal(s->id, ids[i]);
		settled(s);
		find(s, s->id);
		spool_end(s->sp, s->seq, SPOOL_DROPPED, "", on_rc, s);
		wait_called(s);
	}
}

static off_t
filesize(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void
flip(const char *path, off_t from_end)
{
	int fd = open(path, O_RDWR);
	off_t at = lseek(fd, -from_end, SEEK_END);
	char c;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

/* Bits that flip while it waits, and the index lost: what was acknowledged is
 * not swept away as if it were done. */
static void
test_damaged_footer(void **state)
{
	struct site *s = *state;
	char a[33], path[200];

	assert_int_equal(put(s, "a", "body a"), 0);
	strcpy(a, s->id);
	assert_int_equal(put(s, "b", "body b"), 0);
	settled(s);
	item_path(s, a, path);
	flip(path, 5);
	stop(s);
	run("rm -rf %s/index", s->spool);
	start(s);
	settled(s);
	assert_int_equal(s->st.accepted, 2);
	assert_int_equal(s->st.quarantined, 1);
	find(s, a);
	assert_int_equal(s->n, 1);
	assert_int_equal(s->state, SPOOL_QUARANTINED);
	assert_string_equal(s->error, "its footer is damaged");
	snprintf(path, sizeof(path), "%s/quarantine/%s", s->spool, a);
	assert_int_equal(access(path, R_OK), 0);
}

static void
test_quarantine_is_kept(void **state)
{
	struct site *s = *state;
	char id[33];

	assert_int_equal(put(s, "a", "12345"), 0);
	strcpy(id, s->id);
	settled(s);
	find(s, id);
	spool_quarantine(s->sp, s->seq, "the store refused it", on_rc, s);
	wait_called(s);
	assert_int_equal(s->rc, 0);
	stop(s);
	run("rm -rf %s/index", s->spool);
	start(s);
	settled(s);
	assert_int_equal(s->st.quarantined, 1);
	find(s, id);
	assert_int_equal(s->n, 1);
	assert_int_equal(s->size, 5);
	assert_int_equal(s->state, SPOOL_QUARANTINED);
	assert_string_equal(s->error, "the store refused it");
}

/* Not to be evicted, and its file stays as long as its row. */
static void
test_quarantine_is_not_evicted(void **state)
{
	struct site *s = *state;
	char id[33], path[200];

	assert_int_equal(put(s, "a", "12345"), 0);
	strcpy(id, s->id);
	settled(s);
	find(s, id);
	spool_quarantine(s->sp, s->seq, "no", on_rc, s);
	wait_called(s);
	spool_evict(s->sp, s->seq, "replaced", on_rc, s);
	wait_called(s);
	assert_int_equal(s->rc, -EBUSY);
	find(s, id);
	assert_int_equal(s->n, 1);
	snprintf(path, sizeof(path), "%s/quarantine/%s", s->spool, id);
	assert_int_equal(access(path, R_OK), 0);
}

/* Each thing that can be wrong with the index's files, one after the other. */
static void
test_broken_index(void **state)
{
	static const char *const breaks[] = {
		"truncate -s 20000 %s/index/data.mdb",
		"truncate -s 4096 %s/index/data.mdb",
		"truncate -s 100 %s/index/data.mdb",
		": > %s/index/data.mdb",
		"rm %s/index/data.mdb", /* lock.mdb stays */
		"rm %s/index/*; rmdir %s/index; : > %s/index",
		"dd if=/dev/zero of=%s/index/data.mdb bs=8192 count=1 "
		"conv=notrunc 2>/dev/null",
		"mkdir %s/index.new; : > %s/index.new/data.mdb; "
		"rm -rf %s/index",
	};
	struct site *s = *state;

	for (size_t i = 0; i < 40; i++)
		assert_int_equal(put(s, "a", "body"), 0);
	settled(s);
	for (size_t i = 0; i < sizeof(breaks) / sizeof(breaks[0]); i++) {
		stop(s);
		run(breaks[i], s->spool, s->spool, s->spool);
		start(s);
		settled(s);
		assert_int_equal(s->st.waiting, 40 + i);
		assert_int_equal(put(s, "b", "body"), 0);
		settled(s);
	}
}

/* Look into the index of a closed spool; take the row out behind its back. */
static bool
row_is_there(struct site *s, uint64_t seq, bool take_out)
{
	uint64_t be = htobe64(seq);
	MDB_val k = { sizeof(be), &be }, v;
	char path[200];
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	bool there;

	snprintf(path, sizeof(path), "%s/index", s->spool);
	assert_int_equal(mdb_env_create(&env), 0);
	mdb_env_set_maxdbs(env, 8);
	mdb_env_set_maxreaders(env, 64);
	assert_int_equal(mdb_env_open(env, path, 0, 0660), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, "item", 0, &dbi), 0);
	there = mdb_get(txn, dbi, &k, &v) == 0;
	if (there && take_out)
		assert_int_equal(mdb_del(txn, dbi, &k, NULL), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
	return there;
}

/* Above the mark a whole file has its row after a crash, and one whose body
 * does not fit its footer was never acknowledged. */
static void
test_torn_body(void **state)
{
	struct site *s = *state;
	char good[33], path[200];
	bool indexed = true;

	for (int i = 0; indexed && i < 20; i++) {
		assert_int_equal(put(s, "good", "the good body"), 0);
		strcpy(good, s->id);
		assert_int_equal(put(s, "torn", "the torn body"), 0);
		run("cp -a %s %s.crash", s->spool, s->spool);
		stop(s);
		run("rm -rf %s; mv %s.crash %s", s->spool, s->spool, s->spool);
		s->seq = strtoull(good + 16, NULL, 16);
		indexed = row_is_there(s, s->seq, false);
		if (indexed)
			start(s);
	}
	assert_false(indexed);
	item_path(s, s->id, path);
	flip(path, filesize(path) - 4);
	start(s);
	settled(s);
	find(s, good);
	assert_int_equal(s->n, 1);
	find(s, s->id);
	assert_int_equal(s->n, 0);
	assert_int_equal(access(path, F_OK), -1);
}

/* Rows vanish and nothing says so, as behind a page of garbage: their files are
 * not swept away as if they were done, and the next start has them again. */
static void
test_missing_row(void **state)
{
	struct site *s = *state;
	char id[33], path[200], mark[120];

	assert_int_equal(put(s, "a", "body a"), 0);
	strcpy(id, s->id);
	assert_int_equal(put(s, "b", "body b"), 0);
	settled(s);
	find(s, id);
	stop(s);
	snprintf(mark, sizeof(mark), "%s/index/damaged", s->spool);
	assert_true(row_is_there(s, s->seq, true));
	signal(SIGTERM, SIG_IGN); /* so it asks for a new start */
	start(s);
	for (int i = 0; i < 200 && access(mark, F_OK) != 0; i++)
		usleep(20000);
	assert_int_equal(access(mark, F_OK), 0);
	item_path(s, id, path);
	assert_int_equal(access(path, R_OK), 0);
	stop(s);
	start(s);
	settled(s);
	assert_int_equal(s->st.waiting, 2);
	find(s, id);
	assert_int_equal(s->n, 1);
	signal(SIGTERM, SIG_DFL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_no_id_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_damaged_footer, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_quarantine_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_quarantine_is_not_evicted, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_broken_index, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_torn_body, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_missing_row, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
