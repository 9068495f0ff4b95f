/*
 * db.c - an LMDB environment, with the rules that keep it whole
 */
#include "db.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "xalloc.h"

#define DB_READERS 64 /* the same in every process: lock.mdb is shared */
#define DB_TABLES_MAX 8
#define DB_MODE 0660

struct db {
	MDB_env *env;
	/* The same for db_last_txn(), which other threads may call: NULL while
	 * the environment is opened, closed or its map moved. */
	pthread_mutex_t mutex;
	MDB_env *shown;
	char *dir;
	uint64_t map_size;
	const char *const *tables;
	size_t tables_n;
	MDB_dbi *dbis; /* the caller's */
};

int
db_errno(int rc)
{
	switch (rc) {
	case MDB_SUCCESS:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_KEYEXIST:
		return -EEXIST;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
		return -ENOSPC;
	case MDB_READERS_FULL:
		return -EAGAIN;
	case MDB_PAGE_NOTFOUND:
	case MDB_CORRUPTED:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
	case MDB_BAD_TXN:
		return -EBADMSG;
	case MDB_PANIC:
		return -EIO;
	case MDB_MAP_RESIZED:
		return -ESTALE;
	default:
		return rc > 0 ? -rc : -EIO;
	}
}

/* LMDB maps the file without looking how long it is: a page behind its end is
 * a SIGBUS. */
static bool
too_short(MDB_env *env)
{
	MDB_envinfo info;
	MDB_stat page;
	struct stat st;
	int fd;

	return mdb_env_info(env, &info) != 0 || mdb_env_stat(env, &page) != 0 ||
	    mdb_env_get_fd(env, &fd) != 0 || fstat(fd, &st) != 0 ||
	    (uint64_t)st.st_size / page.ms_psize <= info.me_last_pgno;
}

static int
env_open(const char *dir, uint64_t map_size, MDB_env **env_out)
{
	MDB_env *env;
	int rc, fd;

	rc = mdb_env_create(&env);
	if (rc != 0)
		return db_errno(rc);
	if ((rc = mdb_env_set_mapsize(env, map_size)) != 0 ||
	    (rc = mdb_env_set_maxdbs(env, DB_TABLES_MAX)) != 0 ||
	    (rc = mdb_env_set_maxreaders(env, DB_READERS)) != 0 ||
	    (rc = mdb_env_open(env, dir, MDB_NOTLS, DB_MODE)) != 0) {
		mdb_env_close(env);
		return db_errno(rc);
	}
	if (too_short(env)) {
		mdb_env_close(env);
		return -EBADMSG;
	}
	if (mdb_env_get_fd(env, &fd) == 0)
		fcntl(fd, F_SETFD, FD_CLOEXEC); /* 0.9.24 leaves it open */
	mdb_reader_check(env, NULL);
	*env_out = env;
	return 0;
}

static int
open_tables(MDB_env *env, unsigned flags, const char *const *tables, size_t n,
    MDB_dbi *dbis, MDB_txn *txn)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = db_errno(mdb_dbi_open(txn, tables[i], flags, &dbis[i]));
	return rc;
}

static int
open_all(struct db *db, size_t n)
{
	MDB_txn *txn;
	int rc = db_errno(mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn));

	if (rc != 0)
		return rc;
	rc = open_tables(db->env, 0, db->tables, n, db->dbis, txn);
	/* Committing keeps the handles, aborting would close them. */
	if (rc == 0)
		return db_errno(mdb_txn_commit(txn));
	mdb_txn_abort(txn);
	return rc;
}

static int
add_last(struct db *db)
{
	size_t last = db->tables_n - 1;
	MDB_txn *txn;
	int rc = db_errno(mdb_txn_begin(db->env, NULL, 0, &txn));

	if (rc != 0)
		return rc;
	rc = open_tables(
	    db->env, MDB_CREATE, db->tables + last, 1, db->dbis + last, txn);
	if (rc == 0)
		return db_errno(mdb_txn_commit(txn));
	mdb_txn_abort(txn);
	return rc;
}

static void
show(struct db *db, MDB_env *env)
{
	pthread_mutex_lock(&db->mutex);
	db->shown = env;
	pthread_mutex_unlock(&db->mutex);
}

