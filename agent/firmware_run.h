/*
 * firmware_run.h - fills and their runs; private to the two files of them
 */
#ifndef FIRMWARE_RUN_H
#define FIRMWARE_RUN_H

#include "firmware.h"

#define FILL_WANTS_MAX 16
#define RUN_SLICES 32 /* 8 MiB */
#define RUN_QUEUE 4   /* slices that wait to be written */

/* NEW: not looked up yet; BUSY: a job of the cache is under way; LIST: the
 * list of its slices is being fetched; READY: may be filled. */
enum fill_state { FILL_NEW, FILL_BUSY, FILL_LIST, FILL_READY };

/* What a reader waits for, until it is there or he is silent for a while. */
struct fill_want {
	size_t first, end;
	int64_t seen_ms;
};

/* One blob that is being filled. */
struct fill {
	TAILQ_ENTRY(fill) link;
	struct fills *fs;
	enum fill_state state;
	uint8_t sha256[32], list_sha256[32];
	char hex[65];
	uint64_t size;
	size_t slices;
	char product[65], channel[65], path[320];
	uint8_t *bitmap;   /* slices in place */
	uint8_t *inflight; /* slices that a run will bring */
	uint8_t *without;  /* per slice: bits of origins that failed it */
	uint8_t *list;     /* NULL: not there yet */
	struct fill_want wants[FILL_WANTS_MAX];
	size_t wants_n;
	bool ahead;       /* to be fetched whole */
	bool adopt;       /* its file is there: look what fits */
	bool dropped;     /* revoked: goes as soon as nothing uses it */
	int64_t retry_ms; /* not before */
	int64_t wait_ms;  /* grows while no origin has it */
	int64_t told_ms;  /* of trouble */
	int64_t used_ms;
	struct fw_get *list_get;
	enum fw_from list_from;
	unsigned list_without;
	unsigned jobs, runs;
};
TAILQ_HEAD(fill_list, fill);

struct run;
TAILQ_HEAD(run_list, run);

struct fills {
	struct firmware *f;
	struct fill_list list;
	struct run_list runs;
	unsigned runs_n;
	bool room_busy;                /* the disk is being looked at */
	struct uplink downlink;        /* the rate of [upload] rate_limit */
	uint64_t filled, bad, adopted; /* slices since the start */
	uint64_t asked;                /* requests for slices */
};

/* A range of a fill that one request brings. */
struct run {
	TAILQ_ENTRY(run) link;
	struct fill *fl;
	enum fw_from from;
	size_t first, n;
	bool ahead;
	int status;          /* of the answer */
	struct fw_get *get;  /* NULL: over */
	struct run_job *job; /* slices being written */
	char *buf;           /* the slice that arrives */
	size_t buf_n;
	size_t got; /* slices that arrived whole */
	/* Arrived, not yet written; the last is got - 1. One more than
	 * RUN_QUEUE: octets that end a slice may hold a short last one too. */
	char *queue[RUN_QUEUE + 1];
	size_t queue_n;
	struct uplink_waiter waiter;
	size_t credit; /* octets that may come now */
	bool cancelled;
	int local; /* -errno that is not the origin's fault */
	char why[240];
};

static inline bool
bit_get(const uint8_t *map, size_t i)
{
	return map[i >> 3] >> (i & 7) & 1;
}

static inline void
bit_put(uint8_t *map, size_t i, bool v)
{
	map[i >> 3] =
	    (uint8_t)((map[i >> 3] & ~(1 << (i & 7))) | (v ? 1 << (i & 7) : 0));
}

/* Begin; the slices are marked as in flight until they are there or it ends. */
void run_start(struct fill *fl, enum fw_from from, size_t first, size_t n,
    const char *storage, bool hurry, bool ahead);
/* Ends when its last slices are written. Not from within a sink. */
void run_cancel(struct run *r);

/* ---- firmware_look.c ----------------------------------------------------- */

/* Read what the cache has, or add the blob; list (taken): keep it. The fill is
 * FILL_BUSY meanwhile. */
void fw_fill_look(struct fill *fl, bool add, uint8_t *list, size_t list_n);
/* Fetch the list of its slices. */
void fill_get_list(struct fill *fl);
/* The storage of its bucket, NULL: not known. */
const char *fill_storage(const struct fill *fl);
/* It cannot go on for ms: who waits may be told to come back. */
void fill_trouble(struct fill *fl, int64_t ms);
/* The origin to ask, or -1: trouble was told. */
int fill_pick(struct fill *fl, unsigned without, const char *storage);
/* Is there another? */
bool fill_others(struct fill *fl, unsigned without, const char *storage);

/* Of firmware_fill.c: a run is over, its struct still there. */
void fill_run_over(struct fill *fl, struct run *r, bool short_of);

#endif
