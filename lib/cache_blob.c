/*
 * cache_blob.c - the blobs of the firmware cache: their rows
 *
 * What must stay true: a row is input; one that does not fit its format is no
 * row. How blobs come and go is in cache_room.c.
 */
#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cache_private.h"
#include "manifest.h"
#include "slices.h"
#include "url.h"
#include "xalloc.h"

#define VERSION_BLOB 1
#define F_PINNED 1

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
	int64_t hour = o->now - o->now % CACHE_HOUR;

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

/* ---- all blobs ----------------------------------------------------------- */

int
cache_all_get(MDB_txn *txn, void *arg)
{
	struct cache_all *a = arg;
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

void
cache_all_free(struct cache_all *a)
{
	for (size_t i = 0; i < a->n; i++)
		cache_blob_free(&a->v[i]);
	free(a->v);
}

int
cache_each_blob(struct cache *c,
    int (*fn)(const struct cache_blob *b, void *arg), void *arg)
{
	struct cache_all a = { .c = c };
	int rc = cache_view(c, cache_all_get, &a);

	for (size_t i = 0; rc == 0 && i < a.n; i++)
		rc = fn(&a.v[i], arg);
	cache_all_free(&a);
	return rc;
}

void
cache_totals(struct cache *c, struct cache_totals *t_out)
{
	struct cache_all a = { .c = c };

	memset(t_out, 0, sizeof(*t_out));
	t_out->limit = c->limit;
	if (cache_view(c, cache_all_get, &a) == 0)
		for (size_t i = 0; i < a.n; i++) {
			t_out->reserved += a.v[i].size;
			t_out->filled += a.v[i].filled;
			t_out->pinned += a.v[i].pinned ? a.v[i].size : 0;
		}
	t_out->blobs = a.n;
	cache_all_free(&a);
}
