/*
 * refusals.h - how often the gateway said no, and why
 */
#ifndef REFUSALS_H
#define REFUSALS_H

#include <stdint.h>

/* So many kinds are told apart; what comes later counts as "other". */
#define REFUSALS_MAX 64

struct refusals {
	struct refusal {
		int status;
		char *reason;
		uint64_t n;
	} kinds[REFUSALS_MAX];
	unsigned kinds_n;
	uint64_t other;
};

/* reason: as it is told to the device; copied. */
void refusals_add(struct refusals *r, int status, const char *reason);
void refusals_fini(struct refusals *r);

#endif