static int
env_and_tables(struct db *db)
{
	int rc = env_open(db->dir, db->map_size, &db->env);

	if (rc != 0)
		return rc;
	rc = open_all(db, db->tables_n);
	/* Made by a version that had no last table yet? */
	if (rc == -ENOENT && db->tables_n > 1 &&
	    open_all(db, db->tables_n - 1) == 0)
		rc = add_last(db);
	if (rc == -ENOENT)
		rc = -EBADMSG; /* a file without our tables */
	if (rc != 0) {
		mdb_env_close(db->env);
		db->env = NULL;
	}
	show(db, db->env);
	return rc;
}

int
db_open(const char *dir, uint64_t map_size, const char *const *tables,
    size_t tables_n, MDB_dbi *dbis, struct db **db_out)
{
	struct db *db;
	char *file = xasprintf("%s/data.mdb", dir);
	struct stat st;
	int rc = stat(file, &st) != 0 ? -errno : 0;

	free(file);
	if (rc != 0)
		return rc;
	if (st.st_size == 0)
		return -EBADMSG; /* db_create() never leaves an empty one */
	db = xcalloc(1, sizeof(*db));
	db->dir = xstrdup(dir);
	db->map_size = map_size;
	db->tables = tables;
	db->tables_n = tables_n;
	db->dbis = dbis;
	pthread_mutex_init(&db->mutex, NULL);
	rc = env_and_tables(db);
	if (rc != 0) {
		pthread_mutex_destroy(&db->mutex);
		free(db->dir);
		free(db);
		return rc;
	}
	*db_out = db;
	return 0;
}

static int
sync_path(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd) != 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* All blocks now, so that no later commit can fail for want of disk. */
static int
preallocate(const char *dir, uint64_t size)
{
	char *file = xasprintf("%s/data.mdb", dir);
	int fd = open(file, O_RDWR | O_CLOEXEC), rc = 0;

	if (fd < 0)
		rc = -errno;
	else if (fallocate(fd, 0, 0, (off_t)size) != 0 &&
	    (errno != EOPNOTSUPP || ftruncate(fd, (off_t)size) != 0))
		rc = -errno;
	else if (fsync(fd) != 0)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	free(file);
	return rc;
}

static int
fill_new(const char *dir, uint64_t map_size, const char *const *tables,
    size_t tables_n, int (*fill)(MDB_txn *, const MDB_dbi *, void *), void *arg)
{
	MDB_dbi dbis[DB_TABLES_MAX];
	MDB_env *env;
	MDB_txn *txn;
	int rc = env_open(dir, map_size, &env);

	if (rc != 0)
		return rc;
	rc = db_errno(mdb_txn_begin(env, NULL, 0, &txn));
	if (rc == 0) {
		rc = open_tables(env, MDB_CREATE, tables, tables_n, dbis, txn);
		if (rc == 0)
			rc = fill(txn, dbis, arg);
		if (rc == 0)
			rc = db_errno(mdb_txn_commit(txn));
		else
			mdb_txn_abort(txn);
	}
	mdb_env_close(env);
	return rc;
}

static void
remove_env_dir(const char *dir)
{
	static const char *const files[] = { "data.mdb", "lock.mdb" };

	for (int i = 0; i < 2; i++) {
		char *p = xasprintf("%s/%s", dir, files[i]);

		unlink(p);
		free(p);
	}
	rmdir(dir);
}

int
db_create(const char *dir, uint64_t map_size, const char *const *tables,
    size_t tables_n, int (*fill)(MDB_txn *txn, const MDB_dbi *dbis, void *arg),
    void *arg)
{
	char *aside = xasprintf("%s.new", dir), *slash;
	mode_t old;
	int rc = 0;

	assert(tables_n <= DB_TABLES_MAX);
	remove_env_dir(aside);
	old = umask(0007); /* shared with a group: lock.mdb too */
	if (mkdir(aside, 02770) != 0)
		rc = -errno;
	if (rc == 0)
		rc = fill_new(aside, map_size, tables, tables_n, fill, arg);
	umask(old);
	if (rc == 0)
		rc = preallocate(aside, map_size);
	if (rc == 0)
		rc = sync_path(aside, O_RDONLY | O_DIRECTORY);
	if (rc == 0 && rename(aside, dir) != 0)
		rc = -errno;
	if (rc == 0) {
		slash = strrchr(aside, '/');
		if (slash != NULL)
			*slash = '\0';
		rc = sync_path(
		    slash != NULL ? aside : ".", O_RDONLY | O_DIRECTORY);
	} else {
		remove_env_dir(aside);
	}
	free(aside);
	return rc;
}

