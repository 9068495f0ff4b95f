/*
 * text.c - a string that grows
 *
 * Percent-encoding is here a second time (lib/url.c returns a new string)
 * because it is most of what signing does besides hashing.
 */
#include "text.h"

#include <stdlib.h>
#include <string.h>

#include "xalloc.h"

void
text_fini(struct text *t)
{
	free(t->s);
	memset(t, 0, sizeof(*t));
}

void
text_reset(struct text *t)
{
	t->n = 0;
	if (t->s != NULL)
		t->s[0] = '\0';
}

void
text_reserve(struct text *t, size_t n)
{
	if (t->size - t->n > n)
		return;
	t->size = (t->n + n + 1) * 2;
	if (t->size < 256)
		t->size = 256;
	t->s = xrealloc(t->s, t->size);
}

void
text_u64(struct text *t, uint64_t v)
{
	char digits[20];
	size_t i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + v % 10);
		v /= 10;
	} while (v != 0);
	text_add(t, digits + i, sizeof(digits) - i);
}

/* 1: stays as it is. '/' is left to the caller. RFC 3986 section 2.3. */
static const unsigned char plain[256] = {
	['-'] = 1,
	['.'] = 1,
	['_'] = 1,
	['~'] = 1,
	['0' ... '9'] = 1,
	['A' ... 'Z'] = 1,
	['a' ... 'z'] = 1,
};

void
text_encode(struct text *t, const char *s, size_t n, bool slashes)
{
	static const char digits[] = "0123456789ABCDEF";
	char *o;

	text_reserve(t, 3 * n);
	o = t->s + t->n;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (plain[c] || (slashes && c == '/')) {
			*o++ = (char)c;
		} else {
			*o++ = '%';
			*o++ = digits[c >> 4];
			*o++ = digits[c & 15];
		}
	}
	*o = '\0';
	t->n = (size_t)(o - t->s);
}

void
text_form(struct text *t, const char *name, const char *value)
{
	if (t->n != 0)
		text_char(t, '&');
	text_encode(t, name, strlen(name), false);
	text_char(t, '=');
	text_encode(t, value, strlen(value), false);
}

char *
text_steal(struct text *t)
{
	char *s = t->s != NULL ? t->s : xstrdup("");

	memset(t, 0, sizeof(*t));
	return s;
}
