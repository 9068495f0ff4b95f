/*
 * backoff.h - how long an upload that failed waits for its next try
 *
 * Decorrelated jitter: each wait is drawn between the base and three times the
 * one before, up to a cap, so that uploads that failed together do not come
 * back together. There is no limit of tries.
 */
#ifndef BACKOFF_H
#define BACKOFF_H

#include <stdint.h>

#define BACKOFF_BASE_MS 1000
#define BACKOFF_CAP_MS 300000
/* A peer's Retry-After beyond this is not believed. */
#define RETRY_AFTER_MAX_MS 3600000

/* A random number below bound (> 0); arc4random_uniform() fits. */
typedef uint32_t (*random_fn)(uint32_t bound);

/* The wait after prev_ms (0: the first), at most cap_ms. */
int64_t backoff_next(int64_t prev_ms, int64_t cap_ms, random_fn rnd);
/*
 * The wait after that many failed tries (1: the first has failed). The spool
 * keeps the number of tries only, so the chain of waits is drawn anew: the
 * spread is the same. retry_after_ms (-1: none) is the least wait.
 */
int64_t backoff_wait(unsigned tries, int64_t retry_after_ms, random_fn rnd);

#endif
