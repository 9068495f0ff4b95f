/*
 * body.h - bodies read from the spool by threads, hashed on the way
 *
 * Threads read ahead in pieces, a few for a body, so that the loop never waits
 * for a disk. A range that ends where the upload ends
 * gives out its last BODY_WITHHELD octets only once the SHA-256 of the whole
 * upload fits what was promised: a store can never complete damaged octets.
 */
#ifndef BODY_H
#define BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "recipe.h"
#include "spool.h"

#define BODY_PIECE (32 * 1024)
#define BODY_PIECES 4
#define BODY_PIECES_MIN 2 /* holds what is withheld and a piece more */
#define BODY_WITHHELD (16 * 1024)

struct body_pool;
struct body;
struct body_hash; /* SHA-256 of the upload's first octets, up to a point */

/* pieces: BODY_PIECES_MIN to BODY_PIECES of a body at a time. */
struct body_pool *body_pool_new(struct event_base *base, struct spool *sp,
    unsigned threads, unsigned pieces);
/* All bodies must be closed. Waits for reads in hand. NULL is accepted. */
void body_pool_free(struct body_pool *p);

struct body_range {
	uint64_t offset, length;
	enum recipe_digest
	    digest;     /* of the range's octets, for body_digest() */
	bool hash_only; /* give out nothing, only look */
	int file;       /* read this instead of the spool's file; 0: do not */
	struct body_hash *before; /* of an earlier range; taken. NULL: none */
};
/*
 * Begin to read. on_ready runs on the loop after body_read() said -EAGAIN, or,
 * when hash_only, once the end is known.
 */
struct body *body_open(struct body_pool *p, const struct spool_item *it,
    const struct body_range *range, void (*on_ready)(void *arg), void *arg);
/* No callback comes after it. NULL is accepted. */
void body_close(struct body *b);
/*
 * 1..n octets, 0 at the end, -EAGAIN: on_ready will follow, or what
 * body_state() says.
 */
ssize_t body_read(struct body *b, void *buf, size_t n);
/* Begin again at the range's first octet. */
void body_rewind(struct body *b);
/* 0: still reading. 1: all was read, and fits. -EBADMSG: the octets are not
 * those that were received. -errno of open or read. */
int body_state(const struct body *b);
/* After state 1: MD5 (16 octets) or SHA-256 (32) of the range; its length. */
size_t body_digest(const struct body *b, uint8_t out[32]);
/* After state 1: what the next range goes on from. The caller's. */
struct body_hash *body_take_hash(struct body *b);
void body_hash_free(struct body_hash *h);

#endif
