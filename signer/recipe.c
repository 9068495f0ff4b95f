/*
 * recipe.c - the answer that tells an agent all about one upload
 */
#include "recipe.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "json.h"
#include "xalloc.h"

void
headers_set(struct headers *h, const char *name, const char *value)
{
	size_t i = 0;

	while (i < h->n && strcasecmp(h->v[i].name, name) != 0)
		i++;
	if (i == SIGV4_PAIRS_MAX)
		return; /* storages and uploads are bounded far below it */
	if (i == h->n)
		h->n++;
	else
		free(h->owned[i]);
	h->owned[i] = xmalloc(strlen(name) + strlen(value) + 2);
	strcpy(h->owned[i], name);
	strcpy(h->owned[i] + strlen(name) + 1, value);
	h->v[i].name = h->owned[i];
	h->v[i].value = h->owned[i] + strlen(name) + 1;
}

void
headers_all(struct headers *h, const struct pair *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		headers_set(h, v[i].name, v[i].value);
}

void
headers_fini(struct headers *h)
{
	for (size_t i = 0; i < h->n; i++)
		free(h->owned[i]);
	h->n = 0;
}

static cJSON *
headers_json(const struct headers *h)
{
	cJSON *o = cJSON_CreateObject();

	for (size_t i = 0; h != NULL && i < h->n; i++)
		/* Signed, but every client makes it of the body by itself. */
		if (strcasecmp(h->v[i].name, "content-length") != 0)
			json_add_text(o, h->v[i].name, h->v[i].value);
	return o;
}

static cJSON *
body_json(const struct recipe_request *rq)
{
	cJSON *o, *range;

	if (rq->body == BODY_NONE)
		return cJSON_CreateNull();
	o = cJSON_CreateObject();
	if (rq->body == BODY_FILE) {
		cJSON_AddTrueToObject(o, "file");
	} else if (rq->body == BODY_RANGE) {
		range = cJSON_AddObjectToObject(o, "range");
		json_add_int(range, "offset", rq->offset);
		json_add_int(range, "length", rq->length);
	} else {
		json_add_text(o, "text", rq->text);
	}
	return o;
}

static cJSON *
keep_json(const struct recipe_request *rq)
{
	cJSON *o = cJSON_CreateObject(), *from;

	for (size_t i = 0; i < 4 && rq->keep[i][0] != NULL; i++) {
		from = cJSON_AddObjectToObject(o, rq->keep[i][0]);
		json_add_text(from, rq->keep[i][1], rq->keep[i][2]);
	}
	return o;
}

/* The first request stands at the top as well, for simple clients. */
void
recipe_add(struct recipe *r, const struct recipe_request *rq)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(r->json, "requests");
	cJSON *o = cJSON_CreateObject(), *ok;

	if (list == NULL) {
		json_add_text(r->json, "method", rq->method);
		json_add_text(r->json, "uri", rq->uri);
		cJSON_AddItemToObject(
		    r->json, "headers", headers_json(rq->headers));
		list = cJSON_AddArrayToObject(r->json, "requests");
	}
	json_add_text(o, "method", rq->method);
	json_add_text(o, "uri", rq->uri);
	cJSON_AddItemToObject(o, "headers", headers_json(rq->headers));
	cJSON_AddItemToObject(o, "body", body_json(rq));
	ok = cJSON_AddArrayToObject(o, "ok");
	for (const int *s = rq->ok; *s != 0; s++)
		cJSON_AddItemToArray(ok, cJSON_CreateNumber(*s));
	cJSON_AddItemToObject(o, "keep", keep_json(rq));
	cJSON_AddItemToArray(list, o);
}

void
recipe_verify(
    struct recipe *r, bool size, const char *header, const char *digest)
{
	cJSON *v = cJSON_AddObjectToObject(r->json, "verify");

	cJSON_AddBoolToObject(v, "size", size);
	if (header != NULL) {
		json_add_text(v, "header", header);
		json_add_text(v, "digest", digest);
	}
}

void
recipe_verify_first(struct recipe *r, const char *header, const char *digest)
{
	cJSON *v = cJSON_GetObjectItemCaseSensitive(r->json, "verify");
	cJSON *o = cJSON_AddObjectToObject(v, "or");

	json_add_text(o, "header", header);
	json_add_text(o, "digest", digest);
}

void
recipe_parts(struct recipe *r, int64_t size, int64_t count, int parallel)
{
	cJSON *p = cJSON_AddObjectToObject(r->json, "parts");

	json_add_int(p, "size", size);
	json_add_int(p, "count", count);
	json_add_int(p, "parallel", parallel);
}

int64_t
part_size(int64_t size, int64_t wanted, int64_t most, int64_t largest)
{
	while (part_count(size, wanted) > most && wanted < largest)
		wanted = wanted < largest / 2 ? wanted * 2 : largest;
	return part_count(size, wanted) <= most ? wanted : 0;
}

int64_t
part_count(int64_t size, int64_t part_size)
{
	return size <= 0 ? 1 : (size + part_size - 1) / part_size;
}

int64_t
part_length(int64_t size, int64_t part_size, int64_t n)
{
	int64_t left = size - (n - 1) * part_size;

	return left < part_size ? left : part_size;
}

const char *
upload_kept(const struct upload *u, const char *name)
{
	return u->kept != NULL ? json_string(u->kept, name) : NULL;
}
