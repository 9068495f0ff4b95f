/*
 * cache_blob.c - the blobs of the firmware cache: rows, files, room
 *
 * What must stay true: the sum of the sizes of all rows, and of the files that
 * have none, never exceeds the limit when a blob is added; it is counted in the
 * transaction that adds, so two processes cannot both take the last room. The
 * file is there before its row, and goes after it.
 */
#include "cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache_private.h"
#include "log.h"
#include "manifest.h"
#include "slices.h"
#include "url.h"
#include "xalloc.h"

#define VERSION_BLOB 1
#define F_PINNED 1
#define HOUR 3600

/* ---- rows ---------------------------------------------------------------- */

bool
cache_bit(const struct cache_blob *b, size_t i)
{
	return b->bitmap[i >> 3] >> (i & 7) & 1;
}

void
cache_bit_put(struct cache_blob *b, size_t i, bool set)
{
	uint8_t bit = (uint8_t)(1 << (i & 7));

	if (cache_bit(b, i) == set)
		return;
	b->bitmap[i >> 3] ^= bit;
	if (set)
		b->filled += slices_length(b->size, i);
	else
		b->filled -= slices_length(b->size, i);
}

void
cache_blob_encode(const struct cache_blob *b, struct pack *o)
{
	pack_start(o, VERSION_BLOB);
	pack_int(o, b->size, 8);
	pack_int(o, b->pinned ? F_PINNED : 0, 1);
	pack_int(o, (uint64_t)b->last_use, 8);
	pack_int(o, (uint64_t)b->ctime.tv_sec, 8);
	pack_int(o, (uint64_t)b->ctime.tv_nsec, 4);
	pack_bytes(o, b->list_sha256, 32);
	pack_text(o, b->product, strlen(b->product));
	pack_text(o, b->channel, strlen(b->channel));
	pack_text(o, b->path, strlen(b->path));
	pack_bytes(o, b->bitmap, (b->slices + 7) / 8);
	pack_seal(o);
}

bool
cache_blob_decode(
    const uint8_t sha256[32], const MDB_val *v, struct cache_blob *b)
{
	struct unpack u;
	uint8_t *bits;

	memset(b, 0, sizeof(*b));
	if (!unpack_open(&u, v->mv_data, v->mv_size, VERSION_BLOB))
		return false;
	memcpy(b->sha256, sha256, 32);
	b->size = unpack_int(&u, 8);
	b->pinned = (unpack_int(&u, 1) & F_PINNED) != 0;
	b->last_use = (int64_t)unpack_int(&u, 8);
	b->ctime.tv_sec = (time_t)unpack_int(&u, 8);
	b->ctime.tv_nsec = (long)unpack_int(&u, 4);
	unpack_bytes(&u, b->list_sha256, 32);
	unpack_name(&u, b->product, sizeof(b->product));
	unpack_name(&u, b->channel, sizeof(b->channel));
	unpack_name(&u, b->path, sizeof(b->path));
	if (u.bad || b->size == 0 || b->size > FIRMWARE_SIZE_MAX)
		return false;
	b->slices = slices_count(b->size);
	bits = xmalloc((b->slices + 7) / 8);
	unpack_bytes(&u, bits, (b->slices + 7) / 8);
	b->bitmap = xcalloc(1, (b->slices + 7) / 8);
	for (size_t i = 0; i < b->slices; i++)
		cache_bit_put(b, i, bits[i >> 3] >> (i & 7) & 1);
	free(bits);
	if (!unpack_done(&u)) {
		cache_blob_free(b);
		return false;
	}
	return true;
}

int
cache_blob_read(struct cache *c, MDB_txn *txn, const uint8_t sha256[32],
    struct cache_blob *b)
{
	MDB_val v;
	int rc = cache_get(txn, c->t[T_BLOB], sha256, 32, &v);

	if (rc != 0)
		return rc;
	if (!cache_blob_decode(sha256, &v, b))
		return -ENOENT;
	b->have_list = cache_get(txn, c->t[T_SLICES], sha256, 32, &v) == 0 &&
	    v.mv_size == b->slices * 32;
	return 0;
}

