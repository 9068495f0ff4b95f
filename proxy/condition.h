/*
 * condition.h - If-Match and If-None-Match of an upload (RFC 9110 section 13.1)
 *
 * What they are compared with: the uploads of that device and name that wait,
 * each under the ETag that it was answered with, "SHA-256".
 */
#ifndef CONDITION_H
#define CONDITION_H

#include <stdbool.h>
#include <stddef.h>

struct http_request;
struct spool_item;

/* Lists as sent, of all lines; NULL: there is none. */
struct condition {
	char *match, *none_match;
};

/* 0: condition_fini() it. -EINVAL: neither "*" nor a list of ETags. */
int condition_read(const struct http_request *rq, struct condition *out);
void condition_fini(struct condition *c);
bool condition_any(const struct condition *c);
/* NULL: it holds; else why not. */
const char *condition_fails(
    const struct condition *c, const struct spool_item *items, size_t n);

/* One list, for condition_fails() and its tests: is an item's among them? By
 * strong comparison, if so asked, a weak one is nobody's. "*": is there any? */
bool condition_lists(
    const char *list, bool strong, const struct spool_item *items, size_t n);

#endif
