/*
 * fleet_rows.c - devices as JSON: rows of the cache's index, pages, a restart
 *
 * Rows are made and read on the disk thread, from copies.
 */
#include "fleet_private.h"

#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "catalog.h"
#include "clock.h"
#include "json.h"
#include "log.h"
#include "manifest.h"
#include "pool.h"
#include "url.h"
#include "xalloc.h"

#define BATCH 500
#define WRITE_EVERY_S 2
#define SEEN_EVERY_S 3600

/* ---- JSON ---------------------------------------------------------------- */

static void
add_text(cJSON *o, const char *key, const char *text)
{
	if (text != NULL)
		json_add_text(o, key, text);
}

cJSON *
fleet_device_json(const struct fleet_device *d)
{
	cJSON *o = cJSON_CreateObject();

	json_add_text(o, "id", d->id);
	json_add_text(o, "address", d->address);
	add_text(o, "product", d->product);
	add_text(o, "channel", d->channel);
	add_text(o, "hw", d->hw);
	add_text(o, "version", d->version);
	json_add_text(o, "source", d->source);
	json_add_int(o, "seen", d->seen);
	if (d->offered != NULL) {
		json_add_text(o, "offered", d->offered);
		json_add_hex(o, "offered_sha256", d->offered_sha256, 32);
		json_add_int(o, "offered_at", d->offered_at);
	}
	if (d->fetched_version != NULL) {
		json_add_hex(o, "fetched", d->fetched, 32);
		json_add_text(o, "fetched_version", d->fetched_version);
		json_add_int(o, "fetched_at", d->fetched_at);
		json_add_int(o, "full", d->full);
	}
	add_text(o, "failed", d->failed);
	return o;
}

static int64_t
number_of(const cJSON *o, const char *key)
{
	int64_t v = 0;

	json_int(o, key, 0, INT64_MAX, &v);
	return v;
}

static const char *
source_of(const char *s)
{
	return s == NULL                 ? "check"
	    : strcmp(s, "ddi") == 0      ? "ddi"
	    : strcmp(s, "download") == 0 ? "download"
					 : "check";
}

struct fleet_device *
fleet_parse(const char *id, const char *json)
{
	cJSON *o = json_parse(json, strlen(json), CACHE_DEVICE_JSON_MAX, NULL);
	const char *address = json_string(o, "address"), *s;
	struct fleet_device *d;

	if (o == NULL || address == NULL || !fleet_id_ok(id)) {
		cJSON_Delete(o);
		return NULL;
	}
	d = xcalloc(1, sizeof(*d));
	d->id = xstrdup(id);
	d->address = xstrndup(address, strnlen(address, FLEET_TEXT_MAX));
	fleet_set(&d->product, json_string(o, "product"));
	fleet_set(&d->channel, json_string(o, "channel"));
	fleet_set(&d->hw, json_string(o, "hw"));
	fleet_set(&d->version, json_string(o, "version"));
	fleet_set(&d->failed, json_string(o, "failed"));
	s = json_string(o, "offered_sha256");
	if (s != NULL && hex_decode(s, d->offered_sha256, 32) == 0)
		fleet_set(&d->offered, json_string(o, "offered"));
	s = json_string(o, "fetched");
	if (s != NULL && hex_decode(s, d->fetched, 32) == 0)
		fleet_set(
		    &d->fetched_version, json_string(o, "fetched_version"));
	d->source = source_of(json_string(o, "source"));
	d->products = d->product != NULL;
	d->seen = number_of(o, "seen");
	d->offered_at = number_of(o, "offered_at");
	d->fetched_at = number_of(o, "fetched_at");
	d->full = (unsigned)number_of(o, "full");
	cJSON_Delete(o);
	return d;
}

cJSON *
fleet_page_json(struct fleet *f, const char *after, unsigned n)
{
	cJSON *o = cJSON_CreateObject(), *list;
	struct fleet_device *d = TAILQ_LAST(&f->used, fleet_list);

	if (after != NULL && (d = fleet_find(f, after)) != NULL)
		d = TAILQ_PREV(d, fleet_list, used);
	list = cJSON_AddArrayToObject(o, "devices");
	for (; d != NULL && n > 0; n--) {
		cJSON_AddItemToArray(list, fleet_device_json(d));
		after = d->id;
		d = TAILQ_PREV(d, fleet_list, used);
	}
	if (d != NULL)
		json_add_text(o, "next", after);
	else
		cJSON_AddNullToObject(o, "next");
	return o;
}

/* ---- the index ----------------------------------------------------------- */

struct batch {
	struct fleet *f;
	struct cache **cache;
	struct fleet_device *devices[BATCH]; /* copies */
	size_t n;
	char *names[FLEET_NOTED_MAX], *values[FLEET_NOTED_MAX];
	size_t names_n; /* "seen/PRODUCT" */
	int rc;
};

