/*
 * azure_blob.c - recipes of Azure Blob Storage: a blob in one piece or in
 * blocks
 *
 * Type, encoding and metadata go with the request that makes the blob, Put Blob
 * or Put Block List; a signature does not cover them.
 */
#include "azure_blob.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "azure_sas.h"

#define PARALLEL 4
#define BLOCKS_MAX 30000 /* 50,000 are allowed; a list of them is too long */

static const int ok_created[] = { 201, 0 };
static const int ok_200[] = { 200, 0 };

const char *
azure_put_permissions(bool no_overwrite)
{
	return no_overwrite ? "c" : "cw";
}

/* Metadata names must be C identifiers ("Naming and referencing metadata"). */
static void
object_headers(
    const struct storage *s, const struct upload *u, struct headers *h)
{
	char name[160];

	headers_set(h, "x-ms-blob-content-type",
	    u->type != NULL ? u->type : "application/octet-stream");
	if (u->encoding != NULL)
		headers_set(h, "x-ms-blob-content-encoding", u->encoding);
	if (u->cache_control != NULL)
		headers_set(h, "x-ms-blob-cache-control", u->cache_control);
	if (u->sha256 != NULL)
		headers_set(h, "x-ms-meta-sha256", u->sha256);
	for (size_t i = 0; i < u->metadata_n; i++) {
		snprintf(
		    name, sizeof(name), "x-ms-meta-%s", u->metadata[i].name);
		for (char *c = name + 10; *c != '\0'; c++)
			if (*c == '-')
				*c = '_';
		headers_set(h, name, u->metadata[i].value);
	}
	if (s->text[ST_ACCESS_TIER] != NULL)
		headers_set(h, "x-ms-access-tier", s->text[ST_ACCESS_TIER]);
	/* That one is Put Blob's, which has it anyway. */
	for (size_t i = 0; i < s->headers_n; i++)
		if (strcasecmp(s->headers[i].name, "x-ms-blob-type") != 0)
			headers_set(h, s->headers[i].name, s->headers[i].value);
}

static int
whole(const struct storage *s, const struct upload *u, struct recipe *r)
{
	struct pair query[] = { { "sp",
	    azure_put_permissions(s->no_overwrite && u->if_match == NULL) } };
	struct headers h = { .n = 0 };
	struct recipe_request rq = {
		.method = "PUT",
		.headers = &h,
		.body = BODY_FILE,
		.ok = ok_created,
		.keep = { { "etag", "header", "ETag" } },
	};
	int rc;

	headers_set(&h, "x-ms-blob-type", "BlockBlob");
	object_headers(s, u, &h);
	provider_condition(s, u, &h);
	rc = provider_request(s, u, query, 1, &rq, r);
	headers_fini(&h);
	if (rc == 0)
		recipe_verify(r, false, "Content-MD5", "md5-base64");
	return rc;
}

static int
head(const struct storage *s, const struct upload *u, struct recipe *r)
{
	struct recipe_request rq = { .method = "HEAD", .ok = ok_200 };
	int rc = provider_request(s, u, NULL, 0, &rq, r);

	if (rc == 0)
		recipe_verify(r, true, "x-ms-meta-sha256", "sha256-hex");
	return rc;
}

/* "Put Block", remarks; a version that is not set is a newer one. */
int64_t
azure_block_max(const struct storage *s)
{
	unsigned sv = azure_version_number(s->text[ST_SAS_VERSION]);

	return (sv == 0 || sv >= 20191212 ? 4000LL
		       : sv >= 20160531   ? 100LL
					  : 4LL)
	    << 20;
}

/* Octets of a block; 0: it would need too many. */
static int64_t
blocks_of(const struct storage *s, const struct upload *u)
{
	return part_size(
	    u->size, upload_part_size(s, u), BLOCKS_MAX, azure_block_max(s));
}

