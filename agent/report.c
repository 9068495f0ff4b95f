/*
 * report.c - tells the signer what became of uploads, and how the gateway is
 *
 * The spool keeps a record of each end until it is told (spool_ended()), so
 * nothing is told of what did not happen, each end is told at least once, also
 * after a crash, and what is in memory is one batch. One call at a time, by the
 * connections to the signer, which carry no bodies; whether it works is no
 * business of signing (it is not judged).
 *
 * A batch that the signer refuses is told again in halves, and the one that it
 * refuses alone is passed over: it must not hold up the others for ever. How
 * the gateway is may be refused as well; then the batch is told without it at
 * once, and no end is blamed for it.
 */
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <event2/event.h>

#include "agent.h"
#include "backoff.h"
#include "clock.h"
#include "control.h"
#include "json.h"
#include "log.h"
#include "signer_client.h"
#include "spool.h"
#include "status.h"
#include "xalloc.h"

#define BATCH 200       /* the signer takes 1000 */
#define GATHER_MS 2000  /* ends wait for company */
#define STATUS_MS 60000 /* how the gateway is, at least so often ... */
#define ALONG_MS 10000  /* ... and along with ends, if it is older than this */
#define CAP_MS 60000
#define LACKS_MS 300000
#define CALL_MS 30000
#define REASON_MAX 400
#define STATUS_MAX 15000 /* octets; the signer keeps 32768 */

struct reports {
	struct agent *agent;
	struct event *timer;
	struct signer_call *call;
	cJSON *body;           /* while it is put together */
	uint64_t seen, number; /* told up to; of the batch in hand */
	size_t max, n;         /* of a batch */
	int64_t wait_ms, status_ms;
	bool with_status;       /* the batch in hand */
	bool told, status_told; /* that the signer lacks it; refuses that */
	bool stopped;
};

static void
later(struct reports *r, int64_t ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	if (!r->stopped)
		event_add(r->timer, &tv);
}

/* ---- the answer ---------------------------------------------------------- */

static void
seen_to(struct reports *r)
{
	if (r->n == 0)
		return;
	r->seen = r->number;
	spool_ended_seen(r->agent->spool, SPOOL_TELL, r->seen);
}

/* The signer works, but will not have this batch: half of it, the one that is
 * to blame alone. */
static void
not_taken(struct reports *r, const char *error)
{
	if (r->n > 1) {
		r->max = r->n / 2;
	} else if (r->n == 1) {
		log_error("signer does not take the report of an upload: %s; "
			  "it is passed over",
		    error);
		seen_to(r);
	}
	later(r, r->n > 0 ? 0 : CAP_MS);
}

/* It may be the status alone: the batch at once without it, the status again
 * when its time comes. */
static void
status_not_taken(struct reports *r, const char *error)
{
	if (!r->status_told)
		log_warn("signer does not take how the gateway is: %s; it is "
			 "told what became of uploads without it",
		    error);
	r->status_told = true;
	r->status_ms = clock_ms();
	later(r, 0);
}

static void
failed(struct reports *r, const struct signer_answer *a)
{
	if (a->rc == 0 && a->status == 404) {
		if (!r->told)
			log_info("signer has no /v1/reports: it is not told "
				 "what became of uploads");
		r->told = true;
		later(r, LACKS_MS);
		return;
	}
	if (a->rc == 0 &&
	    (a->status == 400 || a->status == 413 || a->status == 422)) {
		if (r->with_status)
			status_not_taken(r, a->error);
		else
			not_taken(r, a->error);
		return;
	}
	if (r->with_status)
		r->status_ms = -STATUS_MS; /* it was not taken either */
	r->wait_ms = backoff_next(r->wait_ms, CAP_MS, arc4random_uniform);
	later(r, r->wait_ms);
}

static void
on_answer(const struct signer_answer *a, void *arg)
{
	struct reports *r = arg;
	bool more = r->n == r->max;

	r->call = NULL;
	if (a->error != NULL) {
		failed(r, a);
		return;
	}
	r->wait_ms = 0;
	r->status_told = r->status_told && !r->with_status;
	r->max = r->max * 2 < BATCH ? r->max * 2 : BATCH;
	seen_to(r);
	later(r, more ? 0 : GATHER_MS);
}

/* ---- the question -------------------------------------------------------- */

