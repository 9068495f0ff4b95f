/*
 * pool.h - threads for what may wait: the store, disks, other servers
 *
 * Jobs are run in order of submission by a fixed number of threads; when one
 * has run, its done function is called on the event loop.
 */
#ifndef POOL_H
#define POOL_H

struct event_base;
struct pool;

typedef void (*pool_fn)(void *arg);

struct pool *pool_new(struct event_base *base, unsigned threads);
/* run on a thread, then done on the loop. From the loop's thread only. */
void pool_run(struct pool *p, pool_fn run, pool_fn done, void *arg);
/* Jobs that wait or run. */
unsigned pool_busy(const struct pool *p);
/* Run all that was submitted, call its done, end the threads. */
void pool_free(struct pool *p);

#endif
