/*
 * image_known.h - copies made earlier, for tries that were cut short
 *
 * The last 64 copies and what was found about the last 1,024 uploads.
 */
#ifndef IMAGE_KNOWN_H
#define IMAGE_KNOWN_H

#include <stdint.h>

struct image_known;
struct image_made;

struct image_known *image_known_new(void);
void image_known_free(struct image_known *all);
/* Takes a reference of its own. */
void image_known_add(struct image_known *all, struct image_made *m);
/* A new reference, or NULL. */
struct image_made *image_known_get(struct image_known *all, uint64_t seq);
void image_known_forget(struct image_known *all, uint64_t seq);

#endif
