/*
 * store_world_lmdb.c - tests of a store: over LMDB, in a folder each
 */
#include "store_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "store.h"
#include "xalloc.h"

struct fixture {
	char dir[64];
	struct store *s;
};

bool
world_there(void)
{
	return true;
}

int
world_begin(void **state)
{
	return 0;
}

int
world_end(void **state)
{
	return 0;
}

int
world_setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/edgehaul-store-XXXXXX");
	if (mkdtemp(f->dir) == NULL ||
	    store_open("lmdb", f->dir, 16 << 20, &f->s, NULL) != 0)
		return -1;
	*state = f;
	return 0;
}

int
world_teardown(void **state)
{
	struct fixture *f = *state;
	char *cmd = xasprintf("rm -rf %s", f->dir);
	int rc;

	store_close(f->s);
	rc = system(cmd);
	free(cmd);
	free(f);
	return rc;
}

struct store *
world_store(void *state)
{
	return ((struct fixture *)state)->s;
}

/* ---- a full map ------------------------------------------------------------
 */

static int
put_a(struct store_txn *t, void *arg)
{
	return store_put(t, KIND_STORAGE, "acme", "a", "{}", 2);
}

static int
look_at_a(struct store_txn *t, void *arg)
{
	char *doc;
	size_t n;
	int rc = store_get(t, KIND_STORAGE, "acme", "a", &doc, &n);

	if (rc == 0)
		free(doc);
	return rc;
}

static int
del_report(struct store_txn *t, void *arg)
{
	return store_del(t, KIND_REPORT, "acme", arg);
}

static int
fill(struct store_txn *t, void *arg)
{
	char id[24];
	char *doc = xmalloc(100001);
	int rc;

	memset(doc, 'x', 100000);
	doc[100000] = '\0';
	snprintf(id, sizeof(id), "%d", (*(int *)arg)++);
	rc = store_put(t, KIND_REPORT, "acme", id, doc, 100000);
	free(doc);
	return rc;
}

/* A full state refuses what is new, keeps what it has, and takes deletes. */
void
test_full(void **state)
{
	struct store *s = world_store(*state);
	char id[24];
	int n = 0, rc = 0;

	assert_int_equal(store_update(s, put_a, NULL), 0);
	while (rc == 0 && n < 1000)
		rc = store_update(s, fill, &n);
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(store_view(s, look_at_a, NULL), 0);
	for (int i = 0; i < 10; i++) {
		snprintf(id, sizeof(id), "%d", i);
		assert_int_equal(store_update(s, del_report, id), 0);
	}
	assert_int_equal(store_update(s, fill, &n), 0);
}