void
db_close(struct db *db)
{
	if (db == NULL)
		return;
	if (db->env != NULL)
		mdb_env_close(db->env);
	pthread_mutex_destroy(&db->mutex);
	free(db->dir);
	free(db);
}

bool
db_replaced(struct db *db)
{
	char *file = xasprintf("%s/data.mdb", db->dir);
	struct stat ours, there;
	bool replaced;
	int fd;

	replaced = db->env != NULL && mdb_env_get_fd(db->env, &fd) == 0 &&
	    fstat(fd, &ours) == 0 && stat(file, &there) == 0 &&
	    (ours.st_ino != there.st_ino || ours.st_dev != there.st_dev);
	free(file);
	return replaced;
}

int
db_reopen(struct db *db)
{
	int rc;

	show(db, NULL);
	if (db->env != NULL)
		mdb_env_close(db->env);
	db->env = NULL;
	rc = env_and_tables(db);
	if (rc != 0)
		log_error(
		    "index %s: cannot reopen: %s", db->dir, strerror(-rc));
	return rc;
}

/* After a failed write of the meta page LMDB refuses all until reopened. */
static int
reopen(struct db *db)
{
	log_warn("index %s: reopening after a failed write", db->dir);
	return db_reopen(db);
}

static int
begin(struct db *db, unsigned flags, MDB_txn **txn_out)
{
	int rc = MDB_PANIC;

	for (int tries = 0; tries < 3; tries++) {
		if (db->env == NULL && env_and_tables(db) != 0)
			return -EIO;
		rc = mdb_txn_begin(db->env, NULL, flags, txn_out);
		if (rc == MDB_MAP_RESIZED) {
			show(db, NULL);
			mdb_env_set_mapsize(db->env, 0);
			show(db, db->env);
		} else if (rc == MDB_READERS_FULL)
			mdb_reader_check(db->env, NULL);
		else if (rc == MDB_PANIC && reopen(db) != 0)
			return -EIO;
		else if (rc != MDB_PANIC)
			break;
	}
	return db_errno(rc);
}

int
db_update(struct db *db, db_fn fn, void *arg)
{
	MDB_txn *txn;
	int rc = begin(db, 0, &txn);

	if (rc != 0)
		return rc;
	rc = fn(txn, arg);
	if (rc == 0)
		return db_errno(mdb_txn_commit(txn)); /* frees txn either way */
	mdb_txn_abort(txn);
	return rc;
}

int
db_view(struct db *db, db_fn fn, void *arg)
{
	MDB_txn *txn;
	int rc = begin(db, MDB_RDONLY, &txn);

	if (rc != 0)
		return rc;
	rc = fn(txn, arg);
	mdb_txn_abort(txn);
	return rc;
}

uint64_t
db_last_txn(struct db *db)
{
	MDB_envinfo info;
	uint64_t txn = 0;

	pthread_mutex_lock(&db->mutex);
	if (db->shown != NULL && mdb_env_info(db->shown, &info) == 0)
		txn = info.me_last_txnid;
	pthread_mutex_unlock(&db->mutex);
	return txn;
}

void
db_check_readers(struct db *db)
{
	int dead = 0;

	if (db->env != NULL && mdb_reader_check(db->env, &dead) == 0 &&
	    dead > 0)
		log_warn("index %s: cleared %d dead readers", db->dir, dead);
}

/* The free list: table 0, values start with the number of pages. */
static int
count_free(MDB_txn *txn, void *arg)
{
	uint64_t *pages = arg;
	MDB_cursor *cur;
	MDB_val k, v;
	size_t n;
	int rc = mdb_cursor_open(txn, 0, &cur);

	if (rc != 0)
		return db_errno(rc);
	while ((rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0) {
		if (v.mv_size < sizeof(n))
			continue;
		memcpy(&n, v.mv_data, sizeof(n));
		*pages += n;
	}
	mdb_cursor_close(cur);
	return rc == MDB_NOTFOUND ? 0 : db_errno(rc);
}

uint64_t
db_used(struct db *db)
{
	MDB_envinfo info;
	MDB_stat st;
	uint64_t pages, free_pages = 0;

	if (db->env == NULL || mdb_env_info(db->env, &info) != 0 ||
	    mdb_env_stat(db->env, &st) != 0)
		return 0;
	pages = info.me_last_pgno + 1;
	/* Not worth a look while the map is mostly untouched. */
	if (pages * st.ms_psize > db->map_size / 2)
		db_view(db, count_free, &free_pages);
	return (pages - (free_pages < pages ? free_pages : pages)) *
	    st.ms_psize;
}
