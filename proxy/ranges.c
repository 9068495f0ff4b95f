/*
 * ranges.c - which octets of a file a request asks for, and how they are framed
 */
#include "ranges.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <openssl/rand.h>

#include "etag.h"
#include "url.h"

/* ---- Range --------------------------------------------------------------- */

static const char *
skip_blanks(const char *s)
{
	return s + strspn(s, " \t");
}

/* A run of digits; what does not fit in 64 bits is the largest there is. NULL:
 * no digit stands here. */
static const char *
number(const char *s, uint64_t *out)
{
	uint64_t v = 0;

	if (*s < '0' || *s > '9')
		return NULL;
	for (; *s >= '0' && *s <= '9'; s++) {
		uint64_t d = (uint64_t)(*s - '0');

		v = v > (UINT64_MAX - d) / 10 ? UINT64_MAX : v * 10 + d;
	}
	*out = v;
	return s;
}

/*
 * One range-spec of a file of size octets. The text behind it, or NULL if it
 * is none; r_out->n is 0 if it cannot be satisfied.
 */
static const char *
spec(const char *s, uint64_t size, struct range *r_out)
{
	uint64_t first, last = UINT64_MAX;
	const char *end;

	r_out->first = r_out->n = 0;
	if (*s == '-') { /* the last so many */
		s = number(s + 1, &last);
		if (s != NULL) {
			r_out->n = last < size ? last : size;
			r_out->first = size - r_out->n;
		}
		return s;
	}
	s = number(s, &first);
	if (s == NULL || *s != '-')
		return NULL;
	end = number(++s, &last);
	if (end != NULL && last < first)
		return NULL;
	if (first < size) {
		if (last >= size)
			last = size - 1;
		r_out->first = first;
		r_out->n = last - first + 1;
	}
	return end != NULL ? end : s;
}

static int
by_first(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* In order of the file, what overlaps or touches made one; how many remain. */
static size_t
merge(struct range *r, size_t n)
{
	size_t k = 0;

	if (n == 0)
		return 0;
	qsort(r, n, sizeof(*r), by_first);
	for (size_t i = 1; i < n; i++) {
		uint64_t end = r[k].first + r[k].n;
		uint64_t to = r[i].first + r[i].n;

		if (r[i].first > end)
			r[++k] = r[i];
		else if (to > end)
			r[k].n = to - r[k].first;
	}
	return k + 1;
}

enum ranges_kind
ranges_parse(const char *value, uint64_t size, struct range out[RANGES_MAX],
    size_t *n_out)
{
	struct range all[RANGES_ASKED], r;
	size_t n = 0, asked = 0;
	const char *s = value;

	if (s == NULL || strncasecmp(s, "bytes=", 6) != 0)
		return RANGES_WHOLE;
	s = skip_blanks(s + 6);
	for (; *s != '\0'; s = skip_blanks(s)) {
		if (*s == ',') { /* lists may have empty members */
			s++;
			continue;
		}
		s = spec(s, size, &r);
		if (s == NULL || asked++ == RANGES_ASKED)
			return RANGES_WHOLE;
		s = skip_blanks(s);
		if (*s != ',' && *s != '\0')
			return RANGES_WHOLE;
		if (r.n > 0)
			all[n++] = r;
	}
	if (asked == 0)
		return RANGES_WHOLE;
	n = merge(all, n);
	if (n == 0)
		return RANGES_NONE;
	if (n > RANGES_MAX)
		return RANGES_WHOLE;
	memcpy(out, all, n * sizeof(all[0]));
	*n_out = n;
	return RANGES_SOME;
}

/* ---- conditions ---------------------------------------------------------- */

bool
ranges_if_range(const char *value, const char *etag)
{
	return value == NULL || strcmp(value, etag) == 0;
}

bool
ranges_none_match(const char *value, const char *etag)
{
	return value != NULL && etag_listed(value, false, etag);
}

bool
ranges_match(const char *value, const char *etag)
{
	return value == NULL || etag_listed(value, true, etag);
}

/* ---- the body ------------------------------------------------------------ */

void
ranges_boundary(char out[RANGES_BOUNDARY + 1])
{
	unsigned char r[RANGES_BOUNDARY / 2];

	if (RAND_bytes(r, sizeof(r)) != 1)
		abort(); /* no entropy: nothing else works either */
	hex_encode(r, sizeof(r), out);
}

/* What stands before part i; behind the last one, the end. */
static size_t
heading(const struct ranges_body *b, size_t i, char *out, size_t size)
{
	int n;

	if (i == b->n)
		n = snprintf(out, size, "\r\n--%s--\r\n", b->boundary);
	else
		n = snprintf(out, size,
		    "%s--%s\r\nContent-Type: application/octet-stream\r\n"
		    "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64
		    "\r\n\r\n",
		    i > 0 ? "\r\n" : "", b->boundary, b->list[i].first,
		    b->list[i].first + b->list[i].n - 1, b->size);
	return (size_t)n;
}

uint64_t
ranges_length(const struct ranges_body *b)
{
	char text[sizeof(((struct ranges_piece *)0)->text)];
	uint64_t sum = 0;

	if (b->n == 1)
		return b->list[0].n;
	for (size_t i = 0; i < b->n; i++)
		sum += heading(b, i, text, sizeof(text)) + b->list[i].n;
	return sum + heading(b, b->n, text, sizeof(text));
}

/* The piece of n octets, text or file from off, but its first `at`. */
static void
cut(struct ranges_piece *p, bool file, uint64_t off, uint64_t n, uint64_t at)
{
	p->file = file;
	p->n = n - at;
	p->off = off + at;
	if (!file)
		memmove(p->text, p->text + at, n - at);
}

void
ranges_piece(
    const struct ranges_body *b, uint64_t at, struct ranges_piece *p_out)
{
	p_out->n = 0;
	if (b->n == 1) {
		if (at < b->list[0].n)
			cut(p_out, true, b->list[0].first, b->list[0].n, at);
		return;
	}
	for (size_t i = 0; i <= b->n; i++) {
		uint64_t n = heading(b, i, p_out->text, sizeof(p_out->text));

		if (at < n) {
			cut(p_out, false, 0, n, at);
			return;
		}
		at -= n;
		if (i < b->n && at < b->list[i].n) {
			cut(p_out, true, b->list[i].first, b->list[i].n, at);
			return;
		}
		if (i < b->n)
			at -= b->list[i].n;
	}
}
