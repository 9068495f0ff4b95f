/*
 * recipe.c - what the signer says about how to send one upload
 *
 * Must hold for every recipe that recipe_parse() returns: at most 16 requests,
 * each to an allowed host over https (or where http is allowed), by one of
 * five methods, without CR, LF, NUL, Host or framing in its headers, with a
 * body that lies inside the upload. Everything else is refused, so that a
 * signer that went wrong cannot turn the gateway on its own site.
 */
#include "recipe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "json.h"
#include "xalloc.h"

#define EXPIRES_MAX (366 * 86400) /* seconds; stores differ */

static const char *const methods[] = { "PUT", "POST", "GET", "HEAD", "DELETE" };

/* These frame the message or name its target: ours to write. */
static const char *const own_headers[] = { "Host", "Transfer-Encoding",
	"Connection", "Expect", "TE", "Trailer", "Upgrade", "Keep-Alive",
	"Proxy-Authorization", "Proxy-Connection" };

static int fail(char *why, size_t n, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int
fail(char *why, size_t n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, n, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static bool
is_token(const char *s)
{
	if (*s == '\0')
		return false;
	for (; *s != '\0'; s++)
		if ((unsigned char)*s <= 0x20 || (unsigned char)*s >= 0x7f ||
		    strchr("\"(),/:;<=>?@[\\]{}", *s) != NULL)
			return false;
	return true;
}

static bool
is_value(const char *s)
{
	for (; *s != '\0'; s++)
		if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
			return false;
	return true;
}

static int
parse_header(const cJSON *v, struct recipe_request *rq, char *why, size_t n)
{
	uint64_t length = rq->body == BODY_FILE ? rq->length
	    : rq->text != NULL                  ? strlen(rq->text)
						: 0;
	struct recipe_header *h;
	char own_length[24];

	if (!cJSON_IsString(v) || !is_token(v->string) ||
	    !is_value(v->valuestring) || strlen(v->string) > 256 ||
	    strlen(v->valuestring) > 8192)
		return fail(why, n, "a header is malformed");
	for (size_t i = 0; i < sizeof(own_headers) / sizeof(*own_headers); i++)
		if (strcasecmp(v->string, own_headers[i]) == 0)
			return fail(
			    why, n, "header %s is not allowed", own_headers[i]);
	if (strcasecmp(v->string, "Content-Length") == 0) {
		snprintf(own_length, sizeof(own_length), "%llu",
		    (unsigned long long)length);
		if (strcmp(own_length, v->valuestring) != 0)
			return fail(why, n, "Content-Length does not fit");
		return 0; /* written by the transfer itself */
	}
	if (rq->headers_n == RECIPE_HEADERS_MAX)
		return fail(why, n, "too many headers");
	h = &rq->headers[rq->headers_n++];
	h->name = xstrdup(v->string);
	h->value = xstrdup(v->valuestring);
	return 0;
}

static int
parse_headers(const cJSON *v, struct recipe_request *rq, char *why, size_t n)
{
	const cJSON *e;

	if (v == NULL || cJSON_IsNull(v))
		return 0;
	if (!cJSON_IsObject(v))
		return fail(why, n, "headers is no object");
	rq->headers = xcalloc(RECIPE_HEADERS_MAX, sizeof(*rq->headers));
	cJSON_ArrayForEach(e, v)
	{
		if (parse_header(e, rq, why, n) != 0)
			return -EINVAL;
	}
	return 0;
}

static int
parse_range(const cJSON *v, const struct recipe_rules *rules,
    struct recipe_request *rq, char *why, size_t n)
{
	int64_t offset, length;

	if (json_int(v, "offset", 0, INT64_MAX, &offset) != 0 ||
	    json_int(v, "length", 0, INT64_MAX, &length) != 0)
		return fail(why, n, "a range lacks offset or length");
	if ((uint64_t)offset > rules->size ||
	    (uint64_t)length > rules->size - (uint64_t)offset)
		return fail(why, n, "a range lies outside of the upload");
	rq->body = BODY_FILE;
	rq->offset = (uint64_t)offset;
	rq->length = (uint64_t)length;
	return 0;
}

static int
parse_body(const cJSON *v, const struct recipe_rules *rules,
    struct recipe_request *rq, char *why, size_t n)
{
	const cJSON *range;
	const char *text;

	if (v == NULL || cJSON_IsNull(v))
		return 0;
	if (!cJSON_IsObject(v))
		return fail(why, n, "body is no object");
	text = json_string(v, "text");
	if (text != NULL) {
		if (strlen(text) > RECIPE_TEXT_MAX)
			return fail(why, n, "body text is too long");
		rq->body = BODY_TEXT;
		rq->text = xstrdup(text);
		return 0;
	}
	range = cJSON_GetObjectItemCaseSensitive(v, "range");
	if (range != NULL)
		return parse_range(range, rules, rq, why, n);
	if (!json_bool(v, "file", false))
		return fail(why, n, "body names no file, range or text");
	rq->body = BODY_FILE;
	rq->length = rules->size;
	return 0;
}

static int
parse_uri(const char *uri, const struct recipe_rules *rules,
    struct recipe_request *rq, char *why, size_t n)
{
	struct origin *o = &rq->origin;
	bool exempt = false, listed = rules->hosts == NULL;

	if (uri == NULL || strlen(uri) > RECIPE_URI_MAX)
		return fail(why, n, "a request lacks a uri");
	for (const char *p = uri; *p != '\0'; p++)
		if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f ||
		    *p == '#' || *p == '\\')
			return fail(why, n,
			    "a uri has octets that must be "
			    "percent-encoded");
	if (origin_parse(uri, o) != 0)
		return fail(why, n, "a uri is not http(s)://host/...");
	for (size_t i = 0; i < rules->exempt_n; i++)
		exempt |= origin_equal(o, &rules->exempt[i]);
	for (size_t i = 0; rules->hosts != NULL && i < rules->hosts_n; i++)
		listed |= origin_matches(o, rules->hosts[i]);
	if (!o->tls && !rules->allow_http && !exempt)
		return fail(why, n,
		    "http://%s: plain http needs [upload] allow_http", o->host);
	if (!rules->allow_private && !exempt && host_is_private(o->host))
		return fail(why, n,
		    "%s is a private address: it needs [upload] allow_private",
		    o->host);
	if (!listed && !exempt) {
		fail(why, n, "%s is no host of this storage", o->host);
		return -EXDEV;
	}
	rq->uri = xstrdup(uri);
	return 0;
}

static int
parse_ok(const cJSON *v, struct recipe_request *rq, char *why, size_t n)
{
	const cJSON *e;
	int count = cJSON_GetArraySize(v);

	if (!cJSON_IsArray(v) || count < 1 || count > 16)
		return fail(why, n, "ok is no list of statuses");
	rq->ok = xcalloc((size_t)count, sizeof(*rq->ok));
	cJSON_ArrayForEach(e, v)
	{
		if (!cJSON_IsNumber(e) || e->valuedouble < 200 ||
		    e->valuedouble > 599)
			return fail(why, n, "ok is no list of statuses");
		rq->ok[rq->ok_n++] = (int)e->valuedouble;
	}
	return 0;
}

static int
parse_keep(const cJSON *v, struct recipe_request *rq, char *why, size_t n)
{
	const cJSON *e;

	if (v == NULL || cJSON_IsNull(v))
		return 0;
	if (!cJSON_IsObject(v) || cJSON_GetArraySize(v) > RECIPE_KEEP_MAX)
		return fail(why, n, "keep is no small object");
	rq->keep = xcalloc(RECIPE_KEEP_MAX, sizeof(*rq->keep));
	cJSON_ArrayForEach(e, v)
	{
		const char *header = json_string(e, "header");
		const char *tag = json_string(e, "tag");
		const char *text = json_string(e, "text");
		const char *from = header != NULL ? header : tag;
		struct recipe_keep *k = &rq->keep[rq->keep_n];

		if ((header != NULL) + (tag != NULL) + (text != NULL) != 1 ||
		    (from != NULL && (!is_token(from) || strlen(from) > 128)) ||
		    (text != NULL && strlen(text) >= RECIPE_VALUE_MAX) ||
		    strlen(e->string) > 64)
			return fail(
			    why, n, "keep names no header, tag or text");
		rq->keep_n++;
		k->name = xstrdup(e->string);
		k->header = header != NULL ? xstrdup(header) : NULL;
		k->tag = tag != NULL ? xstrdup(tag) : NULL;
		k->text = text != NULL ? xstrdup(text) : NULL;
	}
	return 0;
}

static int
parse_request(const cJSON *v, const struct recipe_rules *rules,
    struct recipe_request *rq, char *why, size_t n)
{
	const char *method = json_string(v, "method");
	int rc;

	for (size_t i = 0; method != NULL && rq->method == NULL &&
	     i < sizeof(methods) / sizeof(*methods);
	     i++)
		if (strcmp(method, methods[i]) == 0)
			rq->method = xstrdup(method);
	if (rq->method == NULL)
		return fail(
		    why, n, "method is not PUT, POST, GET, HEAD or DELETE");
	rc = parse_uri(json_string(v, "uri"), rules, rq, why, n);
	if (rc != 0)
		return rc;
	if (parse_body(cJSON_GetObjectItemCaseSensitive(v, "body"), rules, rq,
		why, n) != 0)
		return -EINVAL;
	if (rq->body != BODY_NONE && method[0] != 'P')
		return fail(why, n, "%s cannot have a body", rq->method);
	if (parse_headers(cJSON_GetObjectItemCaseSensitive(v, "headers"), rq,
		why, n) != 0 ||
	    parse_ok(cJSON_GetObjectItemCaseSensitive(v, "ok"), rq, why, n) !=
		0)
		return -EINVAL;
	return parse_keep(
	    cJSON_GetObjectItemCaseSensitive(v, "keep"), rq, why, n);
}

static enum recipe_digest
digest_kind(const char *name, bool *base64)
{
	static const struct {
		const char *name;
		enum recipe_digest digest;
		bool base64;
	} kinds[] = {
		{ "md5-base64", DIGEST_MD5, true },
		{ "md5-hex", DIGEST_MD5, false },
		{ "sha256-base64", DIGEST_SHA256, true },
		{ "sha256-hex", DIGEST_SHA256, false },
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (strcmp(name, kinds[i].name) == 0) {
			*base64 = kinds[i].base64;
			return kinds[i].digest;
		}
	return DIGEST_NONE;
}

/* A header and the digest it has, both or none. */
static int
parse_told(const cJSON *v, char **header, enum recipe_digest *digest,
    bool *base64, char *why, size_t n)
{
	const char *name = json_string(v, "header");
	const char *kind = json_string(v, "digest");

	if ((name == NULL) != (kind == NULL) ||
	    (name != NULL && !is_token(name)))
		return fail(why, n, "verify is malformed");
	if (name == NULL)
		return 0;
	*digest = digest_kind(kind, base64);
	if (*digest == DIGEST_NONE)
		return fail(why, n, "verify names an unknown digest");
	*header = xstrdup(name);
	return 0;
}

static int
parse_verify(const cJSON *v, struct recipe_verify *out, char *why, size_t n)
{
	const cJSON *first;
	enum recipe_digest kind = DIGEST_SHA256;
	const char *size;

	if (v == NULL || cJSON_IsNull(v))
		return 0;
	first = cJSON_GetObjectItemCaseSensitive(v, "or");
	size = json_string(v, "size");
	if (json_bool(v, "size", false))
		size = "Content-Length";
	if (!cJSON_IsObject(v) || (size != NULL && !is_token(size)) ||
	    (first != NULL && !cJSON_IsObject(first)))
		return fail(why, n, "verify is malformed");
	if (parse_told(v, &out->header, &out->digest, &out->base64, why, n) !=
		0 ||
	    parse_told(first, &out->sha256_header, &kind, &out->sha256_base64,
		why, n) != 0)
		return -EINVAL;
	if (kind != DIGEST_SHA256)
		return fail(why, n, "verify's \"or\" is no SHA-256");
	out->size_header = size != NULL ? xstrdup(size) : NULL;
	return 0;
}

/* Ids are path segments of the signer's: nothing that needs escaping. */
static bool
is_id(const char *s)
{
	return *s != '\0' && *s != '.' && strlen(s) <= 128 &&
	    strspn(s,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789._-") == strlen(s);
}

static int
parse_parts(const cJSON *v, struct recipe *r, char *why, size_t n)
{
	if (v == NULL || cJSON_IsNull(v))
		return 0;
	if (json_int(v, "count", 1, RECIPE_PARTS_MAX, &r->parts) != 0)
		return fail(why, n, "parts is malformed");
	if (r->step == NULL)
		return fail(why, n, "parts come without a step");
	return 0;
}

static int
parse_rest(const cJSON *v, struct recipe *r, char *why, size_t n)
{
	const char *id = json_string(v, "certificateId");
	const char *step = json_string(v, "step");
	int64_t seconds;

	if (json_int(v, "expiresIn", 1, EXPIRES_MAX, &seconds) != 0)
		return fail(why, n, "expiresIn is not 1 s to 366 days");
	r->expires_in_ms = seconds * 1000;
	if (id != NULL && *id != '\0') {
		if (!is_id(id))
			return fail(why, n, "certificateId is malformed");
		r->certificate_id = xstrdup(id);
	}
	if (step != NULL && *step != '\0') {
		if (strlen(step) >= 64 || !is_value(step))
			return fail(why, n, "step is malformed");
		r->step = xstrdup(step);
	}
	if (parse_parts(
		cJSON_GetObjectItemCaseSensitive(v, "parts"), r, why, n) != 0)
		return -EINVAL;
	return parse_verify(
	    cJSON_GetObjectItemCaseSensitive(v, "verify"), &r->verify, why, n);
}

int
recipe_parse(const cJSON *v, const struct recipe_rules *rules,
    struct recipe **out, char *why, size_t n)
{
	const cJSON *list, *e;
	struct recipe *r;
	int count, rc = 0;

	list = cJSON_GetObjectItemCaseSensitive(v, "requests");
	count = cJSON_GetArraySize(list);
	/* A step of an upload in parts may need none. */
	if (!cJSON_IsArray(list) || count > RECIPE_REQUESTS_MAX ||
	    (count == 0 && json_string(v, "step") == NULL))
		return fail(why, n, "requests is no list of 1 to %d",
		    RECIPE_REQUESTS_MAX);
	r = xcalloc(1, sizeof(*r));
	r->requests = xcalloc((size_t)count + 1, sizeof(*r->requests));
	cJSON_ArrayForEach(e, list)
	{
		/* Counted first: what a failure leaves is freed too. */
		rc = parse_request(
		    e, rules, &r->requests[r->requests_n++], why, n);
		if (rc != 0)
			break;
	}
	if (rc == 0)
		rc = parse_rest(v, r, why, n);
	if (rc != 0) {
		recipe_free(r);
		return rc;
	}
	*out = r;
	return 0;
}

static void
request_fini(struct recipe_request *rq)
{
	for (size_t i = 0; i < rq->headers_n; i++) {
		free(rq->headers[i].name);
		free(rq->headers[i].value);
	}
	for (size_t i = 0; i < rq->keep_n; i++) {
		free(rq->keep[i].name);
		free(rq->keep[i].header);
		free(rq->keep[i].tag);
		free(rq->keep[i].text);
	}
	free(rq->headers);
	free(rq->keep);
	free(rq->method);
	free(rq->uri);
	free(rq->text);
	free(rq->ok);
}

void
recipe_free(struct recipe *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->requests_n; i++)
		request_fini(&r->requests[i]);
	free(r->requests);
	free(r->verify.header);
	free(r->verify.size_header);
	free(r->verify.sha256_header);
	free(r->certificate_id);
	free(r->step);
	free(r);
}

bool
recipe_request_ok(const struct recipe_request *rq, int status)
{
	for (size_t i = 0; i < rq->ok_n; i++)
		if (rq->ok[i] == status)
			return true;
	return false;
}
