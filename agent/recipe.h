/*
 * recipe.h - what the signer says about how to send one upload
 *
 * All that is particular to a store is data here (DESIGN 7). A recipe is
 * hostile input: what the rules below do not allow is refused as a whole.
 */
#ifndef RECIPE_H
#define RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>

#include "origin.h"

#define RECIPE_REQUESTS_MAX 16
#define RECIPE_HEADERS_MAX 64
#define RECIPE_URI_MAX 16384
#define RECIPE_TEXT_MAX (2 * 1024 * 1024) /* 10,000 parts, each named */
#define RECIPE_KEEP_MAX 8
#define RECIPE_VALUE_MAX 2048
#define RECIPE_PARTS_MAX 100000

/* Of a message's body: none, the file or a range of it, or a text. */
enum recipe_body { BODY_NONE, BODY_FILE, BODY_TEXT };
enum recipe_do {
	DO_RETRY,      /* later, by back-off */
	DO_SIGN,       /* with a new recipe, at once */
	DO_WAIT,       /* the store is busy: later, with more room */
	DO_QUARANTINE, /* never */
	DO_VERIFY,     /* look whether it is there already */
	DO_DONE,       /* it is there */
	DO_START       /* forget the parts sent and begin again */
};
enum recipe_digest { DIGEST_NONE, DIGEST_MD5, DIGEST_SHA256 };

struct recipe_header {
	char *name, *value;
};
/* A value to remember: of a header or a tag in the answer, or a text. */
struct recipe_keep {
	char *name, *header, *tag, *text; /* one of the last three; else NULL */
};
struct recipe_request {
	char *method, *uri;
	struct origin origin; /* of uri */
	struct recipe_header *headers;
	size_t headers_n;
	enum recipe_body body;
	uint64_t offset, length; /* BODY_FILE: octets of the offer */
	char *text;              /* BODY_TEXT */
	int *ok;                 /* statuses that mean success */
	size_t ok_n;
	struct recipe_keep *keep;
	size_t keep_n;
};
struct recipe_verify {
	char *header; /* NULL: no digest to look at */
	enum recipe_digest digest;
	bool base64;       /* else hexadecimal; quotes around it are ignored */
	char *size_header; /* NULL: no size to look at */
	/* Looked at first, where the answer has it: the SHA-256 that the store
	 * has found itself. NULL: none */
	char *sha256_header;
	bool sha256_base64;
};
struct recipe {
	struct recipe_request *requests;
	size_t requests_n;
	struct recipe_verify verify;
	int64_t expires_in_ms;
	char *certificate_id; /* NULL: the system's authorities */
	/* of an upload in parts */
	int64_t parts; /* how many there are: the start tells; else 0 */
	char *step;    /* what to ask for after this; NULL: this is all */
};

/* What a recipe may do. */
struct recipe_rules {
	uint64_t size; /* of what is sent */
	bool allow_http, allow_private;
	const struct origin *exempt; /* the signer's own: both are allowed */
	size_t exempt_n;
	const char *const *hosts; /* of the storage; NULL: not known */
	size_t hosts_n;
};

/* Read and check. -EINVAL: why (of n octets) tells what is wrong; -EXDEV: it
 * names a host that the storage does not have. Nothing is printed of a URI but
 * scheme and host. */
int recipe_parse(const cJSON *v, const struct recipe_rules *rules,
    struct recipe **out, char *why, size_t n);
void recipe_free(struct recipe *r);
bool recipe_request_ok(const struct recipe_request *rq, int status);

/* ---- what answers mean --------------------------------------------------- */

struct recipe_answer {
	int status; /* 0: any */
	char *code; /* NULL: any */
	enum recipe_do what;
};
struct recipe_answers {
	struct recipe_answer *rows;
	size_t n;
};
/* Rows of {status, code, do}. -EINVAL: nothing is taken. */
int recipe_answers_parse(
    const cJSON *v, struct recipe_answers *out, char *why, size_t n);
void recipe_answers_fini(struct recipe_answers *a);
/*
 * The first row that fits. -ENOENT: none. code: the error code of the answer,
 * "" if it has none; only_code: look at rows with a code only (such a row also
 * rules where the status says success).
 */
int recipe_answers_find(const struct recipe_answers *a, int status,
    const char *code, bool only_code, enum recipe_do *out);

/* ---- reading a store's answer -------------------------------------------- */

/* The text of the first <tag>...</tag> among n octets of XML, or of the member
 * "tag" of a JSON object; entities decoded. 0; -ENOENT; -EINVAL: over size or
 * with controls. */
int answer_text(
    const char *body, size_t n, const char *tag, char *out, size_t size);
/* The error code of an error's body: Code of XML, code of JSON. "" if none. */
void answer_code(const char *body, size_t n, char *out, size_t size);

#endif
