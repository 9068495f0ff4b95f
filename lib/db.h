/*
 * db.h - an LMDB environment, with the rules that keep it whole
 *
 * Default flags only: what weakens a sync loses or corrupts under power cuts.
 * One thread of a process uses a db. No transaction outlives a call. The map
 * has the size it was created with and is preallocated, so that a full disk
 * cannot stop updates and deletes.
 */
#ifndef DB_H
#define DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <lmdb.h>

struct db;

typedef int (*db_fn)(MDB_txn *txn, void *arg);

/*
 * Open dir (made by db_create()) with a map of map_size octets and the named
 * tables, whose handles go to dbis[]. -ENOENT: not there; -EBADMSG: damaged.
 * The last of several tables is made if it alone is missing: an older version
 * made dir.
 */
int db_open(const char *dir, uint64_t map_size, const char *const *tables,
    size_t tables_n, MDB_dbi *dbis, struct db **db_out);
/*
 * Make dir: built aside as dir.new, filled by `fill` in one transaction,
 * preallocated, synced and renamed, so a power cut leaves all or nothing.
 */
int db_create(const char *dir, uint64_t map_size, const char *const *tables,
    size_t tables_n, int (*fill)(MDB_txn *txn, const MDB_dbi *dbis, void *arg),
    void *arg);
void db_close(struct db *db);

/* Run fn in a write transaction: commit if it returns 0, else abort. -ENOSPC:
 * the map is full. Reopens by itself after LMDB's panic. */
int db_update(struct db *db, db_fn fn, void *arg);
/* Run fn in a read transaction, which must be short. */
int db_view(struct db *db, db_fn fn, void *arg);
/* Is another environment at its place now (made anew by another process)? */
bool db_replaced(struct db *db);
/* Open what is at its place now. Between transactions only. */
int db_reopen(struct db *db);
/* Number of the last committed transaction, of any process; cheap, no disk. */
uint64_t db_last_txn(struct db *db);
/* Clear slots of readers that died. */
void db_check_readers(struct db *db);
/* Octets of the map that hold data (counts the free list; a short read). */
uint64_t db_used(struct db *db);
/* LMDB's code as -errno. */
int db_errno(int rc);

#endif
