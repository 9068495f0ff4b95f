/*
 * condition.c - If-Match and If-None-Match of an upload
 *
 * What must stay true: a condition that we cannot read is refused, never
 * passed over, since its sender relies on it.
 */
#include "condition.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "etag.h"
#include "http_parser.h"
#include "http_server.h"
#include "spool.h"
#include "url.h"
#include "xalloc.h"

static bool
is_of(const struct etag *tag, const struct spool_item *it)
{
	char hex[65];

	hex_encode(it->sha256, 32, hex);
	return tag->n == 66 && memcmp(tag->s + 1, hex, 64) == 0;
}

bool
condition_lists(
    const char *list, bool strong, const struct spool_item *items, size_t n)
{
	struct etag tag;

	if (strcmp(list, "*") == 0)
		return n > 0;
	while (etag_next(&list, &tag) == 1)
		for (size_t i = 0; i < n && !(strong && tag.weak); i++)
			if (is_of(&tag, &items[i]))
				return true;
	return false;
}

/* All lines of this name as one list; NULL: none. */
static char *
joined(const struct http_head *h, const char *name)
{
	char *list = NULL;

	for (unsigned i = 0; i < h->headers_n; i++) {
		char *more;

		if (strcasecmp(h->headers[i].name, name) != 0)
			continue;
		more = list == NULL
		    ? xstrdup(h->headers[i].value)
		    : xasprintf("%s, %s", list, h->headers[i].value);
		free(list);
		list = more;
	}
	return list;
}

int
condition_read(const struct http_request *rq, struct condition *out)
{
	const struct http_head *h = http_request_head(rq);
	struct condition c = { joined(h, "If-Match"),
		joined(h, "If-None-Match") };

	if ((c.match != NULL && !etag_readable(c.match)) ||
	    (c.none_match != NULL && !etag_readable(c.none_match))) {
		condition_fini(&c);
		return -EINVAL;
	}
	*out = c;
	return 0;
}

void
condition_fini(struct condition *c)
{
	free(c->match);
	free(c->none_match);
	c->match = c->none_match = NULL;
}

bool
condition_any(const struct condition *c)
{
	return c->match != NULL || c->none_match != NULL;
}

const char *
condition_fails(
    const struct condition *c, const struct spool_item *items, size_t n)
{
	if (c->match != NULL && !condition_lists(c->match, true, items, n))
		return "no file of this device and name with such an ETag "
		       "waits";
	if (c->none_match != NULL &&
	    condition_lists(c->none_match, false, items, n))
		return "a file of this device and name waits already";
	return NULL;
}
