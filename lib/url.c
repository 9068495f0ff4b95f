/*
 * url.c - percent-encoding (RFC 3986 section 2) and hexadecimal
 */
#include "url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "xalloc.h"

static bool
unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
	    c == '~';
}

char *
url_encode(const char *s, size_t n, const char *keep)
{
	static const char digits[] = "0123456789ABCDEF";
	char *out = xmalloc(3 * n + 1), *o = out;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (unreserved(c) || (c != '\0' && strchr(keep, c) != NULL)) {
			*o++ = (char)c;
		} else {
			*o++ = '%';
			*o++ = digits[c >> 4];
			*o++ = digits[c & 15];
		}
	}
	*o = '\0';
	return out;
}

static int
digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int
url_decode(const char *s, size_t n, bool lenient, char **out, size_t *n_out)
{
	char *buf = xmalloc(n + 1), *o = buf;

	for (size_t i = 0; i < n; i++) {
		if (s[i] != '%') {
			*o++ = s[i];
		} else if (i + 2 < n && digit(s[i + 1]) >= 0 &&
		    digit(s[i + 2]) >= 0) {
			*o++ = (char)(digit(s[i + 1]) << 4 | digit(s[i + 2]));
			i += 2;
		} else if (lenient) {
			*o++ = '%';
		} else {
			free(buf);
			return -EINVAL;
		}
	}
	*o = '\0';
	*out = buf;
	*n_out = (size_t)(o - buf);
	return 0;
}

void
hex_encode(const void *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = p;

	for (size_t i = 0; i < n; i++) {
		*out++ = digits[b[i] >> 4];
		*out++ = digits[b[i] & 15];
	}
	*out = '\0';
}

int
hex_decode(const char *s, void *out, size_t n)
{
	unsigned char *b = out;

	if (strlen(s) != 2 * n)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int hi = digit(s[2 * i]), lo = digit(s[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -EINVAL;
		b[i] = (unsigned char)(hi << 4 | lo);
	}
	return 0;
}
