/*
 * index_ends.c - what became of uploads that ended, until it is told
 *
 * A record is put in the transaction that ends the upload, so none is missing
 * and none is there of an upload that still waits. Numbers only grow. There are
 * two readers, each with its mark (meta "told", "freed"): up to that number it
 * has seen to all. Some records are kept beyond "told", to be looked at. What
 * may be kept is bounded by the map: a gateway that is alone for months forgets
 * the oldest, and says so.
 */
#include "index_ends.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "db.h"
#include "index.h"
#include "log.h"
#include "xalloc.h"

#define KEEP_TOLD 1024
#define TRIM 256
#define MAP_SHARE 16 /* of the map, for records of 512 octets */
#define RECORD_AT 9  /* sequence number and kind before the row */

struct mark {
	uint64_t number;
	uint32_t crc, zero;
};

static MDB_val
mark_key(enum spool_reader reader)
{
	return reader == SPOOL_TELL ? (MDB_val){ 4, "told" }
				    : (MDB_val){ 5, "freed" };
}

uint64_t
index_ends_mark(struct index_txn *t, enum spool_reader reader)
{
	MDB_val k = mark_key(reader), v;
	struct mark m;

	if (mdb_get(t->txn, t->dbis[INDEX_META], &k, &v) != 0 ||
	    v.mv_size != sizeof(m))
		return 0;
	memcpy(&m, v.mv_data, sizeof(m));
	/* Seen to twice does no harm. */
	return m.crc == crc32c(&m.number, sizeof(m.number)) ? m.number : 0;
}

int
index_ends_set_mark(
    struct index_txn *t, enum spool_reader reader, uint64_t number)
{
	struct mark m = { .number = number,
		.crc = crc32c(&number, sizeof(number)) };
	MDB_val k = mark_key(reader), v = { sizeof(m), &m };

	if (number <= index_ends_mark(t, reader))
		return 0;
	return db_errno(mdb_put(t->txn, t->dbis[INDEX_META], &k, &v, 0));
}

static int
edge(struct index_txn *t, MDB_cursor_op op, uint64_t *number_out)
{
	MDB_cursor *cur;
	MDB_val k, v;
	uint64_t be;
	int rc = mdb_cursor_open(t->txn, t->dbis[INDEX_END], &cur);

	if (rc != 0)
		return db_errno(rc);
	rc = mdb_cursor_get(cur, &k, &v, op);
	if (rc == 0 && k.mv_size != sizeof(be))
		rc = MDB_CORRUPTED;
	if (rc == 0) {
		memcpy(&be, k.mv_data, sizeof(be));
		*number_out = be64toh(be);
	}
	mdb_cursor_close(cur);
	return db_errno(rc);
}

static uint64_t
most(struct index_txn *t)
{
	MDB_envinfo info;

	if (mdb_env_info(mdb_txn_env(t->txn), &info) != 0)
		return 2 * KEEP_TOLD;
	return info.me_mapsize / MAP_SHARE / 512;
}

/* Now and then many, so that few pages are touched. */
static int
trim(struct index_txn *t)
{
	uint64_t told = index_ends_mark(t, SPOOL_TELL), max = most(t), number,
		 lost = 0;
	MDB_stat st;
	int rc = db_errno(mdb_stat(t->txn, t->dbis[INDEX_END], &st));

	if (rc != 0 ||
	    st.ms_entries <= (max < KEEP_TOLD ? max : KEEP_TOLD) + TRIM)
		return rc;
	for (unsigned i = 0; rc == 0 && i < TRIM; i++) {
		MDB_val k = { sizeof(number), &number };

		rc = edge(t, MDB_FIRST, &number);
		if (rc != 0 || (number > told && st.ms_entries <= max + TRIM))
			break;
		lost += number > told;
		number = htobe64(number);
		rc = db_errno(mdb_del(t->txn, t->dbis[INDEX_END], &k, NULL));
	}
	if (lost > 0)
		log_warn("what became of %llu uploads was not told to the "
			 "signer in time and is forgotten; the ledger has "
			 "their number",
		    (unsigned long long)lost);
	return rc == -ENOENT ? 0 : rc;
}

/*
 * Beyond all that was told; and in an index that was made anew beyond what the
 * old one had, as an agent that has read from that goes on after it. An upload
 * has few records, and numbers of uploads go on far ahead then (spool.c).
 */
static uint64_t
first_number(struct index_txn *t)
{
	uint64_t told = index_ends_mark(t, SPOOL_TELL);

	return told > 4 * t->st->upto ? told : 4 * t->st->upto;
}

int
index_ends_add(struct index_txn *t, const struct row *r, unsigned how)
{
	unsigned char buf[RECORD_AT + ROW_MAX];
	struct row copy = *r;
	uint64_t number = 0, be = htole64(r->item.seq);
	MDB_val k = { sizeof(number), &number }, v = { 0, buf };
	int rc = edge(t, MDB_LAST, &number);

	if (rc == -ENOENT)
		number = first_number(t);
	else if (rc != 0)
		return rc;
	number = htobe64(number + 1);
	memcpy(buf, &be, sizeof(be));
	buf[8] = (unsigned char)how;
	copy.item.type = copy.item.address = copy.item.encoding = NULL;
	if (how == SPOOL_DELIVERED)
		copy.item.kept = NULL;
	copy.item.state = SPOOL_WAITING;
	copy.due_clock = t->now;
	v.mv_size = RECORD_AT + row_encode(&copy, buf + RECORD_AT);
	rc = db_errno(mdb_put(t->txn, t->dbis[INDEX_END], &k, &v, MDB_APPEND));
	return rc != 0 ? rc : trim(t);
}

int
index_ends_walk(struct index_txn *t, uint64_t after,
    int (*fn)(uint64_t number, unsigned how, struct row *r, void *arg),
    void *arg)
{
	uint64_t be = htobe64(after + 1), seq;
	MDB_val k = { sizeof(be), &be }, v;
	MDB_cursor *cur;
	struct row r;
	int stop = 0, rc;

	rc = mdb_cursor_open(t->txn, t->dbis[INDEX_END], &cur);
	if (rc != 0)
		return db_errno(rc);
	rc = mdb_cursor_get(cur, &k, &v, MDB_SET_RANGE);
	while (rc == 0 && stop == 0) {
		const unsigned char *p = v.mv_data;

		if (k.mv_size == sizeof(be) && v.mv_size > RECORD_AT &&
		    row_decode(p + RECORD_AT, v.mv_size - RECORD_AT, &r) == 0) {
			memcpy(&be, k.mv_data, sizeof(be));
			memcpy(&seq, p, sizeof(seq));
			r.item.seq = le64toh(seq);
			stop = fn(be64toh(be), p[8], &r, arg);
			spool_item_fini(&r.item);
		}
		rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cur);
	return rc == 0 || rc == MDB_NOTFOUND ? 0 : db_errno(rc);
}
