/*
 * page.c - what the gateway tells of itself
 *
 * status.json is made of the spool's ledger, the proxy's own counters and the
 * last word of the agent, which tells it by the doorbell each second: the
 * proxy itself never looks at the WAN.
 */
#include "proxy.h"

#include <string.h>
#include <stdlib.h>

#include "clock.h"
#include "config.h"
#include "control.h"
#include "devices.h"
#include "firmware.h"
#include "gateway_conf.h"
#include "http_server.h"
#include "json.h"
#include "log.h"
#include "metrics.h"
#include "prom.h"
#include "spool.h"
#include "xalloc.h"

#define AGENT_SILENT_MS 10000
#define STANDING_MAX (4u << 20)

/* A request, until it is over. Answers may be large and their readers slow:
 * those that stand hold STANDING_MAX octets together, the oldest is cut for
 * the newest. */
struct ask {
	TAILQ_ENTRY(ask) link; /* of answers that stand */
	struct proxy *px;
	struct http_request *rq; /* NULL: gone */
	enum { ASK_STATUS, ASK_HEALTH, ASK_METRICS } what;
	bool answered;
	size_t n; /* octets of the answer */
};

static void
on_gone(struct http_request *rq, bool ok, void *arg)
{
	struct ask *a = arg;

	a->rq = NULL;
	if (!a->answered)
		return; /* on_spool_status() frees it */
	TAILQ_REMOVE(&a->px->standing, a, link);
	a->px->standing_n -= a->n;
	free(a);
}

/* It is answered now, with n octets. */
static void
stand(struct ask *a, size_t n)
{
	struct proxy *px = a->px;
	struct ask *old;

	TAILQ_FOREACH(old, &px->standing, link)
	{
		if (px->standing_n + n <= STANDING_MAX)
			break;
		if (old->n == 0)
			continue;
		px->standing_n -= old->n;
		old->n = 0;
		http_reply_abort(old->rq); /* on_gone() comes later */
	}
	a->answered = true;
	a->n = n;
	px->standing_n += n;
	TAILQ_INSERT_TAIL(&px->standing, a, link);
}

static cJSON *
agent_json(const struct proxy *px)
{
	int64_t silent = clock_ms() - px->agent_seen_ms;
	cJSON *o = NULL;

	if (px->agent_status != NULL && silent < AGENT_SILENT_MS)
		o = cJSON_Parse(px->agent_status);
	if (o == NULL)
		o = cJSON_CreateObject();
	cJSON_AddBoolToObject(
	    o, "running", px->agent_status != NULL && silent < AGENT_SILENT_MS);
	return o;
}

static cJSON *
status_json(const struct proxy *px, const struct spool_status *st)
{
	cJSON *o = cJSON_CreateObject(), *lan;

	json_add_text(o, "gateway", px->conf->name);
	json_add_text(o, "version", PACKAGE_VERSION);
	json_add_int(o, "uptime", (clock_ms() - px->started_ms) / 1000);
	cJSON_AddItemToObject(o, "ledger", control_ledger_json(st));
	cJSON_AddItemToObject(o, "spool", control_spool_json(st));
	lan = cJSON_AddObjectToObject(o, "lan");
	json_add_int(lan, "connections", http_server_connections(px->lan));
	json_add_int(lan, "uploads", (int64_t)px->count.uploads);
	json_add_int(lan, "bytes", (int64_t)px->count.bytes);
	json_add_int(lan, "refused", (int64_t)px->count.refused);
	json_add_int(lan, "failed", (int64_t)px->count.failed);
	cJSON_AddItemToObject(
	    o, "cameras", devices_json(px->devices, clock_ms()));
	cJSON_AddItemToObject(o, "firmware", firmware_json(px->firmware));
	cJSON_AddItemToObject(o, "agent", agent_json(px));
	return o;
}

static void
reply_health(struct http_request *rq, const struct spool_status *st)
{
	cJSON *o;

	if (st->full || st->failing) {
		http_reply_error(rq, 503, st->why,
		    st->failing
			? "look at the kernel's log for errors of the disk"
			: "see `edgehaul status`: why is nothing delivered?");
		return;
	}
	o = cJSON_CreateObject();
	json_add_text(o, "status", "ok");
	http_reply_json(rq, 200, o);
}

static void
reply_metrics(struct ask *a, const struct spool_status *st)
{
	cJSON *status = status_json(a->px, st);
	struct text t = { 0 };

	metrics_text(a->px, status, &t);
	cJSON_Delete(status);
	stand(a, t.n);
	http_reply(a->rq, 200, PROM_TYPE, t.s, t.n);
	text_fini(&t);
}

