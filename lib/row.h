/*
 * row.h - a spool item as a row of the index
 *
 * Little-endian, versioned, closed by a CRC-32C. Rows are shared between two
 * processes and so checked like any input: lengths, enums, NULs in texts.
 * Layout (doc/spool.md): version, state, flags, 0 (1 octet each), attempts
 * (4), size (8), received by the wall (8) and by the spool's clock (8), due by
 * the spool's clock (8; 0: never deferred), SHA-256 (32); if offered: size (8)
 * and SHA-256 (32) of what is offered; nine texts, each length (2) and octets;
 * CRC (4).
 */
#ifndef ROW_H
#define ROW_H

#include <stddef.h>
#include <stdint.h>

#include "spool.h"

#define ROW_MAX 65535
#define ROW_TEXT_MAX 32767

/* The item and the two times that only the index knows. */
struct row {
	struct spool_item item;
	int64_t received_clock; /* by the spool's clock, ms */
	int64_t due_clock;
};

/* Encode into buf of ROW_MAX octets; the length. Texts that are too long are
 * cut (they were bounded before). */
size_t row_encode(const struct row *r, unsigned char *buf);
/* Octets that a row of this item takes in the index, its key included. */
size_t row_size(const struct spool_item *it);
/* Decode n octets; r_out's texts are the caller's (spool_item_fini). The id and
 * seq are not part of the value: the caller sets them. -EBADMSG. */
int row_decode(const void *p, size_t n, struct row *r_out);
/* The state alone, unchecked; -1: no row. To pass over rows quickly. */
int row_state(const void *p, size_t n);

#endif
