/*
 * db.c - tests of lib/db.c: which tables an environment must have
 */
#include "db.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "xalloc.h"

#define MAP (1u << 20)

static const char *const tables[] = { "one", "two", "three" };

struct world {
	char dir[64], *path;
};

static int
setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	strcpy(w->dir, "/tmp/edgehaul-db-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	w->path = xasprintf("%s/index", w->dir);
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;
	char *cmd = xasprintf("rm -rf %s", w->dir);

	assert_int_equal(system(cmd), 0);
	free(cmd);
	free(w->path);
	free(w);
	return 0;
}

static int
put_row(MDB_txn *txn, const MDB_dbi *dbis, void *arg)
{
	MDB_val k = { 1, "k" }, v = { 1, "v" };

	return db_errno(mdb_put(txn, dbis[0], &k, &v, 0));
}

static int
has_row(MDB_txn *txn, void *arg)
{
	MDB_dbi *dbis = arg;
	MDB_val k = { 1, "k" }, v;

	return db_errno(mdb_get(txn, dbis[0], &k, &v));
}

/* Made with the first n tables, opened with the names from `from` to `to`. */
static int
reopen(struct world *w, size_t n, size_t from, size_t to)
{
	MDB_dbi dbis[3];
	struct db *db;
	int rc = db_create(w->path, MAP, tables, n, put_row, NULL);

	assert_int_equal(rc, 0);
	rc = db_open(w->path, MAP, tables + from, to - from, dbis, &db);
	if (rc != 0)
		return rc;
	rc = db_view(db, has_row, dbis);
	db_close(db);
	return rc;
}

static void
test_all_there(void **state)
{
	assert_int_equal(reopen(*state, 3, 0, 3), 0);
}

static void
test_one_there(void **state)
{
	assert_int_equal(reopen(*state, 1, 0, 1), 0);
}

static void
test_last_is_made(void **state)
{
	assert_int_equal(reopen(*state, 2, 0, 3), 0);
}

static void
test_two_missing(void **state)
{
	assert_int_equal(reopen(*state, 1, 0, 3), -EBADMSG);
}

/* A file without our only table is no older version of ours: it is damaged,
 * and must not pass for an empty one. */
static void
test_only_one_missing(void **state)
{
	assert_int_equal(reopen(*state, 1, 1, 2), -EBADMSG);
}

static void
test_none(void **state)
{
	struct world *w = *state;
	MDB_dbi dbi;
	struct db *db;

	assert_int_equal(db_open(w->path, MAP, tables, 1, &dbi, &db), -ENOENT);
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_all_there),
		TEST(test_one_there),
		TEST(test_last_is_made),
		TEST(test_two_missing),
		TEST(test_only_one_missing),
		TEST(test_none),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
