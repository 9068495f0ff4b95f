/*
 * index_state.h - the index's own row, and the spool's clock that stands in it
 *
 * The clock goes on within a boot and stands still between two, so what waits
 * grows older by it whatever the wall clock says. For index.c alone.
 */
#ifndef INDEX_STATE_H
#define INDEX_STATE_H

#include "index.h"

/* 0, or -EBADMSG: it is not there or not what was written. */
int index_state_read(
    MDB_txn *txn, const MDB_dbi *dbis, struct index_state *out);
int index_state_write(
    MDB_txn *txn, const MDB_dbi *dbis, struct index_state *st);

struct index_clock {
	uint8_t boot[16];
	int64_t opened_ms; /* by clock_ms() */
};

void index_clock_init(struct index_clock *c);
int64_t index_clock_now(
    const struct index_clock *c, const struct index_state *st);
/* Write down that it is `now` now. */
void index_clock_stamp(
    const struct index_clock *c, struct index_state *st, int64_t now);

#endif
