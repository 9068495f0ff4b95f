/*
 * firmware.c - firmware at the agent: policy, rings, status
 *
 * What must stay true: the products are those of the gateway's policy, as the
 * signer told it last, kept over restarts so that it holds without the WAN; a
 * ring of the proxy can make us look, never ask for anything that no signed
 * manifest names.
 */
#include "firmware.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <event2/event.h>

#include "clock.h"
#include "doorbell.h"
#include "json.h"
#include "log.h"
#include "pool.h"
#include "signer_client.h"
#include "updates.h"
#include "url.h"
#include "xalloc.h"

#define USUAL_CHANNEL "stable"
#define OPEN_EACH 5             /* seconds */
#define CHANNELS_KEPT_MAX 65536 /* octets of the value "channels" */

/* ---- jobs that only write a value ---------------------------------------- */

struct meta_job {
	struct firmware *f;
	char *name, *value;
};

static void
run_meta(void *arg)
{
	struct meta_job *j = arg;
	int rc = cache_meta_put(j->f->cache, j->name, j->value);

	if (rc != 0)
		log_warn(
		    "cache: %s cannot be kept: %s", j->name, strerror(-rc));
}

static void
ran_meta(void *arg)
{
	struct meta_job *j = arg;

	free(j->name);
	free(j->value);
	free(j);
}

/* Takes value. */
static void
keep_value(struct firmware *f, const char *name, char *value)
{
	struct meta_job *j = xcalloc(1, sizeof(*j));

	j->f = f;
	j->name = xstrdup(name);
	j->value = value;
	pool_run(f->pool, run_meta, ran_meta, j);
}

/* ---- small things -------------------------------------------------------- */

void
firmware_tell(struct firmware *f, const char *fmt, ...)
{
	char msg[2048]; /* the path of a mirror has 1024 */
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	doorbell_ring(f->agent->bell, f->agent->proxy_bell, msg);
}

int64_t
firmware_now(const struct firmware *f)
{
	return (clock_wall_ms() + signer_clock_offset_ms(f->agent->signer)) /
	    1000;
}

uint64_t
firmware_limit(const struct gateway_conf *c)
{
	return (uint64_t)(c->mirrors_n > 0 ? c->cache_size - c->cache_size / 4
					   : c->cache_size);
}

bool
firmware_in_policy(const struct firmware *f, const char *product)
{
	for (size_t i = 0; i < f->products_n; i++)
		if (strcmp(f->products[i], product) == 0)
			return true;
	return false;
}

/* ---- the policy ---------------------------------------------------------- */

static void
drop_products(struct firmware *f)
{
	while (f->products_n > 0)
		free(f->products[--f->products_n]);
}

static void
take_products(struct firmware *f, const cJSON *list)
{
	const cJSON *v;

	drop_products(f);
	cJSON_ArrayForEach(v, list)
	{
		const char *s = cJSON_GetStringValue(v);

		if (s != NULL && firmware_product_ok(s) &&
		    f->products_n < FW_PRODUCTS_MAX &&
		    !firmware_in_policy(f, s))
			f->products[f->products_n++] = xstrdup(s);
	}
}

/* "firmware" of an answer: {product, channel, seq, storage} each. */
static void
take_channels(struct firmware *f, const cJSON *list, bool fresh)
{
	const cJSON *v;

	cJSON_ArrayForEach(v, list)
	{
		const char *product = json_string(v, "product");
		const char *channel = json_string(v, "channel");
		const char *storage = json_string(v, "storage");
		struct fw_feed *fd;
		int64_t seq = 0;

		if (product == NULL || channel == NULL ||
		    !firmware_in_policy(f, product) ||
		    (fd = feed_get(f, product, channel)) == NULL)
			continue;
		fd->wanted = true;
		if (storage != NULL && strlen(storage) <= 64) {
			free(fd->storage);
			fd->storage = xstrdup(storage);
		}
		if (!fresh ||
		    json_int(v, "seq", 1, INT64_C(1) << 53, &seq) != 0)
			continue;
		if (seq > fd->known_seq && (fd->m == NULL || seq > fd->m->seq))
			feed_now(fd);
		fd->known_seq = seq;
	}
}

