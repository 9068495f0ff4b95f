/*
 * index_rows.c - rows of the index, and the table of due times beside them
 *
 * What must stay true: an entry of `due` stands for a row that is waiting and
 * has this due time. index_put() and index_del() keep that; a reader that
 * finds an entry without its row (an index of an interrupted repair) drops it.
 */
#include "index.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "db.h"

struct due_key {
	uint64_t due, seq; /* big-endian */
};

static MDB_val
seq_key(uint64_t *be, uint64_t seq)
{
	*be = htobe64(seq);
	return (MDB_val){ sizeof(*be), be };
}

static MDB_val
due_key(struct due_key *k, int64_t due, uint64_t seq)
{
	k->due = htobe64((uint64_t)due);
	k->seq = htobe64(seq);
	return (MDB_val){ sizeof(*k), k };
}

static bool
stands_in_due(const struct row *r)
{
	return r != NULL && r->item.state == SPOOL_WAITING && r->due_clock != 0;
}

int
index_get(struct index_txn *t, uint64_t seq, struct row *r_out)
{
	uint64_t be;
	MDB_val k = seq_key(&be, seq), v;
	int rc = db_errno(mdb_get(t->txn, t->dbis[INDEX_ITEM], &k, &v));

	if (rc != 0)
		return rc;
	rc = row_decode(v.mv_data, v.mv_size, r_out);
	if (rc == 0)
		r_out->item.seq = seq;
	return rc;
}

bool
index_has(struct index_txn *t, uint64_t seq)
{
	uint64_t be;
	MDB_val k = seq_key(&be, seq), v;

	return mdb_get(t->txn, t->dbis[INDEX_ITEM], &k, &v) == 0;
}

int
index_due_del(struct index_txn *t, int64_t due, uint64_t seq)
{
	struct due_key dk;
	MDB_val k = due_key(&dk, due, seq);
	int rc = db_errno(mdb_del(t->txn, t->dbis[INDEX_DUE], &k, NULL));

	return rc == -ENOENT ? 0 : rc;
}

static int
due_change(struct index_txn *t, uint64_t seq, const struct row *before,
    const struct row *after)
{
	struct due_key dk;
	MDB_val k, v = { 0, "" };
	int rc = 0;

	if (stands_in_due(before) && stands_in_due(after) &&
	    before->due_clock == after->due_clock)
		return 0;
	if (stands_in_due(before))
		rc = index_due_del(t, before->due_clock, seq);
	if (rc == 0 && stands_in_due(after)) {
		k = due_key(&dk, after->due_clock, seq);
		rc = db_errno(mdb_put(t->txn, t->dbis[INDEX_DUE], &k, &v, 0));
	}
	return rc;
}

int
index_put(struct index_txn *t, uint64_t seq, const struct row *before,
    const struct row *r)
{
	unsigned char buf[ROW_MAX];
	uint64_t be;
	MDB_val k = seq_key(&be, seq), v = { row_encode(r, buf), buf };
	MDB_dbi dbi = t->dbis[INDEX_ITEM];
	int rc;

	/* Appending fills pages to the end; what is not new goes in between. */
	rc = before == NULL ? mdb_put(t->txn, dbi, &k, &v, MDB_APPEND)
			    : MDB_KEYEXIST;
	if (rc == MDB_KEYEXIST)
		rc = mdb_put(t->txn, dbi, &k, &v, 0);
	if (rc != 0)
		return db_errno(rc);
	return due_change(t, seq, before, r);
}

int
index_del(struct index_txn *t, uint64_t seq, const struct row *before)
{
	uint64_t be;
	MDB_val k = seq_key(&be, seq);
	int rc = db_errno(mdb_del(t->txn, t->dbis[INDEX_ITEM], &k, NULL));

	if (rc == 0)
		rc = due_change(t, seq, before, NULL);
	return rc;
}

int
index_walk(struct index_txn *t, uint64_t after, int state,
    int (*fn)(uint64_t seq, struct row *r, void *arg), void *arg)
{
	MDB_cursor *cur;
	uint64_t be;
	MDB_val k, v;
	int rc;

	if (after == UINT64_MAX)
		return 0;
	k = seq_key(&be, after + 1);
	rc = mdb_cursor_open(t->txn, t->dbis[INDEX_ITEM], &cur);
	if (rc != 0)
		return db_errno(rc);
	rc = mdb_cursor_get(cur, &k, &v, MDB_SET_RANGE);
	while (rc == 0) {
		struct row r;
		int stop = 0;

		if (k.mv_size == sizeof(be) &&
		    (state < 0 || row_state(v.mv_data, v.mv_size) == state)) {
			memcpy(&be, k.mv_data, sizeof(be));
			if (row_decode(v.mv_data, v.mv_size, &r) != 0) {
				stop = fn(be64toh(be), NULL, arg);
			} else {
				r.item.seq = be64toh(be);
				stop = fn(r.item.seq, &r, arg);
				spool_item_fini(&r.item);
			}
		}
		if (stop != 0) {
			mdb_cursor_close(cur);
			return stop;
		}
		rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cur);
	return rc == MDB_NOTFOUND ? 0 : db_errno(rc);
}

