/*
 * firmware.c - the firmware half of the proxy: start, housework, the agent's
 * rings
 *
 * Nothing is given out before the cache is open and its manifests are read;
 * until then the answer is 503. A change of the index is noticed by the agent's
 * ring, and by its transaction number once a second.
 */
#include "firmware.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <event2/buffer.h>

#include "blocks.h"
#include "catalog.h"
#include "clock.h"
#include "doorbell.h"
#include "fleet.h"
#include "gateway_conf.h"
#include "http_server.h"
#include "json.h"
#include "log.h"
#include "manifest.h"
#include "pool.h"
#include "proxy.h"
#include "publisher_keys.h"
#include "shelf.h"
#include "url.h"
#include "xalloc.h"

#define READERS 2
#define OPEN_AGAIN_MS 5000
#define TAKE_IN 500 /* devices, in one turn of the loop */
#define PAGE_MAX 200

/* ---- the catalog --------------------------------------------------------- */

struct load {
	struct firmware *fw;
	const struct catalog *old;
	char *keys;
	bool anew; /* verify all; after run_load(): that is still to be done */
	int rc;
	uint64_t txn;
	struct catalog *cat;
	struct cache_totals totals;
};

static void
run_load(void *arg)
{
	struct load *l = arg;
	struct minisign_public keys[PUBLISHER_KEYS_MAX];
	char *why = NULL;
	size_t n = 0;
	bool known = l->keys == NULL ||
	    publisher_keys_load(l->keys, keys, &n, &why) == 0;

	l->txn = cache_last_txn(l->fw->cache);
	if (!known)
		log_error("[firmware] publisher_key: %s", why);
	free(why);
	/* Other keys may not trust what those of before did. */
	l->rc = catalog_load(
	    l->fw->cache, l->anew && known ? NULL : l->old, keys, n, &l->cat);
	l->anew = l->anew && (!known || l->rc != 0);
	cache_totals(l->fw->cache, &l->totals);
}

static void load_catalog(struct firmware *fw);

static void
on_loaded(void *arg)
{
	struct load *l = arg;
	struct firmware *fw = l->fw;
	struct catalog *old = fw->catalog;

	fw->loading = false;
	fw->other_keys = fw->other_keys || l->anew;
	if (l->rc != 0) {
		log_error("firmware: the cache's manifests cannot be read: %s",
		    strerror(-l->rc));
	} else {
		fw->txn = l->txn;
		fw->totals = l->totals;
		fw->catalog = l->cat;
		blob_catalog(fw);
		catalog_free(old);
	}
	free(l->keys);
	free(l);
	if (fw->load_again)
		load_catalog(fw);
}

static void
load_catalog(struct firmware *fw)
{
	const char *keys = fw->px->conf->publisher_key;
	struct load *l;

	fw->load_again = fw->loading;
	if (fw->loading || fw->cache == NULL || fw->closing)
		return;
	l = xcalloc(1, sizeof(*l));
	l->fw = fw;
	l->old = fw->catalog;
	l->anew = fw->other_keys;
	fw->other_keys = false;
	l->keys = keys != NULL ? xstrdup(keys) : NULL;
	fw->loading = true;
	pool_run(fw->disk, run_load, on_loaded, l);
}

/* ---- opening ------------------------------------------------------------- */

struct opening {
	struct firmware *fw;
	char *dir, *why;
	uint64_t limit;
	int rc;
	struct cache *cache;
	struct fleet_device **devices;
	size_t devices_n, at; /* at: taken in up to there */
};

static int
on_row(const char *id, const char *json, void *arg)
{
	struct opening *o = arg;
	struct fleet_device *d = fleet_parse(id, json);

	if (d == NULL)
		return 0;
	o->devices =
	    xrealloc(o->devices, (o->devices_n + 1) * sizeof(*o->devices));
	o->devices[o->devices_n++] = d;
	return o->devices_n < FLEET_MAX ? 0 : 1;
}

static int
by_seen(const void *a, const void *b)
{
	const struct fleet_device *const *x = a, *const *y = b;

	return (*x)->seen < (*y)->seen ? -1 : (*x)->seen > (*y)->seen;
}

