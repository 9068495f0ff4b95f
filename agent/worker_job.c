/*
 * worker_job.c - looks what a body is and has the right codec shrink it
 *
 * What a body is decides its own octets. Limits are looked at before anything
 * is decoded or allocated by the body's word. Whatever goes wrong: the answer
 * says so and the original goes.
 */
#include "worker_codec.h"
#include "worker_magic.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/evp.h>

#define MAX_SCANS 64
/* Smaller than this there is nothing to gain. */
#define MIN_BODY 256

struct work {
	const struct worker_job *job;
	struct image_limits lim;
	int fd_in, fd_out;
	struct worker_answer *a;
	uint8_t *in;
	struct image_out out;
};

static int
read_body(int fd, uint8_t *p, size_t n)
{
	size_t at = 0;

	while (at < n) {
		ssize_t got = pread(fd, p + at, n - at, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -EIO;
		at += (size_t)got;
	}
	return 0;
}

static int
write_result(int fd, const uint8_t *p, size_t n)
{
	size_t at = 0;

	while (at < n) {
		ssize_t put = pwrite(fd, p + at, n - at, (off_t)at);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return -EIO;
		at += (size_t)put;
	}
	return 0;
}

static enum worker_outcome
shrink_other(struct work *w)
{
	uint64_t size = w->job->size;

	if (!zstd_worth(w->fd_in, size))
		return WORKER_PLAIN;
	w->a->step = WORKER_STEP_ZSTD;
	return zstd_pack(w->fd_in, size, w->fd_out, size - size / 20,
	    &w->a->out_size, w->a->in_sha256);
}

static enum worker_outcome
shrink_jpeg(struct work *w)
{
	const struct worker_job *j = w->job;
	struct jpeg_shape s;
	size_t n = (size_t)j->size;

	jpeg_shape(w->in, n, &s);
	w->a->width = s.width;
	w->a->height = s.height;
	if (s.flaw != NULL)
		return WORKER_DAMAGED;
	if (j->look)
		return WORKER_PLAIN;
	if (j->lossy) {
		w->a->step = WORKER_STEP_LOSSY;
		return jpeg_lossy(w->in, n, &s, &w->lim, j->quality,
		    j->max_dimension, &w->out);
	}
	switch (j->jpeg) {
	case WORKER_PROGRESSIVE:
		if (!jpeg_built_in())
			break;
		w->a->step = WORKER_STEP_PROGRESSIVE;
		return jpeg_progressive(w->in, n, &s, &w->lim, &w->out);
	case WORKER_JXL:
		if (!jxl_built_in())
			break;
		w->a->step = WORKER_STEP_JXL;
		return jxl_from_jpeg(w->in, n, &s, &w->lim, &w->out);
	default:
		return WORKER_PLAIN;
	}
	return WORKER_UNSUPPORTED;
}

/* A frame; -ENOTSUP: it is none that may go by its pixels alone. */
static int
shrink_raw(struct work *w, enum worker_outcome *o_out)
{
	struct raw_shape s;
	int rc = raw_shape(w->in, (size_t)w->job->size, w->lim.max_pixels, &s);

	if (rc != 0)
		return -ENOTSUP;
	w->a->width = s.width;
	w->a->height = s.height;
	w->a->step = WORKER_STEP_RAW_JXL;
	*o_out = jxl_from_raw(w->in, &s, &w->lim, &w->out);
	return *o_out == WORKER_SMALLER ? 0 : -ENOTSUP;
}

/* With the whole body in memory. */
static enum worker_outcome
shrink_image(struct work *w)
{
	size_t n = (size_t)w->job->size;
	enum worker_outcome o = WORKER_FAILED;

	/* Less than a fiftieth is not worth other octets. */
	w->out.cap = w->job->look ? 1 : n - n / 50;
	w->in = malloc(n);
	w->out.data = malloc(w->out.cap);
	if (w->in == NULL || w->out.data == NULL) {
		o = WORKER_TOO_LARGE;
		goto out;
	}
	if (read_body(w->fd_in, w->in, n) != 0)
		goto out;
	if (w->a->content == WORKER_JPEG)
		o = shrink_jpeg(w);
	else if (shrink_raw(w, &o) != 0) {
		o = shrink_other(w);
		goto out; /* written already */
	}
	if (o != WORKER_SMALLER)
		goto out;
	/* nobody asks which octets did not get smaller */
	EVP_Digest(w->in, n, w->a->in_sha256, NULL, EVP_sha256(), NULL);
	w->a->out_size = w->out.n;
	if (write_result(w->fd_out, w->out.data, w->out.n) != 0)
		o = WORKER_FAILED;
out:
	free(w->in);
	free(w->out.data);
	return o;
}

static enum worker_outcome
shrink(struct work *w)
{
	const struct worker_job *j = w->job;
	uint8_t head[MAGIC_OCTETS];
	size_t n = j->size < sizeof(head) ? (size_t)j->size : sizeof(head);

	if (j->size < MIN_BODY)
		return WORKER_PLAIN;
	if (read_body(w->fd_in, head, n) != 0)
		return WORKER_FAILED;
	w->a->content = magic_content(head, n);
	if (j->look && w->a->content != WORKER_JPEG)
		return WORKER_PLAIN;
	switch (w->a->content) {
	case WORKER_PACKED:
		return WORKER_PLAIN;
	case WORKER_JPEG:
		if (j->size > j->max_body)
			return WORKER_TOO_LARGE;
		return shrink_image(w);
	case WORKER_BMP:
	case WORKER_PNM:
		if (j->jpeg == WORKER_JXL && jxl_built_in() &&
		    j->size <= j->max_body)
			return shrink_image(w);
		return shrink_other(w);
	default:
		return shrink_other(w);
	}
}

void
worker_memory_keep(void)
{
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 128 << 20);
#endif
}

void
worker_memory_give_back(void)
{
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

void
worker_job_run(const struct worker_job *job, uint64_t max_memory, int fd_in,
    int fd_out, struct worker_answer *answer)
{
	/* a body in memory is there up to three times */
	uint64_t body = job->size < job->max_body ? 3 * job->size : 0;
	struct work w = { .job = job,
		.lim = { .max_pixels = job->max_pixels,
		    .max_memory = body < max_memory ? max_memory - body : 0,
		    .max_scans = MAX_SCANS },
		.fd_in = fd_in,
		.fd_out = fd_out,
		.a = answer };

	answer->outcome = shrink(&w);
	if (answer->outcome != WORKER_SMALLER)
		answer->out_size = 0;
}
