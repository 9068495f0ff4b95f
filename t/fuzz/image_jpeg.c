/*
 * image_jpeg.c - fuzz target: any octets as a JPEG, recoded and coded anew
 *
 * The last octet is the wish: max_dimension of the lossy way, 0: lossless.
 */
#include <assert.h>
#include <stdlib.h>

#include "worker_codec.h"
#include "worker_magic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct image_limits lim = { 1 << 20, 64 << 20, 64 };
	struct image_out out = { NULL, 0, 0 };
	struct jpeg_shape s;
	enum worker_outcome o;

	if (n < 4 || magic_content(data, n) != WORKER_JPEG)
		return 0;
	n--;
	jpeg_shape(data, n, &s);
	assert(s.flaw != NULL || s.end <= n);
	out.cap = 2 * n + 4096;
	out.data = malloc(out.cap);
	o = data[n] == 0
	    ? jpeg_progressive(data, n, &s, &lim, &out)
	    : jpeg_lossy(data, n, &s, &lim, 60, data[n] * 8u, &out);
	assert(o != WORKER_DIFFERS);
	assert(o != WORKER_SMALLER || out.n <= out.cap);
	free(out.data);
	return 0;
}
