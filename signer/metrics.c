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
add(struct text *t, const char *name, const char *type, const char *help)
{
	char line[300];

	snprintf(line, sizeof(line),
	    "# HELP edgehaul_signer_%s %s\n# TYPE edgehaul_signer_%s %s\n",
	    name, help, name, type);
	text_str(t, line);
}

static void
value(struct text *t, const char *name, const char *labels, uint64_t v)
{
	char line[300];

	snprintf(line, sizeof(line), "edgehaul_signer_%s%s %llu\n", name,
	    labels, (unsigned long long)v);
	text_str(t, line);
}

static void
loop_metrics(const struct signer *sg, struct text *t)
{
	const struct metrics *m = &sg->metrics;
	char labels[64];

	add(t, "build_info", "gauge", "The program's version.");
	value(t, "build_info", "{version=\"" PACKAGE_VERSION "\"}", 1);
	add(t, "answers_total", "counter",
	    "Answers by the first digit of their status.");
	for (int i = 2; i < 6; i++) {
		snprintf(labels, sizeof(labels), "{code=\"%dxx\"}", i);
		value(t, "answers_total", labels, m->answers[i]);
	}
	add(t, "signings_total", "counter", "Uploads that were to be signed.");
	value(t, "signings_total", "{result=\"recipe\"}", m->recipes);
	value(t, "signings_total", "{result=\"refused\"}", m->refusals);
	add(t, "limited_total", "counter",
	    "Requests refused because their token made too many.");
	value(t, "limited_total", "", m->limited);
	add(t, "connections", "gauge", "Open connections.");
	value(t, "connections", "", http_server_connections(sg->http));
	add(t, "long_polls", "gauge", "Gateways that wait for news.");
	value(t, "long_polls", "", updates_waiting(sg->updates));
	add(t, "jobs", "gauge", "Work that waits for a thread or runs.");
	value(t, "jobs", "{pool=\"read\"}", pool_busy(sg->readers));
	value(t, "jobs", "{pool=\"write\"}", pool_busy(sg->writers));
	value(t, "jobs", "{pool=\"files\"}", pool_busy(sg->files));
	value(t, "jobs", "{pool=\"outgoing\"}", pool_busy(sg->outgoing));
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

/* Tenants and names have no characters that a label would have to escape. */
static void
storage_metrics(
    struct scrape *s, struct store_txn *t, const char *id, struct text *tested)
{
	char tenant[STORE_TENANT_MAX + 1], labels[200];
	const char *name = strchr(id, '/') + 1;
	const struct storage *st;
	cJSON *status;

	snprintf(tenant, sizeof(tenant), "%.*s", (int)(name - 1 - id), id);
	snprintf(labels, sizeof(labels), "{tenant=\"%s\",storage=\"%s\"}",
	    tenant, name);
	if (storage_cache_get(s->sg->cache, t, tenant, name, &st) == 0) {
		if (st->certificate_expires_s > 0)
			value(&s->rows,
			    "storage_certificate_expiry_timestamp_seconds",
			    labels, (uint64_t)st->certificate_expires_s);
		storage_cache_put(s->sg->cache, st);
	}
	if (store_get_json(t, KIND_STATUS, tenant, name, &status) == 0) {
		value(tested, "storage_ok", labels,
		    json_bool(status, "ok", false));
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
	add(&s->rows, "storage_certificate_expiry_timestamp_seconds", "gauge",
	    "When the CA bundle of a storage ends.");
	add(&tested, "storage_ok", "gauge",
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
		http_reply(s->rq, 200, "text/plain; version=0.0.4", t.s, t.n);
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
