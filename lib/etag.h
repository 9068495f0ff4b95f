/*
 * etag.h - lists of entity tags, as If-Match and If-None-Match have them
 * (RFC 9110 sections 8.8.3, 13.1.1, 13.1.2)
 */
#ifndef ETAG_H
#define ETAG_H

#include <stdbool.h>
#include <stddef.h>

struct etag {
	const char *s; /* in the list, with its quotes */
	size_t n;
	bool weak;
};

/* The next of *list, which moves behind it. 1: there is one. 0: the end.
 * -EINVAL: this is no list of entity tags. */
int etag_next(const char **list, struct etag *out);
/* Is it "*" or a list of one or more? */
bool etag_readable(const char *list);
/* Does it list this one ("*" does)? By strong comparison, if so asked, a weak
 * one is nobody's. etag: with its quotes, strong. */
bool etag_listed(const char *list, bool strong, const char *etag);

#endif