static void
feeds_of_policy(struct firmware *f, const cJSON *channels, bool fresh)
{
	struct fw_feed *fd, *next;

	TAILQ_FOREACH(fd, &f->feeds, link)
	fd->wanted = false;
	for (size_t i = 0; i < f->products_n; i++) {
		fd = feed_get(f, f->products[i], USUAL_CHANNEL);
		if (fd != NULL)
			fd->wanted = true;
	}
	take_channels(f, channels, fresh);
	for (fd = TAILQ_FIRST(&f->feeds); fd != NULL; fd = next) {
		next = TAILQ_NEXT(fd, link);
		if (!fd->wanted && fd->m == NULL)
			feed_free(fd);
	}
}

void
firmware_updates(struct firmware *f, const cJSON *updates)
{
	const cJSON *policy =
	    cJSON_GetObjectItemCaseSensitive(updates, "policy");
	const cJSON *products =
	    cJSON_GetObjectItemCaseSensitive(policy, "firmwareProducts");
	const cJSON *channels =
	    cJSON_GetObjectItemCaseSensitive(updates, "firmware");
	char *kept;

	if (f == NULL || !f->ready)
		return;
	if (cJSON_IsArray(products)) {
		take_products(f, products);
		keep_value(f, "products", json_line(products));
	}
	if (cJSON_IsArray(channels)) {
		kept = json_line(channels);
		if (strlen(kept) <= CHANNELS_KEPT_MAX)
			keep_value(f, "channels", kept);
		else
			free(kept);
	}
	feeds_of_policy(f, channels, true);
	ahead_soon(f->ahead);
	feeds_poll(f);
}

/* ---- what the cache kept ------------------------------------------------- */

struct restore {
	struct firmware *f;
	struct cache_manifest *v;
	size_t n;
	char *products, *channels;
	struct cache_totals totals;
};

static int
copy_manifest(const struct cache_manifest *m, void *arg)
{
	struct restore *r = arg;
	struct cache_manifest *c;

	r->v = xrealloc(r->v, (r->n + 1) * sizeof(*r->v));
	c = &r->v[r->n++];
	*c = *m;
	c->json = xmalloc(m->json_n + 1);
	memcpy(c->json, m->json, m->json_n + 1);
	c->signature = xstrdup(m->signature);
	return 0;
}

static void
run_restore(void *arg)
{
	struct restore *r = arg;
	struct cache *c = r->f->cache;

	cache_each_manifest(c, copy_manifest, r);
	cache_meta_get(c, "products", &r->products);
	cache_meta_get(c, "channels", &r->channels);
	cache_totals(c, &r->totals);
}

struct untrusted {
	struct firmware *f;
	char product[65], channel[65];
};

static void
run_untrusted(void *arg)
{
	struct untrusted *u = arg;

	cache_manifest_remove(u->f->cache, u->product, u->channel);
}

static void
ran_untrusted(void *arg)
{
	struct untrusted *u = arg;

	firmware_tell(u->f, "manifest %s %s", u->product, u->channel);
	free(u);
}

/* No key of ours signed it any more: the proxy must not go by it. */
static void
distrust(struct firmware *f, const struct cache_manifest *m)
{
	struct untrusted *u = xcalloc(1, sizeof(*u));

	u->f = f;
	strcpy(u->product, m->product);
	strcpy(u->channel, m->channel);
	pool_run(f->pool, run_untrusted, ran_untrusted, u);
}

static cJSON *
list_of(const char *text)
{
	return text != NULL
	    ? json_parse(text, strlen(text), CHANNELS_KEPT_MAX, NULL)
	    : NULL;
}

/* A crash may have come between a revocation and its deed. */
static void
drop_revoked(struct firmware *f)
{
	const struct fw_feed *fd;

	TAILQ_FOREACH(fd, &f->feeds, link)
	for (size_t i = 0; fd->m != NULL && i < fd->m->revoked_n; i++)
		fills_drop(f->fills, fd->m->revoked[i]);
}

