/*
 * metrics.c - status.json as metrics for Prometheus
 *
 * Most of it is a table from members of the document to names; what is counted
 * by reason or by code is added from the proxy's own counters. A member that is
 * not there (the agent is down, nothing waits) gives no sample. Names of
 * cameras are claims from the LAN, so only so many of them are told apart.
 */
#include "metrics.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_server.h"
#include "json.h"
#include "prom.h"
#include "proxy.h"
#include "refusals.h"

#define OTHER "other"

/* How a member becomes a number. */
enum from {
	WHOLE,
	SECONDS_OF_MS,
	RATIO_OF_PERCENT,
	FLAG, /* true: 1 */
	OPEN  /* "open": 1 */
};
struct row {
	const char *path; /* of the member, below the document or the item */
	const char *name, *type, *help; /* help NULL: the row above's family */
	const char *label, *value;      /* label NULL: none */
	enum from from;
};

// clang-format off
#define C "counter"
#define G "gauge"
static const struct row rows[] = {
	{ "uptime", "uptime_seconds", G, "Time since the proxy's start." },
	{ "ledger.accepted", "uploads_accepted_total", C,
	  "Uploads that were answered with success." },
	{ "ledger.delivered", "uploads_ended_total", C,
	  "Uploads that have left the spool, by how.", "end", "delivered" },
	{ "ledger.expired", "uploads_ended_total", C, NULL, "end", "expired" },
	{ "ledger.evicted", "uploads_ended_total", C, NULL, "end", "evicted" },
	{ "ledger.dropped", "uploads_ended_total", C, NULL, "end", "dropped" },
	{ "ledger.waiting", "uploads_waiting", G,
	  "Uploads in the spool that are still to be delivered." },
	{ "ledger.quarantined", "uploads_quarantined", G,
	  "Uploads that cannot be delivered and wait for an operator." },
	{ "spool.sending", "uploads_sending", G,
	  "Of those that wait: marked to be sent." },
	{ "spool.held", "uploads_held", G,
	  "Of those that wait: held because their device is blocked." },
	{ "spool.not_indexed", "uploads_not_indexed", G,
	  "Uploads on disk whose row in the index is still to come." },
	{ "spool.oldest_age", "uploads_oldest_age_seconds", G,
	  "Age of the oldest that waits." },
	{ "spool.accepted_bytes", "accepted_bytes_total", C,
	  "Octets of accepted uploads." },
	{ "spool.delivered_bytes", "delivered_bytes_total", C,
	  "Octets of delivered uploads, as they were received." },
	{ "spool.waiting_bytes", "spool_bytes", G,
	  "Octets of uploads in the spool." },
	{ "spool.max_size", "spool_max_bytes", G,
	  "Octets that the spool may hold." },
	{ "spool.disk_free", "disk_free_bytes", G,
	  "Octets that are free on the spool's disk." },
	{ "spool.index_percent", "index_used_ratio", G,
	  "Part of the index that is in use.", NULL, NULL, RATIO_OF_PERCENT },
	{ "spool.folders", "spool_folders", G,
	  "Folders of uploads." },
	{ "spool.full", "spool_full", G,
	  "1 while uploads are refused for lack of space.", NULL, NULL, FLAG },
	{ "spool.failing", "spool_failing", G,
	  "1 while the disk cannot be written.", NULL, NULL, FLAG },
	{ "spool.rebuilding", "index_rebuilding", G,
	  "1 while the index is made anew.", NULL, NULL, FLAG },
	{ "lan.connections", "connections", G,
	  "Open connections of the LAN." },
	{ "lan.uploads", "lan_uploads_total", C,
	  "Uploads accepted since the proxy's start, repeats apart." },
	{ "lan.bytes", "lan_upload_bytes_total", C,
	  "Octets of them." },
	{ "lan.failed", "lan_failed_total", C,
	  "Uploads that could not be written to disk." },
	{ "firmware.downloads.requests", "firmware_requests_total", C,
	  "GETs of firmware." },
	{ "firmware.downloads.hits", "firmware_hits_total", C,
	  "Of them: all that was asked for was in the cache." },
	{ "firmware.downloads.bytes", "firmware_bytes_total", C,
	  "Octets of firmware sent to devices." },
	{ "firmware.downloads.busy", "firmware_busy_total", C,
	  "GETs sent away because others were downloading." },
	{ "firmware.downloads.cut", "firmware_cut_total", C,
	  "Downloads that the gateway has cut." },
	{ "firmware.downloads.active_devices", "firmware_active_devices", G,
	  "Devices that download." },
	{ "firmware.downloads.waiting_devices", "firmware_waiting_devices", G,
	  "Devices that were told to come back." },
	{ "firmware.checks", "firmware_checks_total", C,
	  "Questions for a newer version." },
	{ "firmware.offers", "firmware_offers_total", C,
	  "Of them: answered with one." },
	{ "firmware.cache.size", "firmware_cache_max_bytes", G,
	  "Octets that the cache may reserve." },
	{ "firmware.cache.reserved", "firmware_cache_reserved_bytes", G,
	  "Octets that it has reserved." },
	{ "firmware.cache.filled", "firmware_cache_bytes", G,
	  "Octets that are in it." },
	{ "firmware.cache.damaged", "firmware_damaged_total", C,
	  "Slices that were found damaged on disk." },
	{ "firmware.fleet.devices", "firmware_devices", G,
	  "Devices that are known by their checks or downloads." },
	{ "agent.running", "agent_up", G,
	  "1 if the agent was heard of within 10 s.", NULL, NULL, FLAG },
	{ "agent.signer.ok", "signer_ok", G,
	  "1 while the signer works.", NULL, NULL, FLAG },
	{ "agent.uploads.delivered", "agent_deliveries_total", C,
	  "Deliveries since the agent's start." },
	{ "agent.uploads.delivered_bytes", "agent_delivered_bytes_total", C,
	  "Octets of them, as they were received." },
	{ "agent.uploads.sent_bytes", "agent_sent_bytes_total", C,
	  "Octets sent to stores, failed tries included." },
	{ "agent.uploads.deferred", "agent_retries_total", C,
	  "Tries that failed and are repeated later." },
	{ "agent.uploads.quarantined", "agent_quarantined_total", C,
	  "Uploads that the agent has put into quarantine." },
	{ "agent.uploads.running", "agent_running", G,
	  "Uploads under way." },
	{ "agent.uploads.signing", "agent_signing", G,
	  "Uploads that are being prepared and signed." },
	{ "agent.uploads.ready", "agent_ready", G,
	  "Uploads at hand that could go next." },
	{ "agent.images.bytes_in", "images_in_bytes_total", C,
	  "Octets before image workers looked at them." },
	{ "agent.images.bytes_out", "images_out_bytes_total", C,
	  "Octets after that." },
	{ "agent.images.cpu_ms", "images_cpu_seconds_total", C,
	  "Processor time of image workers.", NULL, NULL, SECONDS_OF_MS },
};
static const struct row storage_rows[] = {
	{ "ok", "storage_ok", G,
	  "1 while the storage works.", NULL, NULL, FLAG },
	{ "circuit", "storage_circuit_open", G,
	  "1 while only one try at a time is made.", NULL, NULL, OPEN },
	{ "running", "storage_running", G,
	  "Uploads under way to the storage." },
	{ "limit", "storage_running_limit", G,
	  "Uploads that may be under way to it just now." },
	{ "delivered", "storage_deliveries_total", C,
	  "Deliveries to the storage since the agent's start." },
	{ "delivered_bytes", "storage_delivered_bytes_total", C,
	  "Octets of them." },
	{ "failed", "storage_failed_total", C,
	  "Tries that failed." },
};
static const struct row camera_rows[] = {
	{ "uploads", "camera_uploads_total", C,
	  "Uploads of the camera since the proxy's start." },
	{ "empty", "camera_empty_total", C,
	  "Those of them that had no octets." },
	{ "bytes", "camera_upload_bytes_total", C,
	  "Octets of them." },
	{ "refused", "camera_refused_total", C,
	  "Uploads of the camera that were refused." },
	{ "last_upload", "camera_last_upload_age_seconds", G,
	  "Time since the camera's last upload." },
	{ "silent", "camera_silent", G,
	  "1 if nothing came for longer than expect_every.", NULL, NULL, FLAG },
	{ "images.files", "camera_images_total", C,
	  "Files of the camera that image workers could have made smaller." },
	{ "images.bytes_in", "camera_images_in_bytes_total", C,
	  "Octets of them before." },
	{ "images.bytes_out", "camera_images_out_bytes_total", C,
	  "Octets of them after." },
	{ "images.saved_bytes", "camera_images_saved_bytes_total", C,
	  "Octets that need not be sent." },
	{ "images.cpu_ms", "camera_images_cpu_seconds_total", C,
	  "Processor time for them.", NULL, NULL, SECONDS_OF_MS },
	{ "images.damaged", "camera_images_damaged_total", C,
	  "JPEGs of the camera that are truncated or broken." },
	{ "images.failed", "camera_images_failed_total", C,
	  "Files at which an image worker failed." },
};
#undef C
#undef G
// clang-format on
#define N(a) (sizeof(a) / sizeof((a)[0]))

