/*
 * worker_codec.h - the parts of the image worker: octets in, fewer octets out
 *
 * Pure functions over memory (zstd: over descriptors), so that tests and fuzz
 * targets call them without a process around. A codec gets a buffer that is as
 * large as its result may become; what does not fit is no gain. A lossless
 * codec decodes its own result and compares before it says WORKER_SMALLER.
 */
#ifndef WORKER_CODEC_H
#define WORKER_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker_proto.h"

struct image_limits {
	uint64_t max_pixels;
	uint64_t max_memory; /* octets a codec may take for itself */
	unsigned max_scans;  /* of a progressive JPEG */
};

/* A result: cap octets at data are the caller's, n of them get filled. */
struct image_out {
	uint8_t *data;
	size_t cap, n;
};

/* ---- worker_sniff.c ------------------------------------------------------ */

/* A JPEG as its markers tell, nothing decoded. */
struct jpeg_shape {
	uint32_t width, height;
	unsigned components, precision, scans;
	uint8_t sof;      /* the marker: 0xc0 baseline, 0xc2 progressive... */
	uint64_t blocks;  /* of 64 coefficients, all components */
	size_t end;       /* octets up to and with the end marker */
	bool several;     /* further images follow, found by offsets (MPF) */
	const char *flaw; /* why it is damaged, or NULL */
};
/* Walk the markers of n octets that begin as a JPEG. */
void jpeg_shape(const uint8_t *p, size_t n, struct jpeg_shape *out);

/* ---- worker_raw.c -------------------------------------------------------- */

/* A raw frame as its header tells; the pixels lie in the file as told. */
struct raw_shape {
	uint32_t width, height;
	unsigned channels,
	    bits;              /* 1 or 3; 8 to 16: the largest is 2^bits - 1 */
	size_t offset, stride; /* of the first row as stored; of each row */
	bool bgr, bottom_up;
};
/*
 * 0: a frame; its file is a header of `offset` octets and rows of pixels, of
 * which all but the padding counts, and that is zero. -ENOTSUP: another BMP or
 * PNM. -EFBIG: over max_pixels or the file is shorter than it says.
 */
int raw_shape(
    const uint8_t *p, size_t n, uint64_t max_pixels, struct raw_shape *out);
/* Row y of the picture, top first: width * channels samples, RGB. */
void raw_row(
    const uint8_t *p, const struct raw_shape *s, uint32_t y, uint8_t *row_out);

/* ---- worker_jpeg.c ------------------------------------------------------- */

bool jpeg_built_in(void);
/* Recode with progressive scans and optimal Huffman tables. */
enum worker_outcome jpeg_progressive(const uint8_t *p, size_t n,
    const struct jpeg_shape *shape, const struct image_limits *lim,
    struct image_out *out);
/* Decode, make smaller (max_dimension, 0: not) and code with quality. */
enum worker_outcome jpeg_lossy(const uint8_t *p, size_t n,
    const struct jpeg_shape *shape, const struct image_limits *lim,
    unsigned quality, unsigned max_dimension, struct image_out *out);

/* Truncated, or the library has complaints. Decodes no pixels. */
bool jpeg_damaged(const uint8_t *p, size_t n, const struct jpeg_shape *shape,
    const struct image_limits *lim);

/* ---- worker_jxl.c -------------------------------------------------------- */

bool jxl_built_in(void);
/* The JPEG as JPEG XL from which djxl makes the identical file. */
enum worker_outcome jxl_from_jpeg(const uint8_t *p, size_t n,
    const struct jpeg_shape *shape, const struct image_limits *lim,
    struct image_out *out);
/* A raw frame as lossless JPEG XL; its header stands in a box "ehrh" of it. */
enum worker_outcome jxl_from_raw(const uint8_t *p,
    const struct raw_shape *shape, const struct image_limits *lim,
    struct image_out *out);

/* ---- worker_zstd.c ------------------------------------------------------- */

/* Would zstd make size octets of fd smaller by a twentieth, by samples? */
bool zstd_worth(int fd, uint64_t size);
/*
 * The first size octets of fd as one zstd frame in out_fd, of at most max
 * octets; decompressed again and compared. sha256_out: of what was read.
 */
enum worker_outcome zstd_pack(int fd, uint64_t size, int out_fd, uint64_t max,
    uint64_t *out_size, uint8_t sha256_out[32]);

/* ---- worker_job.c -------------------------------------------------------- */

/* All that a worker does with a body. Fills everything in answer but the
 * magic, serial and peak. */
void worker_job_run(const struct worker_job *job, uint64_t max_memory,
    int fd_in, int fd_out, struct worker_answer *answer);
/* Keep freed memory for the next body: page faults are a fifth of the work. */
void worker_memory_keep(void);
/* Give it back, when no body comes. */
void worker_memory_give_back(void);

/* ---- worker_sandbox.c ---------------------------------------------------- */

bool sandbox_has_seccomp(void);
/*
 * Give up everything but WORKER_FD and the calls that a codec needs: 0, or
 * -errno and the process must end. memory: octets of address space beyond what
 * is taken already.
 */
int sandbox_enter(uint64_t memory);

#endif
