/*
 * text.h - a string that grows
 *
 * { 0 } is an empty one. s is NUL-terminated once anything was added; a text
 * that is only reset keeps its memory, so that signing in a loop allocates
 * nothing.
 */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct text {
	char *s;
	size_t n, size;
};

void text_fini(struct text *t);
void text_reset(struct text *t);
/* Room for n octets and a NUL more. */
void text_reserve(struct text *t, size_t n);

/* These stand here because signing is made of short additions. */
static inline void
text_add(struct text *t, const void *p, size_t n)
{
	if (t->size - t->n <= n)
		text_reserve(t, n);
	if (n != 0)
		memcpy(t->s + t->n, p, n);
	t->n += n;
	t->s[t->n] = '\0';
}

static inline void
text_str(struct text *t, const char *s)
{
	text_add(t, s, strlen(s));
}

static inline void
text_char(struct text *t, char c)
{
	if (t->size - t->n <= 1)
		text_reserve(t, 1);
	t->s[t->n++] = c;
	t->s[t->n] = '\0';
}

void text_u64(struct text *t, uint64_t v);
/* Percent-encode all but A-Z a-z 0-9 - . _ ~ and, if slashes, '/'. */
void text_encode(struct text *t, const char *s, size_t n, bool slashes);
/* Append name=value, encoded, after a '&' unless it is the first. */
void text_form(struct text *t, const char *name, const char *value);
/* The string, never NULL; the text is empty afterwards. free(). */
char *text_steal(struct text *t);

#endif
