/*
 * blob_head.h - what answers about a blob say of it
 *
 * The URL names the content, so all of it is known from the signed manifest,
 * and may be kept for ever. One that does not, as that of a check which is
 * answered with the file, may not be kept at all.
 */
#ifndef BLOB_HEAD_H
#define BLOB_HEAD_H

#include <stdint.h>

struct http_request;
struct manifest_file;

void blob_etag(const char *hex, char out[67]);
/* "" if the publisher gave none. */
void blob_md5(const struct manifest_file *f, char out[33]);
/* What every answer about a blob says. x-MD5 is what the updaters of ESP8266
 * and ESP32 compare. */
void blob_fields(struct http_request *rq, const uint8_t sha256[32],
    const char *etag, const char *md5);
/* Behind the end; without a body, as one client hashes whatever it is sent. */
void blob_reply_416(struct http_request *rq, uint64_t size);

#endif