int
index_walk_due(struct index_txn *t, int64_t until,
    int (*fn)(uint64_t seq, void *arg), void *arg, int64_t *next_out)
{
	MDB_cursor *cur;
	MDB_val k, v;
	int stop = 0, rc;

	*next_out = INT64_MAX;
	rc = mdb_cursor_open(t->txn, t->dbis[INDEX_DUE], &cur);
	if (rc != 0)
		return db_errno(rc);
	rc = mdb_cursor_get(cur, &k, &v, MDB_FIRST);
	while (rc == 0 && stop == 0) {
		struct due_key dk;
		int64_t due;

		if (k.mv_size == sizeof(dk)) {
			memcpy(&dk, k.mv_data, sizeof(dk));
			due = (int64_t)be64toh(dk.due);
			if (due > until) {
				*next_out = due;
				break;
			}
			stop = fn(be64toh(dk.seq), arg);
			if (stop != 0)
				*next_out = due;
		}
		rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cur);
	return rc == 0 || rc == MDB_NOTFOUND ? 0 : db_errno(rc);
}

/* ---- devices --------------------------------------------------------------
 */

#define DEVICE_KEY_MAX 255

struct device_count {
	uint64_t rows, octets;
};

static MDB_val
device_key(const char *device)
{
	return (MDB_val){ strnlen(device, DEVICE_KEY_MAX), (void *)device };
}

const char *
index_address_key(const char *address, char key[INDEX_ADDRESS_KEY])
{
	snprintf(key, INDEX_ADDRESS_KEY, "\1%s", address);
	return key;
}

/* An index that was begun before addresses were counted knows only newer ones
 * of theirs: no count goes below zero. */
static int
count(struct index_txn *t, const char *name, int sign, uint64_t size)
{
	MDB_dbi dbi = t->dbis[INDEX_DEVICE];
	struct device_count c = { 0, 0 };
	MDB_val k = device_key(name), v;
	int rc;

	if (k.mv_size == 0)
		return 0;
	rc = db_errno(mdb_get(t->txn, dbi, &k, &v));
	if (rc != 0 && rc != -ENOENT)
		return rc;
	if (rc == 0 && v.mv_size == sizeof(c))
		memcpy(&c, v.mv_data, sizeof(c));
	if (sign > 0) {
		c.rows++;
		c.octets += size;
	} else {
		c.rows -= c.rows > 0;
		c.octets -= c.octets > size ? size : c.octets;
	}
	if (c.rows == 0) {
		rc = db_errno(mdb_del(t->txn, dbi, &k, NULL));
		return rc == -ENOENT ? 0 : rc;
	}
	v = (MDB_val){ sizeof(c), &c };
	return db_errno(mdb_put(t->txn, dbi, &k, &v, 0));
}

int
index_device_count(struct index_txn *t, const char *device, const char *address,
    int sign, uint64_t size)
{
	char key[INDEX_ADDRESS_KEY];
	int rc = count(t, device, sign, size);

	if (rc == 0 && address[0] != '\0')
		rc = count(t, index_address_key(address, key), sign, size);
	return rc;
}

int
index_walk_devices(struct index_txn *t,
    int (*fn)(const char *device, uint64_t rows, uint64_t octets, void *arg),
    void *arg)
{
	char name[DEVICE_KEY_MAX + 1];
	struct device_count c;
	MDB_cursor *cur;
	MDB_val k, v;
	int stop = 0, rc;

	rc = mdb_cursor_open(t->txn, t->dbis[INDEX_DEVICE], &cur);
	if (rc != 0)
		return db_errno(rc);
	while (stop == 0 && (rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0) {
		if (k.mv_size > DEVICE_KEY_MAX || v.mv_size != sizeof(c))
			continue;
		memcpy(name, k.mv_data, k.mv_size);
		name[k.mv_size] = '\0';
		memcpy(&c, v.mv_data, sizeof(c));
		stop = fn(name, c.rows, c.octets, arg);
	}
	mdb_cursor_close(cur);
	return rc == 0 || rc == MDB_NOTFOUND ? 0 : db_errno(rc);
}
