/*
 * xml_store.c - recipes of stores that speak the XML protocol of S3
 *
 * The completing body is written here from what the parts' answers carried, so
 * the gateway needs no XML. What was kept is the gateway's word: it is escaped.
 */
#include "xml_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX 10000
#define PART_LARGEST (5LL << 30) /* also at Google */
#define PARALLEL 4

static const int ok_200[] = { 200, 0 };
static const int ok_gone[] = { 204, 200, 404, 0 };

static void
set(const struct xml_store *x, struct headers *h, const char *name,
    const char *value)
{
	char full[160];

	snprintf(full, sizeof(full), "%s%s", x->prefix, name);
	headers_set(h, full, value);
}

/* What describes the object, for a whole upload and for the start of parts. */
static void
object_headers(const struct xml_store *x, const struct storage *s,
    const struct upload *u, struct headers *h)
{
	char name[128];

	headers_set(h, "content-type",
	    u->type != NULL ? u->type : "application/octet-stream");
	if (u->encoding != NULL)
		headers_set(h, "content-encoding", u->encoding);
	if (u->cache_control != NULL)
		headers_set(h, "cache-control", u->cache_control);
	if (u->sha256 != NULL)
		set(x, h, "meta-sha256", u->sha256);
	for (size_t i = 0; i < u->metadata_n; i++) {
		snprintf(name, sizeof(name), "meta-%s", u->metadata[i].name);
		set(x, h, name, u->metadata[i].value);
	}
	if (s->text[ST_STORAGE_CLASS] != NULL)
		set(x, h, "storage-class", s->text[ST_STORAGE_CLASS]);
	headers_all(h, s->headers, s->headers_n);
}

static void
verify_etag(const struct xml_store *x, struct recipe *r)
{
	recipe_verify(r, false, x->etag_is_md5 ? "ETag" : NULL,
	    x->etag_is_md5 ? "md5-hex" : NULL);
}

static int
whole(const struct xml_store *x, const struct storage *s,
    const struct upload *u, struct recipe *r)
{
	struct headers h = { .n = 0 };
	struct recipe_request rq = {
		.method = "PUT",
		.headers = &h,
		.body = BODY_FILE,
		.ok = ok_200,
		.keep = { { "etag", "header", "ETag" } },
	};
	int rc;

	object_headers(x, s, u, &h);
	x->whole_headers(s, u, &h);
	rc = provider_request(s, u, NULL, 0, &rq, r);
	headers_fini(&h);
	if (rc != 0)
		return rc;
	verify_etag(x, r);
	if (x->sha256_header != NULL && u->sha256 != NULL)
		recipe_verify_first(r, x->sha256_header, "sha256-base64");
	return 0;
}

static int
head(const struct xml_store *x, const struct storage *s, const struct upload *u,
    struct recipe *r)
{
	struct recipe_request rq = { .method = "HEAD", .ok = ok_200 };
	char name[64];
	int rc = provider_request(s, u, NULL, 0, &rq, r);

	snprintf(name, sizeof(name), "%smeta-sha256", x->prefix);
	if (rc == 0)
		recipe_verify(r, true, name, "sha256-hex");
	return rc;
}

static int
get(const struct xml_store *x, const struct storage *s, const struct upload *u,
    struct recipe *r)
{
	struct recipe_request rq = {
		.method = "GET",
		.ok = ok_200,
		.keep = { { "etag", "header",
		    x->state_header != NULL ? x->state_header : "ETag" } },
	};
	int rc = provider_request(s, u, NULL, 0, &rq, r);

	if (rc == 0)
		recipe_verify(r, false, NULL, NULL);
	return rc;
}

/* Octets of a part; 0: it would need too many. */
static int64_t
parts_of(const struct storage *s, const struct upload *u)
{
	return part_size(
	    u->size, upload_part_size(s, u), PARTS_MAX, PART_LARGEST);
}

static int
start(const struct xml_store *x, const struct storage *s,
    const struct upload *u, struct recipe *r)
{
	struct pair query[] = { { "uploads", "" } };
	struct headers h = { .n = 0 };
	struct recipe_request rq = {
		.method = "POST",
		.headers = &h,
		.ok = ok_200,
		.keep = { { "uploadId", "tag", "UploadId" } },
	};
	int64_t size = parts_of(s, u);
	int rc;

	object_headers(x, s, u, &h);
	rc = provider_request(s, u, query, 1, &rq, r);
	headers_fini(&h);
	if (rc == 0) {
		recipe_verify(r, false, NULL, NULL);
		recipe_parts(r, size, part_count(u->size, size), PARALLEL);
	}
	return rc;
}

