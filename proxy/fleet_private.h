/*
 * fleet_private.h - what the files of the fleet share
 */
#ifndef FLEET_PRIVATE_H
#define FLEET_PRIVATE_H

#include "fleet.h"

#define FLEET_BUCKETS 4096
#define FLEET_TEXT_MAX 64
#define FLEET_NOTED_MAX 256 /* products that are noted as seen */

/* Devices of a product, and of those that run a version of it. Kept as long as
 * somebody counts. */
struct fleet_product {
	LIST_ENTRY(fleet_product) link;
	TAILQ_ENTRY(fleet_product) noted_link;
	char *name;
	unsigned refs;    /* devices */
	unsigned devices; /* of them that do not roam */
	int64_t noted;    /* when it was written as seen; 0: it is not */
};
struct fleet_version {
	LIST_ENTRY(fleet_version) link;
	TAILQ_ENTRY(fleet_version) all;
	char *product, *version;
	unsigned devices;
};
LIST_HEAD(fleet_bucket, fleet_device);
TAILQ_HEAD(fleet_list, fleet_device);

struct fleet {
	struct pool *disk;
	struct cache **cache;
	struct fleet_bucket ids[FLEET_BUCKETS], addresses[FLEET_BUCKETS];
	struct fleet_list used, dirty;
	unsigned n;
	LIST_HEAD(, fleet_product) product_hash[FLEET_BUCKETS];
	LIST_HEAD(, fleet_version) version_hash[FLEET_BUCKETS];
	TAILQ_HEAD(, fleet_version) versions;
	TAILQ_HEAD(, fleet_product) noted;
	unsigned noted_n;
	bool writing;
	int64_t written;
};

/* fleet.c */
void fleet_set(char **to, const char *text);
bool fleet_id_ok(const char *id);

/* fleet_tally.c: after product, version or roams have changed; before it goes
 */
void tally_enter(struct fleet *f, struct fleet_device *d);
void tally_leave(struct fleet *f, struct fleet_device *d);
/* It is noted as seen, or is no more (0). false: too many are. */
bool tally_note(struct fleet *f, struct fleet_product *p, int64_t now);
void tally_fini(struct fleet *f);

#endif
