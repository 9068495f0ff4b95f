/*
 * pool.h - threads for what may wait: the store, disks, other servers
 *
 * Jobs are run in order of submission by a fixed number of threads; when one
 * has run, its done function is called on the event loop. Jobs of one owner,
 * and of one tenant, take only so many threads at a time, so that a server that
 * does not answer holds up none but those who need it.
 */
#ifndef POOL_H
#define POOL_H

struct event_base;
struct pool;

typedef void (*pool_fn)(void *arg);

struct pool *pool_new(struct event_base *base, unsigned threads);
/* run on a thread, then done on the loop. From the loop's thread only. */
void pool_run(struct pool *p, pool_fn run, pool_fn done, void *arg);
/*
 * The same for an owner, "TENANT/NAME": at most POOL_OWNER_MAX at a time, and
 * half of the threads for all of a tenant's.
 */
#define POOL_OWNER_MAX 2
void pool_run_for(struct pool *p, const char *tenant, const char *name,
    pool_fn run, pool_fn done, void *arg);
/* Jobs that wait or run. */
unsigned pool_busy(const struct pool *p);
/* Run all that was submitted, call its done, end the threads. */
void pool_free(struct pool *p);

#endif
