/*
 * firmware_policy.c - which products and channels this gateway may have
 *
 * What must stay true: the products are those of the gateway's policy, as the
 * signer told it last, kept over restarts so that it holds without the WAN;
 * nothing else is ever asked for.
 */
#include "firmware.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "log.h"
#include "pool.h"
#include "xalloc.h"

#define USUAL_CHANNEL "stable"

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

/* ---- the policy ---------------------------------------------------------- */

bool
firmware_in_policy(const struct firmware *f, const char *product)
{
	for (size_t i = 0; i < f->products_n; i++)
		if (strcmp(f->products[i], product) == 0)
			return true;
	return false;
}

void
firmware_drop_products(struct firmware *f)
{
	while (f->products_n > 0)
		free(f->products[--f->products_n]);
}

static void
take_products(struct firmware *f, const cJSON *list)
{
	const cJSON *v;

	firmware_drop_products(f);
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
firmware_policy_restore(
    struct firmware *f, const cJSON *products, const cJSON *channels)
{
	if (f->products_n == 0)
		take_products(f, products);
	feeds_of_policy(f, channels, false);
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
		if (strlen(kept) <= FW_CHANNELS_KEPT_MAX)
			keep_value(f, "channels", kept);
		else
			free(kept);
	}
	feeds_of_policy(f, channels, true);
	ahead_soon(f->ahead);
	feeds_poll(f);
}
