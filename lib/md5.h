/*
 * md5.h - MD5 (RFC 1321) of several messages at a time
 *
 * For comparing with what a store says it has, never for safety: that is the
 * SHA-256's task.
 */
#ifndef MD5_H
#define MD5_H

#include <stddef.h>
#include <stdint.h>

#define MD5_SIZE 16
#define MD5_LANES 8 /* so many side by side cost little more than one */

struct md5_message {
	const void *p;
	size_t n;
	uint8_t digest[MD5_SIZE]; /* the result */
};

/* Of each of n messages, any number, of any lengths. */
void md5_many(struct md5_message *m, size_t n);

#endif
