/*
 * backoff.c - how long an upload that failed waits for its next try
 */
#include "backoff.h"

int64_t
backoff_next(int64_t prev_ms, int64_t cap_ms, random_fn rnd)
{
	int64_t high = prev_ms > cap_ms / 3 ? cap_ms : prev_ms * 3;

	if (cap_ms <= BACKOFF_BASE_MS)
		return cap_ms;
	if (high <= BACKOFF_BASE_MS)
		high = 2 * BACKOFF_BASE_MS; /* the first also has a spread */
	if (high > cap_ms)
		high = cap_ms;
	return BACKOFF_BASE_MS + rnd((uint32_t)(high - BACKOFF_BASE_MS + 1));
}

int64_t
backoff_wait(unsigned tries, int64_t retry_after_ms, random_fn rnd)
{
	int64_t wait = 0;

	/* The chain has long reached its steady spread by then. */
	if (tries > 16)
		tries = 16;
	do
		wait = backoff_next(wait, BACKOFF_CAP_MS, rnd);
	while (tries-- > 1);
	if (retry_after_ms > RETRY_AFTER_MAX_MS)
		retry_after_ms = RETRY_AFTER_MAX_MS;
	/* All who were told the same time must not come at the same time. */
	if (retry_after_ms >= 0 && retry_after_ms > wait)
		wait =
		    retry_after_ms + rnd((uint32_t)(retry_after_ms / 10 + 250));
	return wait;
}
