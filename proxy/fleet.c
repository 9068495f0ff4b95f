/*
 * fleet.c - what devices run, what they were offered and what they fetched
 *
 * Ids are claims: the number of devices is bounded, texts are bounded, and a
 * device that asks for one product after the other counts for none of them, so
 * that nobody makes the gateway fetch what no device here needs.
 */
#include "fleet.h"

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
#include "text_hash.h"
#include "xalloc.h"

#define BUCKETS 1024
#define BATCH 500
#define WRITE_EVERY_S 2
#define TEXT_MAX 64
#define PRODUCTS_OF_ONE 2
#define SEEN_EVERY_S 3600
#define SEEN_MAX 256 /* products that are noted as seen */
#define VERSIONS_MAX 100

LIST_HEAD(fleet_bucket, fleet_device);
struct fleet {
	struct pool *disk;
	struct cache **cache;
	struct fleet_bucket ids[BUCKETS], addresses[BUCKETS];
	TAILQ_HEAD(fleet_list, fleet_device) used, dirty;
	unsigned n;
	bool writing;
	int64_t written;
	struct {
		char product[65];
		int64_t noted; /* 0: not now */
	} seen[SEEN_MAX];
	unsigned seen_n;
};

static int64_t
now_s(void)
{
	return clock_wall_ms() / 1000;
}

static unsigned
bucket(const char *s)
{
	return text_hash(s) % BUCKETS;
}

static void
set(char **to, const char *text)
{
	char *old = *to;

	if (text == NULL || *text == '\0' ||
	    (old != NULL && strcmp(old, text) == 0))
		return;
	*to = xstrndup(text, strnlen(text, TEXT_MAX));
	free(old);
}

static void
clear(char **to)
{
	free(*to);
	*to = NULL;
}

/* ---- life ---------------------------------------------------------------- */

struct fleet *
fleet_new(struct pool *disk, struct cache **cache)
{
	struct fleet *f = xcalloc(1, sizeof(*f));

	f->disk = disk;
	f->cache = cache;
	TAILQ_INIT(&f->used);
	TAILQ_INIT(&f->dirty);
	return f;
}

static void
drop(struct fleet *f, struct fleet_device *d)
{
	LIST_REMOVE(d, by_id);
	LIST_REMOVE(d, by_address);
	TAILQ_REMOVE(&f->used, d, used);
	if (d->is_dirty)
		TAILQ_REMOVE(&f->dirty, d, dirty);
	f->n--;
	free(d->id);
	free(d->address);
	free(d->product);
	free(d->channel);
	free(d->hw);
	free(d->version);
	free(d->offered);
	free(d->failed);
	free(d->fetched_version);
	free(d);
}

void
fleet_free(struct fleet *f)
{
	if (f == NULL)
		return;
	while (!TAILQ_EMPTY(&f->used))
		drop(f, TAILQ_FIRST(&f->used));
	free(f);
}

struct fleet_device *
fleet_find(struct fleet *f, const char *id)
{
	struct fleet_device *d;

	LIST_FOREACH(d, &f->ids[bucket(id)], by_id)
	if (strcmp(d->id, id) == 0)
		break;
	return d;
}

struct fleet_device *
fleet_at(struct fleet *f, const char *address)
{
	struct fleet_device *d, *last = NULL;

	LIST_FOREACH(d, &f->addresses[bucket(address)], by_address)
	if (strcmp(d->address, address) == 0 &&
	    (last == NULL || d->seen > last->seen))
		last = d;
	return last;
}

static struct fleet_device *
add(struct fleet *f, const char *id, const char *address)
{
	struct fleet_device *d = xcalloc(1, sizeof(*d));

	while (f->n >= FLEET_MAX)
		drop(f, TAILQ_FIRST(&f->used));
	d->id = xstrndup(id, strnlen(id, FLEET_ID_MAX));
	d->address = xstrndup(address, strnlen(address, TEXT_MAX));
	d->source = "check";
	LIST_INSERT_HEAD(&f->ids[bucket(d->id)], d, by_id);
	LIST_INSERT_HEAD(&f->addresses[bucket(d->address)], d, by_address);
	TAILQ_INSERT_TAIL(&f->used, d, used);
	f->n++;
	return d;
}

static void
touch(struct fleet *f, struct fleet_device *d)
{
	d->seen = now_s();
	TAILQ_REMOVE(&f->used, d, used);
	TAILQ_INSERT_TAIL(&f->used, d, used);
	if (d->is_dirty)
		return;
	d->is_dirty = true;
	TAILQ_INSERT_TAIL(&f->dirty, d, dirty);
}

