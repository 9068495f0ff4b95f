/*
 * fleet.c - what devices run, what they were offered and what they fetched
 *
 * Ids are claims: the number of devices is bounded, texts are bounded, and a
 * device that asks for one product after the other counts for none of them, so
 * that nobody makes the gateway fetch what no device here needs. Nothing on the
 * loop goes through all devices: what is asked of the whole is counted as it
 * changes (fleet_tally.c), rows are written and read elsewhere (fleet_rows.c).
 */
#include "fleet_private.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "text_hash.h"
#include "xalloc.h"

#define PRODUCTS_OF_ONE 2

static int64_t
now_s(void)
{
	return clock_wall_ms() / 1000;
}

static unsigned
bucket(const char *s)
{
	return text_hash(s) % FLEET_BUCKETS;
}

void
fleet_set(char **to, const char *text)
{
	char *old = *to;

	if (text == NULL || *text == '\0' ||
	    (old != NULL && strcmp(old, text) == 0))
		return;
	*to = xstrndup(text, strnlen(text, FLEET_TEXT_MAX));
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
	TAILQ_INIT(&f->versions);
	TAILQ_INIT(&f->noted);
	return f;
}

void
fleet_device_free(struct fleet_device *d)
{
	if (d == NULL)
		return;
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

static void
drop(struct fleet *f, struct fleet_device *d)
{
	tally_leave(f, d);
	LIST_REMOVE(d, by_id);
	LIST_REMOVE(d, by_address);
	TAILQ_REMOVE(&f->used, d, used);
	if (d->is_dirty)
		TAILQ_REMOVE(&f->dirty, d, dirty);
	f->n--;
	fleet_device_free(d);
}

void
fleet_free(struct fleet *f)
{
	if (f == NULL)
		return;
	while (!TAILQ_EMPTY(&f->used))
		drop(f, TAILQ_FIRST(&f->used));
	tally_fini(f);
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
	d->address = xstrndup(address, strnlen(address, FLEET_TEXT_MAX));
	d->source = "check";
	LIST_INSERT_HEAD(&f->ids[bucket(d->id)], d, by_id);
	LIST_INSERT_HEAD(&f->addresses[bucket(d->address)], d, by_address);
	TAILQ_INSERT_TAIL(&f->used, d, used);
	f->n++;
	return d;
}

void
fleet_adopt(struct fleet *f, struct fleet_device *d)
{
	if (f->n >= FLEET_MAX || fleet_find(f, d->id) != NULL) {
		fleet_device_free(d);
		return;
	}
	LIST_INSERT_HEAD(&f->ids[bucket(d->id)], d, by_id);
	LIST_INSERT_HEAD(&f->addresses[bucket(d->address)], d, by_address);
	TAILQ_INSERT_TAIL(&f->used, d, used);
	f->n++;
	tally_enter(f, d);
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

bool
fleet_id_ok(const char *s)
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
	fleet_set(&d->address, address);
	LIST_INSERT_HEAD(&f->addresses[bucket(d->address)], d, by_address);
}

struct fleet_device *
fleet_asks(struct fleet *f, const char *id, const char *address,
    const char *product, const char *channel, const char *hw,
    const char *version, const char *source)
{
	const char *key = id != NULL && fleet_id_ok(id) ? id : address;
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
		fleet_set(&d->product, product);
	}
	fleet_set(&d->channel, channel);
	fleet_set(&d->hw, hw);
	if (version != NULL && *version != '\0' && d->failed != NULL &&
	    strcmp(version, d->failed) == 0)
		clear(&d->failed); /* it runs it after all */
	fleet_set(&d->version, version);
	d->source = source;
	tally_enter(f, d);
	touch(f, d);
	return d;
}

void
fleet_offered(struct fleet *f, struct fleet_device *d, const char *version,
    const uint8_t sha256[32])
{
	fleet_set(&d->offered, version);
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
		fleet_set(&d->product, product);
		fleet_set(&d->channel, channel);
		tally_enter(f, d);
	}
	same =
	    d->fetched_version != NULL && memcmp(d->fetched, sha256, 32) == 0;
	d->full = same ? d->full + whole : whole;
	memcpy(d->fetched, sha256, 32);
	fleet_set(&d->fetched_version, version);
	d->fetched_at = now_s();
	touch(f, d);
	return !same;
}

void
fleet_installed(
    struct fleet *f, struct fleet_device *d, const char *version, bool ok)
{
	fleet_set(ok ? &d->version : &d->failed, version);
	if (ok)
		clear(&d->failed);
	tally_enter(f, d);
	touch(f, d);
}

void
fleet_withdrawn(struct fleet *f, struct fleet_device *d)
{
	clear(&d->offered);
	touch(f, d);
}
