/*
 * cache_room.c - how blobs come into the firmware cache and leave it
 *
 * What must stay true: the sum of the sizes of all rows, and of the files that
 * have none, never exceeds the limit when a blob is added; it is counted in the
 * transaction that adds, so two processes cannot both take the last room. The
 * file is there before its row, and goes after it: who makes or removes files
 * holds the lock on blob/ from the first step to the last, as one process may
 * add again what the other is evicting.
 */
#include "cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache_private.h"
#include "log.h"
#include "manifest.h"
#include "slices.h"
#include "url.h"
#include "xalloc.h"

/* ---- who may make and remove files now ----------------------------------- */

static int
files_lock(struct cache *c)
{
	int rc;

	do
		rc = flock(c->blob_dir, LOCK_EX);
	while (rc != 0 && errno == EINTR);
	return rc == 0 ? 0 : -errno;
}

static void
files_unlock(struct cache *c)
{
	flock(c->blob_dir, LOCK_UN);
}

/* ---- leaving ------------------------------------------------------------- */

struct leaving {
	struct cache *c;
	const uint8_t *sha256;
};

static int
remove_row(MDB_txn *txn, void *arg)
{
	struct leaving *l = arg;
	int rc = cache_del(txn, l->c->t[T_BLOB], l->sha256, 32);

	if (rc == 0)
		rc = cache_del(txn, l->c->t[T_SLICES], l->sha256, 32);
	return rc == -ENOENT ? 0 : rc;
}

/* The lock is held. */
static int
remove_both(struct cache *c, const uint8_t sha256[32])
{
	struct leaving l = { c, sha256 };
	struct cache_blob b;
	char name[65];
	int there = cache_blob_get(c, sha256, &b);
	int rc = cache_update(c, remove_row, &l);

	if (there == 0)
		cache_blob_free(&b);
	if (rc != 0)
		return rc;
	hex_encode(sha256, 32, name);
	if (unlinkat(c->blob_dir, name, 0) != 0 && errno != ENOENT)
		return -errno;
	return there;
}

int
cache_blob_remove(struct cache *c, const uint8_t sha256[32])
{
	int rc = files_lock(c);

	if (rc != 0)
		return rc;
	rc = remove_both(c, sha256);
	files_unlock(c);
	return rc;
}

