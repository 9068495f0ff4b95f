/*
 * footer.h - what stands behind a body in its spool file
 *
 *	body (size octets) | metadata, JSON (meta_len) | trailer, 72 octets
 *
 * The trailer, little-endian: SHA-256 of the body (32), size (8), sequence
 * number (8), epoch (8), meta_len (4), version (2), flags (2), CRC-32C over
 * metadata and the trailer so far (4), magic "EDGH" (4). A file says by itself
 *what it is, so the index is disposable.
 */
#ifndef FOOTER_H
#define FOOTER_H

#include <stddef.h>
#include <stdint.h>

#define FOOTER_TRAILER 72
#define FOOTER_META_MAX 8192
#define FOOTER_F_BODY_SYNCED 1 /* the body was synced before the footer */

struct footer {
	uint64_t size, seq, epoch;
	uint8_t sha256[32];
	unsigned flags;
	int64_t received_wall_ms;
	char *device, *name, *type, *address; /* owned, never NULL once read */
};

/* Encode to malloc'd octets: metadata and trailer. */
void *footer_encode(const struct footer *f, size_t *n_out);
/* Decode the last n octets of a file of file_size octets. -EBADMSG: no footer,
 * torn, or a CRC that does not fit. n: at least as much as there is, up to
 * FOOTER_META_MAX + FOOTER_TRAILER. */
int footer_decode(
    const void *p, size_t n, uint64_t file_size, struct footer *f_out);
/* Read it from the end of fd. BLOCKS on the disk. -errno, -EBADMSG. */
int footer_read(int fd, struct footer *f_out);
/* Read the body of fd and compare with the footer. 0, -EBADMSG, -errno. */
int footer_verify_body(int fd, const struct footer *f);
void footer_fini(struct footer *f);

#endif
