/*
 * checksum.h - digests that a sender gives with a body, and whether they fit
 */
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum checksum_kind {
	CHECKSUM_SHA256,
	CHECKSUM_SHA512,
	CHECKSUM_SHA1,
	CHECKSUM_MD5,
	CHECKSUM_KINDS
};
#define CHECKSUM_MAX 64 /* octets of the longest */

/* What was announced: has has bit 1 << kind for each that was. */
struct checksums {
	unsigned has;
	uint8_t sum[CHECKSUM_KINDS][CHECKSUM_MAX];
};

size_t checksum_size(enum checksum_kind kind);
/* Was this kind announced and is it another than sum? */
bool checksum_differs(
    const struct checksums *want, enum checksum_kind kind, const uint8_t *sum);

/* The same digests of octets as they come. */
struct checksum_run;
/* Of those kinds in want that stand in mask, too. Copies want; checksum_free().
 * NULL: there are none. */
struct checksum_run *checksum_begin(
    const struct checksums *want, unsigned mask);
/* NULL is accepted by these, and fits. */
void checksum_update(struct checksum_run *r, const void *p, size_t n);
/* At the end, once: are all of them what was announced? */
bool checksum_fits(struct checksum_run *r);
void checksum_free(struct checksum_run *r);

#endif
