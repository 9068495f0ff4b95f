/*
 * resident.h - are these octets of a file in memory?
 *
 * What is not would be read from the disk by sendfile(2): the loop would wait,
 * and octets would leave that nobody has checked. mincore(2) tells, if we may
 * write the file (kernels from 5.2 say yes to everything otherwise), else
 * preadv2(2) with RWF_NOWAIT; where neither can tell the answer is no.
 */
#ifndef RESIDENT_H
#define RESIDENT_H

#include <stdbool.h>
#include <stdint.h>

struct resident {
	bool counts; /* cachestat() answers for this file */
	void *map;   /* never touched: only addresses to ask about */
	uint64_t size;
};

/* Reads an octet: not on a loop. */
void resident_init(struct resident *r, int fd, uint64_t size);
/* As on kernels that have no cachestat(); for tests as well. */
void resident_init_before(struct resident *r, int fd, uint64_t size);
void resident_fini(struct resident *r);
bool resident_has(const struct resident *r, int fd, uint64_t off, uint64_t n);

#endif