static void
run_open(void *arg)
{
	struct opening *o = arg;

	o->rc = cache_open(o->dir, o->limit, true, &o->cache, &o->why);
	if (o->rc != 0)
		return;
	cache_device_each(o->cache, NULL, on_row, o);
	if (o->devices_n > 0)
		qsort(o->devices, o->devices_n, sizeof(*o->devices), by_seen);
}

static void
run_nothing(void *arg)
{
}

/* Take in the devices of before, some at each turn of the loop; nothing is
 * served meanwhile. */
static void
on_opened(void *arg)
{
	struct opening *o = arg;
	struct firmware *fw = o->fw;

	for (size_t n = 0; n < TAKE_IN && o->at < o->devices_n; n++)
		fleet_adopt(fw->fleet, o->devices[o->at++]);
	if (o->at < o->devices_n) {
		pool_run(fw->disk, run_nothing, on_opened, o);
		return;
	}
	fw->opening = false;
	fw->open_at_ms = clock_ms() + OPEN_AGAIN_MS;
	if (o->rc != 0)
		log_error("firmware cache %s: %s: firmware is not served",
		    o->dir, o->why != NULL ? o->why : strerror(-o->rc));
	fw->cache = o->cache;
	free(o->devices);
	free(o->dir);
	free(o->why);
	free(o);
	load_catalog(fw);
}

static void
open_cache(struct firmware *fw)
{
	struct opening *o = xcalloc(1, sizeof(*o));

	o->fw = fw;
	o->dir = gateway_conf_path(fw->px->conf, "cache");
	o->limit = (uint64_t)fw->px->conf->cache_size;
	fw->opening = true;
	pool_run(fw->disk, run_open, on_opened, o);
}

/* ---- life ---------------------------------------------------------------- */

static void
on_want(const char *hex, size_t first, size_t count, void *arg)
{
	firmware_ring(arg, "want %s %zu %zu", hex, first, count);
}

struct firmware *
firmware_new(struct proxy *px)
{
	struct firmware *fw = xcalloc(1, sizeof(*fw));
	const struct shelf_calls calls = { .want = on_want, .arg = fw };

	fw->px = px;
	TAILQ_INIT(&fw->downloads);
	fw->disk = pool_new(px->base, 1);
	fw->readers = pool_new(px->base, READERS);
	fw->shelf = shelf_new(fw->disk, fw->readers, &fw->cache, &calls);
	fw->turns = turns_new();
	fw->fleet = fleet_new(fw->disk, &fw->cache);
	fw->mirrors = mirrors_new(fw);
	fw->copy = evbuffer_new();
	if (fw->copy == NULL)
		abort();
	open_cache(fw);
	return fw;
}

void
firmware_free(struct firmware *fw)
{
	if (fw == NULL)
		return;
	if (fw->cache != NULL)
		fleet_flush(fw->fleet);
	fw->closing = true; /* what is called back now begins nothing more */
	shelf_stop(fw->shelf);
	pool_free(fw->readers);
	pool_free(fw->disk);
	mirrors_free(fw->mirrors);
	shelf_free(fw->shelf);
	fleet_free(fw->fleet);
	turns_free(fw->turns);
	evbuffer_free(fw->copy);
	catalog_free(fw->catalog);
	cache_close(fw->cache);
	free(fw);
}

void
firmware_reload(struct firmware *fw)
{
	fw->other_keys = true; /* maybe */
	if (fw->cache == NULL)
		return;
	/* Here: a thread could look when the settings are gone already. */
	cache_set_limit(fw->cache, (uint64_t)fw->px->conf->cache_size);
	load_catalog(fw);
}

void
firmware_tick(struct firmware *fw)
{
	int64_t now = clock_ms();

	if (fw->cache == NULL) {
		if (!fw->opening && now >= fw->open_at_ms)
			open_cache(fw);
		return;
	}
	if (cache_last_txn(fw->cache) != fw->txn)
		load_catalog(fw);
	fleet_tick(fw->fleet, fw->catalog);
	shelf_tick(fw->shelf, now);
	blob_tick(fw, now);
	mirrors_tick(fw->mirrors, now);
}

/* ---- rings --------------------------------------------------------------- */

