/*
 * cache.c - the gateway's firmware cache: opening, totals, small values
 *
 * What must stay true: whoever opens holds cache/.lock while the index is made
 * or made anew, so two daemons that start at once make one; a damaged index
 * costs what it knew and nothing else, as the files are compared with the
 * signed lists before they count again.
 */
#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cache_private.h"
#include "clock.h"
#include "layout.h"
#include "log.h"
#include "xalloc.h"

/* Devices, manifests and what LMDB keeps free, beside 32 octets a slice. */
#define MAP_FIXED ((uint64_t)32 << 20)
#define META_MAX (1 << 20)
#define META_NAME_MAX 200
#define VERSION_META 1
#define LOOK_MS 1000 /* how soon an index made anew is noticed */

static const char *const tables[T_COUNT] = { "blob", "slices", "manifest",
	"device", "meta" };

/* ---- transactions -------------------------------------------------------- */

/* Another process may have made the index anew. */
static int
look(struct cache *c, bool now)
{
	int64_t ms = clock_ms();

	if (!now && ms - c->looked_ms < LOOK_MS)
		return 0;
	c->looked_ms = ms;
	return db_replaced(c->db) ? db_reopen(c->db) : 0;
}

static int
run(struct cache *c, int (*how)(struct db *, db_fn, void *), db_fn fn,
    void *arg)
{
	int rc = look(c, false);

	if (rc == 0)
		rc = how(c->db, fn, arg);
	if (rc == -EBADMSG && db_replaced(c->db) && look(c, true) == 0)
		rc = how(c->db, fn, arg);
	c->last_txn = db_last_txn(c->db);
	return rc;
}

int
cache_update(struct cache *c, db_fn fn, void *arg)
{
	return run(c, db_update, fn, arg);
}

int
cache_view(struct cache *c, db_fn fn, void *arg)
{
	return run(c, db_view, fn, arg);
}

int
cache_get(MDB_txn *txn, MDB_dbi t, const void *key, size_t n, MDB_val *v)
{
	MDB_val k = { n, (void *)key };

	return db_errno(mdb_get(txn, t, &k, v));
}

int
cache_put(
    MDB_txn *txn, MDB_dbi t, const void *key, size_t n, const struct pack *o)
{
	MDB_val k = { n, (void *)key }, v = { o->n, o->p };

	return db_errno(mdb_put(txn, t, &k, &v, 0));
}

int
cache_del(MDB_txn *txn, MDB_dbi t, const void *key, size_t n)
{
	MDB_val k = { n, (void *)key };

	return db_errno(mdb_del(txn, t, &k, NULL));
}

/* ---- opening ------------------------------------------------------------- */

static int
nothing(MDB_txn *txn, const MDB_dbi *dbis, void *arg)
{
	return 0;
}

static void
drop_index(const char *index)
{
	char *data = xasprintf("%s/data.mdb", index);
	char *lock = xasprintf("%s/lock.mdb", index);

	unlink(data);
	unlink(lock);
	rmdir(index);
	free(data);
	free(lock);
}

/* The lock is held. */
static int
open_index(struct cache *c, bool create)
{
	char *index = xasprintf("%s/index", c->dir);
	int rc = db_open(index, c->map_size, tables, T_COUNT, c->t, &c->db);

	if (rc == -EBADMSG && create) {
		log_error("cache %s: damaged, made anew: what it holds is "
			  "compared with the manifests again",
		    index);
		drop_index(index);
		rc = -ENOENT;
	}
	if (rc == -ENOENT && create) {
		drop_index(index); /* half of one */
		rc = db_create(
		    index, c->map_size, tables, T_COUNT, nothing, NULL);
		if (rc == 0)
			rc = db_open(
			    index, c->map_size, tables, T_COUNT, c->t, &c->db);
	}
	free(index);
	return rc;
}

/* blob/ and the lock, then the index. */
static int
open_all(struct cache *c, bool create)
{
	char *blob = xasprintf("%s/blob", c->dir);
	char *lock = xasprintf("%s/.lock", c->dir);
	int rc = create ? layout_make_dirs(blob) : 0, fd = -1;

	if (rc == 0) {
		if (create) {
			chmod(c->dir, 02770);
			chmod(blob, 02770);
		}
		c->blob_dir = open(blob, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (c->blob_dir < 0)
			rc = -errno;
	}
	if (rc == 0) {
		fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0660);
		if (fd < 0 || flock(fd, LOCK_EX) != 0)
			rc = -errno;
		else
			fchmod(fd, 0660);
	}
	if (rc == 0)
		rc = open_index(c, create);
	if (fd >= 0)
		close(fd);
	free(blob);
	free(lock);
	return rc;
}

