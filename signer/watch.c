/*
 * watch.c - looks at all storages once a day and says what somebody has to do
 *
 * A CA bundle that is going to end would stop all uploads of its storage on a
 * day that nobody has in mind; secrets under a key that was lost stop them now.
 * Storages that were replaced more than 7 days ago are cleared away, and what
 * devices run that nobody has told of for long.
 * /metrics has the same for alarms; this is for who only reads the log.
 */
#include "watch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <event2/event.h>

#include "clock.h"
#include "json.h"
#include "log.h"
#include "pool.h"
#include "running.h"
#include "signer.h"
#include "signer_conf.h"
#include "storage.h"
#include "storage_cache.h"
#include "store.h"
#include "xalloc.h"

#define EVERY_S 86400

struct watch {
	struct signer *sg;
	struct event *timer;
	bool looking;
	char **names; /* "tenant/name" */
	size_t n;
	unsigned sealed; /* that cannot be unsealed */
};

static int
on_name(const char *id, const char *doc, size_t n, void *arg)
{
	struct watch *w = arg;

	w->names = xrealloc(w->names, (w->n + 1) * sizeof(*w->names));
	w->names[w->n++] = xstrdup(id);
	return 0;
}

static void
forget(struct watch *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->names[i]);
	free(w->names);
	w->names = NULL;
	w->n = 0;
	w->sealed = 0;
}

/* In words, or NULL: it is good for a while. */
static const char *
ends_soon(int64_t ends_s)
{
	int64_t left = ends_s - clock_wall_ms() / 1000;

	if (ends_s == 0 || left > CERTIFICATE_WARN_S)
		return NULL;
	return left <= 0 ? "has expired" : "expires within 30 days";
}

static void
look_at(struct watch *w, struct store_txn *t, const char *id)
{
	const char *name = strchr(id, '/') + 1;
	char *tenant = xstrndup(id, (size_t)(name - 1 - id));
	const struct storage *s;
	const char *when;
	int rc = storage_cache_get(w->sg->cache, t, tenant, name, &s);

	free(tenant);
	if (rc == -EBADMSG) {
		w->sealed++;
		log_error("storage=%s cannot be unsealed: it was set under "
			  "another seal.key; set it anew",
		    id);
	}
	if (rc != 0)
		return;
	when = ends_soon(s->certificate_expires_s);
	if (when != NULL)
		log_warn("storage=%s its certificate %s: set the next one, for "
			 "a while both in one bundle",
		    id, when);
	storage_cache_put(w->sg->cache, s);
}

static int
look(struct store_txn *t, void *arg)
{
	struct watch *w = arg;
	int rc;

	forget(w);
	rc = store_scan(t, KIND_STORAGE, NULL, NULL, on_name, w);
	for (size_t i = 0; rc == 0 && i < w->n; i++)
		look_at(w, t, w->names[i]);
	return rc;
}

static int
on_replaced(const char *id, const char *doc, size_t n, void *arg)
{
	cJSON *row = json_parse(doc, n, n, NULL);
	int64_t at = 0;

	json_int(row, "replacedAt", 0, INT64_MAX / 2048, &at);
	cJSON_Delete(row);
	if (at >= clock_wall_ms() / 1000 - REPLACED_KEEP_S)
		return 0;
	return on_name(id, doc, n, arg);
}

/* What nobody has told of for long. */
static void
age_devices(const struct signer *sg)
{
	int64_t keep_ms = sg->conf->devices_keep_ms;
	uint64_t n = 0;
	int rc;

	if (keep_ms == CONF_NONE)
		return;
	rc = running_age(
	    sg->store, (clock_wall_ms() - keep_ms) / 1000, &sg->stopping, &n);
	if (n > 0)
		log_info("devices=%" PRIu64 " were not heard of for "
			 "devices_keep: what they run is forgotten",
		    n);
	if (rc != 0)
		log_warn("old rows of devices cannot be deleted, next in a "
			 "day: %s",
		    strerror(-rc));
}

/* Sealed secrets of storages that were replaced long ago serve nobody. */
static int
clear_away(struct store_txn *t, void *arg)
{
	struct watch *w = arg;
	int rc;

	forget(w);
	rc = store_scan(t, KIND_REPLACED, NULL, NULL, on_replaced, w);
	for (size_t i = 0; rc == 0 && i < w->n; i++) {
		char *tenant = xstrndup(w->names[i], strcspn(w->names[i], "/"));

		rc = store_del(
		    t, KIND_REPLACED, tenant, w->names[i] + strlen(tenant) + 1);
		free(tenant);
		if (rc == -ENOENT)
			rc = 0; /* another signer was faster */
	}
	return rc;
}

static void
run(void *arg)
{
	struct watch *w = arg;
	const char *when = ends_soon(w->sg->certificate_ends_s);

	if (when != NULL)
		log_warn("the certificate of cert_file %s: replace it and send "
			 "SIGHUP",
		    when);
	store_update(w->sg->store, clear_away, w);
	age_devices(w->sg);
	if (store_view(w->sg->store, look, w) == 0 && w->sealed > 0)
		log_error("seal.key is not the one that %u of %zu storages "
			  "were set under: restore it from the backup",
		    w->sealed, w->n);
	forget(w);
}

static void
ran(void *arg)
{
	struct watch *w = arg;

	w->looking = false;
}

static void
on_time(evutil_socket_t fd, short what, void *arg)
{
	struct watch *w = arg;

	if (w->looking)
		return;
	w->looking = true;
	pool_run(w->sg->readers, run, ran, w);
}

struct watch *
watch_new(struct signer *sg)
{
	struct watch *w = xcalloc(1, sizeof(*w));

	w->sg = sg;
	w->timer = event_new(sg->base, -1, EV_PERSIST, on_time, w);
	event_add(w->timer, &(struct timeval){ EVERY_S, 0 });
	on_time(-1, 0, w);
	return w;
}

void
watch_free(struct watch *w)
{
	if (w == NULL)
		return;
	event_free(w->timer);
	free(w);
}
