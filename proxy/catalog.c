/*
 * catalog.c - the manifests that the gateway has, ready to be asked
 */
#include "catalog.h"

#include <stdlib.h>
#include <string.h>
#include <cjson/cJSON.h>

#include "cache.h"
#include "json.h"
#include "log.h"
#include "manifest.h"
#include "minisign.h"
#include "xalloc.h"

#define PRODUCTS_MAX 1000
#define ITEMS_MAX 1000

struct load {
	struct catalog *cat;
	const struct catalog *old;
	const struct minisign_public *keys;
	size_t keys_n;
};

static void
item_put(struct catalog_item *it)
{
	if (__atomic_sub_fetch(&it->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	manifest_free(it->m);
	free(it);
}

static const struct catalog_item *
same_seq(const struct catalog *old, const struct cache_manifest *m)
{
	const struct catalog_item *it =
	    old == NULL ? NULL : catalog_find(old, m->product, m->channel);

	return it != NULL && it->m->seq == m->seq ? it : NULL;
}

/* Parse and verify; NULL: said why in the log. */
static struct catalog_item *
item_new(const struct load *l, const struct cache_manifest *m)
{
	struct catalog_item *it;
	struct manifest *parsed;
	char *why = NULL;

	if (minisign_verify(l->keys, l->keys_n, m->json, m->json_n,
		m->signature, NULL) != 0) {
		log_error("firmware product=%s channel=%s: the manifest in "
			  "the cache is not signed by [firmware] "
			  "publisher_key: not used",
		    m->product, m->channel);
		return NULL;
	}
	if (manifest_parse(m->json, m->json_n, &parsed, &why) != 0) {
		log_error("firmware product=%s channel=%s: the manifest in "
			  "the cache is not readable: %s",
		    m->product, m->channel, why != NULL ? why : "");
		free(why);
		return NULL;
	}
	it = xcalloc(1, sizeof(*it));
	it->m = parsed;
	return it;
}

static int
on_manifest(const struct cache_manifest *m, void *arg)
{
	struct load *l = arg;
	struct catalog *cat = l->cat;
	const struct catalog_item *known = same_seq(l->old, m);
	struct catalog_item *it = (struct catalog_item *)(uintptr_t)known;

	if (cat->items_n == ITEMS_MAX)
		return 0;
	if (it == NULL && (it = item_new(l, m)) == NULL)
		return 0;
	__atomic_add_fetch(&it->refs, 1, __ATOMIC_ACQ_REL);
	__atomic_store_n(&it->checked, m->checked, __ATOMIC_RELAXED);
	cat->items = xrealloc(
	    cat->items, (cat->items_n + 1) * sizeof(struct catalog_item *));
	cat->items[cat->items_n++] = it;
	return 0;
}

static int
by_hash(const void *a, const void *b)
{
	const struct catalog_blob *x = a, *y = b;
	int order = memcmp(x->sha256, y->sha256, 32);

	/* of the same content another product may think better */
	return order != 0 ? order : (int)x->revoked - (int)y->revoked;
}

/* In any channel of its product: they are the same octets. */
static bool
is_revoked(const struct catalog *cat, const struct manifest *m,
    const uint8_t sha256[32])
{
	for (size_t i = 0; i < cat->items_n; i++)
		if (strcmp(cat->items[i]->m->product, m->product) == 0 &&
		    manifest_revoked(cat->items[i]->m, sha256))
			return true;
	return false;
}

/* Every file of every release, by its hash. */
static void
index_blobs(struct catalog *cat)
{
	size_t n = 0;

	for (size_t i = 0; i < cat->items_n; i++)
		for (size_t j = 0; j < cat->items[i]->m->releases_n; j++)
			n += cat->items[i]->m->releases[j].files_n;
	cat->blobs = xcalloc(n + 1, sizeof(*cat->blobs));
	for (size_t i = 0; i < cat->items_n; i++) {
		const struct manifest *m = cat->items[i]->m;

		for (size_t j = 0; j < m->releases_n; j++)
			for (size_t k = 0; k < m->releases[j].files_n; k++) {
				const struct manifest_file *f =
				    &m->releases[j].files[k];
				struct catalog_blob *b =
				    &cat->blobs[cat->blobs_n++];

				memcpy(b->sha256, f->sha256, 32);
				b->revoked = is_revoked(cat, m, f->sha256);
				b->item = cat->items[i];
				b->release = &m->releases[j];
				b->file = f;
			}
	}
	qsort(cat->blobs, cat->blobs_n, sizeof(*cat->blobs), by_hash);
}

static int
by_name(const void *a, const void *b)
{
	const struct manifest *x = (*(const struct catalog_item *const *)a)->m;
	const struct manifest *y = (*(const struct catalog_item *const *)b)->m;
	int order = strcmp(x->product, y->product);

	return order != 0 ? order : strcmp(x->channel, y->channel);
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void
load_products(struct catalog *cat, struct cache *c)
{
	char *text = NULL;
	const cJSON *e;
	cJSON *list;

	if (cache_meta_get(c, "products", &text) != 0)
		return;
	list = json_parse(text, strlen(text), 1 << 20, NULL);
	cJSON_ArrayForEach(e, list)
	{
		if (!cJSON_IsString(e) || cat->products_n == PRODUCTS_MAX ||
		    !firmware_product_ok(e->valuestring))
			continue;
		cat->products = xrealloc(
		    cat->products, (cat->products_n + 1) * sizeof(char *));
		cat->products[cat->products_n++] = xstrdup(e->valuestring);
	}
	cJSON_Delete(list);
	free(text);
}

int
catalog_load(struct cache *c, const struct catalog *old,
    const struct minisign_public *keys, size_t keys_n, struct catalog **cat_out)
{
	struct catalog *cat = xcalloc(1, sizeof(*cat));
	struct load l = { cat, old, keys, keys_n };
	int rc = cache_each_manifest(c, on_manifest, &l);

	if (rc != 0) {
		catalog_free(cat);
		return rc;
	}
	load_products(cat, c);
	if (cat->items_n > 0)
		qsort(cat->items, cat->items_n, sizeof(*cat->items), by_name);
	if (cat->products_n > 0)
		qsort(cat->products, cat->products_n, sizeof(*cat->products),
		    by_text);
	index_blobs(cat);
	*cat_out = cat;
	return 0;
}

void
catalog_free(struct catalog *cat)
{
	if (cat == NULL)
		return;
	for (size_t i = 0; i < cat->items_n; i++)
		item_put(cat->items[i]);
	for (size_t i = 0; i < cat->products_n; i++)
		free(cat->products[i]);
	free(cat->items);
	free(cat->products);
	free(cat->blobs);
	free(cat);
}

struct wanted {
	const char *product, *channel; /* NULL: any */
};

static int
is_item(const void *key, const void *item)
{
	const struct wanted *w = key;
	const struct manifest *m =
	    (*(const struct catalog_item *const *)item)->m;
	int order = strcmp(w->product, m->product);

	return order != 0 || w->channel == NULL
	    ? order
	    : strcmp(w->channel, m->channel);
}

static const struct catalog_item *
search(const struct catalog *cat, const struct wanted *w)
{
	struct catalog_item *const *it = NULL;

	if (cat != NULL && cat->items_n > 0)
		it = bsearch(
		    w, cat->items, cat->items_n, sizeof(*cat->items), is_item);
	return it != NULL ? *it : NULL;
}

const struct catalog_item *
catalog_find(
    const struct catalog *cat, const char *product, const char *channel)
{
	const struct wanted w = { product, channel };

	return search(cat, &w);
}

const struct catalog_blob *
catalog_blob(const struct catalog *cat, const uint8_t sha256[32])
{
	size_t low = 0, high = cat != NULL ? cat->blobs_n : 0;

	while (low < high) { /* the first of equal ones */
		size_t mid = low + (high - low) / 2;

		if (memcmp(cat->blobs[mid].sha256, sha256, 32) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	if (cat == NULL || low == cat->blobs_n ||
	    memcmp(cat->blobs[low].sha256, sha256, 32) != 0)
		return NULL;
	return &cat->blobs[low];
}

bool
catalog_knows(const struct catalog *cat, const char *product)
{
	const struct wanted w = { product, NULL };

	return search(cat, &w) != NULL ||
	    (cat != NULL && cat->products_n > 0 &&
		bsearch(&product, cat->products, cat->products_n,
		    sizeof(*cat->products), by_text) != NULL);
}
