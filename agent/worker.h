/*
 * worker.h - a pool of image workers: sandboxed children that shrink bodies
 *
 * Children are started ahead and reused for a bounded number of bodies. One
 * that dies, lies about the form of an answer, takes too long or has met a
 * body that a codec complained about is killed and replaced; that costs the
 * saving of the one body it had. All calls are made on the loop's thread.
 */
#ifndef WORKER_H
#define WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "worker_proto.h"

struct event_base;
struct worker_pool;
struct worker_run;

struct worker_options {
	const char *program; /* path of edgehaul-image */
	unsigned count;      /* children */
	unsigned bodies;     /* of one child, then it is replaced */
	uint64_t memory;     /* octets that a child may take for its work */
};

struct worker_result {
	enum worker_outcome outcome;
	struct worker_answer answer; /* zeros if none came */
	int64_t cpu_us;              /* of the child for this body; as the
					kernel counts it */
	int64_t wall_ms;
};
/* On the loop, once, not from within worker_run(). */
typedef void (*worker_fn)(const struct worker_result *r, void *arg);

struct worker_pool *worker_pool_new(
    struct event_base *base, const struct worker_options *opt);
/* Kills all; runs in hand must be cancelled before. NULL is accepted. */
void worker_pool_free(struct worker_pool *p);

struct worker_limits {
	int64_t timeout_ms; /* from the start of the body's turn */
	int64_t cpu_s;      /* processor time; whole seconds, rounded up */
};
/*
 * Have a child work on a body. fd_in and fd_out stay the caller's, open until
 * fn or worker_cancel(). job's magic and serial are filled in.
 */
struct worker_run *worker_run(struct worker_pool *p,
    const struct worker_job *job, const struct worker_limits *lim, int fd_in,
    int fd_out, worker_fn fn, void *arg);
/* fn is not called; a child that has it is killed. NULL is accepted. */
void worker_cancel(struct worker_run *r);

/* Has a child taken it up? */
bool worker_begun(const struct worker_run *r);
/* Bodies that wait for a child. */
unsigned worker_waiting(const struct worker_pool *p);
/* Of the children; 0 until the first has said hello. */
uint32_t worker_features(const struct worker_pool *p);
/* The path of edgehaul-image: beside this program, or where it is installed;
 * malloc'd. */
char *worker_program(void);

#endif
