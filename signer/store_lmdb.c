/*
 * store_lmdb.c - the signer's state in LMDB
 *
 * One table; a key is a letter for the kind, the tenant, NUL, the id. Default
 * flags: a commit is synced, and several processes (the daemon and `token
 * create`) may use it at once. The map is sparse and has a fixed size. Values
 * begin with an octet for their format. No transaction outlives a call.
 *
 * Near the end of the map new rows are refused, but for those that a delete or
 * a block writes: these must go on, or nobody could make room.
 */
#include "store.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <lmdb.h>

#include "db.h"
#include "xalloc.h"

#define FORMAT 1
#define READERS 126
#define KEY_MAX 511
#define FULL_PERCENT 85
#define FREE_DBI 0 /* LMDB's own list of free pages */

/* Never change one: they are on disk. */
static const char letters[KINDS] = {
	[KIND_META] = 'm',
	[KIND_TENANT] = 't',
	[KIND_TOKEN] = 'k',
	[KIND_STORAGE] = 's',
	[KIND_REPLACED] = 'p',
	[KIND_STATUS] = 'h',
	[KIND_CERTIFICATE] = 'c',
	[KIND_GATEWAY] = 'g',
	[KIND_DEVICE] = 'd',
	[KIND_CONTACT] = 'l',
	[KIND_CHANGE] = 'v',
	[KIND_REPORT] = 'r',
	[KIND_AUDIT] = 'a',
	[KIND_PRODUCT] = 'f',
	[KIND_RELEASE] = 'e',
	[KIND_MANIFEST] = 'n',
	[KIND_SIGNED] = 'o',
	[KIND_RUNNING] = 'u',
};

struct lmdb {
	struct store store;
	MDB_env *env;
	MDB_dbi dbi;
};
struct lmdb_txn {
	struct store_txn txn;
	MDB_txn *mdb;
	MDB_dbi dbi;
};

static const struct store_ops ops;

/* Fill buf; its length, or 0 if it would be too long. */
static size_t
make_key(
    char buf[KEY_MAX], enum store_kind kind, const char *tenant, const char *id)
{
	size_t t = strlen(tenant), i = strlen(id);

	if (t + i + 2 > KEY_MAX)
		return 0;
	buf[0] = letters[kind];
	memcpy(buf + 1, tenant, t + 1);
	memcpy(buf + t + 2, id, i);
	return t + i + 2;
}

static int
lmdb_get(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *id, char **doc_out, size_t *n_out)
{
	struct lmdb_txn *t = (struct lmdb_txn *)st;
	char buf[KEY_MAX];
	MDB_val k = { make_key(buf, kind, tenant, id), buf }, v;
	int rc;

	if (k.mv_size == 0)
		return -ENOENT;
	rc = db_errno(mdb_get(t->mdb, t->dbi, &k, &v));
	if (rc != 0)
		return rc;
	if (v.mv_size < 1 || *(const char *)v.mv_data != FORMAT)
		return -EBADMSG;
	*n_out = v.mv_size - 1;
	*doc_out = xstrndup((const char *)v.mv_data + 1, *n_out);
	return 0;
}

/* Into the last of the room, too. */
static bool
has_reserve(enum store_kind kind)
{
	return kind == KIND_AUDIT || kind == KIND_CHANGE || kind == KIND_META ||
	    kind == KIND_DEVICE || kind == KIND_REPLACED;
}

static int
lmdb_put(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *id, const char *doc, size_t n)
{
	struct lmdb_txn *t = (struct lmdb_txn *)st;
	char buf[KEY_MAX];
	MDB_val k = { make_key(buf, kind, tenant, id), buf };
	MDB_val v = { n + 1, NULL }, old;
	int rc;

	if (k.mv_size == 0)
		return -ENAMETOOLONG;
	if (t->txn.full && !has_reserve(kind) &&
	    mdb_get(t->mdb, t->dbi, &k, &old) != 0)
		return -ENOSPC;
	rc = db_errno(mdb_put(t->mdb, t->dbi, &k, &v, MDB_RESERVE));
	if (rc != 0)
		return rc;
	*(char *)v.mv_data = FORMAT;
	memcpy((char *)v.mv_data + 1, doc, n);
	return 0;
}

static int
lmdb_del(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *id)
{
	struct lmdb_txn *t = (struct lmdb_txn *)st;
	char buf[KEY_MAX];
	MDB_val k = { make_key(buf, kind, tenant, id), buf };

	return k.mv_size == 0 ? -ENOENT
			      : db_errno(mdb_del(t->mdb, t->dbi, &k, NULL));
}

/* Hand a row to fn if its key begins with the prefix; 1: past it. */
static int
give_row(const MDB_val *k, const MDB_val *v, const char *prefix,
    size_t prefix_n, store_row_fn fn, void *arg)
{
	char id[KEY_MAX + 1], *doc;
	int rc;

	if (k->mv_size < prefix_n || memcmp(k->mv_data, prefix, prefix_n) != 0)
		return 1;
	if (v->mv_size < 1 || *(const char *)v->mv_data != FORMAT)
		return -EBADMSG;
	memcpy(id, (const char *)k->mv_data + prefix_n, k->mv_size - prefix_n);
	id[k->mv_size - prefix_n] = '\0';
	if (prefix_n == 1) /* of all tenants */
		id[strlen(id)] = '/';
	doc = xstrndup((const char *)v->mv_data + 1, v->mv_size - 1);
	rc = fn(id, doc, v->mv_size - 1, arg);
	free(doc);
	return rc;
}

