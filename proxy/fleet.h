/*
 * fleet.h - what devices run, what they were offered and what they fetched
 *
 * Learnt from checks, downloads and hawkBit feedback; nothing of it is proven.
 * At most FLEET_MAX devices, the longest silent goes first. Kept in the cache's
 * index by batches (doc/firmware.md), read back at start. Times: Unix seconds.
 */
#ifndef FLEET_H
#define FLEET_H

#include <stdbool.h>
#include <stdint.h>
#include <cjson/cJSON.h>
#include <sys/queue.h>

#define FLEET_MAX 10000
#define FLEET_ID_MAX 64

struct cache;
struct catalog;
struct fleet;
struct fleet_product;
struct fleet_version;
struct pool;

struct fleet_device {
	LIST_ENTRY(fleet_device) by_id, by_address;
	TAILQ_ENTRY(fleet_device) used;  /* the longest silent first */
	TAILQ_ENTRY(fleet_device) dirty; /* to be written */
	bool is_dirty, roams; /* roams: asks for product after product */
	const char *source;   /* static */
	char *id, *address, *product, *channel, *hw, *version;
	char *offered, *failed; /* versions */
	uint8_t offered_sha256[32], fetched[32];
	char *fetched_version; /* NULL: fetched nothing */
	int64_t seen, offered_at, fetched_at;
	int64_t since; /* here, by this process; 0: it was known before */
	unsigned products, full;          /* asked for; times fetched whole */
	struct fleet_product *in_product; /* where it is counted */
	struct fleet_version *in_version;
	bool counted;
};

struct fleet *fleet_new(struct pool *disk, struct cache **cache);
void fleet_free(struct fleet *f); /* NULL is accepted */
/* A row of the index as a device, on any thread; NULL: it is none. */
struct fleet_device *fleet_parse(const char *id, const char *json);
/* Take it in, the longest silent first. Takes d. */
void fleet_adopt(struct fleet *f, struct fleet_device *d);
void fleet_device_free(struct fleet_device *d); /* NULL is accepted */
/* Once a second: write what has changed, at most each 2 s. */
void fleet_tick(struct fleet *f, const struct catalog *cat);
/* Write all of it, at the end. */
void fleet_flush(struct fleet *f);

/* The device of that id, or NULL; the one that was last at that address. */
struct fleet_device *fleet_find(struct fleet *f, const char *id);
struct fleet_device *fleet_at(struct fleet *f, const char *address);
/*
 * A device asks: under id, or by its address if id is NULL. Ids that are too
 * long or hold controls are taken for the address. What is NULL stays as it
 * was. source is static.
 */
struct fleet_device *fleet_asks(struct fleet *f, const char *id,
    const char *address, const char *product, const char *channel,
    const char *hw, const char *version, const char *source);
void fleet_offered(struct fleet *f, struct fleet_device *d, const char *version,
    const uint8_t sha256[32]);
/* Was that release offered to a device that was last at that address? */
bool fleet_was_offered(struct fleet *f, const char *address,
    const char *product, const char *version);
/* A blob reached its last octet; whole: in one piece from its first. false: it
 * was the last that this device got, too. */
bool fleet_fetched(struct fleet *f, const char *address, const char *product,
    const char *channel, const char *version, const uint8_t sha256[32],
    bool whole);
/* Feedback of an installation. */
void fleet_installed(
    struct fleet *f, struct fleet_device *d, const char *version, bool ok);

/* What was offered is so no more. */
void fleet_withdrawn(struct fleet *f, struct fleet_device *d);

cJSON *fleet_device_json(const struct fleet_device *d);
/* {devices, versions: [{product, version, devices}]}: the 100 versions that
 * most devices run, these first. */
cJSON *fleet_summary_json(const struct fleet *f);
/* A page: up to n devices behind the one of that id (NULL: from the first), in
 * the order of when they were seen, newest first: {devices: [], next}. */
cJSON *fleet_page_json(struct fleet *f, const char *after, unsigned n);

#endif
