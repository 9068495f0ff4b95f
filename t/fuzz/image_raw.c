/*
 * image_raw.c - fuzz target: any octets as BMP or PNM, coded as JPEG XL
 */
#include <assert.h>
#include <stdlib.h>

#include "worker_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct image_limits lim = { 1 << 16, 64 << 20, 64 };
	struct image_out out = { NULL, 0, 0 };
	struct raw_shape s;
	enum worker_outcome o;

	if (raw_shape(data, n, lim.max_pixels, &s) != 0)
		return 0;
	assert(s.offset + s.stride * s.height <= n);
	out.cap = 2 * n + 4096;
	out.data = malloc(out.cap);
	o = jxl_from_raw(data, &s, &lim, &out);
	assert(o != WORKER_DIFFERS);
	assert(o != WORKER_FAILED);
	free(out.data);
	return 0;
}