static int
lmdb_scan(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *after, store_row_fn fn, void *arg)
{
	struct lmdb_txn *t = (struct lmdb_txn *)st;
	char buf[KEY_MAX];
	size_t prefix_n = tenant == NULL ? 1 : strlen(tenant) + 2;
	MDB_val k = { make_key(buf, kind, tenant != NULL ? tenant : "", after),
		buf },
		v;
	MDB_cursor *c;
	int rc;

	if (k.mv_size == 0)
		return 0;
	if (tenant == NULL)
		k.mv_size = 1;
	rc = db_errno(mdb_cursor_open(t->mdb, t->dbi, &c));
	if (rc != 0)
		return rc;
	rc = db_errno(mdb_cursor_get(c, &k, &v, MDB_SET_RANGE));
	while (rc == 0) {
		bool same = tenant != NULL && after[0] != '\0' &&
		    k.mv_size == prefix_n + strlen(after) &&
		    memcmp((const char *)k.mv_data + prefix_n, after,
			strlen(after)) == 0;

		if (!same)
			rc = give_row(&k, &v, buf, prefix_n, fn, arg);
		if (rc == 0)
			rc = db_errno(mdb_cursor_get(c, &k, &v, MDB_NEXT));
	}
	mdb_cursor_close(c);
	return rc == -ENOENT ? 0 : rc;
}

/* A transaction of its own: LMDB shows the list to readers only. */
static size_t
free_pages(MDB_env *env)
{
	MDB_val k, v;
	MDB_txn *txn;
	MDB_cursor *c;
	size_t sum = 0;

	if (mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0)
		return 0;
	if (mdb_cursor_open(txn, FREE_DBI, &c) == 0) {
		while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0)
			sum += *(const size_t *)v.mv_data;
		mdb_cursor_close(c);
	}
	mdb_txn_abort(txn);
	return sum;
}

/* The list is read only when the file has grown near its limit. */
static bool
is_full(MDB_env *env)
{
	MDB_envinfo info;
	MDB_stat st;
	size_t most, used;

	if (mdb_env_info(env, &info) != 0 || mdb_env_stat(env, &st) != 0)
		return false;
	most = info.me_mapsize / st.ms_psize / 100 * FULL_PERCENT;
	used = info.me_last_pgno + 1;
	return used > most && used - free_pages(env) > most;
}

static int
lmdb_update(struct store *s, store_fn fn, void *arg)
{
	struct lmdb *l = (struct lmdb *)s;
	struct lmdb_txn t = {
		.txn.ops = &ops,
		.dbi = l->dbi,
		.txn.full = is_full(l->env),
	};
	int rc = db_errno(mdb_txn_begin(l->env, NULL, 0, &t.mdb));

	if (rc != 0)
		return rc;
	rc = fn(&t.txn, arg);
	if (rc == 0)
		return db_errno(mdb_txn_commit(t.mdb));
	mdb_txn_abort(t.mdb);
	return rc;
}

static int
lmdb_view(struct store *s, store_fn fn, void *arg)
{
	struct lmdb *l = (struct lmdb *)s;
	struct lmdb_txn t = { .txn.ops = &ops, .dbi = l->dbi };
	int rc = db_errno(mdb_txn_begin(l->env, NULL, MDB_RDONLY, &t.mdb));

	if (rc != 0)
		return rc;
	rc = fn(&t.txn, arg);
	mdb_txn_abort(t.mdb);
	return rc;
}

static void
lmdb_close(struct store *s)
{
	struct lmdb *l = (struct lmdb *)s;

	mdb_env_close(l->env);
	free(l);
}

static const struct store_ops ops = {
	.name = "lmdb",
	.update = lmdb_update,
	.view = lmdb_view,
	.close = lmdb_close,
	.get = lmdb_get,
	.put = lmdb_put,
	.del = lmdb_del,
	.scan = lmdb_scan,
};

static int
open_table(struct lmdb *l)
{
	MDB_txn *txn;
	int rc = db_errno(mdb_txn_begin(l->env, NULL, 0, &txn));

	if (rc != 0)
		return rc;
	rc = db_errno(mdb_dbi_open(txn, NULL, 0, &l->dbi));
	if (rc == 0)
		return db_errno(mdb_txn_commit(txn));
	mdb_txn_abort(txn);
	return rc;
}

int
store_open_lmdb(
    const char *dir, uint64_t max_size, struct store **s_out, char **why_out)
{
	struct lmdb *l = xcalloc(1, sizeof(*l));
	char *path = xasprintf("%s/database", dir);
	int dead, rc;

	l->store.ops = &ops;
	rc = mkdir(path, 0700) != 0 && errno != EEXIST ? -errno : 0;
	if (rc == 0)
		rc = db_errno(mdb_env_create(&l->env));
	if (rc == 0)
		rc = db_errno(mdb_env_set_mapsize(l->env, max_size));
	if (rc == 0)
		rc = db_errno(mdb_env_set_maxreaders(l->env, READERS));
	if (rc == 0)
		rc = db_errno(mdb_env_open(l->env, path, 0, 0600));
	if (rc == 0)
		mdb_reader_check(l->env, &dead);
	if (rc == 0)
		rc = open_table(l);
	if (rc != 0) {
		if (why_out != NULL)
			*why_out = xasprintf("%s: %s", path, strerror(-rc));
		if (l->env != NULL)
			mdb_env_close(l->env);
		free(l);
	} else {
		*s_out = &l->store;
	}
	free(path);
	return rc;
}
