/*
 * index.h - the index of a spool: one thread, five tables, the ledger
 *
 *	item    sequence number, big-endian  -> row (row.h)
 *	due     due time, sequence number    -> nothing: waiting but deferred
 *	device  name, or \\1 and address     -> its rows: count, octets
 *	meta    "state"                      -> struct index_state
 *	end     number, big-endian           -> what became of one
 *(index_ends.h)
 *
 * Jobs of the loop run on the index thread, many in one synced transaction;
 * their `done` runs on the loop again. The index can be thrown away: it is
 * rebuilt from the item files, so it is written in the machine's own byte
 * order where nobody else reads it.
 */
#ifndef INDEX_H
#define INDEX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <lmdb.h>

#include "row.h"

struct event_base;
struct index;

#define INDEX_STATE_VERSION 1

/* Changes in the same transactions as the rows it counts. */
struct index_state {
	uint32_t version, crc; /* CRC-32C of what follows */
	uint64_t accepted, ends[SPOOL_ENDS], quarantined, waiting;
	uint64_t waiting_bytes, accepted_bytes, delivered_bytes;
	uint64_t sending, held, quarantined_bytes;
	int64_t since_wall_ms;
	uint64_t upto;         /* all up to this number is indexed or gone */
	int64_t clock_ms;      /* the spool's clock ... */
	int64_t clock_boot_ms; /* ... when clock_ms() of that boot was this */
	uint8_t boot[16];
	uint64_t rebuild_next, rebuild_end; /* numbers still to be looked at */
};

enum {
	INDEX_ITEM,
	INDEX_DUE,
	INDEX_DEVICE,
	INDEX_META,
	INDEX_END, /* the last one: made if an older version left it out */
	INDEX_TABLES
};

struct index_txn {
	MDB_txn *txn;
	const MDB_dbi *dbis;
	struct index_state *st; /* change it only in a job that writes */
	int64_t now;            /* by the spool's clock */
	uint64_t scratch;       /* 0 at the start; for jobs of one kind */
};

struct index_job {
	STAILQ_ENTRY(index_job) link;
	bool writes;
	bool lazy; /* a writing job that may wait for company, up to 1 s */
	/* In the transaction. < 0 aborts it: for faults of the database only,
	 * then each job of the batch is tried alone. */
	int (*run)(struct index_txn *t, struct index_job *j);
	/* A reading job: on the index thread, before a transaction is begun.
	 * true: there is nothing to see, leave it out. May be NULL. */
	bool (*skip)(struct index_job *j);
	/* On the index thread after the commit, for slow work. May be NULL. */
	void (*settle)(struct index_job *j);
	/* On the loop; frees j. */
	void (*done)(struct index_job *j);
	int rc; /* of the transaction */
	int64_t queued_ms;
};

/* The index of dir. -ENOENT, -EBADMSG: to be made by index_create(). */
int index_open(struct event_base *base, const char *dir, uint64_t map_size,
    struct index **ix_out);
/* Make an empty one; every file up to rebuild_end is still to be looked at, and
 * new numbers begin after upto. */
int index_create(
    const char *dir, uint64_t map_size, uint64_t rebuild_end, uint64_t upto);
/* Runs what is queued, calls every `done`, ends the thread. NULL accepted. */
void index_close(struct index *ix);

void index_submit(struct index *ix, struct index_job *j);
/* Run fn at once in the caller's thread; only before the thread is started. */
int index_update_now(
    struct index *ix, int (*fn)(struct index_txn *t, void *arg), void *arg);
void index_start(struct index *ix);

/* Run fn in a read transaction, on the index thread (in a tick). */
int index_view_now(
    struct index *ix, int (*fn)(struct index_txn *t, void *arg), void *arg);
/* Called on the index thread once a second; changed: since the last call. */
void index_on_tick(
    struct index *ix, void (*tick)(bool changed, void *arg), void *arg);
/* The state as of the last transaction that this process saw. Any thread. */
void index_snapshot(struct index *ix, struct index_state *out);
/* Read what other processes have committed since. Index thread only. */
void index_refresh(struct index *ix);
/* It cannot be trusted: the next start of the writer makes it anew. */
void index_mark_damaged(struct index *ix);
bool index_is_damaged(struct index *ix);
/* Octets of the map in use. Index thread only. */
uint64_t index_used(struct index *ix);
uint64_t index_last_txn(struct index *ix);
/* Lazy jobs wait for this long now, ms: 20 times the last commit, 100..1000. */
int64_t index_interval_ms(const struct index *ix);

/* Rows. 0, -ENOENT, -EBADMSG (the row is damaged), or a fault of the db. */
int index_get(struct index_txn *t, uint64_t seq, struct row *r_out);
/* Put it, and keep the table of due times in step with the row's before. */
int index_put(struct index_txn *t, uint64_t seq, const struct row *before,
    const struct row *r);
int index_del(struct index_txn *t, uint64_t seq, const struct row *before);
bool index_has(struct index_txn *t, uint64_t seq);
/*
 * Walk rows with seq > after, of one state or of any (-1), in order until fn
 * returns non-zero (its value is returned) or there are no more (0). A damaged
 * row comes as NULL. The row's texts are freed after fn unless it zeroes the
 * struct.
 */
int index_walk(struct index_txn *t, uint64_t after, int state,
    int (*fn)(uint64_t seq, struct row *r, void *arg), void *arg);
/* The same by due time, up to and with `until`. *next_out: due of the first
 * beyond, INT64_MAX if none. */
int index_walk_due(struct index_txn *t, int64_t until,
    int (*fn)(uint64_t seq, void *arg), void *arg, int64_t *next_out);
/* Rows of one device and of one address, in the same transaction: one more
 * (sign 1) or less (-1) of size octets. */
int index_device_count(struct index_txn *t, const char *device,
    const char *address, int sign, uint64_t size);
#define INDEX_ADDRESS_KEY 80
/* What an address is called among the devices: no device can have the name. */
const char *index_address_key(const char *address, char key[INDEX_ADDRESS_KEY]);
/* Walk devices and addresses in order of name until fn returns non-zero. */
int index_walk_devices(struct index_txn *t,
    int (*fn)(const char *device, uint64_t rows, uint64_t octets, void *arg),
    void *arg);
/* Forget a due entry whose row is gone or is not due. */
int index_due_del(struct index_txn *t, int64_t due, uint64_t seq);

#endif
