/*
 * signed_uri.h - signed URIs of a bucket, as long as they hold
 *
 * A few, in memory only: each is a credential.
 */
#ifndef SIGNED_URI_H
#define SIGNED_URI_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "recipe.h"

struct signed_uri {
	TAILQ_ENTRY(signed_uri) link;
	char *storage, *path;
	struct recipe *recipe;
	int64_t until_ms; /* by clock_ms() */
};
TAILQ_HEAD(signed_uri_list, signed_uri);
struct signed_uris {
	struct signed_uri_list list; /* the newest first; the owner inits it */
	size_t n;
};

/* One that still holds, of that storage, valid until the loop turns; NULL. */
struct signed_uri *signed_uri_find(
    struct signed_uris *o, const char *storage, const char *path);
/* Takes r, asked for at asked_ms. What was there of that path goes. */
struct signed_uri *signed_uri_keep(struct signed_uris *o, const char *storage,
    const char *path, struct recipe *r, int64_t asked_ms);
/* The bucket will not have it. */
void signed_uri_drop(
    struct signed_uris *o, const char *storage, const char *path);
/* All of them. */
void signed_uris_fini(struct signed_uris *o);

#endif
