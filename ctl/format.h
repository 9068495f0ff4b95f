/*
 * format.h - values for people
 */
#ifndef FORMAT_H
#define FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct small {
	char s[32];
};
/* "0 B", "812 B", "1.5 KB", "210 MB": of 1024, as in gateway.conf. */
const char *format_size(struct small *b, int64_t octets);
/* "0 s", "12 s", "4 min", "3 h", "2 d", whatever says enough. */
const char *format_time(struct small *b, int64_t ms);
/* "0", "999", "1 234 567" */
const char *format_count(struct small *b, int64_t n);

/*
 * A peer's text for a terminal: what is not printable (controls, C1, marks
 * that change the direction of text, invalid UTF-8) becomes \xNN. At most
 * `columns` characters, a longer one ends in "..."; 0: no limit. malloc'd.
 */
char *format_text(const char *s, size_t columns);
/* Characters of UTF-8 text, for padding. */
size_t format_columns(const char *s);

/* Rows of a table, columns padded to the widest when printed. */
struct table;
struct table *table_new(size_t columns);
/* Copies the `columns` cells. right: bit i pads column i on its left. */
void table_row(struct table *t, const char *const *cells);
void table_print(const struct table *t, unsigned right, FILE *f);
void table_free(struct table *t);

#endif
