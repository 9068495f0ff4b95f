/*
 * gateway.h - gateways and their devices, as the signer knows them
 */
#ifndef GATEWAY_H
#define GATEWAY_H

#include <stdbool.h>
#include <stdint.h>
#include <cjson/cJSON.h>

struct problem;
struct store_txn;

/* What signing has to know of one. */
struct gateway {
	char *prefix; /* goes before each key; ends in a slash */
	bool blocked;
	int64_t bytes_per_day; /* -1: no limit */
	cJSON *storages;       /* array of names, NULL: all of the tenant */
	int64_t max_size;      /* octets of an upload; -1: no limit */
	cJSON *products;       /* of firmware; NULL: all of the tenant */
	bool spent;            /* bytesPerDay is used up for today */
};

/* Make its row if it is missing. */
int gateway_ensure(
    struct store_txn *t, const char *tenant, const char *id, int64_t now_s);
/* -ENOENT: it was deleted. gateway_fini() later. */
int gateway_get(struct store_txn *t, const char *tenant, const char *id,
    struct gateway *g_out);
/* Set g->spent by what the gateway reported of today, if its policy asks. */
int gateway_count(struct store_txn *t, const char *tenant, const char *id,
    int64_t now_s, struct gateway *g);
void gateway_fini(struct gateway *g);
bool gateway_may_use(const struct gateway *g, const char *storage);
bool gateway_may_fetch(const struct gateway *g, const char *product);
/* Is the device blocked? 0 or 1, -errno. */
int device_blocked(struct store_txn *t, const char *tenant, const char *gateway,
    const char *device);
/* 1 to 255 octets of UTF-8 without controls and slashes, as the proxy takes
 * them in a path. */
#define DEVICE_MAX 255
bool device_ok(const char *s);

/*
 * Check what PUT /v1/gateways/ID takes and make the row of it: prefix,
 * blocked, policy, note. NULL: problem tells.
 */
cJSON *gateway_parse(const char *id, const cJSON *doc, struct problem *p);
/* The same for a device: blocked, note. */
cJSON *device_parse(const char *device, const cJSON *doc, struct problem *p);

/* The member `note` of a document, to its row; absent is fine. */
void gateway_take_note(cJSON *row, const cJSON *v, struct problem *p);

#endif
