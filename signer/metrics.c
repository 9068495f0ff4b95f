/*
 * metrics.c - counters of the signer, and /metrics for Prometheus
 *
 * What stands in the store is read on a thread; the loop adds its own numbers.
 */
#include "metrics.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "config.h"
#include "http_server.h"
#include "json.h"
#include "pool.h"
#include "problem.h"
#include "prom.h"
#include "signer.h"
#include "storage.h"
#include "storage_cache.h"
#include "store.h"
#include "text.h"
#include "updates.h"
#include "xalloc.h"

struct scrape {
	struct signer *sg;
	struct http_request *rq; /* NULL: gone */
	bool ready_only, ran;
	int rc;
	struct text rows; /* of storages */
	char **names;     /* "tenant/name" */
	size_t n;
};

static void
loop_metrics(const struct signer *sg, struct text *t)
{
	const struct metrics *m = &sg->metrics;
	char code[8];

	prom_family(t, "signer_build_info", "gauge", "The program's version.");
	prom_u64(t, "signer_build_info", 1, "version", PACKAGE_VERSION,
	    (char *)NULL);
	prom_family(t, "signer_answers_total", "counter",
	    "Answers by the first digit of their status.");
	for (int i = 2; i < 6; i++) {
		snprintf(code, sizeof(code), "%dxx", i);
		prom_u64(t, "signer_answers_total", m->answers[i], "code", code,
		    (char *)NULL);
	}
	prom_family(t, "signer_signings_total", "counter",
	    "Uploads that were to be signed.");
	prom_u64(t, "signer_signings_total", m->recipes, "result", "recipe",
	    (char *)NULL);
	prom_u64(t, "signer_signings_total", m->refusals, "result", "refused",
	    (char *)NULL);
	prom_family(t, "signer_limited_total", "counter",
	    "Requests refused because their token made too many.");
	prom_u64(t, "signer_limited_total", m->limited, (char *)NULL);
	prom_family(t, "signer_connections", "gauge", "Open connections.");
	prom_u64(t, "signer_connections", http_server_connections(sg->http),
	    (char *)NULL);
	prom_family(
	    t, "signer_long_polls", "gauge", "Gateways that wait for news.");
	prom_u64(
	    t, "signer_long_polls", updates_waiting(sg->updates), (char *)NULL);
	if (sg->certificate_ends_s > 0) {
		prom_family(t, "signer_certificate_expiry_timestamp_seconds",
		    "gauge", "When the signer's own certificate ends.");
		prom_u64(t, "signer_certificate_expiry_timestamp_seconds",
		    (uint64_t)sg->certificate_ends_s, (char *)NULL);
	}
	prom_family(
	    t, "signer_jobs", "gauge", "Work that waits for a thread or runs.");
	prom_u64(t, "signer_jobs", pool_busy(sg->readers), "pool", "read",
	    (char *)NULL);
	prom_u64(t, "signer_jobs", pool_busy(sg->writers), "pool", "write",
	    (char *)NULL);
	prom_u64(t, "signer_jobs", pool_busy(sg->files), "pool", "files",
	    (char *)NULL);
	prom_u64(t, "signer_jobs", pool_busy(sg->outgoing), "pool", "outgoing",
	    (char *)NULL);
}

/* ---- what the store has -------------------------------------------------- */

static int
on_storage(const char *id, const char *doc, size_t n, void *arg)
{
	struct scrape *s = arg;

	s->names = xrealloc(s->names, (s->n + 1) * sizeof(*s->names));
	s->names[s->n++] = xstrdup(id);
	return 0;
}

static void
storage_metrics(
    struct scrape *s, struct store_txn *t, const char *id, struct text *tested)
{
	const char *name = strchr(id, '/') + 1;
	char tenant[STORE_TENANT_MAX + 1];
	const struct storage *st;
	cJSON *status;

	snprintf(tenant, sizeof(tenant), "%.*s", (int)(name - 1 - id), id);
	if (storage_cache_get(s->sg->cache, t, tenant, name, &st) == 0) {
		if (st->certificate_expires_s > 0)
			prom_u64(&s->rows,
			    "signer_storage_certificate_expiry_timestamp_"
			    "seconds",
			    (uint64_t)st->certificate_expires_s, "tenant",
			    tenant, "storage", name, (char *)NULL);
		storage_cache_put(s->sg->cache, st);
	}
	if (store_get_json(t, KIND_STATUS, tenant, name, &status) == 0) {
		prom_u64(tested, "signer_storage_ok",
		    json_bool(status, "ok", false), "tenant", tenant, "storage",
		    name, (char *)NULL);
		cJSON_Delete(status);
	}
}

static int
look(struct store_txn *t, void *arg)
{
	struct scrape *s = arg;
	struct text tested = { 0 };
	int64_t v;
	int rc;

	text_reset(&s->rows);
	if (s->ready_only)
		return store_version(t, "ready", &v);
	rc = store_scan(t, KIND_STORAGE, NULL, NULL, on_storage, s);
	prom_family(&s->rows,
	    "signer_storage_certificate_expiry_timestamp_seconds", "gauge",
	    "When the CA bundle of a storage ends.");
	prom_family(&tested, "signer_storage_ok", "gauge",
	    "How the last test of a storage went.");
	for (size_t i = 0; i < s->n; i++) {
		if (rc == 0)
			storage_metrics(s, t, s->names[i], &tested);
		free(s->names[i]);
	}
	free(s->names);
	s->names = NULL;
	s->n = 0;
	text_add(&s->rows, tested.s, tested.n);
	text_fini(&tested);
	return rc;
}

static void
run(void *arg)
{
	struct scrape *s = arg;

	s->rc = store_view(s->sg->store, look, s);
}

static void
scrape_free(struct scrape *s)
{
	text_fini(&s->rows);
	free(s);
}

static void
ran(void *arg)
{
	struct scrape *s = arg;
	struct problem p = { 0 };
	struct text t = { 0 };
	cJSON *o;

	s->ran = true;
	if (s->rq == NULL) {
		scrape_free(s);
		return;
	}
	if (s->rc != 0) {
		problem_set(&p, 503, NULL, "The database does not answer");
		api_reply_problem(s->rq, &p);
	} else if (s->ready_only) {
		o = cJSON_CreateObject();
		cJSON_AddTrueToObject(o, "ready");
		http_reply_json(s->rq, 200, o);
	} else {
		loop_metrics(s->sg, &t);
		text_add(&t, s->rows.s, s->rows.n);
		http_reply(s->rq, 200, PROM_TYPE, t.s, t.n);
		text_fini(&t);
	}
}

static void
on_done(struct http_request *rq, bool ok, void *arg)
{
	struct scrape *s = arg;

	s->rq = NULL;
	if (s->ran)
		scrape_free(s);
}

static void
start(struct http_request *rq, struct signer *sg, bool ready_only)
{
	struct scrape *s = xcalloc(1, sizeof(*s));

	s->sg = sg;
	s->rq = rq;
	s->ready_only = ready_only;
	http_request_on_done(rq, on_done, s);
	pool_run(sg->readers, run, ran, s);
}

void
metrics_on_request(struct http_request *rq, void *arg)
{
	start(rq, arg, false);
}

void
metrics_on_ready(struct http_request *rq, void *arg)
{
	start(rq, arg, true);
}