static int
part(const struct xml_store *x, const struct storage *s, const struct upload *u,
    const char *id, struct recipe *r)
{
	int64_t size = parts_of(s, u);
	char number[24], name[32], length[24];
	struct pair query[] = { { "partNumber", number }, { "uploadId", id } };
	struct headers h = { .n = 0 };
	struct recipe_request rq = {
		.method = "PUT",
		.headers = &h,
		.body = BODY_RANGE,
		.offset = (u->part - 1) * size,
		.length = part_length(u->size, size, u->part),
		.ok = ok_200,
		.keep = { { name, "header", "ETag" } },
	};
	int rc;

	if (u->part > part_count(u->size, size))
		return -EINVAL;
	snprintf(number, sizeof(number), "%lld", (long long)u->part);
	snprintf(name, sizeof(name), "part.%lld", (long long)u->part);
	snprintf(length, sizeof(length), "%lld", (long long)rq.length);
	if (x->signs_length)
		headers_set(&h, "content-length", length);
	rc = provider_request(s, u, query, 2, &rq, r);
	headers_fini(&h);
	if (rc == 0)
		verify_etag(x, r);
	return rc;
}

static void
xml_text(struct text *t, const char *s)
{
	static const struct {
		char c;
		const char *entity;
	} entities[] = { { '&', "&amp;" }, { '<', "&lt;" }, { '>', "&gt;" },
		{ '"', "&quot;" } };

	for (; *s != '\0'; s++) {
		size_t i = 0;

		while (i < 4 && entities[i].c != *s)
			i++;
		if (i < 4)
			text_str(t, entities[i].entity);
		else
			text_char(t, *s);
	}
}

/* The completing body names each part by what its answer carried. */
static int
complete_body(const struct upload *u, int64_t count, struct text *body)
{
	text_str(body,
	    "<CompleteMultipartUpload "
	    "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (int64_t n = 1; n <= count; n++) {
		char name[32];
		const char *etag;

		snprintf(name, sizeof(name), "part.%lld", (long long)n);
		etag = upload_kept(u, name);
		if (etag == NULL)
			return -EINVAL;
		text_str(body, "<Part><PartNumber>");
		text_u64(body, (uint64_t)n);
		text_str(body, "</PartNumber><ETag>");
		xml_text(body, etag);
		text_str(body, "</ETag></Part>");
	}
	text_str(body, "</CompleteMultipartUpload>");
	return 0;
}

/* Complete answers 200 also with an error in its body, so the ETag must be
 * found there, and a HEAD follows. */
static int
finish(const struct xml_store *x, const struct storage *s,
    const struct upload *u, const char *id, struct recipe *r)
{
	int64_t size = parts_of(s, u);
	struct pair query[] = { { "uploadId", id } };
	struct headers h = { .n = 0 };
	struct text body = { 0 };
	struct recipe_request rq = {
		.method = "POST",
		.headers = &h,
		.body = BODY_TEXT,
		.ok = ok_200,
		.keep = { { "etag", "tag", "ETag" } },
	};
	int rc;

	rc = complete_body(u, part_count(u->size, size), &body);
	if (rc == 0) {
		rq.text = body.s;
		headers_set(&h, "content-type", "application/xml");
		if (u->exclusive && x->state_header == NULL)
			provider_condition(s, u, &h);
		rc = provider_request(s, u, query, 1, &rq, r);
	}
	headers_fini(&h);
	text_fini(&body);
	return rc == 0 ? head(x, s, u, r) : rc;
}

int
xml_recipe(const struct xml_store *x, const struct storage *s,
    const struct upload *u, struct recipe *r)
{
	const char *id = upload_kept(u, "uploadId");
	struct pair query[] = { { "uploadId", id } };
	struct recipe_request abort_rq = { .method = "DELETE", .ok = ok_gone };
	int rc;

	if (strcmp(u->method, "HEAD") == 0)
		return head(x, s, u, r);
	if (strcmp(u->method, "GET") == 0)
		return get(x, s, u, r);
	if (strcmp(u->method, "PUT") != 0)
		return -EOPNOTSUPP;
	if (u->step == STEP_WHOLE)
		return whole(x, s, u, r);
	if (parts_of(s, u) == 0)
		return -EFBIG;
	if (u->step == STEP_START)
		return start(x, s, u, r);
	if (id == NULL)
		return -EINVAL;
	if (u->step == STEP_PART)
		return part(x, s, u, id, r);
	if (u->step == STEP_FINISH)
		return finish(x, s, u, id, r);
	rc = provider_request(s, u, query, 1, &abort_rq, r);
	if (rc == 0)
		recipe_verify(r, false, NULL, NULL);
	return rc;
}
