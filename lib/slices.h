/*
 * slices.h - the list of a file's slice hashes
 *
 * The SHA-256 of each FIRMWARE_SLICE octets of the file, 32 octets each, in
 * order; the last slice may be short, an empty file has none. The list's own
 * SHA-256 stands in the signed manifest.
 */
#ifndef SLICES_H
#define SLICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many slices a file of that size has. */
size_t slices_count(uint64_t size);
/* Octets of slice i. */
size_t slices_length(uint64_t size, size_t i);
/* Does list (n octets) have the right length and SHA-256? */
bool slices_list_ok(
    const uint8_t *list, size_t n, uint64_t size, const uint8_t sha256[32]);
/* Does the slice's content fit entry i? n octets of content. */
bool slices_fit(const uint8_t *list, size_t i, const void *data, size_t n);

struct slices_sums {
	uint64_t size;
	uint8_t sha256[32], sha1[20], md5[16];
	uint8_t *list; /* malloc'd */
	size_t list_n;
};
/* Read fd from its start to its end and hash all of it. Blocks. -errno. */
int slices_of_file(int fd, struct slices_sums *out);

#endif