static void
reply_status(struct ask *a, const struct spool_status *st)
{
	cJSON *status = status_json(a->px, st);
	char *text = json_line(status);
	size_t n = strlen(text);

	cJSON_Delete(status);
	text[n] = '\n'; /* instead of the NUL */
	stand(a, n + 1);
	http_reply(a->rq, 200, "application/json", text, n + 1);
	free(text);
}

static void
on_spool_status(int rc, const struct spool_status *st, void *arg)
{
	struct ask *a = arg;

	if (a->rq == NULL) {
		free(a);
		return;
	}
	if (rc == 0 && a->what == ASK_STATUS) {
		reply_status(a, st);
		return;
	}
	if (rc == 0 && a->what == ASK_METRICS) {
		reply_metrics(a, st);
		return;
	}
	stand(a, 0);
	if (rc == 0)
		reply_health(a->rq, st);
	else
		http_reply_error(a->rq, 503, "the index cannot be read",
		    "look for \"index\" in the proxy's log");
}

static void
ask(struct proxy *px, struct http_request *rq, int what)
{
	struct ask *a = xcalloc(1, sizeof(*a));

	a->px = px;
	a->rq = rq;
	a->what = what;
	http_request_on_done(rq, on_gone, a);
	spool_status(px->spool, on_spool_status, a);
}

void
on_status_json(struct http_request *rq, void *arg)
{
	ask(arg, rq, ASK_STATUS);
}

void
on_health(struct http_request *rq, void *arg)
{
	ask(arg, rq, ASK_HEALTH);
}

void
on_metrics(struct http_request *rq, void *arg)
{
	ask(arg, rq, ASK_METRICS);
}

void
on_upload_query(struct http_request *rq, void *arg)
{
	struct proxy *px = arg;

	control_upload(rq, px->spool);
}

void
on_queue(struct http_request *rq, void *arg)
{
	struct proxy *px = arg;

	control_queue(rq, px->spool);
}

/* How far the check of all files is. */
void
on_check(struct http_request *rq, void *arg)
{
	struct proxy *px = arg;
	struct spool_check c;
	cJSON *o = cJSON_CreateObject(), *list, *item;

	spool_check_state(px->spool, &c);
	cJSON_AddBoolToObject(o, "running", c.running);
	json_add_int(o, "number", (int64_t)c.number);
	json_add_int(o, "checked", (int64_t)c.checked);
	json_add_int(o, "bytes", (int64_t)c.octets);
	json_add_int(o, "bad", (int64_t)c.bad);
	list = cJSON_AddArrayToObject(o, "damaged");
	for (uint64_t i = 0; i < c.bad && i < SPOOL_CHECK_BAD; i++) {
		item = cJSON_CreateObject();
		json_add_text(item, "id", c.bad_items[i].id);
		json_add_text(item, "reason", c.bad_items[i].why);
		cJSON_AddItemToArray(list, item);
	}
	http_reply_json(rq, 200, o);
}

void
on_check_start(struct http_request *rq, void *arg)
{
	struct proxy *px = arg;

	spool_check_start(px->spool);
	on_check(rq, px);
}

void
on_reserved_path(struct http_request *rq, void *arg)
{
	http_reply_header(rq, "Allow", "GET, HEAD");
	http_reply_error(rq, 405, "nothing can be uploaded below this path",
	    "send PUT /upload/DEVICE/NAME");
}

void
on_page_nothing(struct http_request *rq, void *arg)
{
	http_reply_error(rq, 404, "nothing is here",
	    "see /-/status.json, /-/health, /-/metrics and /-/uploads/ID");
}

static void
images_told(struct proxy *px, const char *msg, size_t n)
{
	const char *why, *name;
	const cJSON *item;
	cJSON *list = json_parse(msg, n, n, &why);

	cJSON_ArrayForEach(item, list)
	{
		name = json_string(item, "device");
		if (name != NULL)
			devices_images(px->devices, name, item, clock_ms());
	}
	cJSON_Delete(list);
}

void
page_agent_told(struct proxy *px, const char *msg, size_t n)
{
	const char *why;
	cJSON *o;

	if (strncmp(msg, "images ", 7) == 0)
		images_told(px, msg + 7, n - 7);
	if (strncmp(msg, "status ", 7) != 0)
		return;
	o = json_parse(msg + 7, n - 7, n, &why);
	if (!cJSON_IsObject(o)) {
		log_debug("status of the agent is not readable");
		cJSON_Delete(o);
		return;
	}
	cJSON_Delete(o);
	free(px->agent_status);
	px->agent_status = xstrdup(msg + 7);
	px->agent_seen_ms = clock_ms();
}
