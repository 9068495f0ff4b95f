/*
 * footer.c - fuzz target: any octets as the end of a spool file
 *
 * The first two octets say how much longer than the input the file is. What
 * is decoded fits the file, and encoded again decodes to the same.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "footer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
same(const struct footer *a, const struct footer *b)
{
	assert(a->size == b->size && a->seq == b->seq && a->epoch == b->epoch);
	assert(a->flags == b->flags);
	assert(memcmp(a->sha256, b->sha256, 32) == 0);
	assert(a->received_wall_ms == b->received_wall_ms);
	assert(strcmp(a->device, b->device) == 0);
	assert(strcmp(a->name, b->name) == 0);
	assert(strcmp(a->type, b->type) == 0);
	assert(strcmp(a->address, b->address) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct footer f, g;
	uint64_t size;
	size_t m;
	void *p;
	int rc;

	if (n < 2)
		return 0;
	size = n - 2 + ((uint64_t)data[0] | (uint64_t)data[1] << 8);
	rc = footer_decode(data + 2, n - 2, size, &f);
	if (rc != 0) {
		assert(rc == -EBADMSG);
		return 0;
	}
	assert(f.size <= size - FOOTER_TRAILER);
	p = footer_encode(&f, &m);
	if (m <= FOOTER_TRAILER + FOOTER_META_MAX) {
		assert(footer_decode(p, m, f.size + m, &g) == 0);
		same(&f, &g);
		footer_fini(&g);
	}
	free(p);
	footer_fini(&f);
	return 0;
}

/* Hardly any input has the right CRC: give it one. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max);
size_t LLVMFuzzerCustomMutator(
    uint8_t *data, size_t n, size_t max, unsigned seed);

#include "crc32c.h"

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
	uint32_t meta, crc;
	uint8_t *t;

	n = LLVMFuzzerMutate(data, n, max);
	if (n < 2 + FOOTER_TRAILER || seed % 8 == 0)
		return n;
	t = data + n - FOOTER_TRAILER;
	meta = (uint32_t)(n - 2 - FOOTER_TRAILER);
	if (seed % 4 == 1)
		memcpy(t + 56, &meta, 4);
	memcpy(&meta, t + 56, 4);
	memcpy(t + 60, "\1\0", 2);
	if (meta <= n - 2 - FOOTER_TRAILER) {
		crc = crc32c(t - meta, meta + 64);
		memcpy(t + 64, &crc, 4);
	}
	memcpy(t + 68, "EDGH", 4);
	return n;
}
