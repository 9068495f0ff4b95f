/*
 * worker_sniff.c - what a body is, by its octets alone
 *
 * Names and content types are the sender's claims; nothing here believes them.
 * Every length is checked against what is there before it is followed, and the
 * work is one pass over the octets.
 */
#include "worker_codec.h"

#include <errno.h>
#include <string.h>

/* ---- magic --------------------------------------------------------------- */

struct magic {
	unsigned at, n;
	const char *octets;
};

/* Compressed already: recoding these gains nothing. */
// clang-format off
static const struct magic packed[] = {
	{ 0, 8, "\x89PNG\r\n\x1a\n" },
	{ 0, 4, "GIF8" },
	{ 8, 4, "WEBP" },
	{ 4, 4, "ftyp" },               /* MP4, HEIC, AVIF */
	{ 0, 3, "\x1f\x8b\x08" },       /* gzip */
	{ 0, 4, "\x28\xb5\x2f\xfd" },   /* zstd */
	{ 0, 6, "\xfd" "7zXZ\0" },
	{ 0, 3, "BZh" },
	{ 0, 4, "PK\x03\x04" },
	{ 0, 6, "7z\xbc\xaf\x27\x1c" },
	{ 0, 2, "\xff\x0a" },           /* JPEG XL */
	{ 0, 12, "\0\0\0\x0cJXL \r\n\x87\n" },
	{ 0, 4, "\x1a\x45\xdf\xa3" },   /* Matroska, WebM */
	{ 0, 4, "OggS" },
	{ 0, 4, "fLaC" },
	{ 0, 3, "ID3" },
};
// clang-format on

static bool
has(const uint8_t *p, size_t n, const struct magic *m)
{
	return n >= m->at + m->n && memcmp(p + m->at, m->octets, m->n) == 0;
}

enum worker_content
sniff_content(const uint8_t *p, size_t n)
{
	if (n >= 3 && p[0] == 0xff && p[1] == 0xd8 && p[2] == 0xff)
		return WORKER_JPEG;
	if (n >= 26 && p[0] == 'B' && p[1] == 'M' && p[6] == 0 && p[7] == 0)
		return WORKER_BMP;
	if (n >= 9 && p[0] == 'P' && (p[1] == '5' || p[1] == '6') &&
	    (p[2] == '\n' || p[2] == ' ' || p[2] == '\r' || p[2] == '\t'))
		return WORKER_PNM;
	for (size_t i = 0; i < sizeof(packed) / sizeof(packed[0]); i++)
		if (has(p, n, &packed[i]))
			return WORKER_PACKED;
	return WORKER_OTHER;
}

/* ---- JPEG (ITU-T T.81, Annex B) ------------------------------------------ */

static bool
is_sof(uint8_t m)
{
	return m >= 0xc0 && m <= 0xcf && m != 0xc4 && m != 0xc8 && m != 0xcc;
}

/* A frame header of n octets after its length. NULL, or its flaw. */
static const char *
take_frame(struct jpeg_shape *s, uint8_t marker, const uint8_t *p, size_t n)
{
	unsigned h_max = 1, v_max = 1;

	if (s->sof != 0)
		return "two frames";
	if (n < 6 || p[5] == 0 || p[5] > 4 || n < 6 + 3 * (size_t)p[5])
		return "broken frame header";
	s->sof = marker;
	s->precision = p[0];
	s->height = (uint32_t)(p[1] << 8 | p[2]);
	s->width = (uint32_t)(p[3] << 8 | p[4]);
	s->components = p[5];
	for (unsigned i = 0; i < s->components; i++) {
		unsigned h = p[7 + 3 * i] >> 4, v = p[7 + 3 * i] & 15;

		if (h < 1 || h > 4 || v < 1 || v > 4)
			return "broken frame header";
		h_max = h > h_max ? h : h_max;
		v_max = v > v_max ? v : v_max;
	}
	for (unsigned i = 0; i < s->components; i++) {
		uint64_t h = p[7 + 3 * i] >> 4, v = p[7 + 3 * i] & 15;

		s->blocks += ((s->width + 8 * h_max - 1) / (8 * h_max)) * h *
		    (((s->height + 8 * v_max - 1) / (8 * v_max)) * v);
	}
	return NULL;
}

/* Over entropy-coded octets: the place of the next marker, or n. */
static size_t
skip_scan(const uint8_t *p, size_t n, size_t at)
{
	const uint8_t *q;

	while (at < n && (q = memchr(p + at, 0xff, n - at)) != NULL) {
		at = (size_t)(q - p);
		while (at + 1 < n && p[at + 1] == 0xff)
			at++;
		if (at + 1 >= n)
			break;
		if (p[at + 1] != 0 && (p[at + 1] < 0xd0 || p[at + 1] > 0xd7))
			return at;
		at += 2;
	}
	return n;
}

void
jpeg_shape(const uint8_t *p, size_t n, struct jpeg_shape *s)
{
	size_t at = 2;

	memset(s, 0, sizeof(*s));
	s->flaw = "no end marker";
	while (n - at >= 2) {
		uint8_t m = p[at + 1];
		size_t len;

		if (p[at] != 0xff) {
			s->flaw = "a marker is missing";
			return;
		}
		if (m == 0xff) { /* fill */
			at++;
			continue;
		}
		at += 2;
		if (m == 0xd9) {
			s->end = at;
			s->flaw = s->scans == 0 ? "no picture in it" : NULL;
			return;
		}
		if (m == 0x01 || (m >= 0xd0 && m <= 0xd7))
			continue;
		if (n - at < 2)
			return;
		len = (size_t)(p[at] << 8 | p[at + 1]);
		if (len < 2 || len > n - at)
			return;
		if (is_sof(m)) {
			s->flaw = take_frame(s, m, p + at + 2, len - 2);
			if (s->flaw != NULL)
				return;
			s->flaw = "no end marker";
		}
		if (m == 0xe2 && len >= 6 && memcmp(p + at + 2, "MPF", 4) == 0)
			s->several = true;
		at += len;
		if (m != 0xda)
			continue;
		if (s->sof == 0) {
			s->flaw = "no frame header";
			return;
		}
		s->scans++;
		at = skip_scan(p, n, at);
	}
}