int
cache_blob_write(struct cache *c, MDB_txn *txn, const struct cache_blob *b)
{
	struct pack o;
	int rc;

	cache_blob_encode(b, &o);
	rc = cache_put(txn, c->t[T_BLOB], b->sha256, 32, &o);
	pack_fini(&o);
	return rc;
}

void
cache_blob_free(struct cache_blob *b)
{
	free(b->bitmap);
	b->bitmap = NULL;
}

/* ---- one blob ------------------------------------------------------------ */

struct one {
	struct cache *c;
	const uint8_t *sha256;
	struct cache_blob *b;
	int64_t now;
	bool pinned;
};

static int
get_one(MDB_txn *txn, void *arg)
{
	struct one *o = arg;

	return cache_blob_read(o->c, txn, o->sha256, o->b);
}

int
cache_blob_get(
    struct cache *c, const uint8_t sha256[32], struct cache_blob *b_out)
{
	struct cache_blob b;
	struct one o = { .c = c, .sha256 = sha256, .b = &b };
	int rc = cache_view(c, get_one, &o);

	if (rc == 0)
		*b_out = b;
	return rc;
}

/* Change a row by fn; nothing is written if it says false. */
struct change {
	struct one o;
	bool (*fn)(struct cache_blob *b, const struct one *o);
};

static int
change_one(MDB_txn *txn, void *arg)
{
	struct change *ch = arg;
	struct cache_blob b;
	int rc = cache_blob_read(ch->o.c, txn, ch->o.sha256, &b);

	if (rc != 0)
		return rc;
	rc =
	    ch->fn(&b, &ch->o) ? cache_blob_write(ch->o.c, txn, &b) : -EALREADY;
	cache_blob_free(&b);
	return rc;
}

static int
change(struct change *ch)
{
	struct cache_blob b;
	int rc = cache_blob_get(ch->o.c, ch->o.sha256, &b);

	if (rc != 0)
		return rc;
	/* Looked at first: what is so already costs no write lock. */
	if (ch->fn(&b, &ch->o))
		rc = cache_update(ch->o.c, change_one, ch);
	cache_blob_free(&b);
	return rc == -EALREADY ? 0 : rc;
}

static bool
touch(struct cache_blob *b, const struct one *o)
{
	int64_t hour = o->now - o->now % HOUR;

	if (b->last_use >= hour)
		return false;
	b->last_use = hour;
	return true;
}

int
cache_blob_touch(struct cache *c, const uint8_t sha256[32], int64_t now)
{
	struct change ch = { { .c = c, .sha256 = sha256, .now = now }, touch };

	return change(&ch);
}

static bool
pin(struct cache_blob *b, const struct one *o)
{
	if (b->pinned == o->pinned)
		return false;
	b->pinned = o->pinned;
	return true;
}

int
cache_blob_pin(struct cache *c, const uint8_t sha256[32], bool pinned)
{
	struct change ch = { { .c = c, .sha256 = sha256, .pinned = pinned },
		pin };

	return change(&ch);
}

