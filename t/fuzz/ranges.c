/*
 * ranges.c - fuzz target: any octets as Range, If-Range and If-None-Match
 *
 * The first two octets are the file's size, the rest is the header. Whatever it
 * is: ranges come out sorted, apart from each other, inside the file and within
 * the cap, and the body made of them has its announced length from wherever it
 * is continued.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../proxy/ranges.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Walk through the body in pieces of at most step octets. */
static void
walk(const struct ranges_body *b, uint64_t step)
{
	uint64_t at = 0, of_file = 0, asked = 0;
	struct ranges_piece p;

	for (size_t i = 0; i < b->n; i++)
		asked += b->list[i].n;
	for (;;) {
		ranges_piece(b, at, &p);
		if (p.n == 0)
			break;
		assert(p.file || p.n <= sizeof(p.text));
		assert(!p.file || p.off + p.n <= b->size);
		if (p.n > step)
			p.n = step;
		of_file += p.file ? p.n : 0;
		at += p.n;
	}
	assert(at == ranges_length(b) && of_file == asked);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct range list[RANGES_MAX];
	struct ranges_body b = { .list = list };
	char text[4096];
	size_t k = 0;

	if (n < 2 || n > sizeof(text))
		return 0;
	b.size = (uint64_t)data[0] << 8 | data[1];
	memcpy(text, data + 2, n - 2);
	text[n - 2] = '\0';
	ranges_none_match(text, "\"ab\"");
	assert(
	    ranges_if_range(text, "\"ab\"") == (strcmp(text, "\"ab\"") == 0));
	if (ranges_parse(text, b.size, list, &k) != RANGES_SOME)
		return 0;
	assert(k >= 1 && k <= RANGES_MAX);
	for (size_t i = 0; i < k; i++) {
		assert(list[i].n > 0 && list[i].n <= b.size);
		assert(list[i].first <= b.size - list[i].n);
		assert(i == 0 ||
		    list[i].first > list[i - 1].first + list[i - 1].n);
	}
	b.n = k;
	ranges_boundary(b.boundary);
	walk(&b, UINT64_MAX);
	walk(&b, 7);
	return 0;
}
