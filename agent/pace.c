/*
 * pace.c - how many uploads to one store at a time
 */
#include "pace.h"

void
pace_init(struct pace *p)
{
	*p = (struct pace){ .limit = PACE_START };
}

void
pace_ok(struct pace *p, unsigned running, unsigned max)
{
	/* Only who uses the room he has gets more. */
	if (running + 1 >= (unsigned)p->limit)
		p->limit += p->steady ? 1 / p->limit : 1;
	if (p->limit > max)
		p->limit = max;
	if (p->limit < 1)
		p->limit = 1;
}

void
pace_fail(struct pace *p, int64_t now_ms)
{
	if (p->steady && now_ms - p->cut_ms < 1000)
		return;
	p->steady = true;
	p->cut_ms = now_ms;
	p->limit /= 2;
	if (p->limit < 1)
		p->limit = 1;
}

bool
pace_may(const struct pace *p, unsigned running)
{
	return running < (unsigned)p->limit;
}