int
cache_blob_open_file(struct cache *c, const uint8_t sha256[32], bool write)
{
	char name[65];
	int fd;

	hex_encode(sha256, 32, name);
	fd = openat(c->blob_dir, name,
	    (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 ? fd : -errno;
}

static int
remove_one(MDB_txn *txn, void *arg)
{
	struct one *o = arg;
	int rc = cache_del(txn, o->c->t[T_BLOB], o->sha256, 32);

	if (rc == 0)
		rc = cache_del(txn, o->c->t[T_SLICES], o->sha256, 32);
	return rc == -ENOENT ? 0 : rc;
}

int
cache_blob_remove(struct cache *c, const uint8_t sha256[32])
{
	struct one o = { .c = c, .sha256 = sha256 };
	struct cache_blob b;
	char name[65];
	int there = cache_blob_get(c, sha256, &b);
	int rc = cache_update(c, remove_one, &o);

	if (there == 0)
		cache_blob_free(&b);
	if (rc != 0)
		return rc;
	hex_encode(sha256, 32, name);
	if (unlinkat(c->blob_dir, name, 0) != 0 && errno != ENOENT)
		return -errno;
	return there;
}

/* ---- all blobs ----------------------------------------------------------- */

struct all {
	struct cache *c;
	struct cache_blob *v;
	size_t n;
};

static int
get_all(MDB_txn *txn, void *arg)
{
	struct all *a = arg;
	MDB_cursor *cur;
	MDB_val k, v;
	int rc = db_errno(mdb_cursor_open(txn, a->c->t[T_BLOB], &cur));

	if (rc != 0)
		return rc;
	while (a->n < 2 * CACHE_BLOBS_MAX &&
	    (rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0) {
		if (k.mv_size != 32)
			continue;
		if (a->n % 64 == 0)
			a->v = xrealloc(a->v, (a->n + 64) * sizeof(*a->v));
		if (cache_blob_read(a->c, txn, k.mv_data, &a->v[a->n]) == 0)
			a->n++;
	}
	mdb_cursor_close(cur);
	return rc == MDB_NOTFOUND ? 0 : db_errno(rc);
}

static void
free_all(struct all *a)
{
	for (size_t i = 0; i < a->n; i++)
		cache_blob_free(&a->v[i]);
	free(a->v);
}

int
cache_each_blob(struct cache *c,
    int (*fn)(const struct cache_blob *b, void *arg), void *arg)
{
	struct all a = { .c = c };
	int rc = cache_view(c, get_all, &a);

	for (size_t i = 0; rc == 0 && i < a.n; i++)
		rc = fn(&a.v[i], arg);
	free_all(&a);
	return rc;
}

void
cache_totals(struct cache *c, struct cache_totals *t_out)
{
	struct all a = { .c = c };

	memset(t_out, 0, sizeof(*t_out));
	t_out->limit = c->limit;
	if (cache_view(c, get_all, &a) == 0)
		for (size_t i = 0; i < a.n; i++) {
			t_out->reserved += a.v[i].size;
			t_out->filled += a.v[i].filled;
			t_out->pinned += a.v[i].pinned ? a.v[i].size : 0;
		}
	t_out->blobs = a.n;
	free_all(&a);
}

int
cache_evict_candidate(struct cache *c,
    bool (*skip)(const uint8_t sha256[32], void *arg), void *arg,
    uint8_t sha256_out[32])
{
	struct all a = { .c = c };
	const struct cache_blob *best = NULL;
	int rc = cache_view(c, get_all, &a);

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
	free_all(&a);
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
	bool made; /* a row */
};

static int
room_for(struct adding *a, MDB_txn *txn)
{
	struct all all = { .c = a->c };
	struct orphans o = { .c = a->c, .spare = a->want->sha256 };
	uint64_t reserved = a->want->size, unfilled = a->want->size;
	int rc = get_all(txn, &all);

	for (size_t i = 0; i < all.n; i++) {
		reserved += all.v[i].size;
		unfilled += all.v[i].size - all.v[i].filled;
	}
	if (rc == 0 && (reserved > a->c->limit || all.n >= CACHE_BLOBS_MAX))
		rc = -ENOSPC;
	free_all(&all);
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

/* It is there: only where it comes from may have changed. */
static int
meet(struct adding *a, MDB_txn *txn, struct cache_blob *have)
{
	const struct cache_blob *w = a->want;

	if (have->size != w->size ||
	    memcmp(have->list_sha256, w->list_sha256, 32) != 0)
		return -EINVAL;
	if (strcmp(have->product, w->product) == 0 &&
	    strcmp(have->channel, w->channel) == 0 &&
	    strcmp(have->path, w->path) == 0)
		return -EALREADY;
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
	b.last_use -= b.last_use % HOUR;
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

int
cache_blob_add(struct cache *c, const struct cache_blob *want)
{
	struct adding a = { .c = c, .want = want };
	struct cache_blob b;
	char name[65];
	int was, rc;

	if (want->size == 0 || want->size > FIRMWARE_SIZE_MAX)
		return -EINVAL;
	if (cache_blob_get(c, want->sha256, &b) == 0) {
		bool same = b.size == want->size;

		cache_blob_free(&b);
		if (!same)
			return -EINVAL;
	}
	was = make_file(c, want);
	if (was < 0)
		return was;
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

uint64_t
cache_short_of(struct cache *c, uint64_t size)
{
	struct cache_totals t;

	cache_totals(c, &t);
	return t.reserved + size > t.limit ? t.reserved + size - t.limit : 0;
}
