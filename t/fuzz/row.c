/*
 * row.c - fuzz target: any octets as a row of the index
 *
 * What is decoded is within bounds, and encoded again decodes to the same.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max);
size_t LLVMFuzzerCustomMutator(
    uint8_t *data, size_t n, size_t max, unsigned seed);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static unsigned char buf[ROW_MAX], again[ROW_MAX];
	struct row r, s;
	size_t m;
	int rc = row_decode(data, n, &r);

	if (rc != 0) {
		assert(rc == -EBADMSG);
		return 0;
	}
	assert(r.item.state <= SPOOL_QUARANTINED && r.due_clock >= 0);
	assert(row_state(data, n) == (int)r.item.state);
	m = row_encode(&r, buf);
	assert(m <= ROW_MAX);
	assert(row_decode(buf, m, &s) == 0);
	assert(row_encode(&s, again) == m && memcmp(buf, again, m) == 0);
	spool_item_fini(&r.item);
	spool_item_fini(&s.item);
	return 0;
}

/* Hardly any input has the right CRC: give it one. */
size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
	uint32_t crc;

	n = LLVMFuzzerMutate(data, n, max);
	if (n < 8 || seed % 8 == 0)
		return n;
	data[0] = 1;
	crc = crc32c(data, n - 4);
	memcpy(data + n - 4, &crc, 4);
	return n;
}
