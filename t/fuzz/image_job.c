/*
 * image_job.c - fuzz target: a whole job, from file to file
 *
 * The last octet is the wish: way with JPEGs, lossy or not. A result of zstd
 * is unpacked here and compared with what went in.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <zstd.h>

#include "worker_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check_zstd(const uint8_t *data, size_t n, int fd, size_t out_n)
{
	uint8_t *packed = malloc(out_n), *back = malloc(n);

	assert(pread(fd, packed, out_n, 0) == (ssize_t)out_n);
	assert(ZSTD_decompress(back, n, packed, out_n) == n);
	assert(memcmp(back, data, n) == 0);
	free(packed);
	free(back);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct worker_job job = {
		.quality = 70, .max_pixels = 1 << 16, .max_body = 1 << 20
	};
	struct worker_answer a = { 0 };
	int in, out;

	if (n < 2)
		return 0;
	n--;
	job.jpeg = data[n] % 3;
	job.lossy = data[n] >> 7;
	job.size = n;
	in = memfd_create("in", MFD_CLOEXEC);
	out = memfd_create("out", MFD_CLOEXEC);
	assert(pwrite(in, data, n, 0) == (ssize_t)n);
	worker_job_run(&job, 64 << 20, in, out, &a);
	assert(a.outcome < WORKER_DIED && a.out_size < n);
	if (a.outcome == WORKER_SMALLER && a.step == WORKER_STEP_ZSTD)
		check_zstd(data, n, out, a.out_size);
	close(in);
	close(out);
	return 0;
}
