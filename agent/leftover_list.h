/*
 * leftover_list.h - which leftovers are in hand, and whose turn it is
 *
 * Leftovers come from the spool's records in order of their numbers and go
 * storage by storage: each has few in memory, one under way, and a back-off of
 * its own, so that one which is dead holds up no other and takes no more memory
 * than its share. What a storage had no room for is read again when it has; so
 * reading goes back, and what was taken before is passed over.
 */
#ifndef LEFTOVER_LIST_H
#define LEFTOVER_LIST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "spool.h"

#define LEFTOVERS_SHARE 8    /* in memory, of one storage */
#define LEFTOVERS_SHOPS 64   /* beyond these, storages share the last one */
#define LEFTOVERS_PARALLEL 4 /* storages with one under way */

struct leftover {
	TAILQ_ENTRY(leftover) link;
	struct leftover_shop *shop;
	uint64_t number; /* of its record */
	struct spool_item it;
	int64_t ended_ms, next_ms, wait_ms; /* by clock_ms() */
	unsigned tries, refused;
	void *work; /* the caller's, while it is under way */
};
TAILQ_HEAD(leftovers_of, leftover);

/* A storage. */
struct leftover_shop {
	TAILQ_ENTRY(leftover_shop) link;
	char name[65];
	struct leftovers_of list;
	unsigned n;
	struct leftover *now;     /* under way */
	int64_t next_ms, wait_ms; /* while it is in trouble */
	uint64_t taken;           /* all its records up to this were taken */
	uint64_t more;            /* the last that was not; 0: none */
	bool passed;              /* one had no room, in this reading */
};

struct leftover_list {
	TAILQ_HEAD(, leftover_shop) shops; /* who waits longest first */
	unsigned shops_n, busy;
	uint64_t high;  /* records up to this were looked at */
	uint64_t after; /* of the reading under way */
};

void leftover_list_init(struct leftover_list *l);
/* None may be under way. */
void leftover_list_fini(struct leftover_list *l);

/* Where to read on: records with larger numbers. */
uint64_t leftover_list_from(const struct leftover_list *l);
/*
 * A reading of records after that number, in order, up to `last` (all: there
 * are no more): each is offered, and taken or not; taken, *it is the list's.
 */
void leftover_list_begin(struct leftover_list *l, uint64_t after);
void leftover_list_offer(struct leftover_list *l, uint64_t number,
    int64_t ended_ms, struct spool_item *it);
void leftover_list_end(struct leftover_list *l, uint64_t last, bool all);
/* Any that was looked at and is still to be done lies beyond this. */
uint64_t leftover_list_mark(const struct leftover_list *l);

/* Whose turn it is; it is under way then. NULL: nobody's. */
struct leftover *leftover_list_next(struct leftover_list *l, int64_t now_ms);
/* It has to be tried again; storage: so have all others of that. */
void leftover_list_again(
    struct leftover_list *l, struct leftover *x, bool storage, int64_t now_ms);
/* It is over, well or not: freed. works: its storage does. */
void leftover_list_done(
    struct leftover_list *l, struct leftover *x, bool works);

#endif
