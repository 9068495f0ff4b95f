/*
 * firmware.h - the firmware half of the proxy: what its files share
 *
 * The cache's index and files are touched on one thread (`disk`), slices are
 * read and compared on others (`readers`); the loop has snapshots.
 */
#ifndef FIRMWARE_H
#define FIRMWARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <cjson/cJSON.h>

#include "cache.h"
#include "turns.h"

struct catalog;
struct catalog_blob;
struct catalog_item;
struct download;
struct evbuffer;
struct fleet;
struct fleet_device;
struct gateway_conf;
struct http_request;
struct manifest;
struct mirrors;
struct offer;
struct pool;
struct proxy;
struct shelf;

#define TROUBLES 16

struct firmware {
	struct proxy *px;
	struct pool *disk, *readers;
	struct cache *cache;     /* NULL: not open (yet); disk's */
	struct catalog *catalog; /* NULL: not read yet */
	struct shelf *shelf;
	struct turns *turns;
	struct fleet *fleet;
	struct mirrors *mirrors;
	struct evbuffer *copy; /* empty between calls */
	bool opening, loading, load_again, closing;
	bool other_keys; /* all manifests are to be verified again */
	int64_t open_at_ms, asked_ms;
	uint64_t txn; /* of the index when the catalog was read */
	struct cache_totals totals;
	TAILQ_HEAD(, download) downloads;
	struct {
		char hex[65];
		int64_t until_ms;
	} troubles[TROUBLES]; /* blobs that no origin has now */
	unsigned troubles_at;
	struct {
		uint64_t checks, offers;
		uint64_t requests, hits, bytes, busy, cut;
	} count;
};

/* At start; opens the cache in the background. */
struct firmware *firmware_new(struct proxy *px);
/* After the server: no request is left. NULL is accepted. */
void firmware_free(struct firmware *fw);
void firmware_reload(struct firmware *fw);
void firmware_tick(struct firmware *fw); /* once a second */
/* A datagram of the agent; false: it is about something else. */
bool firmware_told(struct firmware *fw, const char *msg);
/* Ring the agent's bell. */
void firmware_ring(struct firmware *fw, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
cJSON *firmware_json(struct firmware *fw); /* for status.json */

/* Unix seconds, but never before the manifest was issued: the gateway's clock
 * may be wrong, and a publisher's is later than nothing. */
int64_t firmware_now(const struct manifest *m);
/* Answer 403 if the device is blocked, 503 if the cache is not open. true: it
 * was answered. */
bool firmware_refuses(
    struct firmware *fw, struct http_request *rq, const char *id);
void firmware_reply_blocked(struct http_request *rq); /* 403 */
/* Has the device at that address been blocked since it asked? */
bool firmware_is_blocked(struct firmware *fw, const char *address);
/* The list of blocked devices has changed: end what they are fetching. */
void firmware_blocked(struct firmware *fw);
/* 503 with Retry-After; never to be kept by a cache on the way. */
void firmware_later(
    struct http_request *rq, int seconds, const char *error, const char *hint);

/* Seconds until the agent tries again to get a blob that no origin gave; 0:
 * nothing of that kind is known. */
int firmware_trouble(const struct firmware *fw, const char *hex);

/* blob.c */
void on_blob(struct http_request *rq, void *proxy);
/* Answer with the blob, or as much of it as is asked for, when it has its turn.
 */
void blob_give(struct firmware *fw, struct http_request *rq,
    const struct catalog_blob *cb);
void blob_tick(struct firmware *fw, int64_t now_ms);
/* A new catalog: end what is revoked. */
void blob_catalog(struct firmware *fw);
/* Others are blocked now: cut what they fetch. */
void blob_blocked(struct firmware *fw);
/* No origin has it now: those who wait for their first octet are told. */
void blob_trouble(struct firmware *fw, const char *hex, int retry);
/* The path of a file's content below the server's root: at most 99 characters.
 * name may be cut. */
#define BLOB_PATH_MAX 100
void blob_path(
    const uint8_t sha256[32], const char *name, char out[BLOB_PATH_MAX]);

/* check.c */
void on_firmware_check(struct http_request *rq, void *proxy);
/* "http://HOST" as the client calls us; malloc'd. */
char *check_base_url(struct http_request *rq);
/* The decision for a device, by what is known of it; item NULL: no manifest. */
void firmware_decide(struct firmware *fw, struct fleet_device *d,
    const struct catalog_item *item, const char *component,
    struct offer *o_out);
/* An update was offered to it: noted and logged. */
void firmware_offered(
    struct firmware *fw, struct fleet_device *d, const struct offer *o);

/* ddi.c */
void on_ddi_poll(struct http_request *rq, void *proxy);
void on_ddi_deployment(struct http_request *rq, void *proxy);
void on_ddi_feedback(struct http_request *rq, void *proxy);
void on_ddi_config(struct http_request *rq, void *proxy);
void on_ddi_cancel(struct http_request *rq, void *proxy);

/* mirror.c */
struct mirrors *mirrors_new(struct firmware *fw);
void mirrors_free(struct mirrors *m);
void mirrors_tick(struct mirrors *m, int64_t now_ms);
void mirrors_blocked(struct mirrors *m);
void mirrors_told(struct mirrors *m, const char *msg);
void on_mirror(struct http_request *rq, void *proxy);

/* GET of any other path below /firmware/ */
void on_firmware_nothing(struct http_request *rq, void *proxy);
/* devices asked by the operator: GET /firmware/devices?after=ID&limit=N */
void on_firmware_devices(struct http_request *rq, void *proxy);

#endif
