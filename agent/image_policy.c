/*
 * image_policy.c - which bodies are worth a worker, and how much of the time
 *
 * A camera's files are alike: one that writes JPEGs without a gain, or CSV that
 * is noise, will do so again. A wrong guess costs the saving of one file, never
 * the file, so it may be made from little.
 */
#include "image_policy.h"

#include <string.h>

/* More misses than this make no difference. */
#define MISSES_MAX (HABIT_TRIES + 6)

bool
image_habit_try(struct image_habit *h, uint32_t way)
{
	if (h->way != way)
		*h = (struct image_habit){ .way = way };
	if (h->resting == 0)
		return true;
	h->resting--;
	return false;
}

/* What says nothing of the next body: trouble of ours, or a damaged file. */
static bool
tells_nothing(enum worker_outcome o)
{
	return o == WORKER_FAILED || o == WORKER_NONE || o == WORKER_DAMAGED ||
	    (unsigned)o >= WORKER_OUTCOMES;
}

void
image_habit_learn(struct image_habit *h, uint32_t way, enum worker_outcome o)
{
	unsigned misses = h->misses;

	if (h->way != way || tells_nothing(o))
		return;
	if (o == WORKER_SMALLER) {
		h->misses = h->resting = 0;
		return;
	}
	/* these cost the most: once is enough */
	misses += o == WORKER_TIMEOUT || o == WORKER_DIED ? HABIT_TRIES : 1;
	if (misses > MISSES_MAX)
		misses = MISSES_MAX;
	h->misses = (uint8_t)misses;
	if (misses >= HABIT_TRIES)
		h->resting = (uint8_t)(1U << (misses - HABIT_TRIES));
}

uint32_t
image_claim(const char *name, const char *type)
{
	const char *dot = strrchr(name, '.');
	uint32_t h = 5381;

	for (const char *s = dot != NULL ? dot : ""; *s != '\0'; s++)
		h = h * 33 + (unsigned char)*s;
	for (const char *s = type; *s != '\0'; s++)
		h = h * 33 + (unsigned char)*s;
	return h != 0 ? h : 1;
}

void
image_claims_learn(
    struct image_claims *c, uint32_t claim, enum worker_content kind)
{
	c->claim[claim % CLAIMS] = claim;
	c->kind[claim % CLAIMS] = (uint8_t)kind;
}

bool
image_claims_kind(
    const struct image_claims *c, uint32_t claim, enum worker_content *kind_out)
{
	if (c->claim[claim % CLAIMS] != claim)
		return false;
	*kind_out = c->kind[claim % CLAIMS];
	return true;
}

void
image_budget_spend(struct image_budget *b, int64_t cpu_us)
{
	b->owed_us += cpu_us;
}

int64_t
image_budget_wait(
    struct image_budget *b, unsigned percent, unsigned cores, int64_t now_ms)
{
	int64_t rate = (int64_t)percent * cores * 10; /* us of it in a ms */
	int64_t burst = BUDGET_BURST_MS * rate;

	if (now_ms > b->at_ms) {
		/* no product of a long rest: it may not fit */
		if (now_ms - b->at_ms >= b->owed_us / rate + 1)
			b->owed_us = 0;
		else
			b->owed_us -= (now_ms - b->at_ms) * rate;
		b->at_ms = now_ms;
	}
	return b->owed_us < burst ? 0 : (b->owed_us - burst) / rate + 1;
}
