/*
 * incoming.h - bodies on their way to stable storage
 *
 * The loop hands pieces over; a pool of small-stack threads writes, hashes and
 * commits them. Many waiting threads are what lets the file system share its
 * journal commits among uploads.
 */
#ifndef INCOMING_H
#define INCOMING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "spool.h"

struct event_base;
struct incoming;
struct layout;
struct repeat;

struct incoming_options {
	unsigned committers;
	bool sync_single;
	uint64_t next_seq;
	/*
	 * On a committer thread, in order of seq and without gaps: this item
	 * is durable (takes its texts), or item is NULL: the number `seq` was
	 * given up. Must not wait for a disk.
	 */
	void (*on_durable)(uint64_t seq, struct spool_item *item, void *arg);
	void *arg;
	atomic_bool *read_only; /* set when the disk said EROFS */
	atomic_ullong *written; /* octets written are added here */
	struct repeat *repeat;  /* borrowed */
	void (*on_behind)(bool behind, void *arg); /* as in spool_options */
	void *behind_arg;
};

struct incoming *incoming_new(struct event_base *base, const struct layout *l,
    const struct incoming_options *opt);
/* Finishes what was committed, drops the rest; callbacks run. NULL accepted. */
void incoming_free(struct incoming *in);

struct spool_upload *incoming_begin(struct incoming *in, uint64_t size);
void incoming_expect(struct spool_upload *u, const struct checksums *want);
int incoming_write(struct spool_upload *u, const void *p, size_t n);
bool incoming_bears_more(struct incoming *in);
void incoming_on_room(
    struct spool_upload *u, void (*fn)(int rc, void *arg), void *arg);
void incoming_commit(struct spool_upload *u, const struct spool_meta *meta,
    void (*fn)(int rc, const struct spool_item *it, void *arg), void *arg);
void incoming_abort(struct spool_upload *u);

/* Of an item that was received and no more: texts of its own. */
struct spool_item incoming_item_copy(const struct spool_item *from);

/* Octets that uploads in hand have reserved (declared size, or what came). */
uint64_t incoming_reserved(const struct incoming *in);
/* Of these, octets that are not on the disk yet. */
uint64_t incoming_to_write(const struct incoming *in);
/* Uploads begun and not yet freed. */
unsigned incoming_live(struct incoming *in);
/* Uploads whose rows are not told yet: how many, and for how long, in ms, the
 * oldest has been waiting. */
void incoming_backlog(struct incoming *in, uint64_t *n_out, int64_t *age_out);
/* How many syncs or writes failed in a row, and when the last one did. */
unsigned incoming_failures(struct incoming *in, int64_t *last_ms_out);
uint64_t incoming_next_seq(struct incoming *in);

#endif
