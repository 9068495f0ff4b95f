/*
 * xalloc.c - allocation that cannot fail
 */
#include "xalloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

static void *
checked(void *p, size_t n)
{
	if (p == NULL && n != 0) {
		log_error("out of memory asking for %zu octets: stopping", n);
		abort();
	}
	return p;
}

void *
xmalloc(size_t n)
{
	return checked(malloc(n), n);
}

void *
xcalloc(size_t n, size_t size)
{
	return checked(calloc(n, size), n * size);
}

void *
xrealloc(void *p, size_t n)
{
	return checked(realloc(p, n), n);
}

char *
xstrdup(const char *s)
{
	return checked(strdup(s), 1);
}

char *
xstrndup(const char *s, size_t n)
{
	return checked(strndup(s, n), 1);
}

char *
xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return checked(n < 0 ? NULL : s, 1);
}