static void
tell(struct reports *r)
{
	char *text = json_line(r->body);

	cJSON_Delete(r->body);
	r->body = NULL;
	r->call = signer_call(r->agent->signer, "/v1/reports", text, CALL_MS,
	    false, on_answer, r);
	free(text);
}

/* What is long and may be left out: names of storages beyond the first. */
static void
cut(cJSON *status)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(status, "storages");
	char *line = json_line(status);

	while (strlen(line) > STATUS_MAX && cJSON_GetArraySize(list) > 0) {
		cJSON_DeleteItemFromArray(list, cJSON_GetArraySize(list) - 1);
		free(line);
		line = json_line(status);
	}
	free(line);
}

static void
on_status_known(int rc, const struct spool_status *st, void *arg)
{
	struct reports *r = arg;
	cJSON *o;

	if (rc == -ECANCELED || r->stopped)
		return;
	o = status_json(r->agent);
	json_add_int(o, "uptime", (clock_ms() - r->agent->begun_ms) / 1000);
	cJSON_DeleteItemFromObjectCaseSensitive(
	    cJSON_GetObjectItemCaseSensitive(o, "uploads"), "uploads");
	cJSON_DeleteItemFromObjectCaseSensitive(o, "spool");
	if (rc == 0) {
		cJSON_AddItemToObject(o, "ledger", control_ledger_json(st));
		cJSON_AddItemToObject(o, "spool", control_spool_json(st));
	}
	cut(o);
	cJSON_AddItemToObject(r->body, "status", o);
	r->with_status = true;
	r->status_ms = clock_ms();
	tell(r);
}

static void
add_end(cJSON *list, const struct spool_ended *e)
{
	const struct spool_item *it = &e->item;
	cJSON *o = cJSON_CreateObject();
	char *reason = xstrndup(it->last_error, REASON_MAX);

	json_add_text(o, "id", it->id);
	json_add_text(o, "outcome", spool_ended_name(e->how));
	json_add_text(o, "device", it->device);
	json_add_text(o, "name", it->name);
	if (it->storage[0] != '\0')
		json_add_text(o, "storage", it->storage);
	if (it->key[0] != '\0')
		json_add_text(o, "key", it->key);
	json_add_int(
	    o, "size", (int64_t)(it->offered ? it->offer_size : it->size));
	json_add_int(o, "attempts", it->attempts + (e->how == SPOOL_DELIVERED));
	json_add_int(o, "secondsAgo", e->ago_ms / 1000);
	if (reason[0] != '\0' && e->how != SPOOL_DELIVERED)
		json_add_text(o, "reason", reason);
	free(reason);
	cJSON_AddItemToArray(list, o);
}

static void
on_ended(int rc, struct spool_ended *list, size_t n, void *arg)
{
	struct reports *r = arg;
	int64_t age = clock_ms() - r->status_ms;
	cJSON *reports;

	if (rc == -ECANCELED || r->stopped)
		return;
	if (rc != 0)
		n = 0;
	if (n == 0 && age < STATUS_MS) {
		later(r, GATHER_MS);
		return;
	}
	r->n = n;
	r->with_status = false;
	r->body = cJSON_CreateObject();
	reports = cJSON_AddArrayToObject(r->body, "reports");
	for (size_t i = 0; i < n; i++) {
		r->number = list[i].number;
		if (list[i].how != SPOOL_ENDED_PARTS)
			add_end(reports, &list[i]);
	}
	if (age < ALONG_MS)
		tell(r);
	else
		spool_status(r->agent->spool, on_status_known, r);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct reports *r = arg;

	spool_ended(r->agent->spool, SPOOL_TELL, r->seen, r->max, on_ended, r);
}

/* ---- life ---------------------------------------------------------------- */

struct reports *
reports_new(struct agent *a)
{
	struct reports *r = xcalloc(1, sizeof(*r));

	r->agent = a;
	r->max = BATCH;
	/* Not all gateways in the same second. */
	r->status_ms =
	    clock_ms() - STATUS_MS + (int64_t)arc4random_uniform(GATHER_MS);
	r->timer = evtimer_new(a->base, on_timer, r);
	later(r, GATHER_MS / 4);
	return r;
}

void
reports_stop(struct reports *r)
{
	if (r == NULL)
		return;
	r->stopped = true;
	signer_cancel(r->call);
	r->call = NULL;
	event_del(r->timer);
}

void
reports_free(struct reports *r)
{
	if (r == NULL)
		return;
	cJSON_Delete(r->body);
	event_free(r->timer);
	free(r);
}
