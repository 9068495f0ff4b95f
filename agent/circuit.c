/*
 * circuit.c - stops asking a store or signer that does not answer
 *
 * Many tries may be under way when a peer goes away: their failures open the
 * circuit once, and only the probe's failure makes the next wait longer.
 */
#include "circuit.h"

bool
circuit_may(const struct circuit *c, int64_t now_ms)
{
	return !c->open || (!c->probing && now_ms >= c->probe_ms);
}

bool
circuit_begin(struct circuit *c)
{
	if (!c->open || c->probing)
		return false;
	c->probing = true;
	return true;
}

bool
circuit_ok(struct circuit *c)
{
	bool was_open = c->open;

	*c = (struct circuit){ 0 };
	return was_open;
}

bool
circuit_fail(struct circuit *c, bool probe, int64_t now_ms, int64_t least_ms,
    random_fn rnd)
{
	bool opens = false;

	if (c->failures < UINT32_MAX)
		c->failures++;
	if (probe)
		c->probing = false;
	if (c->open && !probe)
		return false;
	if (!c->open) {
		if (c->failures < CIRCUIT_LIMIT)
			return false;
		c->open = opens = true;
		c->wait_ms = 0;
	}
	c->wait_ms = backoff_next(c->wait_ms, CIRCUIT_CAP_MS, rnd);
	c->probe_ms = now_ms + (least_ms > c->wait_ms ? least_ms : c->wait_ms);
	return opens;
}

void
circuit_cancel(struct circuit *c, bool probe)
{
	if (probe)
		c->probing = false;
}

int64_t
circuit_wait_ms(const struct circuit *c, int64_t now_ms)
{
	if (!c->open)
		return 0;
	if (c->probing)
		return -1;
	return c->probe_ms > now_ms ? c->probe_ms - now_ms : 0;
}
