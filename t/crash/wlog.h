/*
 * wlog.h - a record of the log that wlog.c writes and replay.c reads
 *
 * In the machine's own byte order: written and read on one machine.
 */
#ifndef WLOG_H
#define WLOG_H

#include <stdint.h>

struct wlog_record {
	char op; /* 'W': a write of len octets; 'F': all so far is durable */
	char pad[3];
	uint32_t len;
	uint64_t offset; /* of the disk */
	uint64_t ns;     /* CLOCK_REALTIME */
};

#endif
