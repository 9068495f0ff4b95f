/*
 * index_ends.h - what became of uploads that ended, until it is told
 *
 * Table `end`: number, big-endian -> sequence number (8, little-endian), how
 * (1: enum spool_end and beyond, spool.h), the row as it was, whose due time is
 * when it ended (row.h). Called in jobs of the index thread.
 */
#ifndef INDEX_ENDS_H
#define INDEX_ENDS_H

#include <stdint.h>

#include "row.h"

struct index_txn;

/* Note how the upload of a row ended; in the transaction that ends it. */
int index_ends_add(struct index_txn *t, const struct row *r, unsigned how);
/* Walk records after a number, the oldest first, until fn returns non-zero.
 * The row's texts are freed after fn unless it zeroes the item. Records that
 * cannot be read are passed over. */
int index_ends_walk(struct index_txn *t, uint64_t after,
    int (*fn)(uint64_t number, unsigned how, struct row *r, void *arg),
    void *arg);
/* A reader has seen to all up to this number. Never goes back. */
int index_ends_set_mark(
    struct index_txn *t, enum spool_reader reader, uint64_t number);
uint64_t index_ends_mark(struct index_txn *t, enum spool_reader reader);

#endif