/* ---- events -------------------------------------------------------------- */

static bool
good_id(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > FLEET_ID_MAX || !json_utf8(s, n))
		return false;
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

static void
at_address(struct fleet *f, struct fleet_device *d, const char *address)
{
	if (strcmp(d->address, address) == 0)
		return;
	LIST_REMOVE(d, by_address);
	set(&d->address, address);
	LIST_INSERT_HEAD(&f->addresses[bucket(d->address)], d, by_address);
}

struct fleet_device *
fleet_asks(struct fleet *f, const char *id, const char *address,
    const char *product, const char *channel, const char *hw,
    const char *version, const char *source)
{
	const char *key = id != NULL && good_id(id) ? id : address;
	struct fleet_device *d = fleet_find(f, key);

	if (d == NULL) {
		d = add(f, key, address);
		d->since = now_s();
	}
	at_address(f, d, address);
	if (product != NULL &&
	    (d->product == NULL || strcmp(d->product, product) != 0)) {
		d->roams = d->roams || ++d->products > PRODUCTS_OF_ONE;
		clear(&d->offered);
		clear(&d->failed);
		clear(&d->version);
		set(&d->product, product);
	}
	set(&d->channel, channel);
	set(&d->hw, hw);
	if (version != NULL && *version != '\0' && d->failed != NULL &&
	    strcmp(version, d->failed) == 0)
		clear(&d->failed); /* it runs it after all */
	set(&d->version, version);
	d->source = source;
	touch(f, d);
	return d;
}

void
fleet_offered(struct fleet *f, struct fleet_device *d, const char *version,
    const uint8_t sha256[32])
{
	set(&d->offered, version);
	memcpy(d->offered_sha256, sha256, 32);
	d->offered_at = now_s();
	touch(f, d);
}

bool
fleet_was_offered(struct fleet *f, const char *address, const char *product,
    const char *version)
{
	struct fleet_device *d;

	LIST_FOREACH(d, &f->addresses[bucket(address)], by_address)
	if (strcmp(d->address, address) == 0 && d->offered != NULL &&
	    d->product != NULL && strcmp(d->product, product) == 0 &&
	    strcmp(d->offered, version) == 0)
		return true;
	return false;
}

bool
fleet_fetched(struct fleet *f, const char *address, const char *product,
    const char *channel, const char *version, const uint8_t sha256[32],
    bool whole)
{
	struct fleet_device *d = fleet_at(f, address);
	bool same;

	if (d == NULL) {
		d = add(f, address, address);
		d->source = "download";
		set(&d->product, product);
		set(&d->channel, channel);
	}
	same =
	    d->fetched_version != NULL && memcmp(d->fetched, sha256, 32) == 0;
	d->full = same ? d->full + whole : whole;
	memcpy(d->fetched, sha256, 32);
	set(&d->fetched_version, version);
	d->fetched_at = now_s();
	touch(f, d);
	return !same;
}

void
fleet_installed(
    struct fleet *f, struct fleet_device *d, const char *version, bool ok)
{
	set(ok ? &d->version : &d->failed, version);
	if (ok)
		clear(&d->failed);
	touch(f, d);
}

void
fleet_withdrawn(struct fleet *f, struct fleet_device *d)
{
	clear(&d->offered);
	touch(f, d);
}

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

void
fleet_restore(struct fleet *f, const char *id, const char *json)
{
	cJSON *o = json_parse(json, strlen(json), CACHE_DEVICE_JSON_MAX, NULL);
	const char *address = json_string(o, "address"), *s;
	struct fleet_device *d;

	if (o == NULL || address == NULL || !good_id(id) ||
	    fleet_find(f, id) != NULL) {
		cJSON_Delete(o);
		return;
	}
	d = add(f, id, address);
	set(&d->product, json_string(o, "product"));
	set(&d->channel, json_string(o, "channel"));
	set(&d->hw, json_string(o, "hw"));
	set(&d->version, json_string(o, "version"));
	set(&d->failed, json_string(o, "failed"));
	s = json_string(o, "offered_sha256");
	if (s != NULL && hex_decode(s, d->offered_sha256, 32) == 0)
		set(&d->offered, json_string(o, "offered"));
	s = json_string(o, "fetched");
	if (s != NULL && hex_decode(s, d->fetched, 32) == 0)
		set(&d->fetched_version, json_string(o, "fetched_version"));
	s = json_string(o, "source");
	d->source = s == NULL            ? "check"
	    : strcmp(s, "ddi") == 0      ? "ddi"
	    : strcmp(s, "download") == 0 ? "download"
					 : "check";
	d->products = d->product != NULL;
	d->seen = number_of(o, "seen");
	d->offered_at = number_of(o, "offered_at");
	d->fetched_at = number_of(o, "fetched_at");
	d->full = (unsigned)number_of(o, "full");
	cJSON_Delete(o);
}

