/*
 * fleet_tally.c - how many devices there are of a product, and of a version
 *
 * What must stay true: a device counts in at most one product and one version,
 * those of in_product and in_version; the counts follow each change, so that
 * nobody has to go through all devices for them.
 */
#include "fleet_private.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "text_hash.h"
#include "xalloc.h"

#define VERSIONS_TOLD 100

static void
product_put(struct fleet *f, struct fleet_product *p)
{
	if (p->refs > 0 || p->noted != 0)
		return;
	LIST_REMOVE(p, link);
	free(p->name);
	free(p);
}

static struct fleet_product *
product_get(struct fleet *f, const char *name)
{
	unsigned i = text_hash(name) % FLEET_BUCKETS;
	struct fleet_product *p;

	LIST_FOREACH(p, &f->product_hash[i], link)
	if (strcmp(p->name, name) == 0)
		return p;
	p = xcalloc(1, sizeof(*p));
	p->name = xstrdup(name);
	LIST_INSERT_HEAD(&f->product_hash[i], p, link);
	return p;
}

static struct fleet_version *
version_get(struct fleet *f, const char *product, const char *version)
{
	unsigned i =
	    (text_hash(product) * 31 + text_hash(version)) % FLEET_BUCKETS;
	struct fleet_version *v;

	LIST_FOREACH(v, &f->version_hash[i], link)
	if (strcmp(v->version, version) == 0 &&
	    strcmp(v->product, product) == 0)
		return v;
	v = xcalloc(1, sizeof(*v));
	v->product = xstrdup(product);
	v->version = xstrdup(version);
	LIST_INSERT_HEAD(&f->version_hash[i], v, link);
	TAILQ_INSERT_TAIL(&f->versions, v, all);
	return v;
}

static void
version_put(struct fleet *f, struct fleet_version *v)
{
	if (v == NULL || --v->devices > 0)
		return;
	LIST_REMOVE(v, link);
	TAILQ_REMOVE(&f->versions, v, all);
	free(v->product);
	free(v->version);
	free(v);
}

void
tally_leave(struct fleet *f, struct fleet_device *d)
{
	struct fleet_product *p = d->in_product;

	version_put(f, d->in_version);
	d->in_version = NULL;
	d->in_product = NULL;
	if (p == NULL)
		return;
	p->refs--;
	p->devices -= d->counted;
	d->counted = false;
	product_put(f, p);
}

void
tally_enter(struct fleet *f, struct fleet_device *d)
{
	struct fleet_product *p = NULL;
	struct fleet_version *v = NULL;
	bool counts = d->product != NULL && !d->roams;

	if (d->product != NULL) {
		p = product_get(f, d->product);
		p->refs++;
		p->devices += counts;
	}
	if (p != NULL && d->version != NULL) {
		v = version_get(f, d->product, d->version);
		v->devices++;
	}
	tally_leave(f, d); /* after, so that what stays is not made anew */
	d->in_product = p;
	d->in_version = v;
	d->counted = counts;
}

bool
tally_note(struct fleet *f, struct fleet_product *p, int64_t now)
{
	if (now != 0 && p->noted == 0) {
		if (f->noted_n == FLEET_NOTED_MAX)
			return false;
		f->noted_n++;
		TAILQ_INSERT_TAIL(&f->noted, p, noted_link);
	} else if (now == 0 && p->noted != 0) {
		f->noted_n--;
		TAILQ_REMOVE(&f->noted, p, noted_link);
	}
	p->noted = now;
	product_put(f, p);
	return true;
}

void
tally_fini(struct fleet *f)
{
	while (!TAILQ_EMPTY(&f->noted))
		tally_note(f, TAILQ_FIRST(&f->noted), 0);
}

/* ---- the summary --------------------------------------------------------- */

/* Keep v among the most frequent, in order. */
static unsigned
keep(
    const struct fleet_version **top, unsigned n, const struct fleet_version *v)
{
	unsigned i = n < VERSIONS_TOLD ? n++ : n - 1;

	for (; i > 0 && top[i - 1]->devices < v->devices; i--)
		top[i] = top[i - 1];
	top[i] = v;
	return n;
}

cJSON *
fleet_summary_json(const struct fleet *f)
{
	const struct fleet_version *top[VERSIONS_TOLD], *v;
	cJSON *o = cJSON_CreateObject(), *list, *e;
	unsigned n = 0;

	TAILQ_FOREACH(v, &f->versions, all)
	if (n < VERSIONS_TOLD || top[n - 1]->devices < v->devices)
		n = keep(top, n, v);
	json_add_int(o, "devices", f->n);
	list = cJSON_AddArrayToObject(o, "versions");
	for (unsigned i = 0; i < n; i++) {
		e = cJSON_CreateObject();
		json_add_text(e, "product", top[i]->product);
		json_add_text(e, "version", top[i]->version);
		json_add_int(e, "devices", top[i]->devices);
		cJSON_AddItemToArray(list, e);
	}
	return o;
}
