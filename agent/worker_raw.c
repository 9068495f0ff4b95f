/*
 * worker_raw.c - raw frames: BMP and PNM as cameras and grabbers write them
 *
 * Only plain layouts count as frames: what has palettes, profiles, masks,
 * several pictures or octets after the pixels goes by zstd, which keeps every
 * octet. So does what has another range of samples than 8 or 16 bits: djxl
 * would write it differently. The header (resolution, comments) goes along.
 */
#include "worker_codec.h"
#include "worker_magic.h"

#include <errno.h>
#include <string.h>

#define PNM_HEAD_MAX 1024

static uint32_t
le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
	    (uint32_t)p[3] << 24;
}

static int
check_pixels(const struct raw_shape *s, uint64_t max_pixels)
{
	return (uint64_t)s->width * s->height > max_pixels ? -EFBIG : 0;
}

/* Padding at the ends of rows is all zero? */
static bool
padding_zero(const uint8_t *p, const struct raw_shape *s)
{
	size_t used = (size_t)s->width * 3;

	for (uint32_t y = 0; y < s->height; y++)
		for (size_t i = used; i < s->stride; i++)
			if (p[s->offset + y * s->stride + i] != 0)
				return false;
	return true;
}

static int
bmp_shape(const uint8_t *p, size_t n, uint64_t max_pixels, struct raw_shape *s)
{
	int32_t height;

	/* BITMAPINFOHEADER, 1 plane, 24 bit, BI_RGB, no palette */
	if (n < 54 || le32(p + 10) != 54 || le32(p + 14) != 40 || p[26] != 1 ||
	    p[27] != 0 || p[28] != 24 || p[29] != 0 || le32(p + 30) != 0 ||
	    le32(p + 46) != 0)
		return -ENOTSUP;
	height = (int32_t)le32(p + 22);
	if (le32(p + 18) == 0 || le32(p + 18) > INT32_MAX || height == 0 ||
	    height == INT32_MIN)
		return -ENOTSUP;
	*s = (struct raw_shape){ .width = le32(p + 18),
		.height = (uint32_t)(height < 0 ? -height : height),
		.channels = 3,
		.bits = 8,
		.offset = 54,
		.bgr = true,
		.bottom_up = height > 0 };
	if (check_pixels(s, max_pixels) != 0)
		return -EFBIG;
	s->stride = ((size_t)s->width * 3 + 3) & ~(size_t)3;
	if (s->stride > (n - 54) / s->height)
		return -EFBIG;
	if (n - 54 != s->stride * s->height || !padding_zero(p, s))
		return -ENOTSUP;
	return 0;
}

/* A number, and the blanks and comments before it. -1: none. */
static int64_t
pnm_number(const uint8_t *p, size_t n, size_t *at)
{
	int64_t v = -1;
	bool comment = false;

	if (n > PNM_HEAD_MAX)
		n = PNM_HEAD_MAX;
	while (*at < n &&
	    (comment || p[*at] == '#' || p[*at] == ' ' || p[*at] == '\n' ||
		p[*at] == '\r' || p[*at] == '\t')) {
		comment = (comment || p[*at] == '#') && p[*at] != '\n';
		++*at;
	}
	while (*at < n && p[*at] >= '0' && p[*at] <= '9' && v < INT32_MAX / 10)
		v = (v < 0 ? 0 : v) * 10 + p[(*at)++] - '0';
	return v;
}

static int
pnm_shape(const uint8_t *p, size_t n, uint64_t max_pixels, struct raw_shape *s)
{
	size_t at = 2;
	int64_t w = pnm_number(p, n, &at), h = pnm_number(p, n, &at);
	int64_t max = pnm_number(p, n, &at);
	unsigned bits = max == 255 ? 8 : 16;

	if (w <= 0 || h <= 0 || (max != 255 && max != 65535) || at >= n ||
	    (p[at] != '\n' && p[at] != ' '))
		return -ENOTSUP;
	*s = (struct raw_shape){ .width = (uint32_t)w,
		.height = (uint32_t)h,
		.channels = p[1] == '6' ? 3 : 1,
		.bits = bits,
		.offset = at + 1 };
	if (check_pixels(s, max_pixels) != 0)
		return -EFBIG;
	s->stride = (size_t)s->width * s->channels * (bits > 8 ? 2 : 1);
	if (s->stride > (n - s->offset) / s->height)
		return -EFBIG;
	return n - s->offset == s->stride * s->height ? 0 : -ENOTSUP;
}

int
raw_shape(
    const uint8_t *p, size_t n, uint64_t max_pixels, struct raw_shape *out)
{
	switch (magic_content(p, n)) {
	case WORKER_BMP:
		return bmp_shape(p, n, max_pixels, out);
	case WORKER_PNM:
		return pnm_shape(p, n, max_pixels, out);
	default:
		return -ENOTSUP;
	}
}

void
raw_row(
    const uint8_t *p, const struct raw_shape *s, uint32_t y, uint8_t *row_out)
{
	uint32_t stored = s->bottom_up ? s->height - 1 - y : y;
	const uint8_t *row = p + s->offset + (size_t)stored * s->stride;

	if (!s->bgr) {
		memcpy(row_out, row, s->stride);
		return;
	}
	for (uint32_t x = 0; x < s->width; x++) {
		row_out[3 * x] = row[3 * x + 2];
		row_out[3 * x + 1] = row[3 * x + 1];
		row_out[3 * x + 2] = row[3 * x];
	}
}
