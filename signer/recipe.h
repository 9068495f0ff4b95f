/*
 * recipe.h - the answer that tells an agent all about one upload
 *
 * See doc/signer-api.yaml, schema Recipe. A provider fills it by these calls;
 * what is the same for all stands here.
 */
#ifndef RECIPE_H
#define RECIPE_H

#include <stdbool.h>
#include <stdint.h>
#include <cjson/cJSON.h>

#include "sigv4.h"

struct credential;

enum step { STEP_WHOLE, STEP_START, STEP_PART, STEP_FINISH, STEP_ABORT };

/* One entry of POST /v1/sign, checked. Texts are borrowed; NULL: not given. */
struct upload {
	const char *id, *device, *method;
	const char *key;                      /* with the gateway's prefix */
	int64_t size;                         /* -1: not given */
	const char *sha256, *type, *encoding; /* sha256: 64 lower-case digits */
	const char *cache_control;
	const struct pair *metadata;
	size_t metadata_n;
	enum step step;
	int64_t part;      /* from 1 */
	const cJSON *kept; /* object */
	int64_t at, expires;
	const struct credential *cred; /* NULL: the storage's own */
	int64_t part_size;             /* octets; 0: the storage's */
	bool exclusive; /* never over an object, also not when it is in parts */
	const char *if_match; /* over the object that still has this "etag" */
};

/* Headers of a request: names unique in any case, the last value stays. */
struct headers {
	struct pair v[SIGV4_PAIRS_MAX];
	char *owned[SIGV4_PAIRS_MAX];
	size_t n;
};
void headers_set(struct headers *h, const char *name, const char *value);
void headers_all(struct headers *h, const struct pair *v, size_t n);
void headers_fini(struct headers *h);

struct recipe {
	cJSON *json;
};

enum body { BODY_NONE, BODY_FILE, BODY_RANGE, BODY_TEXT };

struct recipe_request {
	const char *method, *uri;
	const struct headers *headers;
	enum body body;
	int64_t offset, length; /* BODY_RANGE */
	const char *text;       /* BODY_TEXT */
	const int *ok;          /* statuses, 0-terminated */
	const char *keep[4][3]; /* {name, "header" or "tag", its name} */
};
void recipe_add(struct recipe *r, const struct recipe_request *rq);
/* How a success is checked; header and digest NULL: by nothing more. size: the
 * answer's Content-Length is the object's (HEAD). */
void recipe_verify(
    struct recipe *r, bool size, const char *header, const char *digest);
/* ... and first by this header, where the answer has it: the store's own
 * SHA-256 of what came. After recipe_verify(). */
void recipe_verify_first(
    struct recipe *r, const char *header, const char *digest);
/* It goes in parts of size octets, count of them, `parallel` at a time. */
void recipe_parts(struct recipe *r, int64_t size, int64_t count, int parallel);
/* Parts of the size wanted, or as large as it takes for `most` of them; 0: they
 * would have to be larger than `largest`. */
int64_t part_size(int64_t size, int64_t wanted, int64_t most, int64_t largest);
/* How many parts are there, and how long is part n? */
int64_t part_count(int64_t size, int64_t part_size);
int64_t part_length(int64_t size, int64_t part_size, int64_t n);
/* A text that was kept of an earlier step, or NULL. */
const char *upload_kept(const struct upload *u, const char *name);

#endif