static void
copy_text(char **to, const char *text)
{
	*to = text != NULL ? xstrdup(text) : NULL;
}

/* For the thread: what the loop has of it may change. */
static struct fleet_device *
copy_of(const struct fleet_device *d)
{
	struct fleet_device *c = xmalloc(sizeof(*c));

	*c = *d;
	copy_text(&c->id, d->id);
	copy_text(&c->address, d->address);
	copy_text(&c->product, d->product);
	copy_text(&c->channel, d->channel);
	copy_text(&c->hw, d->hw);
	copy_text(&c->version, d->version);
	copy_text(&c->offered, d->offered);
	copy_text(&c->failed, d->failed);
	copy_text(&c->fetched_version, d->fetched_version);
	return c;
}

static void
run_batch(void *arg)
{
	struct batch *b = arg;
	const char *ids[BATCH];
	char *jsons[BATCH];

	if (*b->cache == NULL)
		return;
	for (size_t i = 0; i < b->n; i++) {
		cJSON *o = fleet_device_json(b->devices[i]);

		ids[i] = b->devices[i]->id;
		jsons[i] = json_line(o);
		cJSON_Delete(o);
	}
	if (b->n > 0)
		b->rc = cache_device_put_many(
		    *b->cache, ids, (const char *const *)jsons, b->n);
	for (size_t i = 0; i < b->n; i++)
		free(jsons[i]);
	for (size_t i = 0; i < b->names_n && b->rc == 0; i++)
		b->rc = cache_meta_put(*b->cache, b->names[i], b->values[i]);
}

static void
on_batch(void *arg)
{
	struct batch *b = arg;

	b->f->writing = false;
	if (b->rc != 0)
		log_warn("firmware: what devices run could not be written: %s",
		    strerror(-b->rc));
	for (size_t i = 0; i < b->n; i++)
		fleet_device_free(b->devices[i]);
	for (size_t i = 0; i < b->names_n; i++) {
		free(b->names[i]);
		free(b->values[i]);
	}
	free(b);
}

static void
note(struct batch *b, const char *product, int64_t value)
{
	b->names[b->names_n] = xasprintf("seen/%s", product);
	b->values[b->names_n++] = xasprintf("%lld", (long long)value);
}

/* A device of the policy's products asked: it is fetched ahead for. */
static void
note_seen(struct batch *b, const struct catalog *cat,
    const struct fleet_device *d, int64_t now)
{
	if (d->in_product == NULL || d->roams ||
	    strcmp(d->source, "download") == 0 ||
	    now - d->in_product->noted < SEEN_EVERY_S ||
	    !catalog_knows(cat, d->product))
		return;
	if (tally_note(b->f, d->in_product, now))
		note(b, d->product, now);
}

/* Products that only devices asked for that ask for everything. */
static void
take_back(struct batch *b)
{
	struct fleet *f = b->f;
	struct fleet_product *p, *next;

	for (p = TAILQ_FIRST(&f->noted); p != NULL; p = next) {
		next = TAILQ_NEXT(p, noted_link);
		if (p->devices > 0 || b->names_n == FLEET_NOTED_MAX)
			continue;
		note(b, p->name, 0);
		tally_note(f, p, 0);
	}
}

static void
write_batch(struct fleet *f, const struct catalog *cat, int64_t now)
{
	struct batch *b = xcalloc(1, sizeof(*b));
	struct fleet_device *d;
	bool roamed = false;

	b->f = f;
	b->cache = f->cache;
	while (b->n < BATCH && (d = TAILQ_FIRST(&f->dirty)) != NULL) {
		TAILQ_REMOVE(&f->dirty, d, dirty);
		d->is_dirty = false;
		b->devices[b->n++] = copy_of(d);
		if (cat != NULL && b->names_n < FLEET_NOTED_MAX)
			note_seen(b, cat, d, now);
		roamed = roamed || d->roams;
	}
	if (roamed)
		take_back(b);
	f->writing = true;
	f->written = now;
	pool_run(f->disk, run_batch, on_batch, b);
}

void
fleet_tick(struct fleet *f, const struct catalog *cat)
{
	int64_t now = clock_wall_ms() / 1000;

	if (f->writing || *f->cache == NULL || TAILQ_EMPTY(&f->dirty) ||
	    (now >= f->written && now - f->written < WRITE_EVERY_S))
		return;
	write_batch(f, cat, now);
}

void
fleet_flush(struct fleet *f)
{
	while (!TAILQ_EMPTY(&f->dirty))
		write_batch(f, NULL, clock_wall_ms() / 1000);
}
