/*
 * blob_head.c - what answers about a blob say of it
 */
#include "blob_head.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "firmware.h"
#include "http_server.h"
#include "manifest.h"
#include "url.h"

void
blob_path(const uint8_t sha256[32], const char *name, char out[BLOB_PATH_MAX])
{
	size_t most = BLOB_PATH_MAX - 1 - strlen("/firmware/b//") - 64;
	char hex[65];
	const char *dot = strrchr(name, '.');

	hex_encode(sha256, 32, hex);
	if (strlen(name) > most) /* of a long one the extension matters */
		name = dot != NULL && strlen(dot) < most ? dot + 1 : "";
	snprintf(out, BLOB_PATH_MAX, "/firmware/b/%s%s%s", hex,
	    *name != '\0' ? "/" : "", name);
}

void
blob_etag(const char *hex, char out[67])
{
	snprintf(out, 67, "\"%s\"", hex);
}

void
blob_md5(const struct manifest_file *f, char out[33])
{
	out[0] = '\0';
	if (f->has_md5)
		hex_encode(f->md5, 16, out);
}

void
blob_fields(struct http_request *rq, const uint8_t sha256[32], const char *etag,
    const char *md5)
{
	static const char named[] = "/firmware/b/";
	char *b64 = base64_encode(sha256, 32), text[80];
	bool fixed =
	    strncmp(http_request_path(rq), named, sizeof(named) - 1) == 0;

	http_reply_header(rq, "ETag", etag);
	http_reply_header(rq, "Cache-Control",
	    fixed ? "public, max-age=31536000, immutable" : "no-store");
	http_reply_header(rq, "Accept-Ranges", "bytes");
	snprintf(text, sizeof(text), "sha-256=:%s:", b64);
	http_reply_header(rq, "Repr-Digest", text);
	snprintf(text, sizeof(text), "SHA-256=%s", b64);
	http_reply_header(rq, "Digest", text);
	if (*md5 != '\0')
		http_reply_header(rq, "x-MD5", md5);
	free(b64);
}

void
blob_reply_416(struct http_request *rq, uint64_t size)
{
	char text[40];

	snprintf(text, sizeof(text), "bytes */%" PRIu64, size);
	http_reply_header(rq, "Content-Range", text);
	http_reply(rq, 416, NULL, NULL, 0);
}