int
cache_blob_lost(struct cache *c, const uint8_t sha256[32])
{
	struct cache_blob b;
	char name[65];
	struct stat st;
	int rc = files_lock(c);

	if (rc != 0)
		return rc;
	hex_encode(sha256, 32, name);
	rc = cache_blob_get(c, sha256, &b);
	if (rc == 0) {
		cache_blob_free(&b);
		if (fstatat(c->blob_dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 &&
		    errno == ENOENT)
			rc = remove_both(c, sha256) == 0 ? 1 : -EIO;
	}
	files_unlock(c);
	return rc;
}

int
cache_evict_candidate(struct cache *c,
    bool (*skip)(const uint8_t sha256[32], void *arg), void *arg,
    uint8_t sha256_out[32])
{
	struct cache_all a = { .c = c };
	const struct cache_blob *best = NULL;
	int rc = cache_view(c, cache_all_get, &a);

	for (size_t i = 0; rc == 0 && i < a.n; i++) {
		const struct cache_blob *b = &a.v[i];

		if (b->pinned ||
		    (best != NULL && best->last_use <= b->last_use) ||
		    (skip != NULL && skip(b->sha256, arg)))
			continue;
		best = b;
	}
	if (rc == 0 && best == NULL)
		rc = -ENOENT;
	if (rc == 0)
		memcpy(sha256_out, best->sha256, 32);
	cache_all_free(&a);
	return rc;
}

/* ---- files without a row ------------------------------------------------- */

struct orphans {
	struct cache *c;
	const uint8_t *spare; /* not this one */
	uint64_t octets;
	char oldest[65];
	struct timespec oldest_at;
};

static void
count_orphan(struct orphans *o, MDB_txn *txn, const char *name)
{
	uint8_t sha[32];
	struct cache_blob b;
	struct stat st;

	if (fstatat(o->c->blob_dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !S_ISREG(st.st_mode))
		return;
	if (strlen(name) == 64 && hex_decode(name, sha, 32) == 0) {
		if (cache_blob_read(o->c, txn, sha, &b) == 0) {
			cache_blob_free(&b);
			return;
		}
		if (o->spare != NULL && memcmp(o->spare, sha, 32) == 0)
			return;
	} else if (strlen(name) > 64) {
		return; /* none of ours */
	}
	o->octets += (uint64_t)st.st_blocks * 512;
	if (o->oldest[0] == '\0' || st.st_mtim.tv_sec < o->oldest_at.tv_sec) {
		strcpy(o->oldest, name);
		o->oldest_at = st.st_mtim;
	}
}

static int
look_for_orphans(struct orphans *o, MDB_txn *txn)
{
	int fd =
	    openat(o->c->blob_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return -EIO;
	}
	o->octets = 0;
	o->oldest[0] = '\0';
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			count_orphan(o, txn, e->d_name);
	closedir(d);
	return 0;
}

bool
cache_orphan(struct cache *c, const uint8_t sha256[32], uint64_t *size_out)
{
	struct cache_blob b;
	char name[65];
	struct stat st;

	hex_encode(sha256, 32, name);
	if (fstatat(c->blob_dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !S_ISREG(st.st_mode))
		return false;
	if (cache_blob_get(c, sha256, &b) == 0) {
		cache_blob_free(&b);
		return false;
	}
	*size_out = (uint64_t)st.st_size;
	return true;
}

/* ---- adding -------------------------------------------------------------- */

struct adding {
	struct cache *c;
	const struct cache_blob *want;
	bool fresh; /* its file was made just now */
	bool made;  /* a row */
};

static int
room_for(struct adding *a, MDB_txn *txn)
{
	struct cache_all all = { .c = a->c };
	struct orphans o = { .c = a->c, .spare = a->want->sha256 };
	uint64_t reserved = a->want->size, unfilled = a->want->size;
	int rc = cache_all_get(txn, &all);

	for (size_t i = 0; i < all.n; i++) {
		reserved += all.v[i].size;
		unfilled += all.v[i].size - all.v[i].filled;
	}
	if (rc == 0 && (reserved > a->c->limit || all.n >= CACHE_BLOBS_MAX))
		rc = -ENOSPC;
	cache_all_free(&all);
	/* What nobody knows of goes before anything is evicted. */
	while (rc == 0 && (rc = look_for_orphans(&o, txn)) == 0 &&
	    (reserved + o.octets > a->c->limit ||
		unfilled > cache_disk_room(a->c)) &&
	    o.oldest[0] != '\0') {
		log_info(
		    "cache: %s is known to no manifest: removed", o.oldest);
		if (unlinkat(a->c->blob_dir, o.oldest, 0) != 0)
			rc = -EIO;
	}
	if (rc == 0 && unfilled > cache_disk_room(a->c))
		rc = -EDQUOT;
	return rc;
}

/* It is there: only where it comes from may have changed, or its file have
 * been taken away. */
static int
meet(struct adding *a, MDB_txn *txn, struct cache_blob *have)
{
	const struct cache_blob *w = a->want;

	if (have->size != w->size ||
	    memcmp(have->list_sha256, w->list_sha256, 32) != 0)
		return -EINVAL;
	if (strcmp(have->product, w->product) == 0 &&
	    strcmp(have->channel, w->channel) == 0 &&
	    strcmp(have->path, w->path) == 0 && !(a->fresh && have->filled > 0))
		return -EALREADY;
	for (size_t i = 0; a->fresh && i < have->slices; i++)
		cache_bit_put(have, i, false);
	memcpy(have->product, w->product, sizeof(have->product));
	memcpy(have->channel, w->channel, sizeof(have->channel));
	memcpy(have->path, w->path, sizeof(have->path));
	return cache_blob_write(a->c, txn, have);
}

static int
add(MDB_txn *txn, void *arg)
{
	struct adding *a = arg;
	struct cache_blob b;
	int rc = cache_blob_read(a->c, txn, a->want->sha256, &b);

	if (rc == 0) {
		rc = meet(a, txn, &b);
		cache_blob_free(&b);
		return rc;
	}
	if (rc != -ENOENT)
		return rc;
	rc = room_for(a, txn);
	if (rc != 0)
		return rc;
	b = *a->want;
	b.slices = slices_count(b.size);
	b.filled = 0;
	b.last_use -= b.last_use % CACHE_HOUR;
	b.bitmap = xcalloc(1, (b.slices + 7) / 8);
	rc = cache_blob_write(a->c, txn, &b);
	a->made = true;
	free(b.bitmap);
	/* A list without its blob may be of another. */
	if (rc == 0)
		rc = cache_del(txn, a->c->t[T_SLICES], b.sha256, 32);
	return rc == -ENOENT ? 0 : rc;
}

/* 0: made; 1: it was there. */
static int
make_file(struct cache *c, const struct cache_blob *want)
{
	char name[65];
	struct stat st;
	int fd, rc = 0;

	hex_encode(want->sha256, 32, name);
	fd = openat(
	    c->blob_dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
	if (fd < 0)
		return -errno;
	fchmod(fd, 0660);
	if (fstat(fd, &st) != 0)
		rc = -errno;
	else if ((uint64_t)st.st_size != want->size &&
	    (ftruncate(fd, (off_t)want->size) != 0 || fsync(fd) != 0 ||
		fsync(c->blob_dir) != 0))
		rc = -errno;
	else if (st.st_size != 0)
		rc = 1;
	close(fd);
	return rc;
}

/* The lock is held. */
static int
add_both(struct cache *c, const struct cache_blob *want)
{
	struct adding a = { .c = c, .want = want };
	char name[65];
	int was = make_file(c, want), rc;

	if (was < 0)
		return was;
	a.fresh = was == 0;
	rc = cache_update(c, add, &a);
	if (rc == -EALREADY)
		return 0;
	if (rc == 0)
		return a.made ? was : 0;
	if (was == 0) {
		hex_encode(want->sha256, 32, name);
		unlinkat(c->blob_dir, name, 0);
	}
	return rc;
}

int
cache_blob_add(struct cache *c, const struct cache_blob *want)
{
	struct cache_blob b;
	int rc;

	if (want->size == 0 || want->size > FIRMWARE_SIZE_MAX)
		return -EINVAL;
	rc = files_lock(c);
	if (rc != 0)
		return rc;
	if (cache_blob_get(c, want->sha256, &b) == 0) {
		rc = b.size == want->size ? 0 : -EINVAL;
		cache_blob_free(&b);
	}
	if (rc == 0)
		rc = add_both(c, want);
	files_unlock(c);
	return rc;
}

uint64_t
cache_short_of(struct cache *c, uint64_t size)
{
	struct cache_totals t;

	cache_totals(c, &t);
	return t.reserved + size > t.limit ? t.reserved + size - t.limit : 0;
}
