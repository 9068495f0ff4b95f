/*
 * worker_sniff.c - what a JPEG is, by its markers alone
 *
 * Every length is checked against what is there before it is followed, and the
 * work is one pass over the octets.
 */
#include "worker_codec.h"

#include <errno.h>
#include <string.h>

/* Markers: ITU-T T.81, Annex B. */
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
