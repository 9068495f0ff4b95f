/*
 * provider_crate.c - CRATE, a store that does not exist: the example of
 * doc/architecture.md, built and used by t/55-new-provider.t
 *
 * An upload is two requests: PUT puts the octets into a bay, POST ?seal makes
 * them an object. Each has its own header
 *	Crate-Pass: ID EXPIRES HEX
 * where HEX is the HMAC-SHA256 of "METHOD PATH-AND-QUERY EXPIRES".
 */
#include "provider.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoint.h"
#include "problem.h"
#include "url.h"
#include "xalloc.h"

struct crate {
	struct endpoint endpoint;
	char *authority;
	struct hmac_key key;
};

static void
crate_check(struct storage *s, struct problem *p)
{
	struct crate *x = xcalloc(1, sizeof(*x));
	const char *secret = s->text[ST_SECRET_ACCESS_KEY];

	s->priv = x;
	if (s->text[ST_ENDPOINT] == NULL ||
	    endpoint_parse(s->text[ST_ENDPOINT], &x->endpoint) != 0) {
		problem_field(p, "/endpoint", "Write https://HOST.",
		    "This is no address of a crate.");
		return;
	}
	provider_check_http(s, &x->endpoint, "/endpoint", p);
	x->authority = endpoint_authority(&x->endpoint, NULL);
	hmac_key_init(&x->key, secret, secret != NULL ? strlen(secret) : 0);
}

static void
crate_free_priv(void *priv)
{
	struct crate *x = priv;

	endpoint_fini(&x->endpoint);
	free(x->authority);
	explicit_bzero(&x->key, sizeof(x->key));
	free(x);
}

static void
crate_hosts(const struct storage *s, cJSON *array)
{
	const struct crate *x = s->priv;

	cJSON_AddItemToArray(array, cJSON_CreateString(x->authority));
}

/* The pass goes into a header, so the URI is no secret. */
static int
crate_sign(
    const struct storage *s, const struct sign_request *r, struct text *uri)
{
	const struct crate *x = s->priv;

	text_str(uri, x->endpoint.scheme);
	text_str(uri, "://");
	text_str(uri, x->authority);
	text_str(uri, "/crate/");
	text_encode(uri, r->key, strlen(r->key), true);
	for (size_t i = 0; i < r->query_n; i++) {
		text_char(uri, i == 0 ? '?' : '&');
		text_str(uri, r->query[i].name);
	}
	return 0;
}

static void
add_request(const struct storage *s, const struct upload *u, const char *method,
    const struct pair *query, enum body body, const char *json, const int *ok,
    struct recipe *r)
{
	const struct crate *x = s->priv;
	struct sign_request sr = {
		.key = u->key, .query = query, .query_n = query != NULL
	};
	struct headers h = { .n = 0 };
	struct text uri = { 0 };
	struct recipe_request rq = { .method = method,
		.headers = &h,
		.body = body,
		.text = json,
		.ok = ok };
	uint8_t md[DIGEST_LEN];
	char hex[2 * DIGEST_LEN + 1], *to_sign, *pass;
	long long expires = (long long)(u->at + u->expires);

	crate_sign(s, &sr, &uri);
	to_sign =
	    xasprintf("%s %s %lld", method, strstr(uri.s, "/crate/"), expires);
	hmac_sha256(&x->key, to_sign, strlen(to_sign), md);
	hex_encode(md, sizeof(md), hex);
	pass = xasprintf("%s %lld %s", s->text[ST_ACCESS_KEY_ID], expires, hex);
	headers_set(&h, "Crate-Pass", pass);
	rq.uri = uri.s;
	recipe_add(r, &rq);
	headers_fini(&h);
	text_fini(&uri);
	free(to_sign);
	free(pass);
}

static int
crate_recipe(const struct storage *s, const struct upload *u, struct recipe *r)
{
	static const struct pair seal = { "seal", "" };
	static const int taken[] = { 202, 0 }, made[] = { 201, 0 },
			 there[] = { 200, 0 };
	char *json;

	if (u->step != STEP_WHOLE || u->sha256 == NULL)
		return -EOPNOTSUPP;
	if (strcmp(u->method, "HEAD") == 0) {
		add_request(s, u, "HEAD", NULL, BODY_NONE, NULL, there, r);
	} else {
		json = xasprintf("{\"octets\": %lld, \"sha256\": \"%s\"}",
		    (long long)u->size, u->sha256);
		add_request(s, u, "PUT", NULL, BODY_FILE, NULL, taken, r);
		add_request(s, u, "POST", &seal, BODY_TEXT, json, made, r);
		free(json);
	}
	recipe_verify(r, false, "Crate-Digest", "sha256-hex");
	return 0;
}

static const struct answer answers[] = {
	{ 403, NULL, "sign" },
	{ 404, NULL, "wait" },
	{ 409, NULL, "verify" },
	{ 418, "BayIsFull", "retry" },
};

const struct provider provider_crate = {
	.type = "CRATE",
	.texts = ST_BIT(ST_ENDPOINT) | ST_BIT(ST_ACCESS_KEY_ID) |
	    ST_BIT(ST_SECRET_ACCESS_KEY),
	.required = ST_BIT(ST_ACCESS_KEY_ID) | ST_BIT(ST_SECRET_ACCESS_KEY),
	.expires_max = 86400,
	.check = crate_check,
	.free_priv = crate_free_priv,
	.hosts = crate_hosts,
	.sign = crate_sign,
	.recipe = crate_recipe,
	.answers = answers,
	.answers_n = sizeof(answers) / sizeof(answers[0]),
};
