/*
 * bandwidth.h - token bucket that holds the bodies of all uploads to a rate
 */
#ifndef BANDWIDTH_H
#define BANDWIDTH_H

#include <stddef.h>
#include <stdint.h>

struct bandwidth {
	int64_t rate;       /* octets per second; 0: no limit */
	int64_t millitoken; /* thousandths of an octet that may go now */
	int64_t last_ms;
};

/* A new rate holds from now on; the bucket starts full. */
void bandwidth_init(struct bandwidth *b, int64_t rate, int64_t now_ms);
void bandwidth_set(struct bandwidth *b, int64_t rate, int64_t now_ms);
/* How many of want octets may go now; 0: wait. They are taken. */
size_t bandwidth_take(struct bandwidth *b, size_t want, int64_t now_ms);
/* Give back what was taken and not used. */
void bandwidth_return(struct bandwidth *b, size_t n);
/* How long until bandwidth_take() gives something: 0 now. */
int64_t bandwidth_wait_ms(struct bandwidth *b, int64_t now_ms);

#endif
