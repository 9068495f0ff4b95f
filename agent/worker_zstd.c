/*
 * worker_zstd.c - other compressible bodies as one zstd frame
 *
 * In pieces from descriptor to descriptor, so a body of any size takes a few
 * megabytes; then read back, decompressed and compared with the body as it is
 * on disk. Level and piece size are fixed: the same body gives the same frame.
 */
#include "worker_codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/evp.h>
#include <zstd.h>

#define LEVEL 3
#define PIECE (128 * 1024)
#define SAMPLE (16 * 1024)
#define SAMPLES 4
#define MEMORY_LOG 23 /* window of a frame we read back, 8 MB */

static int
read_at(int fd, void *p, size_t n, uint64_t at)
{
	char *to = p;

	while (n > 0) {
		ssize_t got = pread(fd, to, n, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EBADMSG;
		to += got;
		at += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

static int
write_at(int fd, const void *p, size_t n, uint64_t at)
{
	const char *from = p;

	while (n > 0) {
		ssize_t put = pwrite(fd, from, n, (off_t)at);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO;
		from += put;
		at += (uint64_t)put;
		n -= (size_t)put;
	}
	return 0;
}

bool
zstd_worth(int fd, uint64_t size)
{
	uint8_t in[SAMPLE], out[SAMPLE];
	uint64_t step =
	    size > SAMPLE * SAMPLES ? (size - SAMPLE) / (SAMPLES - 1) : SAMPLE;
	size_t before = 0, after = 0;

	for (uint64_t at = 0; at < size && before < SAMPLE * SAMPLES;
	     at += step) {
		size_t n = size - at < SAMPLE ? (size_t)(size - at) : SAMPLE;
		size_t k;

		if (read_at(fd, in, n, at) != 0)
			return false;
		k = ZSTD_compress(out, sizeof(out), in, n, 1);
		before += n;
		after += ZSTD_isError(k) ? n : k;
	}
	return after < before - before / 20;
}

/* ---- packing ------------------------------------------------------------- */

struct pack {
	int fd, out_fd;
	uint64_t size, max, at, out_at;
	uint8_t in[PIECE], out[PIECE], other[PIECE];
};

/* Compress n octets of p->in, to the end of the frame if last. */
static enum worker_outcome
pack_piece(struct pack *p, ZSTD_CCtx *c, size_t n, bool last)
{
	ZSTD_inBuffer in = { p->in, n, 0 };
	size_t left;

	do {
		ZSTD_outBuffer out = { p->out, sizeof(p->out), 0 };

		left = ZSTD_compressStream2(
		    c, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(left))
			return WORKER_FAILED;
		if (out.pos > p->max - p->out_at)
			return WORKER_NO_GAIN;
		if (write_at(p->out_fd, p->out, out.pos, p->out_at) != 0)
			return WORKER_FAILED;
		p->out_at += out.pos;
	} while (last ? left > 0 : in.pos < in.size);
	return WORKER_SMALLER;
}

static enum worker_outcome
pack_all(struct pack *p, ZSTD_CCtx *c, EVP_MD_CTX *sha)
{
	enum worker_outcome o = WORKER_SMALLER;

	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	ZSTD_CCtx_setPledgedSrcSize(c, p->size);
	while (o == WORKER_SMALLER && p->at < p->size) {
		uint64_t left = p->size - p->at;
		size_t n = left < PIECE ? (size_t)left : PIECE;

		if (read_at(p->fd, p->in, n, p->at) != 0)
			return WORKER_FAILED;
		EVP_DigestUpdate(sha, p->in, n);
		p->at += n;
		o = pack_piece(p, c, n, p->at == p->size);
	}
	return o;
}

/* ---- reading back -------------------------------------------------------- */

/* n more octets of the decompressed are the body's next? */
static bool
same_next(struct pack *p, size_t n)
{
	if (n > p->size - p->at || read_at(p->fd, p->other, n, p->at) != 0 ||
	    memcmp(p->other, p->out, n) != 0)
		return false;
	p->at += n;
	return true;
}

static bool
restores(struct pack *p, ZSTD_DCtx *d)
{
	uint64_t packed = p->out_at, from = 0;
	size_t left = 1;

	p->at = 0;
	ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, MEMORY_LOG);
	while (from < packed) {
		size_t n =
		    packed - from < PIECE ? (size_t)(packed - from) : PIECE;
		ZSTD_inBuffer in = { p->in, n, 0 };
		ZSTD_outBuffer out;

		if (read_at(p->out_fd, p->in, n, from) != 0)
			return false;
		from += n;
		do {
			out = (ZSTD_outBuffer){ p->out, sizeof(p->out), 0 };
			left = ZSTD_decompressStream(d, &out, &in);
			if (ZSTD_isError(left) || !same_next(p, out.pos))
				return false;
		} while (in.pos < in.size || out.pos == out.size);
	}
	return left == 0 && p->at == p->size;
}

enum worker_outcome
zstd_pack(int fd, uint64_t size, int out_fd, uint64_t max, uint64_t *out_size,
    uint8_t sha256_out[32])
{
	struct pack *p = calloc(1, sizeof(*p));
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_DCtx *d = ZSTD_createDCtx();
	EVP_MD_CTX *sha = EVP_MD_CTX_new();
	enum worker_outcome o = WORKER_FAILED;

	if (p == NULL || c == NULL || d == NULL || sha == NULL ||
	    EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1)
		goto out;
	p->fd = fd;
	p->out_fd = out_fd;
	p->size = size;
	p->max = max;
	o = pack_all(p, c, sha);
	if (o != WORKER_SMALLER)
		goto out;
	EVP_DigestFinal_ex(sha, sha256_out, NULL);
	*out_size = p->out_at;
	if (!restores(p, d))
		o = WORKER_DIFFERS;
out:
	EVP_MD_CTX_free(sha);
	ZSTD_freeDCtx(d);
	ZSTD_freeCCtx(c);
	free(p);
	return o;
}
