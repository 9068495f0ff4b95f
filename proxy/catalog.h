/*
 * catalog.h - the manifests that the gateway has, ready to be asked
 *
 * Built on the disk thread, never changed afterwards, swapped on the loop. The
 * agent has verified what stands in the index; signatures are checked again
 * here, since the index is a file.
 */
#ifndef CATALOG_H
#define CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cache;
struct manifest;
struct manifest_file;
struct manifest_release;
struct minisign_public;

/* One manifest, shared by catalogs that follow each other. */
struct catalog_item {
	unsigned refs;   /* atomic */
	int64_t checked; /* Unix seconds; of the latest catalog */
	struct manifest *m;
};
struct catalog_blob {
	uint8_t sha256[32];
	bool revoked; /* by any channel of its product */
	const struct catalog_item *item;
	const struct manifest_release *release;
	const struct manifest_file *file;
};
struct catalog {
	struct catalog_item **items; /* by product, channel */
	size_t items_n;
	struct catalog_blob *blobs; /* by sha256 */
	size_t blobs_n;
	char **products; /* the policy; sorted */
	size_t products_n;
};

/*
 * Read all manifests; those that `old` (may be NULL) has with the same seq are
 * taken from it. keys_n == 0: nobody is trusted, so there are none. A manifest
 * that does not verify or parse is left out, with a log line.
 */
int catalog_load(struct cache *c, const struct catalog *old,
    const struct minisign_public *keys, size_t keys_n,
    struct catalog **cat_out);
void catalog_free(struct catalog *cat); /* NULL is accepted */

const struct catalog_item *catalog_find(
    const struct catalog *cat, const char *product, const char *channel);
const struct catalog_blob *catalog_blob(
    const struct catalog *cat, const uint8_t sha256[32]);
/* Does the policy name the product, or is there a manifest of it? */
bool catalog_knows(const struct catalog *cat, const char *product);

#endif
