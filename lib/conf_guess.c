/*
 * conf_guess.c - the word somebody meant, by edit distance
 *
 * Damerau-Levenshtein in its restricted form: insert, delete, replace and
 * swap of neighbours cost one each, which is how people mistype. A match is
 * worth telling while at most a third of the word is wrong; else a guess
 * confuses more than it helps.
 */
#include "conf_private.h"

#include <ctype.h>
#include <string.h>

#define WORD_MAX 48

static size_t
min3(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;

	return m < c ? m : c;
}

static bool
same(char a, char b)
{
	if (a == '-')
		a = '_';
	if (b == '-')
		b = '_';
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static size_t
distance(const char *a, size_t n, const char *b, size_t m)
{
	size_t row[3][WORD_MAX + 1];
	size_t *before = row[0], *last = row[1], *now = row[2];

	for (size_t j = 0; j <= m; j++)
		last[j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t *spare = before;

		now[0] = i;
		for (size_t j = 1; j <= m; j++) {
			now[j] = min3(last[j] + 1, now[j - 1] + 1,
			    last[j - 1] + !same(a[i - 1], b[j - 1]));
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) &&
			    same(a[i - 2], b[j - 1]) &&
			    before[j - 2] + 1 < now[j])
				now[j] = before[j - 2] + 1;
		}
		before = last;
		last = now;
		now = spare;
	}
	return last[m];
}

void
conf_guess_init(struct conf_guess *g, const char *word)
{
	g->word = word;
	g->match = NULL;
	g->distance = 0;
}

void
conf_guess_try(struct conf_guess *g, const char *candidate)
{
	size_t n = strlen(g->word), m = strlen(candidate), d;

	if (n > WORD_MAX || m > WORD_MAX)
		return;
	d = distance(g->word, n, candidate, m);
	if (d > (m < 3 ? 1 : (m + 2) / 3))
		return;
	if (g->match == NULL || d < g->distance) {
		g->match = candidate;
		g->distance = d;
	}
}
