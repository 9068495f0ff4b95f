/*
 * firmware_open.c - the cache is opened, settings are taken, what was kept is
 * read
 *
 * What must stay true: files (the index, the keys of publishers, the disk's
 * size) are looked at by the pool's thread, never by the loop; a key file that
 * cannot be read distrusts nothing that is known; what no key of ours signs any
 * more goes from the cache, so that the proxy does not go by it.
 */
#include "firmware.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "json.h"
#include "log.h"
#include "pool.h"
#include "updates.h"
#include "xalloc.h"

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
	char *signature;
};

/* Only what was judged: one that came meanwhile is signed by a key of now. */
static void
run_untrusted(void *arg)
{
	struct untrusted *u = arg;
	struct cache *c = u->f->cache;
	struct cache_manifest m;

	if (cache_manifest_get(c, u->product, u->channel, &m) != 0)
		return;
	if (strcmp(m.signature, u->signature) == 0)
		cache_manifest_remove(c, u->product, u->channel);
	cache_manifest_free(&m);
}

static void
ran_untrusted(void *arg)
{
	struct untrusted *u = arg;

	firmware_tell(u->f, "manifest %s %s", u->product, u->channel);
	free(u->signature);
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
	u->signature = xstrdup(m->signature);
	pool_run(f->pool, run_untrusted, ran_untrusted, u);
}

static cJSON *
list_of(const char *text)
{
	return text != NULL
	    ? json_parse(text, strlen(text), FW_CHANNELS_KEPT_MAX, NULL)
	    : NULL;
}

/* A crash may have come between a revocation and its deed. What another product
 * has stays: it was fetched again for that. */
static void
drop_revoked(struct firmware *f)
{
	const struct fw_feed *fd;

	TAILQ_FOREACH(fd, &f->feeds, link)
	for (size_t i = 0; fd->m != NULL && i < fd->m->revoked_n; i++)
		if (feeds_find(f, fd->m->revoked[i], NULL) == NULL)
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
		firmware_policy_restore(f, products, channels);
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

/* ---- settings ------------------------------------------------------------ */

/* Texts are ours: the settings may be replaced meanwhile. */
struct settings_job {
	struct firmware *f;
	char *dir, *state_dir, *publisher_key;
	uint64_t size, limit;
	struct conf_share free_floor;
	bool open, create; /* the cache */
	struct cache *cache;
	int rc, keys_rc;
	char *why, *keys_why;
	struct minisign_public keys[PUBLISHER_KEYS_MAX];
	size_t keys_n;
};

/* What uploads keep free, and as much more as lets them come back. */
static uint64_t
floor_of(const struct settings_job *j)
{
	struct statvfs st;
	double total, share = 0;

	if (statvfs(j->state_dir, &st) != 0)
		return 0;
	total = (double)st.f_blocks * (double)st.f_frsize;
	share = j->free_floor.is_percent ? total * j->free_floor.percent / 100
					 : (double)j->free_floor.bytes;
	return (uint64_t)(share + total / 50);
}

static void
run_settings(void *arg)
{
	struct settings_job *j = arg;

	if (j->open)
		j->rc =
		    cache_open(j->dir, j->size, j->create, &j->cache, &j->why);
	if (j->rc != 0)
		return;
	cache_set_limit(j->cache, j->limit);
	cache_set_floor(j->cache, floor_of(j));
	j->keys_rc = publisher_keys_load(
	    j->publisher_key, j->keys, &j->keys_n, &j->keys_why);
}

/* Other keys than before? A file that cannot be read distrusts nothing. */
static bool
take_keys(struct firmware *f, const struct settings_job *j)
{
	bool same = f->keys_n == j->keys_n &&
	    memcmp(f->keys, j->keys, j->keys_n * sizeof(j->keys[0])) == 0;

	f->keys_lost = j->keys_rc != 0;
	if (j->keys_rc != 0) {
		log_error("publisher_key: %s; %s", j->keys_why,
		    f->keys_n > 0 ? "those known go on"
				  : "no firmware is taken");
		return false;
	}
	memcpy(f->keys, j->keys, j->keys_n * sizeof(j->keys[0]));
	f->keys_n = j->keys_n;
	return !same;
}

/* It was open before: these are new settings. */
static void
take_again(struct firmware *f, const struct settings_job *j)
{
	bool others = take_keys(f, j);
	struct fw_feed *fd;

	fw_origins_again(f->origins);
	TAILQ_FOREACH(fd, &f->feeds, link)
	{
		if (others)
			feed_distrust(fd);
		feed_now(fd);
	}
	if (others)
		restore(f); /* all is judged anew */
}

static void
ran_settings(void *arg)
{
	struct settings_job *j = arg;
	struct firmware *f = j->f;
	bool again = f->settings_again;

	f->settings_busy = f->settings_again = false;
	/* A failure is logged once. */
	if (j->rc != 0 && j->rc != f->open_rc)
		log_error("%s: no firmware until this is mended", j->why);
	f->open_rc = j->rc;
	f->cache = j->cache;
	if (j->rc == 0 && !f->stopping && !j->open) {
		take_again(f, j);
	} else if (j->rc == 0 && !f->stopping) {
		take_keys(f, j);
		restore(f);
	}
	if (again && !f->stopping)
		firmware_settings(f, false);
	free(j->dir);
	free(j->state_dir);
	free(j->publisher_key);
	free(j->why);
	free(j->keys_why);
	free(j);
}

void
firmware_settings(struct firmware *f, bool create)
{
	const struct gateway_conf *c = f->agent->conf;
	struct settings_job *j;

	if (f->settings_busy) {
		f->settings_again = true;
		return;
	}
	f->settings_busy = true;
	fills_rate(f->fills, c->rate_limit == CONF_NONE ? 0 : c->rate_limit);
	j = xcalloc(1, sizeof(*j));
	j->f = f;
	j->dir = gateway_conf_path(c, "cache");
	j->state_dir = xstrdup(c->state_dir);
	j->publisher_key =
	    c->publisher_key != NULL ? xstrdup(c->publisher_key) : NULL;
	j->size = (uint64_t)c->cache_size;
	j->limit = firmware_limit(c);
	j->free_floor = c->free_floor;
	j->open = f->cache == NULL;
	j->create = create;
	j->cache = f->cache;
	pool_run(f->pool, run_settings, ran_settings, j);
}
