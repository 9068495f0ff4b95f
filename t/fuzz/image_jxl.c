/*
 * image_jxl.c - fuzz target: any octets as a JPEG, transcoded to JPEG XL
 */
#include <assert.h>
#include <stdlib.h>

#include "worker_codec.h"
#include "worker_magic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct image_limits lim = { 1 << 18, 64 << 20, 64 };
	struct image_out out = { NULL, 0, 0 };
	struct jpeg_shape s;

	if (magic_content(data, n) != WORKER_JPEG)
		return 0;
	jpeg_shape(data, n, &s);
	out.cap = 2 * n + 4096;
	out.data = malloc(out.cap);
	if (jxl_from_jpeg(data, n, &s, &lim, &out) == WORKER_SMALLER)
		assert(out.n <= out.cap);
	free(out.data);
	return 0;
}
