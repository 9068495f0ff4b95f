/*
 * format.c - values for people
 *
 * Names of devices and files come from the LAN: whoever sends a file chooses
 * them. They must not move the cursor, recolour or reorder what an operator
 * reads, so only what prints as itself goes out unchanged.
 */
#include "format.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "xalloc.h"

const char *
format_size(struct small *b, int64_t octets)
{
	static const char *const units[] = { "B", "KB", "MB", "GB", "TB",
		"PB" };
	double v = octets < 0 ? 0 : (double)octets;
	size_t u = 0;

	while (v >= 1023.5 && u + 1 < sizeof(units) / sizeof(units[0])) {
		v /= 1024;
		u++;
	}
	snprintf(b->s, sizeof(b->s), u > 0 && v < 9.95 ? "%.1f %s" : "%.0f %s",
	    v, units[u]);
	return b->s;
}

const char *
format_time(struct small *b, int64_t ms)
{
	int64_t s = ms < 0 ? 0 : (ms + 500) / 1000;

	if (s < 100)
		snprintf(b->s, sizeof(b->s), "%lld s", (long long)s);
	else if (s < 100 * 60)
		snprintf(
		    b->s, sizeof(b->s), "%lld min", (long long)(s + 30) / 60);
	else if (s < 48 * 3600)
		snprintf(
		    b->s, sizeof(b->s), "%lld h", (long long)(s + 1800) / 3600);
	else
		snprintf(b->s, sizeof(b->s), "%lld d",
		    (long long)(s + 43200) / 86400);
	return b->s;
}

const char *
format_count(struct small *b, int64_t n)
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%lld", (long long)n);
	char *w = b->s;

	for (int i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0 && digits[i - 1] != '-')
			*w++ = ' ';
		*w++ = digits[i];
	}
	*w = '\0';
	return b->s;
}

/* Octets of the valid sequence at s that prints as itself, 0: escape it. */
static size_t
printable(const char *s)
{
	const unsigned char *u = (const unsigned char *)s;
	size_t len = u[0] < 0x80 ? 1 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
	unsigned code;

	if (len == 1)
		return u[0] >= 0x20 && u[0] != 0x7f && u[0] != '\\';
	if (strnlen(s, len) < len || !json_utf8(s, len))
		return 0;
	code = len == 2 ? (u[0] & 0x1fu) << 6 | (u[1] & 0x3fu)
	    : len == 3
	    ? (u[0] & 0xfu) << 12 | (u[1] & 0x3fu) << 6 | (u[2] & 0x3fu)
	    : 0;
	if (code >= 0x80 && code < 0xa0)
		return 0; /* C1 */
	if (code == 0x61c || (code >= 0x200b && code <= 0x200f) ||
	    (code >= 0x2028 && code <= 0x202e) ||
	    (code >= 0x2060 && code <= 0x206f) || code == 0xfeff)
		return 0; /* invisible, or changes direction or line */
	return len;
}

char *
format_text(const char *s, size_t columns)
{
	char *out = xmalloc(4 * strlen(s) + 4), *w = out, *cut = NULL;
	size_t used = 0;

	while (*s != '\0') {
		size_t len = printable(s);

		if (columns > 3 && cut == NULL &&
		    used + (len > 0 ? 1 : 4) > columns - 3)
			cut = w; /* here, if it turns out too long */
		if (len > 0) {
			memcpy(w, s, len);
			w += len;
			s += len;
			used++;
		} else {
			w += sprintf(w, "\\x%02x", (unsigned char)*s++);
			used += 4;
		}
		if (columns > 0 && used > columns)
			break;
	}
	*w = '\0';
	if (columns > 3 && used > columns)
		strcpy(cut, "...");
	return out;
}

size_t
format_columns(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

struct table {
	size_t columns, rows;
	char **cells;
	size_t *widths;
};

struct table *
table_new(size_t columns)
{
	struct table *t = xcalloc(1, sizeof(*t));

	t->columns = columns;
	t->widths = xcalloc(columns, sizeof(*t->widths));
	return t;
}

void
table_row(struct table *t, const char *const *cells)
{
	char **row;

	t->cells =
	    xrealloc(t->cells, (t->rows + 1) * t->columns * sizeof(*t->cells));
	row = t->cells + t->rows++ * t->columns;
	for (size_t i = 0; i < t->columns; i++) {
		size_t n = format_columns(cells[i]);

		row[i] = xstrdup(cells[i]);
		if (n > t->widths[i])
			t->widths[i] = n;
	}
}

void
table_print(const struct table *t, unsigned right, FILE *f)
{
	for (size_t r = 0; r < t->rows; r++) {
		for (size_t i = 0; i < t->columns; i++) {
			const char *cell = t->cells[r * t->columns + i];
			int pad = (int)(t->widths[i] - format_columns(cell));
			bool last = i + 1 == t->columns;

			if ((right >> i & 1) != 0)
				fprintf(f, "%*s%s", pad, "", cell);
			else
				fprintf(f, "%s%*s", cell, last ? 0 : pad, "");
			fputs(last ? "\n" : "  ", f);
		}
	}
}

void
table_free(struct table *t)
{
	for (size_t i = 0; i < t->rows * t->columns; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t->widths);
	free(t);
}
