/*
 * incoming_private.h - what incoming.c (the loop's side, the pool) and
 * incoming_disk.c (what a thread does for one upload) share
 */
#ifndef INCOMING_PRIVATE_H
#define INCOMING_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <openssl/evp.h>

#include "incoming.h"
#include "spool.h"

struct event;
struct folders;
struct layout;
struct repeat;

#define QUEUED_ALL (3 * 1024 * 1024)  /* of all uploads: nobody sends more */
#define QUEUED_SIPS (2 * 1024 * 1024) /* see http_server_hold() */

struct piece {
	STAILQ_ENTRY(piece) link;
	size_t n;
	char data[];
};
STAILQ_HEAD(pieces, piece);

enum ending { OPEN, COMMIT, ABORT };

struct spool_upload {
	struct incoming *in;
	TAILQ_ENTRY(spool_upload) link, finished; /* of the two lists */
	/* the loop's */
	uint64_t reserved, received;
	int64_t begun_ms;
	struct pieces held;
	size_t held_n;
	int64_t repeat_window_ms; /* from the commit on */
	void (*on_room)(int rc, void *arg);
	void *room_arg;
	void (*fn)(int rc, const struct spool_item *it, void *arg);
	void *arg;
	/* under the mutex */
	struct pieces pieces;
	size_t queued; /* not yet written */
	enum ending ending;
	bool queued_up, running, tell_room, over, posted;
	/* of the thread that runs it */
	uint64_t temp;
	int fd, rc;
	uint64_t size, written; /* size: of the body so far */
	EVP_MD_CTX *md;
	struct checksums *want;    /* to be compared; NULL: nothing is */
	struct checksum_run *sums; /* of these all but SHA-256 */
	struct spool_item *item;   /* of a commit; texts are the upload's own */
};
TAILQ_HEAD(uploads, spool_upload);

/* A number given out and not yet told. */
struct fresh {
	TAILQ_ENTRY(fresh) link;
	uint64_t seq;
	int64_t since_ms;
	enum { FRESH_PENDING, FRESH_DURABLE, FRESH_GONE } state;
	struct spool_item item;
};

/*
 * A committer. Whoever became idle last is woken first: its stack and its CPU's
 * cache are warm, and the stacks that a quiet gateway never needs stay
 * untouched.
 */
struct thread {
	SLIST_ENTRY(thread) link;
	struct incoming *in;
	pthread_t id;
	pthread_cond_t cond;
	bool idle;
};

struct incoming {
	const struct layout *l;
	struct incoming_options opt;
	const EVP_MD *sha256;
	struct folders *folders;
	struct event *wake;
	int efd;
	uint64_t reserved;          /* the loop's */
	atomic_ullong written_live; /* octets of uploads not yet freed */
	size_t held;                /* the loop's */
	struct thread *threads;
	pthread_mutex_t mutex;     /* guards what follows */
	SLIST_HEAD(, thread) idle; /* who came last is first */
	struct uploads work, finished;
	unsigned live; /* uploads not yet freed */
	size_t queued;
	bool stop, woken;
	bool behind, caught_up; /* caught_up: and the loop is to be told */
	TAILQ_HEAD(, fresh) fresh;
	uint64_t fresh_n, next_seq, next_temp;
	atomic_uint failures; /* written under the mutex */
	int64_t failed_ms;
};

/* ---- a committer's, for the upload that it runs -------------------------- */

/* Hash and write what has come; last: and make it durable. 0 or -errno. */
int incoming_take(struct spool_upload *u, struct pieces *ps, bool last);
/* What was taken of u is written, or never will be. */
void incoming_give_back(struct spool_upload *u, struct pieces *ps);
/* Count a failure of the disk, or that it works. */
void incoming_note(struct incoming *in, int rc);
/* keep: it has its name in item/, else it goes. */
void incoming_file_close(struct spool_upload *u, bool keep);

/* Called with the mutex held. */
void incoming_wake_loop(struct incoming *in);

#endif
