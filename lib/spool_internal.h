/*
 * spool_internal.h - what the files of the spool share; nobody else's business
 */
#ifndef SPOOL_INTERNAL_H
#define SPOOL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "incoming.h"
#include "index.h"
#include "layout.h"
#include "spool.h"

struct keeper;
struct remover;
struct spool_names;

/* What holds much of a share of the spool: a device, or an address by the name
 * that it has in the index. */
struct heavy {
	char *name;
	uint64_t octets, files;
};
struct heavy_list {
	struct heavy *v; /* in order of name */
	size_t n;
};

/* Of spool_ended(): where a reader's last look was. */
struct ended_seen {
	uint64_t txn, after;   /* quiet: in it, nothing was found after that */
	uint64_t from, passed; /* nothing of interest lies between these */
	bool quiet;
};

struct spool {
	struct event_base *base;
	enum spool_role role;
	struct spool_options opt;
	struct layout l;
	struct index *ix;
	struct incoming *in;   /* the writer's, else NULL */
	struct keeper *keeper; /* the writer's */
	struct remover *remover;
	struct spool_names *names;
	void (*on_change)(void *arg);
	void *change_arg;
	bool closing;
	bool stopping; /* the index thread's: it has asked for the end */
	bool full;     /* the loop's: hysteresis of spool_reserve() */
	uint64_t leaving_octets,
	    leaving_files; /* the loop's: asked to go by
			      spool_make_room(), still there */
	char why[128];
	/* written by the index thread */
	struct repeat *repeat;      /* uploads of late */
	atomic_ullong written;      /* octets, since the start, and that ... */
	atomic_ullong disk_written; /* ... at the last look at the disk */
	atomic_ullong disk_free, disk_total, inodes_free, index_used,
	    rows_since;        /* octets of rows added since index_used was */
	atomic_bool read_only; /* the file system */
	bool told_read_only;   /* the index thread's: in the log */
	/* durable, row still to come; guarded by its mutex */
	pthread_mutex_t mutex;
	uint64_t unindexed_n, unindexed_bytes, unindexed_rows;
	STAILQ_HEAD(, add_job) unindexed; /* in order of seq */
	uint64_t order;                   /* of the last one put there */
	/* the index thread's: all up to it have their rows */
	uint64_t order_done;
	/* the loop's: rows that could not be written, tried again each second
	 */
	struct event *retry;
	atomic_ullong share, share_files; /* the smallest, may change */
	atomic_bool reweigh;         /* it has: look at the devices again */
	struct heavy_list heavy;     /* guarded by the mutex */
	struct heavy_list heavy_new; /* the index thread's */
	/* of spool_ready(), index thread */
	uint64_t quiet_txn, quiet_after;
	int64_t quiet_until;
	bool quiet;
	struct ended_seen ended[SPOOL_READERS]; /* index thread */
	struct status_seen *status;             /* the same */
	atomic_llong next_due; /* clock_ms() of the next deferred one, or -1 */
};

/* A durable upload on its way to its row. */
struct add_job {
	struct index_job job;
	STAILQ_ENTRY(add_job) link;
	struct spool *sp;
	uint64_t order; /* 1, 2, 3 ... in order of seq */
	bool failed;
	size_t row_size;
	struct spool_item item;
};

/* recover.c: what the last second before a crash left; before the index's
 * thread runs. *next_seq_out: the first number to give out. */
int recover_tail(
    const struct layout *l, struct index *ix, uint64_t *next_seq_out);
/* The highest number of any file in item/ or quarantine/; 0: there is none. */
int recover_highest(const struct layout *l, uint64_t *seq_out);
/* Remove all of incoming/. */
int recover_empty_incoming(const struct layout *l);
/* The numbers of the files of one folder (open descriptor), sorted, malloc'd.
 */
int recover_list(int dir, uint64_t **seqs_out, size_t *n_out);
/* The prefixes of the folders of item/, sorted, malloc'd. */
int recover_list_dirs(
    const struct layout *l, uint64_t **prefixes_out, size_t *n_out);
