/*
 * api_page.c - lists by pages: how many rows, and where the next one begins
 */
#include "api.h"

#include <errno.h>
#include <stdlib.h>

#include "json.h"

int
api_page_size(struct api_call *c, int64_t *n_out)
{
	char *end;
	int64_t n;

	*n_out = 100;
	if (c->limit == NULL)
		return 0;
	n = strtoll(c->limit, &end, 10);
	if (*end != '\0' || end == c->limit || n < 1 || n > 1000) {
		problem_field(&c->problem, "", "For example ?limit=1000.",
		    "The parameter limit must be a number from 1 to 1000.");
		return -EINVAL;
	}
	*n_out = n;
	return 0;
}

void
api_page_next(struct api_call *c, const char *after)
{
	if (after != NULL)
		json_add_text(c->answer, "next", after);
	else
		cJSON_AddNullToObject(c->answer, "next");
}