int
cache_open(const char *dir, uint64_t limit, bool create, struct cache **c_out,
    char **why_out)
{
	struct cache *c = xcalloc(1, sizeof(*c));
	int rc;

	c->dir = xstrdup(dir);
	c->blob_dir = -1;
	c->limit = limit;
	c->map_size = MAP_FIXED + (limit / 4096 + 4095) / 4096 * 4096;
	rc = open_all(c, create);
	if (rc == 0) {
		c->last_txn = db_last_txn(c->db);
		*c_out = c;
		return 0;
	}
	if (why_out != NULL)
		*why_out = xasprintf("cache %s: %s", dir,
		    rc == -EBADMSG ? "its index is damaged" : strerror(-rc));
	cache_close(c);
	return rc;
}

void
cache_close(struct cache *c)
{
	if (c == NULL)
		return;
	db_close(c->db);
	if (c->blob_dir >= 0)
		close(c->blob_dir);
	free(c->dir);
	free(c);
}

void
cache_set_limit(struct cache *c, uint64_t limit)
{
	c->limit = limit;
}

void
cache_set_floor(struct cache *c, uint64_t octets)
{
	c->floor = octets;
	c->room_ms = 0; /* what was seen was above another floor */
}

uint64_t
cache_disk_room(struct cache *c)
{
	struct statvfs st;
	uint64_t avail, floor = c->floor, room = UINT64_MAX;

	/* If that fails, a write will tell. */
	if (fstatvfs(c->blob_dir, &st) == 0) {
		avail = (uint64_t)st.f_bavail * st.f_frsize;
		room = avail > floor ? avail - floor : 0;
	}
	c->room = room;
	c->room_ms = clock_ms();
	return room;
}

bool
cache_disk_room_seen(struct cache *c, int64_t max_age_ms, uint64_t *octets_out)
{
	int64_t at = c->room_ms;

	if (at == 0 || clock_ms() - at > max_age_ms)
		return false;
	*octets_out = c->room;
	return true;
}

uint64_t
cache_last_txn(struct cache *c)
{
	return c->db != NULL ? db_last_txn(c->db) : c->last_txn;
}

/* ---- small values -------------------------------------------------------- */

struct meta {
	struct cache *c;
	const char *name;
	const struct pack *row;
	char *value;
};

static int
meta_put(MDB_txn *txn, void *arg)
{
	struct meta *m = arg;

	return cache_put(
	    txn, m->c->t[T_META], m->name, strlen(m->name), m->row);
}

static int
meta_get(MDB_txn *txn, void *arg)
{
	struct meta *m = arg;
	struct unpack u;
	MDB_val v;
	int rc = cache_get(txn, m->c->t[T_META], m->name, strlen(m->name), &v);

	if (rc != 0)
		return rc;
	if (unpack_open(&u, v.mv_data, v.mv_size, VERSION_META))
		m->value = unpack_text(&u, META_MAX, NULL);
	return m->value != NULL ? 0 : -ENOENT;
}

static bool
name_ok(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n <= META_NAME_MAX;
}

int
cache_meta_get(struct cache *c, const char *name, char **value_out)
{
	struct meta m = { .c = c, .name = name };
	int rc = name_ok(name) ? cache_view(c, meta_get, &m) : -EINVAL;

	if (rc == 0)
		*value_out = m.value;
	return rc;
}

int
cache_meta_put(struct cache *c, const char *name, const char *value)
{
	struct pack o;
	struct meta m = { .c = c, .name = name, .row = &o };
	char *old = NULL;
	int rc;

	if (!name_ok(name) || strlen(value) > META_MAX)
		return -EINVAL;
	/* What is there already is not written again. */
	if (cache_meta_get(c, name, &old) == 0 && strcmp(old, value) == 0) {
		free(old);
		return 0;
	}
	free(old);
	pack_start(&o, VERSION_META);
	pack_text(&o, value, strlen(value));
	pack_seal(&o);
	rc = cache_update(c, meta_put, &m);
	pack_fini(&o);
	return rc;
}