struct tally {
	const char *product, *version;
	unsigned n;
};

cJSON *
fleet_summary_json(const struct fleet *f)
{
	cJSON *o = cJSON_CreateObject(), *list, *e;
	struct tally t[VERSIONS_MAX] = { 0 };
	const struct fleet_device *d;
	unsigned n = 0, i;

	TAILQ_FOREACH(d, &f->used, used)
	{
		if (d->product == NULL || d->version == NULL)
			continue;
		for (i = 0; i < n; i++)
			if (strcmp(t[i].product, d->product) == 0 &&
			    strcmp(t[i].version, d->version) == 0)
				break;
		if (i == VERSIONS_MAX)
			continue;
		n += i == n;
		t[i].product = d->product;
		t[i].version = d->version;
		t[i].n++;
	}
	json_add_int(o, "devices", f->n);
	list = cJSON_AddArrayToObject(o, "versions");
	for (i = 0; i < n; i++) {
		e = cJSON_CreateObject();
		json_add_text(e, "product", t[i].product);
		json_add_text(e, "version", t[i].version);
		json_add_int(e, "devices", t[i].n);
		cJSON_AddItemToArray(list, e);
	}
	return o;
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
	char *ids[BATCH], *jsons[BATCH];
	size_t n;
	char *names[SEEN_MAX], *values[SEEN_MAX]; /* "seen/PRODUCT" */
	size_t names_n;
	int rc;
};

static void
run_batch(void *arg)
{
	struct batch *b = arg;

	if (*b->cache == NULL)
		return;
	if (b->n > 0)
		b->rc = cache_device_put_many(*b->cache,
		    (const char *const *)b->ids, (const char *const *)b->jsons,
		    b->n);
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
	for (size_t i = 0; i < b->n; i++) {
		free(b->ids[i]);
		free(b->jsons[i]);
	}
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
	struct fleet *f = b->f;
	unsigned i;

	if (d->product == NULL || d->roams ||
	    strcmp(d->source, "download") == 0 ||
	    !catalog_knows(cat, d->product))
		return;
	for (i = 0; i < f->seen_n; i++)
		if (strcmp(f->seen[i].product, d->product) == 0)
			break;
	if (i == SEEN_MAX ||
	    (i < f->seen_n && now - f->seen[i].noted < SEEN_EVERY_S))
		return;
	if (i == f->seen_n) {
		f->seen_n++;
		strcpy(f->seen[i].product, d->product);
	}
	f->seen[i].noted = now;
	note(b, d->product, now);
}

/* Products that only devices asked for that ask for everything. */
static void
take_back(struct batch *b)
{
	struct fleet *f = b->f;

	for (unsigned i = 0; i < f->seen_n; i++) {
		const struct fleet_device *d;

		if (f->seen[i].noted == 0 || b->names_n == SEEN_MAX)
			continue;
		TAILQ_FOREACH(d, &f->used, used)
		if (!d->roams && d->product != NULL &&
		    strcmp(d->product, f->seen[i].product) == 0)
			break;
		if (d != NULL)
			continue;
		f->seen[i].noted = 0;
		note(b, f->seen[i].product, 0);
	}
}

static void
write_batch(struct fleet *f, const struct catalog *cat, int64_t now)
{
	struct batch *b = xcalloc(1, sizeof(*b));
	struct fleet_device *d;
	bool roamed = false;
	cJSON *o;

	b->f = f;
	b->cache = f->cache;
	while (b->n < BATCH && (d = TAILQ_FIRST(&f->dirty)) != NULL) {
		TAILQ_REMOVE(&f->dirty, d, dirty);
		d->is_dirty = false;
		o = fleet_device_json(d);
		b->ids[b->n] = xstrdup(d->id);
		b->jsons[b->n++] = json_line(o);
		cJSON_Delete(o);
		if (cat != NULL && b->names_n < SEEN_MAX)
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
	int64_t now = now_s();

	if (f->writing || *f->cache == NULL || TAILQ_EMPTY(&f->dirty) ||
	    (now >= f->written && now - f->written < WRITE_EVERY_S))
		return;
	write_batch(f, cat, now);
}

void
fleet_flush(struct fleet *f)
{
	while (!TAILQ_EMPTY(&f->dirty))
		write_batch(f, NULL, now_s());
}