/* The member at a path of names and dots, or NULL. */
static const cJSON *
member(const cJSON *o, const char *path)
{
	char name[40];
	size_t n;

	for (; o != NULL && *path != '\0'; path += n + (path[n] == '.')) {
		n = strcspn(path, ".");
		snprintf(name, sizeof(name), "%.*s", (int)n, path);
		o = cJSON_GetObjectItemCaseSensitive(o, name);
	}
	return o;
}

/* False: it is not there, or null. */
static bool
value(const cJSON *o, const struct row *r, int64_t *out)
{
	const cJSON *v = member(o, r->path);
	int64_t n;

	if (v == NULL || cJSON_IsNull(v))
		return false;
	if (r->from == FLAG) {
		*out = cJSON_IsTrue(v);
		return true;
	}
	if (r->from == OPEN) {
		*out = cJSON_IsString(v) && strcmp(v->valuestring, "open") == 0;
		return true;
	}
	if (cJSON_IsRaw(v)) /* json_add_int() */
		n = strtoll(v->valuestring, NULL, 10);
	else if (cJSON_IsNumber(v) && v->valuedouble > 0 &&
	    v->valuedouble < (double)(1LL << 53))
		n = (int64_t)v->valuedouble;
	else
		n = 0;
	*out = n < 0 ? 0 : n;
	return true;
}

