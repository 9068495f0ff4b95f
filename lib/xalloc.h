/*
 * xalloc.h - allocation that cannot fail
 *
 * Abort (after a log line) when memory is out: the spool is durable, a restart
 * is the recovery. What a peer can size is bounded before it gets here.
 */
#ifndef XALLOC_H
#define XALLOC_H

#include <stddef.h>

void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
