/*
 * bucket.c - where the bucket of a storage is: host and path of its URIs
 */
#include "bucket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "problem.h"
#include "provider.h"
#include "xalloc.h"

void
bucket_endpoint(
    struct bucket *b, struct storage *s, const char *own, struct problem *p)
{
	const char *given = s->text[ST_ENDPOINT];

	if (endpoint_parse(given != NULL ? given : own, &b->endpoint) != 0)
		problem_field(p, "/endpoint",
		    "Leave it out, or write https://HOST, https://HOST:PORT "
		    "or https://HOST/PREFIX.",
		    "This is no address of a service.");
	else
		provider_check_http(s, &b->endpoint, "/endpoint", p);
}

void
bucket_place(struct bucket *b, const char *name, enum bucket_style style)
{
	bool in_path = style == BUCKET_PATH;

	b->host = endpoint_authority(
	    &b->endpoint, style == BUCKET_VIRTUAL ? name : NULL);
	b->prefix = xasprintf("%s%s%s", b->endpoint.path, in_path ? "/" : "",
	    in_path ? name : "");
}

void
bucket_fini(struct bucket *b)
{
	endpoint_fini(&b->endpoint);
	free(b->host);
	free(b->prefix);
	memset(b, 0, sizeof(*b));
}

int
bucket_request(const struct bucket *b, const struct sign_request *r,
    struct text *path, struct sigv4_request *out)
{
	if (r->key != NULL && provider_check_key(r->key) != 0)
		return -EINVAL;
	text_str(path, b->prefix);
	if (r->key != NULL || !b->bare || b->prefix[0] == '\0')
		text_char(path, '/');
	if (r->key != NULL)
		text_encode(path, r->key, strlen(r->key), true);
	*out = (struct sigv4_request){
		.method = r->method,
		.scheme = b->endpoint.scheme,
		.host = b->host,
		.path = path->s,
		.headers = r->headers,
		.headers_n = r->headers_n,
		.query = r->query,
		.query_n = r->query_n,
		.at = r->at,
		.expires = r->expires,
	};
	return 0;
}
