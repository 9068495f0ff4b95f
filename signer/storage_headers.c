/*
 * storage_headers.c - headers that a storage sends with each upload
 *
 * They are signed with the URI where the provider can, so none may be one that
 * is made for each upload, or is the signature's or the transfer's own.
 */
#include "storage.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "problem.h"
#include "xalloc.h"

#define HEADERS_MAX 32

/* clang-format off */
/* Headers that are the transfer's or the signature's own. */
static const char *const forbidden[] = { "host", "content-length",
	"transfer-encoding", "connection", "authorization", "expect", "te",
	"upgrade", "range", "content-range", "x-amz-checksum-sha256",
	"x-amz-meta-sha256", "x-ms-meta-sha256", "if-none-match", "if-match",
	"trailer", "keep-alive", "proxy-authorization", "proxy-connection",
	"content-md5", "x-amz-date", "x-amz-security-token", "x-goog-date",
	NULL };
/* clang-format on */

static bool
is_forbidden(const char *name)
{
	size_t i = 0;

	while (forbidden[i] != NULL && strcasecmp(forbidden[i], name) != 0)
		i++;
	return forbidden[i] != NULL;
}

static bool
has_header(const struct storage *s, const char *name)
{
	for (size_t i = 0; i < s->headers_n; i++)
		if (strcasecmp(s->headers[i].name, name) == 0)
			return true;
	return false;
}

void
storage_take_headers(struct storage *s, const cJSON *v, struct problem *p)
{
	const cJSON *e;
	int n = cJSON_GetArraySize(v);

	if (!cJSON_IsObject(v) || n > HEADERS_MAX) {
		problem_field(p, "/headers",
		    "Write {\"Name\": \"value\"}; at most 32.",
		    "This must be an object of header names and values.");
		return;
	}
	s->headers = xcalloc((size_t)n + 1, sizeof(*s->headers));
	cJSON_ArrayForEach(e, v)
	{
		struct pair h = { e->string,
			cJSON_IsString(e) ? e->valuestring : NULL };
		char *pointer;

		if (h.value != NULL && h.value[0] == '\0')
			continue;
		pointer = problem_pointer("/headers", e->string);
		if (h.value == NULL || pair_check_header(&h) != 0 ||
		    strlen(h.name) > 100 || strlen(h.value) > 1024)
			problem_field(p, pointer,
			    "Names are letters, digits and dashes, values "
			    "texts of one line.",
			    "This cannot be sent as a header.");
		else if (is_forbidden(h.name))
			problem_field(p, pointer, "Leave it out.",
			    "This header is made for each upload.");
		else if (has_header(s, h.name))
			problem_field(p, pointer, "Leave one of them out.",
			    "This header stands twice: case does not matter.");
		else
			s->headers[s->headers_n++] =
			    (struct pair){ xstrdup(h.name), xstrdup(h.value) };
		free(pointer);
	}
}
