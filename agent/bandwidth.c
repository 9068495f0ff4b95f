/*
 * bandwidth.c - token bucket that holds the bodies of all uploads to a rate
 *
 * The bucket holds a quarter of a second. Less than a small piece is not given
 * out, so that a slow rate does not make a system call for each octet.
 */
#include "bandwidth.h"

#define PIECE 1400

static int64_t
burst(const struct bandwidth *b)
{
	int64_t n = b->rate / 4;

	return n > PIECE ? n : PIECE;
}

/* The least that is given out. */
static int64_t
quantum(const struct bandwidth *b)
{
	return b->rate >= 4 * PIECE ? PIECE : b->rate / 4 + 1;
}

void
bandwidth_init(struct bandwidth *b, int64_t rate, int64_t now_ms)
{
	b->rate = rate;
	b->last_ms = now_ms;
	b->millitoken = burst(b) * 1000;
}

void
bandwidth_set(struct bandwidth *b, int64_t rate, int64_t now_ms)
{
	if (rate != b->rate)
		bandwidth_init(b, rate, now_ms);
}

static void
refill(struct bandwidth *b, int64_t now_ms)
{
	int64_t passed = now_ms - b->last_ms, full = burst(b) * 1000;

	if (passed <= 0)
		return;
	b->last_ms = now_ms;
	if (passed > 1000)
		passed = 1000; /* more than the bucket holds; no overflow */
	b->millitoken += passed * b->rate;
	if (b->millitoken > full)
		b->millitoken = full;
}

size_t
bandwidth_take(struct bandwidth *b, size_t want, int64_t now_ms)
{
	int64_t n;

	if (b->rate <= 0 || want == 0)
		return want;
	refill(b, now_ms);
	n = b->millitoken / 1000;
	if (n < quantum(b) && (uint64_t)(n > 0 ? n : 0) < want)
		return 0;
	if ((uint64_t)n > want)
		n = (int64_t)want;
	b->millitoken -= n * 1000;
	return (size_t)n;
}

void
bandwidth_return(struct bandwidth *b, size_t n)
{
	if (b->rate > 0)
		b->millitoken += (int64_t)n * 1000;
}

int64_t
bandwidth_wait_ms(struct bandwidth *b, int64_t now_ms)
{
	int64_t lack;

	if (b->rate <= 0)
		return 0;
	refill(b, now_ms);
	lack = quantum(b) * 1000 - b->millitoken;
	return lack <= 0 ? 0 : (lack + b->rate - 1) / b->rate;
}
