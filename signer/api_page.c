/*
 * api_page.c - lists by pages: how many rows, and where the next one begins
 */
#include "api.h"

#include <stdlib.h>

#include "json.h"

int64_t
api_page_size(const struct api_call *c)
{
	int64_t n = c->limit != NULL ? strtoll(c->limit, NULL, 10) : 0;

	return n >= 1 && n <= 1000 ? n : 100;
}

void
api_page_next(struct api_call *c, const char *after)
{
	if (after != NULL)
		json_add_text(c->answer, "next", after);
	else
		cJSON_AddNullToObject(c->answer, "next");
}
