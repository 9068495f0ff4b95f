/*
 * signed_uri.c - signed URIs of a bucket, as long as they hold
 */
#include "signed_uri.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "xalloc.h"

#define URIS_MAX 64

static void
drop(struct signed_uris *o, struct signed_uri *u)
{
	TAILQ_REMOVE(&o->list, u, link);
	o->n--;
	recipe_free(u->recipe);
	free(u->storage);
	free(u->path);
	free(u);
}

struct signed_uri *
signed_uri_find(struct signed_uris *o, const char *storage, const char *path)
{
	struct signed_uri *u, *next;
	int64_t now = clock_ms();

	for (u = TAILQ_FIRST(&o->list); u != NULL; u = next) {
		next = TAILQ_NEXT(u, link);
		if (u->until_ms <= now)
			drop(o, u);
		else if (strcmp(u->path, path) == 0 &&
		    strcmp(u->storage, storage) == 0)
			return u;
	}
	return NULL;
}

void
signed_uri_drop(struct signed_uris *o, const char *storage, const char *path)
{
	struct signed_uri *u = signed_uri_find(o, storage, path);

	if (u != NULL)
		drop(o, u);
}

struct signed_uri *
signed_uri_keep(struct signed_uris *o, const char *storage, const char *path,
    struct recipe *r, int64_t asked_ms)
{
	struct signed_uri *u = xcalloc(1, sizeof(*u));

	signed_uri_drop(o, storage, path);
	if (o->n >= URIS_MAX)
		drop(o, TAILQ_LAST(&o->list, signed_uri_list));
	u->storage = xstrdup(storage);
	u->path = xstrdup(path);
	u->recipe = r;
	u->until_ms = asked_ms + r->expires_in_ms -
	    (r->expires_in_ms / 5 < 5000 ? r->expires_in_ms / 5 : 5000);
	TAILQ_INSERT_HEAD(&o->list, u, link);
	o->n++;
	return u;
}

void
signed_uris_fini(struct signed_uris *o)
{
	while (!TAILQ_EMPTY(&o->list))
		drop(o, TAILQ_FIRST(&o->list));
}
