/*
 * image_known.c - copies made earlier, for tries that were cut short
 */
#include "image_known.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "image.h"
#include "xalloc.h"

#define KNOWN_FILES 64
#define KNOWN_MAX 1024

struct known {
	TAILQ_ENTRY(known) link;
	struct image_made *made;
};
struct image_known {
	TAILQ_HEAD(knowns, known) list; /* the last made first */
	unsigned n, files;
};

static void
drop(struct image_known *all, struct known *k)
{
	TAILQ_REMOVE(&all->list, k, link);
	all->n--;
	if (k->made->smaller)
		all->files--;
	image_made_unref(k->made);
	free(k);
}

static struct known *
find(struct image_known *all, uint64_t seq)
{
	struct known *k;

	TAILQ_FOREACH(k, &all->list, link)
	if (k->made->seq == seq)
		return k;
	return NULL;
}

void
image_known_forget(struct image_known *all, uint64_t seq)
{
	struct known *k = find(all, seq);

	if (k != NULL)
		drop(all, k);
}

struct image_made *
image_known_get(struct image_known *all, uint64_t seq)
{
	struct known *k = find(all, seq);

	return k != NULL ? image_made_ref(k->made) : NULL;
}

/* The last copy of those known. */
static struct known *
oldest_file(struct image_known *all)
{
	struct known *k;

	TAILQ_FOREACH_REVERSE(k, &all->list, knowns, link)
	if (k->made->smaller)
		return k;
	return NULL;
}

void
image_known_add(struct image_known *all, struct image_made *m)
{
	struct known *k = xcalloc(1, sizeof(*k));

	image_known_forget(all, m->seq);
	k->made = image_made_ref(m);
	TAILQ_INSERT_HEAD(&all->list, k, link);
	all->n++;
	if (m->smaller && ++all->files > KNOWN_FILES)
		drop(all, oldest_file(all));
	if (all->n > KNOWN_MAX)
		drop(all, TAILQ_LAST(&all->list, knowns));
}

struct image_known *
image_known_new(void)
{
	struct image_known *all = xcalloc(1, sizeof(*all));

	TAILQ_INIT(&all->list);
	return all;
}

void
image_known_free(struct image_known *all)
{
	while (!TAILQ_EMPTY(&all->list))
		drop(all, TAILQ_FIRST(&all->list));
	free(all);
}
