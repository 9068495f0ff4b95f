/*
 * image_policy.h - which bodies are worth a worker, and how much of the time
 *
 * No clock, no files: times are arguments.
 */
#ifndef IMAGE_POLICY_H
#define IMAGE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "worker_proto.h"

/*
 * What a camera's bodies of one kind came to lately. After HABIT_TRIES in a row
 * that gained nothing only each second one is tried, then each third, fifth,
 * ninth ... up to one of HABIT_REST + 1; the first that gains ends that. All
 * zeros: nothing is known.
 */
#define HABIT_TRIES 3
#define HABIT_REST 64
struct image_habit {
	uint32_t way;    /* of what is wished; another begins anew */
	uint8_t misses;  /* tries in a row without a gain, a bound apart */
	uint8_t resting; /* so many more go without a try */
};
/* Should the next one be tried? Counts it if not. */
bool image_habit_try(struct image_habit *h, uint32_t way);
/* How a try of that way ended. */
void image_habit_learn(
    struct image_habit *h, uint32_t way, enum worker_outcome o);

/*
 * What the files turned out to be that a camera calls so: by the ending of the
 * name and the content type, which are claims, so it serves only to leave files
 * alone without opening them. The last few claims are kept. All zeros: none.
 */
#define CLAIMS 4
struct image_claims {
	uint32_t claim[CLAIMS]; /* 0: none */
	uint8_t kind[CLAIMS];
};
/* Never 0. */
uint32_t image_claim(const char *name, const char *type);
void image_claims_learn(
    struct image_claims *c, uint32_t claim, enum worker_content kind);
/* False: it is not known. */
bool image_claims_kind(const struct image_claims *c, uint32_t claim,
    enum worker_content *kind_out);

/*
 * Processor time of all workers: over time no more than `percent` of `cores`
 * processors, with BUDGET_BURST_MS of it at hand after a rest. All zeros: at
 * rest.
 */
#define BUDGET_BURST_MS 10000
struct image_budget {
	int64_t owed_us; /* used and not yet earned back */
	int64_t at_ms;
};
void image_budget_spend(struct image_budget *b, int64_t cpu_us);
/* 0: work may begin; else the ms until it may. */
int64_t image_budget_wait(
    struct image_budget *b, unsigned percent, unsigned cores, int64_t now_ms);

#endif
