/*
 * cache_slices.c - slice lists and bits of the firmware cache
 *
 * What must stay true: a list is handed out only if it has the SHA-256 that the
 * manifest named; a bit is set by nothing but a caller that synced the slice,
 * or by cache_adopt() after comparing what is in the file.
 */
#include "cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache_private.h"
#include "manifest.h"
#include "read_at.h"
#include "slices.h"
#include "xalloc.h"

struct listing {
	struct cache *c;
	const uint8_t *sha256, *list;
	size_t n;
	uint8_t *copy;
};

static int
list_put(MDB_txn *txn, void *arg)
{
	struct listing *l = arg;
	struct pack o = { (unsigned char *)l->list, l->n, l->n };
	struct cache_blob b;
	int rc = cache_blob_read(l->c, txn, l->sha256, &b);

	if (rc != 0)
		return rc;
	rc = slices_list_ok(l->list, l->n, b.size, b.list_sha256)
	    ? cache_put(txn, l->c->t[T_SLICES], l->sha256, 32, &o)
	    : -EBADMSG;
	cache_blob_free(&b);
	return rc;
}

int
cache_list_put(
    struct cache *c, const uint8_t sha256[32], const uint8_t *list, size_t n)
{
	struct listing l = { .c = c, .sha256 = sha256, .list = list, .n = n };

	return cache_update(c, list_put, &l);
}

static int
list_get(MDB_txn *txn, void *arg)
{
	struct listing *l = arg;
	struct cache_blob b;
	MDB_val v;
	int rc = cache_blob_read(l->c, txn, l->sha256, &b);

	if (rc != 0)
		return rc;
	rc = cache_get(txn, l->c->t[T_SLICES], l->sha256, 32, &v);
	if (rc == 0 &&
	    !slices_list_ok(v.mv_data, v.mv_size, b.size, b.list_sha256))
		rc = -ENOENT;
	if (rc == 0) {
		l->copy = xmalloc(v.mv_size);
		memcpy(l->copy, v.mv_data, v.mv_size);
		l->n = v.mv_size;
	}
	cache_blob_free(&b);
	return rc;
}

int
cache_list_get(struct cache *c, const uint8_t sha256[32], uint8_t **list_out,
    size_t *n_out)
{
	struct listing l = { .c = c, .sha256 = sha256 };
	int rc = cache_view(c, list_get, &l);

	if (rc == 0) {
		*list_out = l.copy;
		*n_out = l.n;
	}
	return rc;
}

struct bits {
	struct cache *c;
	const uint8_t *sha256;
	size_t first, n;
	const struct timespec *ctime; /* NULL: clear */
	const uint8_t *which;         /* bitmap from first, NULL: all */
};

static int
bits_change(MDB_txn *txn, void *arg)
{
	struct bits *x = arg;
	struct cache_blob b;
	bool any = false;
	int rc = cache_blob_read(x->c, txn, x->sha256, &b);

	if (rc != 0)
		return rc;
	if (x->first > b.slices || x->n > b.slices - x->first)
		rc = -EINVAL;
	for (size_t i = 0; rc == 0 && i < x->n; i++) {
		if (x->which != NULL && (x->which[i >> 3] >> (i & 7) & 1) == 0)
			continue;
		any = any || cache_bit(&b, x->first + i) != (x->ctime != NULL);
		cache_bit_put(&b, x->first + i, x->ctime != NULL);
	}
	if (rc == 0 && x->ctime != NULL) {
		any = any || b.ctime.tv_sec != x->ctime->tv_sec ||
		    b.ctime.tv_nsec != x->ctime->tv_nsec;
		b.ctime = *x->ctime;
	}
	if (rc == 0)
		rc = any ? cache_blob_write(x->c, txn, &b) : -EALREADY;
	cache_blob_free(&b);
	return rc;
}

static int
bits_update(struct bits *x)
{
	int rc = cache_update(x->c, bits_change, x);

	return rc == -EALREADY ? 0 : rc;
}

int
cache_slices_set(struct cache *c, const uint8_t sha256[32], size_t first,
    size_t n, const struct timespec *ctime)
{
	struct bits x = { c, sha256, first, n, ctime, NULL };

	return bits_update(&x);
}

int
cache_slices_clear(
    struct cache *c, const uint8_t sha256[32], size_t first, size_t n)
{
	struct bits x = { c, sha256, first, n, NULL, NULL };

	return bits_update(&x);
}

/* ---- taking over what a file holds --------------------------------------- */

static bool
slice_fits(int fd, const uint8_t *list, uint64_t size, size_t i, char *buf)
{
	size_t n = slices_length(size, i);

	return read_at(fd, buf, n, (off_t)i * FIRMWARE_SLICE) == 0 &&
	    slices_fit(list, i, buf, n);
}

/* Is there anything but a hole in slice i? */
static bool
has_data(int fd, uint64_t size, size_t i)
{
	off_t at = (off_t)i * FIRMWARE_SLICE;
	off_t data = lseek(fd, at, SEEK_DATA);

	return data >= 0 && data < at + (off_t)slices_length(size, i);
}

static int
compare(int fd, const struct cache_blob *b, const uint8_t *list, size_t first,
    size_t n, uint8_t *fits, size_t *count)
{
	char *buf = xmalloc(FIRMWARE_SLICE);

	for (size_t i = 0; i < n; i++) {
		if (cache_bit(b, first + i) ||
		    !has_data(fd, b->size, first + i) ||
		    !slice_fits(fd, list, b->size, first + i, buf))
			continue;
		fits[i >> 3] |= (uint8_t)(1 << (i & 7));
		(*count)++;
	}
	free(buf);
	return *count > 0 && fdatasync(fd) != 0 ? -errno : 0;
}

int
cache_adopt(struct cache *c, const uint8_t sha256[32], size_t first, size_t n,
    size_t *adopted_out)
{
	struct bits x = { c, sha256, first, n, NULL, NULL };
	struct cache_blob b;
	struct stat st;
	uint8_t *list = NULL, *fits;
	size_t list_n, count = 0;
	int fd = -1, rc = cache_blob_get(c, sha256, &b);

	*adopted_out = 0;
	if (rc != 0)
		return rc;
	rc = cache_list_get(c, sha256, &list, &list_n);
	if (rc == 0 && (first > b.slices || n > b.slices - first))
		rc = -EINVAL;
	if (rc == 0 && (fd = cache_blob_open_file(c, sha256, true)) < 0)
		rc = fd;
	fits = xcalloc(1, n / 8 + 1);
	if (rc == 0)
		rc = compare(fd, &b, list, first, n, fits, &count);
	if (rc == 0 && count > 0) {
		x.which = fits;
		x.ctime = &st.st_ctim;
		rc = fstat(fd, &st) == 0 ? bits_update(&x) : -errno;
	}
	if (rc == 0)
		*adopted_out = count;
	if (fd >= 0)
		close(fd);
	cache_blob_free(&b);
	free(fits);
	free(list);
	return rc;
}