/* The numbers of what is in quarantine/, sorted, malloc'd. */
int recover_list_quarantine(
    const struct layout *l, uint64_t **seqs_out, size_t *n_out);
/* The item that a file's footer tells of; texts are the caller's. BLOCKS.
 * deep: read the body too if only that can tell whether it is whole. */
int recover_read(const struct layout *l, uint64_t seq, bool deep,
    struct spool_item *item_out);
/* The same for an open file, wherever it is. */
int recover_read_fd(const struct layout *l, int fd, uint64_t seq, bool deep,
    struct spool_item *item_out);
/* An item, quarantined, for a file of item/ whose footer cannot be read. */
void recover_damaged(const struct layout *l, uint64_t seq, const char *why,
    struct spool_item *item_out);

/* keeper.c: rebuilds rows of a lost index, then sweeps files without rows. */
struct keeper *keeper_new(struct spool *sp);
void keeper_stop(struct keeper *k);
void keeper_check_start(struct keeper *k);
void keeper_check_state(struct keeper *k, struct spool_check *out);

/* spool_remove.c: removes files that have ended. l lives longer; free waits
 * until all are gone, NULL is accepted. */
struct remover *remover_new(const struct layout *l);
void remover_free(struct remover *m);

/* spool_share.c, index thread: who holds how much. */
void spool_weigh_devices(struct spool *sp);
void spool_forget_devices(struct spool *sp);

/* spool_name.c; a note for each row that was committed: index thread */
struct spool_names *spool_names_new(void);
void spool_names_free(struct spool_names *names);
void spool_names_note(struct spool_names *names, const struct spool_item *it);

/* Index thread: this row cannot be read. */
void spool_row_damaged(struct spool *sp, uint64_t seq);

/* index thread: add the row of a durable upload to the ledger and the table,
 * in the state that the item tells: waiting, or quarantined by a rebuild */
int spool_row_add(struct index_txn *t, const struct spool_item *it, bool found);
/* Change a row and the ledger's columns with it. before: state and times of
 * old. 0 or a fault of the database. */
int spool_row_change(
    struct index_txn *t, const struct row *before, struct row *r);
int spool_row_end(struct index_txn *t, struct row *r, enum spool_end how);
/* Why nothing at all can be written just now, or NULL. */
const char *spool_trouble(const struct spool *sp);
/* Index thread, row gone: its file goes, and its folder if that is empty. At
 * once, or soon and by another thread. */
void spool_unlink_item(struct spool *sp, const struct spool_item *it);
void spool_unlink_later(struct spool *sp, const struct spool_item *it);
/* Index thread, row committed as quarantined: its file follows if there is
 * room for it. */
void spool_move_to_quarantine(struct spool *sp, const struct spool_item *it);
/* What is missing for an upload of size octets, and some more, so that room is
 * not made for each anew; zeroes: nothing is. */
struct spool_lack {
	uint64_t octets, files;
	uint64_t held; /* octets that wait or come: may go in time */
};
void spool_lacks(struct spool *sp, uint64_t size, struct spool_lack *lack_out);
/* On the index thread: look how much of the disk is free. */
void spool_measure_disk(struct spool *sp);
/* Index thread: would so many octets more eat into the reserve that is kept for
 * taking rows out? */
bool spool_index_tight(const struct spool *sp, uint64_t more);
/* An item whose file is damaged: to quarantine, unless it is being sent (who
 * sends finds out) or there already: -EBUSY. */
void spool_quarantine_damaged(
    struct spool *sp, uint64_t seq, const char *why, spool_fn fn, void *arg);
/* Replace a text of an item, cut to what a row may hold. */
void spool_set_text(char **field, const char *s);
/* Fill in what the row knows by time. */
void spool_item_from_row(
    const struct spool *sp, const struct index_txn *t, struct row *r);

#endif
