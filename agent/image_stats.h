/*
 * image_stats.h - what image workers have saved, and for what
 */
#ifndef IMAGE_STATS_H
#define IMAGE_STATS_H

#include <stdbool.h>
#include <stdint.h>
#include <cjson/cJSON.h>

#include "image_policy.h"
#include "worker_proto.h"

/* Beside the worker's: the uplink was faster; others like it gained nothing. */
#define IMAGE_PASSED WORKER_OUTCOMES
#define IMAGE_UNLIKELY (WORKER_OUTCOMES + 1)
#define IMAGE_OUTCOMES (WORKER_OUTCOMES + 2)

struct image_count {
	uint64_t bytes_in, bytes_out; /* before and after, of all seen */
	uint64_t bodies, outcomes[IMAGE_OUTCOMES];
	int64_t cpu_us;
	double rate; /* octets saved per processor second, lately; < 0: new */
	struct image_habit habits[WORKER_CONTENTS];
	struct image_claims claims;
};
struct image_stats;

struct image_stats *image_stats_new(void);
void image_stats_free(struct image_stats *s);
/* size octets became out_size (the same if the original goes). */
void image_stats_add(struct image_stats *s, const char *device,
    unsigned outcome, uint64_t size, uint64_t out_size, int64_t cpu_us);
/* Of a camera; beyond 1,000 of them, of all others. */
const struct image_count *image_stats_of(
    const struct image_stats *s, const char *device);
/* The same, to be used and added to: what is known of its bodies. */
struct image_count *image_stats_get(struct image_stats *s, const char *device);
/* Totals, with outcomes by reason. */
void image_stats_json(const struct image_stats *s, cJSON *o);
/* An array of all cameras: {device, files, bytes_in, bytes_out, cpu_ms,
 * damaged, failed}, whole: and outcomes. */
cJSON *image_stats_cameras(const struct image_stats *s, bool whole);

#endif
