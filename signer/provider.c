/*
 * provider.c - the providers there are: a new one is a file and a row
 */
#include "provider.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "endpoint.h"
#include "json.h"
#include "problem.h"

static const struct provider *const providers[] = {
	&provider_azure,
	&provider_file,
	&provider_gcs,
	&provider_s3,
};
#define PROVIDERS (sizeof(providers) / sizeof(providers[0]))

/* clang-format off */
const struct answer provider_answers[] = {
	{ 408, NULL, "retry" },
	{ 413, NULL, "quarantine" },
	{ 429, NULL, "retry" },
	{ 500, NULL, "retry" },
	{ 502, NULL, "retry" },
	{ 503, NULL, "retry" },
	{ 504, NULL, "retry" },
	{ 0 },
};
/* clang-format on */

const struct provider *
provider_find(const char *type)
{
	for (size_t i = 0; i < PROVIDERS; i++)
		if (strcasecmp(type, providers[i]->type) == 0)
			return providers[i];
	return NULL;
}

void
provider_types(struct text *out)
{
	for (size_t i = 0; i < PROVIDERS; i++) {
		text_str(out, i == 0 ? "" : ", ");
		text_str(out, providers[i]->type);
	}
}

int
provider_check_key(const char *key)
{
	size_t n = strlen(key);

	if (n == 0 || n > 1024 || !json_utf8(key, n))
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)key[i] < 0x20 || key[i] == 0x7f)
			return -EINVAL;
	return 0;
}

void
provider_check_http(struct storage *s, const struct endpoint *e,
    const char *pointer, struct problem *p)
{
	if (strcmp(e->scheme, "http") != 0)
		return;
	if (!s->allow_http)
		problem_field(p, pointer,
		    "Use https, or set \"allowHttp\": true for a store that "
		    "has no TLS.",
		    "Plain http would show the uploads to everyone on the "
		    "way.");
	else
		storage_warn(s,
		    "uploads go in clear: everyone on the way to %s can read "
		    "them",
		    e->host);
}

int
provider_request(const struct storage *s, const struct upload *u,
    const struct pair *query, size_t query_n, struct recipe_request *rq,
    struct recipe *r)
{
	struct sign_request sr = {
		.method = rq->method,
		.key = u->key,
		.headers = rq->headers != NULL ? rq->headers->v : NULL,
		.headers_n = rq->headers != NULL ? rq->headers->n : 0,
		.query = query,
		.query_n = query_n,
		.at = u->at,
		.expires = u->expires,
		.cred = u->cred,
	};
	struct text uri = { 0 };
	int rc = s->provider->sign(s, &sr, &uri);

	if (rc == 0) {
		rq->uri = uri.s;
		recipe_add(r, rq);
	}
	text_fini(&uri);
	return rc;
}

const struct explanation *
provider_explain(const struct provider *pv, int status, const char *code)
{
	for (size_t i = 0; i < pv->explanations_n; i++) {
		const struct explanation *e = &pv->explanations[i];

		if ((e->status == 0 || e->status == status) &&
		    (e->code == NULL ||
			(code != NULL && strcmp(code, e->code) == 0)))
			return e;
	}
	return NULL;
}

void
provider_condition(
    const struct storage *s, const struct upload *u, struct headers *h)
{
	if (!s->no_overwrite)
		return; /* it knows no conditions */
	if (u->if_match != NULL)
		headers_set(h, "if-match", u->if_match);
	else
		headers_set(h, "if-none-match", "*");
}

int64_t
upload_part_size(const struct storage *s, const struct upload *u)
{
	return u->part_size > 0 ? u->part_size : s->part_size;
}

static void
add_answer(cJSON *rows, const struct answer *a)
{
	cJSON *row = cJSON_CreateObject();

	json_add_int(row, "status", a->status);
	if (a->code != NULL)
		json_add_text(row, "code", a->code);
	json_add_text(row, "do", a->act);
	cJSON_AddItemToArray(rows, row);
}

void
provider_answer_rows(const struct provider *pv, cJSON *rows)
{
	for (size_t i = 0; i < pv->answers_n; i++)
		add_answer(rows, &pv->answers[i]);
	for (const struct answer *a = provider_answers; a->status != 0; a++)
		add_answer(rows, a);
}
