/*
 * verify.h - does what the store answered fit what was sent?
 */
#ifndef VERIFY_H
#define VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "recipe.h"

struct delivery;
struct xfer_result;

enum verify_verdict {
	VERIFY_FITS,
	VERIFY_DIFFERS,
	VERIFY_UNKNOWN, /* the answer did not say */
	VERIFY_LATER    /* the file is read once more, then
			   delivery_verdict() is called */
};

/* The digest to make while the body is sent. */
enum recipe_digest verify_along(const struct delivery *d);
/* Copy what the recipe wants of the last answer, and digests of the body. */
void verify_note(struct delivery *d, const struct xfer_result *r);
enum verify_verdict verify_answer(struct delivery *d, char *why, size_t n);

/* Is text (maybe quoted, maybe weak) the digest in hexadecimal or base64? */
bool verify_digest_fits(
    const char *text, bool base64, const uint8_t *digest, size_t n);

/* Called by verify.c; they stand in delivery.c. */
void delivery_verdict(struct delivery *d);
void delivery_unreadable(struct delivery *d, int rc);

#endif
