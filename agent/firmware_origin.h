/*
 * firmware_origin.h - where firmware comes from: CDN, bucket, backup
 *
 * One GET at a time of one of them, and how each fares. The bucket is opened by
 * the signer (POST /v1/sign with method GET); its URIs are kept until they
 * expire and asked for anew when they are refused.
 */
#ifndef FIRMWARE_ORIGIN_H
#define FIRMWARE_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>

struct agent;
struct fw_get;
struct fw_origins;
struct xfer;
struct xfer_sink;

enum fw_from { FW_CDN, FW_BUCKET, FW_BACKUP, FW_FROM_N };
#define FW_BIT(from) (1u << (from))

struct fw_origins *fw_origins_new(struct agent *a);
/* All gets must be over or cancelled. NULL is accepted. */
void fw_origins_free(struct fw_origins *o);
const char *fw_from_name(enum fw_from from);

/*
 * The first that is set up, not in `without` (bits) and not resting; else the
 * one that rests shortest, with *wait_ms_out > 0; -1: none at all. storage
 * NULL: the bucket is not known.
 */
int fw_origins_pick(const struct fw_origins *o, unsigned without,
    const char *storage, int64_t now_ms, int64_t *wait_ms_out);
/* It did as it should: octets came. */
void fw_origins_ok(struct fw_origins *o, enum fw_from from, uint64_t octets);
/* It did not: it rests, longer each time. why is for people. */
void fw_origins_failed(
    struct fw_origins *o, enum fw_from from, const char *why);
/* All may be tried again at once (new settings). */
void fw_origins_again(struct fw_origins *o);
/* {"origin": {"ok", "octets", "failed", "error"}, ...} */
cJSON *fw_origins_status(const struct fw_origins *o);

struct fw_get_request {
	enum fw_from from;
	const char *path;    /* below the root, not encoded */
	const char *storage; /* of the bucket */
	const char *etag;    /* If-None-Match; NULL or "": none */
	bool ranged;
	uint64_t offset, length;      /* of the range */
	size_t answer_max;            /* without a sink */
	const struct xfer_sink *sink; /* copied */
	bool hurry; /* another may be asked: do not wait for a slow one */
};
struct fw_result {
	int rc;          /* 0: an answer arrived whole, else -errno */
	int status;      /* of the answer */
	const char *why; /* rc != 0 or another status than 200, 206, 304;
			    what a peer said in it is escaped */
	const char *body;
	size_t body_n;
	struct xfer *xfer; /* for xfer_header(); NULL: nothing was asked */
};
/* Called once, never from within fw_get(). */
typedef void (*fw_get_fn)(const struct fw_result *r, void *arg);

struct fw_get *fw_get(struct fw_origins *o, const struct fw_get_request *rq,
    fw_get_fn fn, void *arg);
/* The sink has room again. NULL is accepted. */
void fw_get_resume(struct fw_get *g);
/* fn is not called. Not from within a sink's callback. NULL is accepted. */
void fw_get_cancel(struct fw_get *g);

#endif