static void
sample(struct text *t, const struct row *r, int64_t v, const char *label,
    const char *of)
{
	char number[32];

	if (r->from == SECONDS_OF_MS)
		snprintf(number, sizeof(number), "%" PRId64 ".%03d", v / 1000,
		    (int)(v % 1000));
	else if (r->from == RATIO_OF_PERCENT)
		snprintf(number, sizeof(number), "%" PRId64 ".%02d", v / 100,
		    (int)(v % 100));
	else
		snprintf(number, sizeof(number), "%" PRId64, v);
	prom_sample(t, r->name, number, label, of, (char *)NULL);
}

static void
family(struct text *t, const struct row *r)
{
	if (r->help != NULL)
		prom_family(t, r->name, r->type, r->help);
}

static void
document(struct text *t, const cJSON *status)
{
	int64_t v;

	for (size_t i = 0; i < N(rows); i++) {
		family(t, &rows[i]);
		if (value(status, &rows[i], &v))
			sample(t, &rows[i], v, rows[i].label, rows[i].value);
	}
}

static bool
is_counter(const struct row *r)
{
	return strcmp(r->type, "counter") == 0;
}

/* One row of all items of a list; those after `most` together, as far as they
 * can be added up. */
static void
list_row(struct text *t, const cJSON *list, const struct row *r,
    const char *label, size_t most)
{
	const cJSON *item;
	int64_t v, rest = 0;
	bool any = false;
	size_t n = 0;

	family(t, r);
	cJSON_ArrayForEach(item, list)
	{
		const char *name = json_string(item, "name");

		if (name == NULL || !value(item, r, &v))
			continue;
		if (strcmp(name, OTHER) != 0 && n++ < most) {
			sample(t, r, v, label, name);
		} else if (is_counter(r)) {
			any = true;
			rest += v;
		}
	}
	if (any)
		sample(t, r, rest, label, OTHER);
}

static void
lists(struct text *t, const cJSON *status)
{
	const cJSON *storages = member(status, "agent.storages");
	const cJSON *cameras = member(status, "cameras");

	for (size_t i = 0; i < N(storage_rows); i++)
		list_row(t, storages, &storage_rows[i], "storage", SIZE_MAX);
	for (size_t i = 0; i < N(camera_rows); i++)
		list_row(
		    t, cameras, &camera_rows[i], "camera", METRICS_CAMERAS);
}

static void
image_outcomes(struct text *t, const cJSON *status)
{
	const cJSON *o;
	int64_t n;

	prom_family(t, "images_total", "counter",
	    "Files that image workers could have made smaller, by outcome.");
	cJSON_ArrayForEach(o, member(status, "agent.images.outcomes"))
	{
		n = cJSON_IsNumber(o) && o->valuedouble > 0
		    ? (int64_t)o->valuedouble
		    : 0;
		prom_u64(t, "images_total", (uint64_t)n, "outcome", o->string,
		    (char *)NULL);
	}
}

static void
answers(struct text *t, const struct http_server *lan)
{
	char code[8];
	uint64_t n;

	prom_family(t, "http_answers_total", "counter",
	    "Answers on the LAN, by their status.");
	for (int status = 100; status < 600; status++) {
		n = http_server_answers(lan, status);
		if (n == 0)
			continue;
		snprintf(code, sizeof(code), "%d", status);
		prom_u64(
		    t, "http_answers_total", n, "code", code, (char *)NULL);
	}
}

static void
refusals(struct text *t, const struct refusals *r)
{
	char code[16];

	prom_family(t, "refusals_total", "counter",
	    "Uploads that were refused, by status and reason.");
	for (unsigned i = 0; i < r->kinds_n; i++) {
		snprintf(code, sizeof(code), "%d", r->kinds[i].status);
		prom_u64(t, "refusals_total", r->kinds[i].n, "code", code,
		    "reason", r->kinds[i].reason, (char *)NULL);
	}
	if (r->other > 0)
		prom_u64(t, "refusals_total", r->other, "code", OTHER, "reason",
		    OTHER, (char *)NULL);
}

void
metrics_text(const struct proxy *px, const cJSON *status, struct text *t)
{
	const char *version = json_string(status, "version");

	prom_family(t, "build_info", "gauge", "The program's version.");
	prom_u64(t, "build_info", 1, "version", version != NULL ? version : "",
	    (char *)NULL);
	document(t, status);
	answers(t, px->lan);
	refusals(t, &px->refusals);
	image_outcomes(t, status);
	lists(t, status);
}
