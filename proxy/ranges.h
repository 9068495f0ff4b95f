/*
 * ranges.h - which octets of a file a request asks for, and how they are framed
 *
 * Range, If-Range, If-Match, If-None-Match (RFC 9110 sections 13.1, 14) and
 * multipart/byteranges (14.6). What a body holds at any offset is computed, not
 * kept: an answer can go on from wherever its sending got to.
 */
#ifndef RANGES_H
#define RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RANGES_MAX 64      /* of one answer, after merging */
#define RANGES_ASKED 256   /* of one request */
#define RANGES_BOUNDARY 24 /* characters */

struct range {
	uint64_t first, n;
};

enum ranges_kind {
	RANGES_WHOLE, /* none asked, not understood, or too many: 200 */
	RANGES_SOME,  /* 206; several: multipart */
	RANGES_NONE,  /* none can be satisfied: 416 */
};

/*
 * value (may be NULL) of the header Range for a file of size octets. Ranges
 * come out in order of the file, clamped to it, overlapping and touching ones
 * made one. One range is never answered by the whole file.
 */
enum ranges_kind ranges_parse(const char *value, uint64_t size,
    struct range out[RANGES_MAX], size_t *n_out);

/* Does If-Range name this strong entity tag (with its quotes)? NULL: there is
 * no condition. A date or a weak tag never fits. */
bool ranges_if_range(const char *value, const char *etag);
/* Does If-None-Match (NULL: none) list it, by weak comparison, or "*"? */
bool ranges_none_match(const char *value, const char *etag);
/* Does If-Match list it, by strong comparison, or "*"? NULL: no condition. */
bool ranges_match(const char *value, const char *etag);

/* The body of an answer: one run of octets, or a multipart of several. */
struct ranges_body {
	const struct range *list; /* the caller's */
	size_t n;
	uint64_t size; /* of the file */
	char boundary[RANGES_BOUNDARY + 1];
};
/* A new boundary that no one can guess. */
void ranges_boundary(char out[RANGES_BOUNDARY + 1]);
/* Exact length in octets. */
uint64_t ranges_length(const struct ranges_body *b);

struct ranges_piece {
	bool file; /* octets off..off+n of the file, else text */
	uint64_t off, n;
	char text[192];
};
/* What stands at offset at of the body, to the end of that piece; n == 0: the
 * end of the body. */
void ranges_piece(
    const struct ranges_body *b, uint64_t at, struct ranges_piece *p_out);

#endif