void
firmware_ring(struct firmware *fw, const char *fmt, ...)
{
	char text[DOORBELL_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof(text))
		doorbell_ring(fw->px->bell, fw->px->agent_bell, text);
}

static void
forget_trouble(struct firmware *fw, const char *hex)
{
	for (int i = 0; i < TROUBLES; i++)
		if (strcmp(fw->troubles[i].hex, hex) == 0)
			fw->troubles[i].hex[0] = '\0';
}

static void
on_trouble(struct firmware *fw, const char *hex, unsigned retry)
{
	if (retry == 0 || retry > 3600)
		retry = 60;
	forget_trouble(fw, hex);
	strcpy(fw->troubles[fw->troubles_at].hex, hex);
	fw->troubles[fw->troubles_at].until_ms =
	    clock_ms() + retry * (int64_t)1000;
	fw->troubles_at = (fw->troubles_at + 1) % TROUBLES;
	blob_trouble(fw, hex, (int)retry);
}

int
firmware_trouble(const struct firmware *fw, const char *hex)
{
	int64_t now = clock_ms();

	for (int i = 0; i < TROUBLES; i++)
		if (strcmp(fw->troubles[i].hex, hex) == 0 &&
		    fw->troubles[i].until_ms > now)
			return (int)((fw->troubles[i].until_ms - now) / 1000) +
			    1;
	return 0;
}

bool
firmware_told(struct firmware *fw, const char *msg)
{
	unsigned long long octets;
	uint8_t sha256[32];
	unsigned retry;
	char hex[65];

	if (strncmp(msg, "mirrored ", 9) == 0) {
		mirrors_told(fw->mirrors, msg + 9);
	} else if (strncmp(msg, "manifest ", 9) == 0) {
		load_catalog(fw);
	} else if (sscanf(msg, "filled %64[0-9a-f]", hex) == 1) {
		forget_trouble(fw, hex);
		if (hex_decode(hex, sha256, 32) == 0)
			shelf_look(fw->shelf, sha256);
	} else if (sscanf(msg, "trouble %64[0-9a-f] %u", hex, &retry) == 2) {
		on_trouble(fw, hex, retry);
	} else if (sscanf(msg, "room %llu", &octets) == 1) {
		if (fw->cache != NULL)
			shelf_evict(fw->shelf, octets, false);
	} else if (sscanf(msg, "disk %llu", &octets) == 1) {
		if (fw->cache != NULL)
			shelf_evict(fw->shelf, octets, true);
	} else {
		return false;
	}
	return true;
}

/* ---- what requests share ------------------------------------------------- */

int64_t
firmware_now(const struct manifest *m)
{
	int64_t now = clock_wall_ms() / 1000;

	return m != NULL && now < m->issued ? m->issued : now;
}

/* Which device is it: its [camera] section, the id that it names (NULL), the
 * last that was seen at its address, or the address. */
static const char *
device_of(struct firmware *fw, const struct camera_conf *cam,
    const char *address, const char *id)
{
	const struct fleet_device *d;

	if (cam != NULL)
		return cam->name;
	if (id != NULL && *id != '\0')
		return id;
	d = fleet_at(fw->fleet, address);
	return d != NULL ? d->id : address;
}

void
firmware_reply_blocked(struct http_request *rq)
{
	http_reply_header(rq, "Cache-Control", "no-store");
	http_reply_error(
	    rq, 403, "this device is blocked", "unblock it at the signer");
}

void
firmware_later(
    struct http_request *rq, int seconds, const char *error, const char *hint)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", seconds);
	http_reply_header(rq, "Retry-After", text);
	http_reply_header(rq, "Cache-Control", "no-store");
	http_reply_error(rq, 503, error, hint);
}

bool
firmware_is_blocked(struct firmware *fw, const char *address)
{
	const struct camera_conf *cam =
	    gateway_conf_camera(fw->px->conf, address);

	return blocks_has(fw->px->blocks, device_of(fw, cam, address, NULL),
	    address, cam != NULL);
}

void
firmware_blocked(struct firmware *fw)
{
	blob_blocked(fw);
	mirrors_blocked(fw->mirrors);
}

