/*
 * provider_file.c - the embedded FILE storage: the signer itself keeps objects
 *
 * For one machine without a cloud. The URI leads to file_storage.c; all that
 * was announced of the body is in its signature and is checked on receipt.
 */
#include "provider.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "endpoint.h"
#include "file_uri.h"
#include "json.h"
#include "problem.h"
#include "xalloc.h"

/* A name on disk; longer ones no file system takes. */
#define SEGMENT_MAX 255

struct file {
	char *host;
};

static void
file_check(struct storage *s, struct problem *p)
{
	struct file *x = xcalloc(1, sizeof(*x));
	struct endpoint e = { 0 };

	s->priv = x;
	if (endpoint_parse(s->env->public_url, &e) != 0) {
		problem_set(p, 500, "Set [signer] public_url.",
		    "The signer does not know its own address");
		return;
	}
	x->host = endpoint_authority(&e, NULL);
	endpoint_fini(&e);
}

static void
file_free_priv(void *priv)
{
	struct file *x = priv;

	free(x->host);
	free(x);
}

static void
file_hosts(const struct storage *s, cJSON *array)
{
	const struct file *x = s->priv;

	cJSON_AddItemToArray(array, cJSON_CreateString(x->host));
}

static int
check_key(const char *key)
{
	if (key == NULL || provider_check_key(key) != 0)
		return -EINVAL;
	while (*key != '\0') {
		size_t n = strcspn(key, "/");

		if (n > SEGMENT_MAX || (n == 1 && key[0] == '.') ||
		    (n == 2 && key[0] == '.' && key[1] == '.'))
			return -EINVAL;
		key += n + (key[n] == '/');
		if (*key == '\0' && n == 0)
			return -EINVAL;
	}
	return key[-1] != '/' ? 0 : -EINVAL;
}

static int
file_sign(
    const struct storage *s, const struct sign_request *r, struct text *uri)
{
	struct file_claim c = {
		.method = (char *)r->method,
		.tenant = s->tenant,
		.storage = s->name,
		.key = (char *)r->key,
		.size = -1,
		.expiry = r->at + r->expires,
	};

	if (check_key(r->key) != 0)
		return -EINVAL;
	if (r->expires < 1 || r->expires > provider_file.expires_max)
		return -ERANGE;
	for (size_t i = 0; i < r->headers_n; i++) {
		const struct pair *h = &r->headers[i];

		if (pair_check_header(h) != 0)
			return -EINVAL;
		if (strcasecmp(h->name, "content-type") == 0)
			c.type = (char *)h->value;
		else if (strcasecmp(h->name, "content-encoding") == 0)
			c.encoding = (char *)h->value;
		else if (strcasecmp(h->name, "content-length") == 0)
			c.size = strtoll(h->value, NULL, 10);
		else if (strcasecmp(h->name, "x-edge-sha256") == 0)
			c.sha256 = (char *)h->value;
	}
	text_str(uri, s->env->public_url);
	file_uri_write(&s->env->file_key, &c, uri);
	return 0;
}

static const int ok_put[] = { 201, 200, 0 };
static const int ok_get[] = { 200, 0 };

static char *
metadata_json(const struct upload *u)
{
	cJSON *o;
	char *s;

	if (u->metadata_n == 0)
		return NULL;
	o = cJSON_CreateObject();
	for (size_t i = 0; i < u->metadata_n; i++)
		json_add_text(o, u->metadata[i].name, u->metadata[i].value);
	s = json_line(o);
	cJSON_Delete(o);
	return s;
}

/* The SHA-256 in an ETag; malloc'd, NULL without one. */
static char *
unquoted(const char *etag)
{
	if (etag == NULL)
		return NULL;
	etag += *etag == '"';
	return xstrndup(etag, strcspn(etag, "\""));
}

static int
file_recipe(const struct storage *s, const struct upload *u, struct recipe *r)
{
	bool put = strcmp(u->method, "PUT") == 0;
	bool get = strcmp(u->method, "GET") == 0;
	char *replaced = put ? unquoted(u->if_match) : NULL;
	struct file_claim c = {
		.method = (char *)u->method,
		.tenant = s->tenant,
		.storage = s->name,
		.key = (char *)u->key,
		.sha256 = put ? (char *)u->sha256 : NULL,
		.type = put ? (char *)u->type : NULL,
		.encoding = put ? (char *)u->encoding : NULL,
		.size = put ? u->size : -1,
		.replace = put ? replaced : NULL,
		.expiry = u->at + u->expires,
	};
	struct headers h = { .n = 0 };
	struct text uri = { 0 };
	struct recipe_request rq = {
		.method = u->method,
		.headers = &h,
		.body = put ? BODY_FILE : BODY_NONE,
		.ok = put ? ok_put : ok_get,
		.keep = { { "etag", "header", "ETag" } },
	};

	if (u->step != STEP_WHOLE ||
	    (!put && !get && strcmp(u->method, "HEAD") != 0)) {
		free(replaced);
		return -EOPNOTSUPP;
	}
	if (check_key(u->key) != 0) {
		free(replaced);
		return -EINVAL;
	}
	if (put)
		c.metadata = metadata_json(u);
	if (put && u->type != NULL)
		headers_set(&h, "Content-Type", u->type);
	if (put && u->encoding != NULL)
		headers_set(&h, "Content-Encoding", u->encoding);
	if (put)
		headers_all(&h, s->headers, s->headers_n);
	text_str(&uri, s->env->public_url);
	file_uri_write(&s->env->file_key, &c, &uri);
	free(c.metadata);
	free(replaced);
	rq.uri = uri.s;
	recipe_add(r, &rq);
	if (get)
		recipe_verify(r, false, NULL, NULL);
	else
		recipe_verify(r, !put, "ETag", "sha256-hex");
	headers_fini(&h);
	text_fini(&uri);
	return 0;
}

/* clang-format off */
static const struct answer answers[] = {
	{ 403, NULL, "sign" },
	{ 409, NULL, "quarantine" },
	{ 400, NULL, "retry" },
	{ 404, NULL, "wait" },
	{ 422, NULL, "retry" },
	{ 507, NULL, "wait" },
};
/* clang-format on */

const struct provider provider_file = {
	.type = "FILE",
	.texts = 0,
	.required = 0,
	.expires_max = SIGV4_EXPIRES_MAX,
	.check = file_check,
	.free_priv = file_free_priv,
	.hosts = file_hosts,
	.sign = file_sign,
	.recipe = file_recipe,
	.answers = answers,
	.answers_n = sizeof(answers) / sizeof(answers[0]),
};