static void
ran_restore(void *arg)
{
	struct restore *r = arg;
	struct firmware *f = r->f;
	cJSON *products = list_of(r->products);
	cJSON *channels = list_of(r->channels);

	if (!f->stopping) {
		for (size_t i = 0; i < r->n; i++)
			if (!feed_restore(f, &r->v[i]) && !f->keys_lost)
				distrust(f, &r->v[i]);
		if (f->products_n == 0)
			take_products(f, products);
		feeds_of_policy(f, channels, false);
		drop_revoked(f);
		f->totals = r->totals;
		f->ready = true;
		log_info("firmware: %zu products, %" PRIu64 " of %" PRIu64
			 " octets in the cache",
		    f->products_n, r->totals.filled, r->totals.limit);
		ahead_soon(f->ahead);
		if (f->agent->updates != NULL)
			updates_again(f->agent->updates);
	}
	cJSON_Delete(products);
	cJSON_Delete(channels);
	for (size_t i = 0; i < r->n; i++)
		cache_manifest_free(&r->v[i]);
	free(r->v);
	free(r->products);
	free(r->channels);
	free(r);
}

static void
restore(struct firmware *f)
{
	struct restore *r = xcalloc(1, sizeof(*r));

	r->f = f;
	pool_run(f->pool, run_restore, ran_restore, r);
}

/* ---- each second --------------------------------------------------------- */

struct totals_job {
	struct firmware *f;
	struct cache_totals t;
};

static void
run_totals(void *arg)
{
	struct totals_job *j = arg;

	cache_totals(j->f->cache, &j->t);
}

static void
ran_totals(void *arg)
{
	struct totals_job *j = arg;

	j->f->totals = j->t;
	j->f->looking = false;
	free(j);
}

/* Only what was written changes them. */
static void
look_at_totals(struct firmware *f)
{
	struct totals_job *j;
	uint64_t txn = cache_last_txn(f->cache);

	if (f->looking || txn == f->totals_txn)
		return;
	f->looking = true;
	f->totals_txn = txn;
	j = xcalloc(1, sizeof(*j));
	j->f = f;
	pool_run(f->pool, run_totals, ran_totals, j);
}

static bool open_cache(struct firmware *f, bool create);

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct firmware *f = arg;

	/* What failed at the start may have been made by the proxy. */
	if (f->cache == NULL && ++f->ticks % OPEN_EACH == 0)
		open_cache(f, false);
	if (!f->ready)
		return;
	feeds_poll(f);
	ahead_tick(f->ahead);
	feedback_tick(f->feedback);
	fills_plan(f->fills);
	look_at_totals(f);
}

/* ---- rings --------------------------------------------------------------- */

static void
ring_want(struct firmware *f, const char *msg)
{
	unsigned long first, count;
	uint8_t sha[32];
	char hex[65];

	if (sscanf(msg, "want %64[0-9a-f] %9lu %9lu", hex, &first, &count) ==
		3 &&
	    hex_decode(hex, sha, 32) == 0)
		fills_want(f->fills, sha, first, count);
}

static void
ring_check(struct firmware *f, const char *msg)
{
	char product[65], channel[65];
	struct fw_feed *fd;

	if (sscanf(msg, "check %64s %64s", product, channel) != 2)
		return;
	fd = feed_find(f, product, channel);
	/* One that failed waits its time: devices must not press. */
	if (fd != NULL && fd->m == NULL && fd->wait_ms == 0)
		fd->next_ms = 0;
	feeds_poll(f);
}

static void
ring_mirror(struct firmware *f, const char *msg)
{
	char name[65], path[1025];

	if (sscanf(msg, "mirror %64s %1024s", name, path) == 2)
		mirrors_want(f->mirrors, name, path);
}

bool
firmware_ring(struct firmware *f, const char *msg)
{
	static const struct {
		const char *word;
		void (*fn)(struct firmware *f, const char *msg);
	} rings[] = { { "want ", ring_want }, { "check ", ring_check },
		{ "mirror ", ring_mirror } };

	for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
		if (strncmp(msg, rings[i].word, strlen(rings[i].word)) != 0)
			continue;
		if (f != NULL && f->ready)
			rings[i].fn(f, msg);
		return true;
	}
	return false;
}

/* ---- life ---------------------------------------------------------------- */

