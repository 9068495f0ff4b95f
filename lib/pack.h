/*
 * pack.h - rows of an index: little-endian fields, a version, a CRC
 *
 *	version (1 octet) | fields | CRC-32C of all before (4)
 *
 * Rows are input like any other: unpack_open() takes none whose version or CRC
 * does not fit, and reading past the end gives zeros and sets `bad`.
 */
#ifndef PACK_H
#define PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pack {
	unsigned char *p; /* malloc'd; the caller's */
	size_t n, size;
};
struct unpack {
	const unsigned char *p, *end;
	bool bad;
};

void pack_start(struct pack *o, unsigned version);
/* The low n octets of v. */
void pack_int(struct pack *o, uint64_t v, size_t n);
void pack_bytes(struct pack *o, const void *p, size_t n);
/* Octets behind their length (4 octets). */
void pack_text(struct pack *o, const void *p, size_t n);
void pack_seal(struct pack *o);
void pack_fini(struct pack *o);

bool unpack_open(struct unpack *u, const void *p, size_t n, unsigned version);
uint64_t unpack_int(struct unpack *u, size_t n);
void unpack_bytes(struct unpack *u, void *out, size_t n);
/* malloc'd with a NUL behind, NULL if bad or over max. n_out may be NULL. */
char *unpack_text(struct unpack *u, size_t max, size_t *n_out);
/* The same into buf (size octets with the NUL). */
void unpack_name(struct unpack *u, char *buf, size_t size);
/* Nothing bad, nothing left over. */
bool unpack_done(const struct unpack *u);

#endif
