/*
 * spool_share.c - how much of the spool each device holds, and each address
 *
 * The index counts both with its rows. Once a second the index thread notes
 * those that hold at least half of the smallest share: few, so that the loop
 * can ask for one at each upload. What came in the last second is not in it.
 */
#include "spool.h"

#include <stdlib.h>
#include <string.h>

#include "spool_internal.h"
#include "xalloc.h"

#define HEAVY_MAX 16384 /* names are claims: no end of memory for them */

static void
forget(struct heavy_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].name);
	free(l->v);
	*l = (struct heavy_list){ 0 };
}

/* In order of name. */
static int
on_device(const char *name, uint64_t rows, uint64_t octets, void *arg)
{
	struct spool *sp = arg;
	uint64_t share = sp->share, files = sp->share_files;
	struct heavy_list *l = &sp->heavy_new;

	if ((share == 0 || octets < share / 2) &&
	    (files == 0 || rows < files / 2))
		return 0;
	l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
	l->v[l->n++] = (struct heavy){ xstrdup(name), octets, rows };
	return l->n == HEAVY_MAX;
}

static int
weigh(struct index_txn *t, void *arg)
{
	return index_walk_devices(t, on_device, arg);
}

void
spool_weigh_devices(struct spool *sp)
{
	struct heavy_list old;

	forget(&sp->heavy_new);
	sp->reweigh = false;
	if ((sp->share == 0 && sp->share_files == 0) ||
	    index_view_now(sp->ix, weigh, sp) != 0)
		return;
	pthread_mutex_lock(&sp->mutex);
	old = sp->heavy;
	sp->heavy = sp->heavy_new;
	pthread_mutex_unlock(&sp->mutex);
	sp->heavy_new = (struct heavy_list){ 0 };
	forget(&old);
}

void
spool_forget_devices(struct spool *sp)
{
	forget(&sp->heavy);
	forget(&sp->heavy_new);
}

static int
by_name(const void *name, const void *h)
{
	return strcmp(name, ((const struct heavy *)h)->name);
}

/* With the mutex held. */
static bool
is_over(struct spool *sp, const char *name, uint64_t size, uint64_t share,
    uint64_t files)
{
	const struct heavy *h = sp->heavy.n == 0
	    ? NULL
	    : bsearch(name, sp->heavy.v, sp->heavy.n, sizeof(*h), by_name);

	return h != NULL &&
	    ((share != 0 && h->octets + size > share) ||
		(files != 0 && h->files >= files));
}

bool
spool_over_share(struct spool *sp, const char *device, const char *address,
    uint64_t size, uint64_t octets, uint64_t files)
{
	char key[INDEX_ADDRESS_KEY];
	bool over = octets != 0 && size > octets;

	pthread_mutex_lock(&sp->mutex);
	over = over || is_over(sp, device, size, octets, files);
	if (address != NULL)
		over = over ||
		    is_over(sp, index_address_key(address, key), size, octets,
			files);
	pthread_mutex_unlock(&sp->mutex);
	return over;
}

void
spool_set_share(struct spool *sp, uint64_t octets, uint64_t files)
{
	sp->share = octets;
	sp->share_files = files;
	sp->reweigh = true;
}
