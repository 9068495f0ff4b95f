/*
 * provider.h - what a kind of object store has to be able to do
 *
 * One table of functions each, in provider_NAME.c, and a row in provider.c:
 * nothing else knows a provider by name. Everything that the gateway must know
 * goes into the recipe (recipe.h) as data. All functions are called on worker
 * threads, for storages that are not changed any more.
 */
#ifndef PROVIDER_H
#define PROVIDER_H

#include <stddef.h>
#include <stdint.h>

#include "credential.h"
#include "recipe.h"
#include "storage.h"
#include "text.h"

struct endpoint;
struct explanation;
struct problem;

/* One request to be signed, decoded; for `sign` on the command line too. */
struct sign_request {
	const char *method;
	const char *key; /* plain UTF-8; NULL: the bucket or container */
	const struct pair *headers;
	size_t headers_n;
	const struct pair *query;
	size_t query_n;
	int64_t at, expires;           /* Unix seconds, seconds */
	const struct credential *cred; /* NULL: the storage's own */
};

/* The agent is to `act` if status (and code, unless NULL) fit. First wins. */
struct answer {
	int status;
	const char *code;
	const char *act;
};

struct provider {
	const char *type; /* as in the document */
	unsigned texts;   /* ST_BIT()s of the fields it takes */
	unsigned required;
	int64_t expires_max; /* seconds */
	/* Check what a single field does not tell, make s->priv. */
	void (*check)(struct storage *s, struct problem *p);
	void (*free_priv)(void *priv);
	/* Add its authorities to the array. */
	void (*hosts)(const struct storage *s, cJSON *array);
	/* Append the URI. -EINVAL, -ERANGE as sigv4_presign(). */
	int (*sign)(const struct storage *s, const struct sign_request *r,
	    struct text *uri);
	/*
	 * Write the recipe of one upload and step. -EOPNOTSUPP: it knows no
	 * such step. -EINVAL, -ERANGE, or what sign() says.
	 */
	int (*recipe)(
	    const struct storage *s, const struct upload *u, struct recipe *r);
	/* Before those that any store may give (provider_answers). */
	const struct answer *answers;
	size_t answers_n;
	/* Does it sign with a fetched credential? NULL: never. */
	bool (*needs_fetch)(const struct storage *s);
	bool fetch_by_scope; /* one for each scope, else one for all */
	/*
	 * Fetch one that is good for keys below scope. Blocks, on a thread for
	 * it. 0, or -errno with error filled.
	 */
	int (*fetch)(const struct storage *s, const char *scope,
	    bool allow_private, int64_t now_s, struct credential *out,
	    struct fetch_error *error);
	/* Make the container if it is missing; 0: it is there now. NULL: it
	 * cannot. -errno as fetch. */
	int (*make_place)(const struct storage *s,
	    const struct credential *cred, bool allow_private, int64_t now_s,
	    struct fetch_error *error);
	/* What is wrong, in words, by status and code of an answer. */
	const struct explanation *explanations;
	size_t explanations_n;
};

/* First row that fits; status 0: any, code NULL: any. */
struct explanation {
	int status;
	const char *code, *error, *hint;
};

/* The row that fits an answer; code may be NULL. NULL: none does. */
const struct explanation *provider_explain(
    const struct provider *pv, int status, const char *code);

extern const struct provider provider_s3, provider_azure, provider_file,
    provider_gcs;

/* By its type, any case; NULL. */
const struct provider *provider_find(const char *type);
/* Append all types, "AZURE, FILE, ...". */
void provider_types(struct text *out);
/* Have the store refuse a key that exists, unless the storage says otherwise;
 * with u->if_match, any state of it but that one. */
void provider_condition(
    const struct storage *s, const struct upload *u, struct headers *h);
/* Octets of a part as it is wanted. */
int64_t upload_part_size(const struct storage *s, const struct upload *u);
/* Append the rows of answers as POST /v1/sign tells them. */
void provider_answer_rows(const struct provider *pv, cJSON *rows);
/* Refuse an empty or over-long key, one that is not UTF-8 or has controls. */
int provider_check_key(const char *key);
/* Refuse http unless the storage allows it; then warn. */
void provider_check_http(struct storage *s, const struct endpoint *e,
    const char *pointer, struct problem *p);
/*
 * For recipes: sign rq with its headers and this query, set its uri and add it
 * to r. What sign() returns.
 */
int provider_request(const struct storage *s, const struct upload *u,
    const struct pair *query, size_t query_n, struct recipe_request *rq,
    struct recipe *r);

/* What any store means by these, after a provider's own; status 0 ends it. */
extern const struct answer provider_answers[];

#endif
