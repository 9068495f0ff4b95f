/*
 * memory.h - how much memory this box has for us
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdint.h>

/*
 * The machine's memory, or what the control groups we are in may have (version
 * 1 or 2, with those above), whichever is least; octets. root: "", or for tests
 * a folder that has proc/ and sys/. Reads small files of the kernel's.
 */
uint64_t memory_of_box(const char *root);

/* For image workers: so many at most, and so many octets for each. */
struct memory_share {
	unsigned count;
	uint64_t each;
};
struct memory_share memory_for_workers(uint64_t box, unsigned count);

#endif