/* What uploads keep free, and as much more as lets them come back. */
static uint64_t
floor_of(const struct gateway_conf *c)
{
	struct statvfs st;
	double total, share = 0;

	if (statvfs(c->state_dir, &st) != 0)
		return 0;
	total = (double)st.f_blocks * (double)st.f_frsize;
	share = c->free_floor.is_percent ? total * c->free_floor.percent / 100
					 : (double)c->free_floor.bytes;
	return (uint64_t)(share + total / 50);
}

static void
take_settings(struct firmware *f)
{
	const struct gateway_conf *c = f->agent->conf;
	struct minisign_public keys[PUBLISHER_KEYS_MAX];
	size_t n = 0;
	char *why = NULL;
	int rc = publisher_keys_load(c->publisher_key, keys, &n, &why);

	/* A file that cannot be read distrusts nothing. */
	f->keys_lost = rc != 0;
	if (rc == 0) {
		memcpy(f->keys, keys, n * sizeof(keys[0]));
		f->keys_n = n;
	} else {
		log_error("publisher_key: %s; %s", why,
		    f->keys_n > 0 ? "those known go on"
				  : "no firmware is taken");
		free(why);
	}
	cache_set_limit(f->cache, firmware_limit(c));
	fills_rate(f->fills, c->rate_limit == CONF_NONE ? 0 : c->rate_limit);
	cache_set_floor(f->cache, floor_of(c));
}

static bool
is_set_up(const struct gateway_conf *c)
{
	return c->publisher_key != NULL || c->mirrors_n > 0;
}

/* Open the cache, then read what it kept. A failure is logged once. */
static bool
open_cache(struct firmware *f, bool create)
{
	const struct gateway_conf *c = f->agent->conf;
	char *dir = gateway_conf_path(c, "cache"), *why = NULL;
	int rc =
	    cache_open(dir, (uint64_t)c->cache_size, create, &f->cache, &why);

	free(dir);
	if (rc != 0 && rc != f->open_rc)
		log_error("%s: no firmware until this is mended", why);
	free(why);
	f->open_rc = rc;
	if (rc != 0)
		return false;
	take_settings(f);
	restore(f);
	return true;
}

struct firmware *
firmware_new(struct agent *a)
{
	struct firmware *f;
	struct timeval second = { 1, 0 };

	if (!is_set_up(a->conf))
		return NULL;
	f = xcalloc(1, sizeof(*f));
	f->agent = a;
	TAILQ_INIT(&f->feeds);
	f->pool = pool_new(a->base, 1);
	f->origins = fw_origins_new(a);
	f->fills = fills_new(f);
	f->ahead = ahead_new(f);
	f->mirrors = mirrors_new(f);
	f->feedback = feedback_new(f);
	f->tick = event_new(a->base, -1, EV_PERSIST, on_tick, f);
	event_add(f->tick, &second);
	open_cache(f, true);
	return f;
}

void
firmware_reload(struct firmware *f)
{
	struct minisign_public old[PUBLISHER_KEYS_MAX];
	struct fw_feed *fd;
	size_t old_n = f->keys_n;

	if (f->cache == NULL)
		return; /* settings are taken when it opens */
	memcpy(old, f->keys, sizeof(old));
	take_settings(f);
	fw_origins_again(f->origins);
	TAILQ_FOREACH(fd, &f->feeds, link)
	feed_now(fd);
	if (old_n == f->keys_n &&
	    memcmp(old, f->keys, old_n * sizeof(old[0])) == 0)
		return;
	/* Other keys: all is judged anew. */
	TAILQ_FOREACH(fd, &f->feeds, link)
	{
		manifest_free(fd->m);
		fd->m = NULL;
		fd->etag[0] = '\0';
	}
	restore(f);
}

void
firmware_free(struct firmware *f)
{
	if (f == NULL)
		return;
	f->stopping = true;
	event_free(f->tick);
	fills_stop(f->fills);
	mirrors_stop(f->mirrors);
	feedback_stop(f->feedback);
	while (!TAILQ_EMPTY(&f->feeds))
		feed_free(TAILQ_FIRST(&f->feeds));
	pool_free(f->pool); /* its last callbacks */
	fills_free(f->fills);
	mirrors_free(f->mirrors);
	feedback_free(f->feedback);
	ahead_free(f->ahead);
	fw_origins_free(f->origins);
	cache_close(f->cache);
	drop_products(f);
	free(f);
}
