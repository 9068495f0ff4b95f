/*
 * etag.c - lists of entity tags
 */
#include "etag.h"

#include <errno.h>
#include <string.h>

int
etag_next(const char **list, struct etag *out)
{
	const char *s = *list + strspn(*list, " \t,"), *end;

	if (*s == '\0')
		return 0;
	out->weak = strncmp(s, "W/", 2) == 0;
	s += out->weak ? 2 : 0;
	if (*s != '"' || (end = strchr(s + 1, '"')) == NULL)
		return -EINVAL;
	out->s = s;
	out->n = (size_t)(++end - s);
	end += strspn(end, " \t");
	if (*end != ',' && *end != '\0')
		return -EINVAL;
	*list = end;
	return 1;
}

bool
etag_readable(const char *list)
{
	struct etag tag;
	unsigned n = 0;
	int rc;

	if (strcmp(list, "*") == 0)
		return true;
	while ((rc = etag_next(&list, &tag)) == 1)
		n++;
	return rc == 0 && n > 0;
}

bool
etag_listed(const char *list, bool strong, const char *etag)
{
	size_t n = strlen(etag);
	struct etag tag;

	if (strcmp(list, "*") == 0)
		return true;
	while (etag_next(&list, &tag) == 1)
		if (!(strong && tag.weak) && tag.n == n &&
		    memcmp(tag.s, etag, n) == 0)
			return true;
	return false;
}
