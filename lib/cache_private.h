/*
 * cache_private.h - what the rooms of the cache share; nobody else's business
 */
#ifndef CACHE_PRIVATE_H
#define CACHE_PRIVATE_H

#include <stdatomic.h>
#include <lmdb.h>

#include "cache.h"
#include "db.h"
#include "pack.h"

#define CACHE_HOUR 3600 /* uses are noted by whole ones */

enum { T_BLOB, T_SLICES, T_MANIFEST, T_DEVICE, T_META, T_COUNT };

struct cache {
	char *dir;
	int blob_dir; /* descriptor of blob/ */
	struct db *db;
	MDB_dbi t[T_COUNT];
	uint64_t map_size;
	atomic_ullong limit, floor, last_txn;
	atomic_ullong room;   /* of the disk, as it was ... */
	atomic_llong room_ms; /* ... then, by clock_ms(); 0: never looked */
	int64_t looked_ms;    /* when db_replaced() was asked last */
};

/* Run fn in a transaction on the index that is at its place now. */
int cache_update(struct cache *c, db_fn fn, void *arg);
int cache_view(struct cache *c, db_fn fn, void *arg);

/* A row by octets of key; *v is valid in the transaction. -ENOENT. */
int cache_get(MDB_txn *txn, MDB_dbi t, const void *key, size_t n, MDB_val *v);
int cache_put(
    MDB_txn *txn, MDB_dbi t, const void *key, size_t n, const struct pack *o);
int cache_del(MDB_txn *txn, MDB_dbi t, const void *key, size_t n);

/* Rows of blobs. decode: false if it is none; b's bitmap is malloc'd. */
void cache_blob_encode(const struct cache_blob *b, struct pack *o);
bool cache_blob_decode(
    const uint8_t sha256[32], const MDB_val *v, struct cache_blob *b);
/* Read it in a transaction, with have_list. -ENOENT. */
int cache_blob_read(struct cache *c, MDB_txn *txn, const uint8_t sha256[32],
    struct cache_blob *b);
int cache_blob_write(struct cache *c, MDB_txn *txn, const struct cache_blob *b);
/* All of them, in a transaction; .v is freed by cache_all_free(). */
struct cache_all {
	struct cache *c;
	struct cache_blob *v;
	size_t n;
};
int cache_all_get(MDB_txn *txn, void *all);
void cache_all_free(struct cache_all *a);
bool cache_bit(const struct cache_blob *b, size_t i);
void cache_bit_put(struct cache_blob *b, size_t i, bool set);

#endif