bool
firmware_refuses(struct firmware *fw, struct http_request *rq, const char *id)
{
	const char *address = http_request_peer(rq);
	const struct camera_conf *cam =
	    gateway_conf_camera(fw->px->conf, address);

	if (blocks_refuse(fw->px->blocks, device_of(fw, cam, address, id),
		address, cam != NULL)) {
		firmware_reply_blocked(rq);
		return true;
	}
	if (fw->catalog != NULL)
		return false;
	firmware_later(rq, 2, "the firmware cache is not open yet",
	    "if this lasts, look for \"cache\" in the proxy's log");
	return true;
}

/* ---- what it tells ------------------------------------------------------- */

static cJSON *
manifests_json(const struct firmware *fw)
{
	cJSON *list = cJSON_CreateArray();
	char text[21];

	for (size_t i = 0; fw->catalog && i < fw->catalog->items_n; i++) {
		const struct catalog_item *it = fw->catalog->items[i];
		int64_t now = firmware_now(it->m);
		cJSON *o = cJSON_CreateObject();

		json_add_text(o, "product", it->m->product);
		json_add_text(o, "channel", it->m->channel);
		json_add_int(o, "seq", it->m->seq);
		json_add_int(o, "releases", (int64_t)it->m->releases_n);
		clock_rfc3339(it->checked, text);
		json_add_text(o, "asof", text);
		json_add_int(o, "age", now - it->checked);
		cJSON_AddBoolToObject(o, "expired", now >= it->m->expires);
		cJSON_AddItemToArray(list, o);
	}
	return list;
}

cJSON *
firmware_json(struct firmware *fw)
{
	cJSON *o = cJSON_CreateObject(), *c, *d;
	struct shelf_counts sc;
	int64_t now = clock_ms();

	shelf_counts(fw->shelf, &sc);
	cJSON_AddBoolToObject(o, "open", fw->catalog != NULL);
	c = cJSON_AddObjectToObject(o, "cache");
	json_add_int(c, "size", (int64_t)fw->totals.limit);
	json_add_int(c, "reserved", (int64_t)fw->totals.reserved);
	json_add_int(c, "filled", (int64_t)fw->totals.filled);
	json_add_int(c, "blobs", (int64_t)fw->totals.blobs);
	json_add_int(c, "pinned", (int64_t)fw->totals.pinned);
	json_add_int(c, "checked", (int64_t)sc.checked);
	json_add_int(c, "damaged", (int64_t)sc.damaged);
	d = cJSON_AddObjectToObject(o, "downloads");
	json_add_int(d, "requests", (int64_t)fw->count.requests);
	json_add_int(d, "hits", (int64_t)fw->count.hits);
	json_add_int(d, "bytes", (int64_t)fw->count.bytes);
	json_add_int(d, "busy", (int64_t)fw->count.busy);
	json_add_int(d, "cut", (int64_t)fw->count.cut);
	json_add_int(d, "running", sc.readers);
	json_add_int(d, "active_devices", turns_active(fw->turns, now));
	json_add_int(d, "waiting_devices", turns_waiting(fw->turns, now));
	json_add_int(o, "checks", (int64_t)fw->count.checks);
	json_add_int(o, "offers", (int64_t)fw->count.offers);
	cJSON_AddItemToObject(o, "manifests", manifests_json(fw));
	cJSON_AddItemToObject(o, "fleet", fleet_summary_json(fw->fleet));
	return o;
}

void
on_firmware_nothing(struct http_request *rq, void *arg)
{
	http_reply_header(rq, "Cache-Control", "no-store");
	http_reply_error(rq, 404, "nothing is here",
	    "firmware is at /firmware/check, /firmware/b/SHA256, "
	    "/firmware/m/MIRROR/PATH and /firmware/ddi/PRODUCT");
}

void
on_firmware_devices(struct http_request *rq, void *arg)
{
	struct proxy *px = arg;
	const char *limit = http_request_query_get(rq, "limit");
	int n = limit != NULL ? atoi(limit) : 100;

	http_reply_json(rq, 200,
	    fleet_page_json(px->firmware->fleet,
		http_request_query_get(rq, "after"),
		n < 1              ? 100
		    : n > PAGE_MAX ? PAGE_MAX
				   : (unsigned)n));
}
