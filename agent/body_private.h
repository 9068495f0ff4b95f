/*
 * body_private.h - what body.c (whose turn it is) and body_work.c (what a
 * thread does at its turn) share
 */
#ifndef BODY_PRIVATE_H
#define BODY_PRIVATE_H

#include <pthread.h>
#include <sys/queue.h>
#include <openssl/evp.h>

#include "body.h"

struct event;

#define BODY_TOGETHER 8 /* whole bodies that a thread takes at once */

#define BODY_SPARE 16

struct body_piece {
	char *data;
	size_t size; /* of the buffer, if it is one of a whole body's */
	size_t n, used;
};

struct body {
	struct body_pool *pool;
	/* what of the item is looked at: number, sizes, digests; no texts */
	struct spool_item it;
	uint64_t offset, end; /* the range */
	enum recipe_digest kind;
	bool hash_only;
	bool other; /* fd is not of the spool's file */
	bool whole; /* all of the upload, and it fits into one piece */
	void (*on_ready)(void *arg);
	void *arg;

	/* the thread's that has it */
	int fd;
	uint64_t at;                   /* next octet to read */
	struct body_hash *hash, *base; /* base: as of offset, for rewinds */
	EVP_MD_CTX *range;

	/* under the lock */
	TAILQ_ENTRY(body) line, news;
	bool in_line, busy, in_news, restart, dead, waiting;
	unsigned in_a_row; /* pieces read without a turn of others */
	struct body_piece ring[BODY_PIECES];
	unsigned first, pieces;
	uint64_t given; /* octets given out since offset */
	int state;      /* body_state() */
	uint8_t digest[32];
	size_t digest_n;
};

TAILQ_HEAD(body_list, body);

struct body_pool {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct body_list line, news;
	unsigned line_n;
	bool stop;
	struct spool *sp;
	int wake;
	struct event *ev;
	unsigned pieces, threads_n;
	size_t whole_max; /* a whole body's buffer */
	char *spare[BODY_SPARE];
	unsigned spare_n, bodies;
	pthread_t *threads;
	EVP_MD *sha256, *md5;
};

/* One body at its turn, and what came of it. */
struct body_work {
	struct body *b;
	bool restart; /* begin at the first octet */
	/* data: malloc'd, for the sender, or NULL. At first a buffer of
	 * piece.size, or NULL: one is to be made, of that size unless 0. */
	struct body_piece piece;
	int rc;    /* of open and read */
	int state; /* rc == 0: the body's new state */
};

/* BLOCKS, without the lock: the next piece of each of n bodies is read and
 * hashed. More than one only if all are whole. */
void body_work(struct body_work *w, size_t n);
/* How many octets of the upload it covers. */
uint64_t body_hash_at(const struct body_hash *h);

#endif