/* Ids of one blob must be of one length; base64 of nine digits. */
static char *
block_id(int64_t n)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%09lld", (long long)n);
	return base64_encode(digits, strlen(digits));
}

static int
block(const struct storage *s, const struct upload *u, struct recipe *r)
{
	int64_t size = blocks_of(s, u);
	char *id = block_id(u->part);
	struct pair query[] = { { "sp", "cw" }, { "comp", "block" },
		{ "blockid", id } };
	struct recipe_request rq = {
		.method = "PUT",
		.body = BODY_RANGE,
		.offset = (u->part - 1) * size,
		.length = part_length(u->size, size, u->part),
		.ok = ok_created,
	};
	int rc = -EINVAL;

	if (u->part <= part_count(u->size, size))
		rc = provider_request(s, u, query, 3, &rq, r);
	/* Put Block tells the MD5 only to who has sent it (from 2019-02-02). */
	if (rc == 0)
		recipe_verify(r, false, NULL, NULL);
	free(id);
	return rc;
}

static int
block_list(const struct storage *s, const struct upload *u, struct recipe *r)
{
	int64_t count = part_count(u->size, blocks_of(s, u));
	struct pair query[] = { { "sp", "cw" }, { "comp", "blocklist" } };
	struct headers h = { .n = 0 };
	struct text body = { 0 };
	struct recipe_request rq = {
		.method = "PUT",
		.headers = &h,
		.body = BODY_TEXT,
		.ok = ok_created,
		.keep = { { "etag", "header", "ETag" } },
	};
	int rc;

	text_str(
	    &body, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
	for (int64_t n = 1; n <= count; n++) {
		char *id = block_id(n);

		text_str(&body, "<Latest>");
		text_str(&body, id);
		text_str(&body, "</Latest>");
		free(id);
	}
	text_str(&body, "</BlockList>");
	rq.text = body.s;
	headers_set(&h, "Content-Type", "application/xml");
	object_headers(s, u, &h);
	provider_condition(s, u, &h);
	rc = provider_request(s, u, query, 2, &rq, r);
	headers_fini(&h);
	text_fini(&body);
	return rc == 0 ? head(s, u, r) : rc;
}

/*
 * Blocks need no start, and those never listed are dropped by the service after
 * a week: starting and aborting are no more than a look.
 */
static int
look(const struct storage *s, const struct upload *u, struct recipe *r)
{
	static const int ok_look[] = { 404, 200, 0 };
	struct recipe_request look = { .method = "HEAD", .ok = ok_look };
	int64_t size = blocks_of(s, u);
	int rc = provider_request(s, u, NULL, 0, &look, r);

	if (rc != 0)
		return rc;
	recipe_verify(r, false, NULL, NULL);
	if (u->step == STEP_START)
		recipe_parts(r, size, part_count(u->size, size), PARALLEL);
	return 0;
}

static int
get(const struct storage *s, const struct upload *u, struct recipe *r)
{
	struct recipe_request rq = { .method = "GET",
		.ok = ok_200,
		.keep = { { "etag", "header", "ETag" } } };
	int rc = provider_request(s, u, NULL, 0, &rq, r);

	if (rc == 0)
		recipe_verify(r, false, NULL, NULL);
	return rc;
}

int
azure_recipe(const struct storage *s, const struct upload *u, struct recipe *r)
{
	if (strcmp(u->method, "HEAD") == 0)
		return head(s, u, r);
	if (strcmp(u->method, "GET") == 0)
		return get(s, u, r);
	if (strcmp(u->method, "PUT") != 0)
		return -EOPNOTSUPP;
	if (u->step != STEP_WHOLE && blocks_of(s, u) == 0)
		return -EFBIG;
	switch (u->step) {
	case STEP_WHOLE:
		return whole(s, u, r);
	case STEP_PART:
		return block(s, u, r);
	case STEP_FINISH:
		return block_list(s, u, r);
	default:
		return look(s, u, r);
	}
}
