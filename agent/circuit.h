/*
 * circuit.h - stops asking a store or signer that does not answer
 *
 * Closed: all may try. After CIRCUIT_LIMIT failures in a row it opens: one try
 * at a time, the probe, with growing waits between; the first success closes
 * it. Knows no clock: the time is an argument.
 */
#ifndef CIRCUIT_H
#define CIRCUIT_H

#include <stdbool.h>
#include <stdint.h>

#include "backoff.h"

#define CIRCUIT_LIMIT 5
#define CIRCUIT_CAP_MS 30000

struct circuit {
	unsigned failures; /* in a row */
	bool open, probing;
	int64_t wait_ms, probe_ms; /* next probe not before, by clock_ms() */
};

/* May a try begin now? */
bool circuit_may(const struct circuit *c, int64_t now_ms);
/* A try begins. True: it is the probe; hand this back at its end. */
bool circuit_begin(struct circuit *c);
/* It succeeded. True: the circuit was open, what waited may go. */
bool circuit_ok(struct circuit *c);
/* It failed. least_ms: the peer asked for so much rest (Retry-After), else 0.
 * True: the circuit has just opened. */
bool circuit_fail(struct circuit *c, bool probe, int64_t now_ms,
    int64_t least_ms, random_fn rnd);
/* It ended without a verdict on the peer. */
void circuit_cancel(struct circuit *c, bool probe);
/* How long until a try may begin: 0 now, -1 not before the probe is over. */
int64_t circuit_wait_ms(const struct circuit *c, int64_t now_ms);

#endif
