/*
 * keeper_private.h - what keeper.c (rebuild, sweep) and keeper_read.c (reading
 * back) share
 */
#ifndef KEEPER_PRIVATE_H
#define KEEPER_PRIVATE_H

#include "spool_internal.h"

struct keeper {
	struct spool *sp;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool stop, answered;
	bool counted; /* the index thread's: the rows are all there */
	int rc;       /* of the answer */
	bool asked;   /* for a check; it has not begun */
	struct spool_check check;
};

#define CHUNK 256
/* A job for the index whose answer the keeper waits for. */
struct chunk {
	struct index_job job;
	struct keeper *k;
	struct spool_item items[CHUNK]; /* rebuild: rows to be */
	size_t items_n;
	uint64_t next;        /* rebuild: all below is done */
	bool move;            /* rebuild: what is damaged to quarantine/ */
	uint64_t seqs[CHUNK]; /* sweep: files; those with rows are zeroed */
	size_t seqs_n;
	void *arg; /* check: what is asked for goes there */
};

struct chunk *keeper_chunk(
    bool writes, int (*run)(struct index_txn *, struct index_job *));
/* Submit and wait; the chunk is gone afterwards. settle ends by
 * keeper_settled(). */
int keeper_ask(
    struct keeper *k, struct chunk *c, void (*settle)(struct index_job *));
void keeper_settled(struct index_job *j);

bool keeper_stopping(struct keeper *k);
/* Less if it is to stop, or somebody asked for a check. */
void keeper_pause_ms(struct keeper *k, int64_t ms);
/* fn for the numbers of each folder of item/ from that of `from` on, until it
 * returns non-zero or the keeper stops. */
int keeper_each_dir(struct keeper *k, uint64_t from,
    int (*fn)(struct keeper *k, const uint64_t *seqs, size_t n, void *arg),
    void *arg);
/* Read items back until the keeper stops. */
void keeper_read_back(struct keeper *k);

#endif
