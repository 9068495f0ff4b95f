/*
 * pace.h - how many uploads to one store at a time
 *
 * Additive increase, multiplicative decrease (RFC 5681 has the idea): doubles
 * each round until the first trouble, then one more each round; trouble halves
 * it, at most once a second, since many uploads meet the same trouble.
 */
#ifndef PACE_H
#define PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
	double limit;
	bool steady; /* trouble was met: no more doubling */
	int64_t cut_ms;
};

#define PACE_START 4.0

void pace_init(struct pace *p);
/* An upload ended well while `running` were under way. */
void pace_ok(struct pace *p, unsigned running, unsigned max);
void pace_fail(struct pace *p, int64_t now_ms);
/* May one more begin? */
bool pace_may(const struct pace *p, unsigned running);

#endif
