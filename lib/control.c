/*
 * control.c - questions about the queue, answered alike by proxy and agent
 *
 * The answer may come after the asker has gone: an ask outlives its request
 * and then answers nobody.
 */
#include "control.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "http_server.h"
#include "json.h"
#include "spool.h"
#include "url.h"
#include "xalloc.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000

struct ask {
	struct http_request *rq; /* NULL: gone */
	size_t max;
};

static void
on_gone(struct http_request *rq, bool ok, void *arg)
{
	struct ask *a = arg;

	if (a->rq == NULL) {
		free(a); /* answered: it ended with the request */
		return;
	}
	a->rq = NULL;
}

static struct ask *
ask_new(struct http_request *rq, size_t max)
{
	struct ask *a = xcalloc(1, sizeof(*a));

	a->rq = rq;
	a->max = max;
	http_request_on_done(rq, on_gone, a);
	return a;
}

/* The request to answer, or NULL; the ask ends with it. */
static struct http_request *
ask_take(struct ask *a)
{
	struct http_request *rq = a->rq;

	if (rq == NULL)
		free(a);
	else
		a->rq = NULL;
	return rq;
}

cJSON *
control_item_json(const struct spool_item *it, bool whole)
{
	cJSON *o = cJSON_CreateObject();
	char sha[65], when[21];

	hex_encode(it->sha256, 32, sha);
	json_add_text(o, "id", it->id);
	json_add_text(o, "device", it->device);
	json_add_text(o, "name", it->name);
	json_add_int(o, "size", (int64_t)it->size);
	json_add_text(o, "sha256", sha);
	json_add_text(o, "state", spool_state_name(it->state));
	json_add_int(o, "attempts", it->attempts);
	json_add_int(o, "next_try_in", (it->due_in_ms + 999) / 1000);
	json_add_text(o, "last_error", it->last_error);
	if (!whole)
		return o;
	clock_rfc3339(it->received_wall_ms / 1000, when);
	json_add_text(o, "type", it->type);
	json_add_text(o, "address", it->address);
	json_add_text(o, "received", when);
	json_add_int(o, "age", it->age_ms / 1000);
	if (it->offered) {
		json_add_text(o, "storage", it->storage);
		json_add_text(o, "key", it->key);
		json_add_text(o, "encoding", it->encoding);
		json_add_int(o, "offered_size", (int64_t)it->offer_size);
	}
	return o;
}

static void
on_page(int rc, struct spool_item *items, size_t n, void *arg)
{
	struct ask *a = arg;
	size_t max = a->max;
	struct http_request *rq = ask_take(a);
	cJSON *o, *list;

	if (rq == NULL)
		return;
	if (rc != 0) {
		http_reply_error(rq, 503, "the index cannot be read",
		    "look for \"index\" in the daemon's log");
		return;
	}
	o = cJSON_CreateObject();
	list = cJSON_AddArrayToObject(o, "uploads");
	for (size_t i = 0; i < n; i++)
		cJSON_AddItemToArray(list, control_item_json(&items[i], false));
	if (n == max)
		json_add_int(o, "next", (int64_t)items[n - 1].seq);
	else
		cJSON_AddNullToObject(o, "next");
	http_reply_json(rq, 200, o);
}

/* A decimal parameter, or dflt; false if it is no number. */
static bool
number(struct http_request *rq, const char *name, uint64_t dflt, uint64_t *out)
{
	const char *s = http_request_query_get(rq, name);
	char *end;

	*out = dflt;
	if (s == NULL)
		return true;
	errno = 0;
	*out = strtoull(s, &end, 10);
	return *s >= '0' && *s <= '9' && *end == '\0' && errno == 0;
}

void
control_queue(struct http_request *rq, struct spool *sp)
{
	uint64_t after, max;

	if (!number(rq, "after", 0, &after) ||
	    !number(rq, "limit", PAGE_DEFAULT, &max) || max == 0) {
		http_reply_error(rq, 400, "after and limit are numbers",
		    "for example /queue?after=0&limit=100");
		return;
	}
	if (max > PAGE_MAX)
		max = PAGE_MAX;
	spool_list(sp, after, max, on_page, ask_new(rq, max));
}

static void
on_found(int rc, struct spool_item *items, size_t n, void *arg)
{
	struct http_request *rq = ask_take(arg);

	if (rq == NULL)
		return;
	if (rc != 0)
		http_reply_error(rq, 503, "the index cannot be read",
		    "look for \"index\" in the daemon's log");
	else if (n == 0)
		http_reply_error(rq, 404, "no such upload waits here",
		    "it was delivered, or it never was on this gateway");
	else
		http_reply_json(rq, 200, control_item_json(&items[0], true));
}

void
control_upload(struct http_request *rq, struct spool *sp)
{
	const char *id = http_request_param(rq, "id");

	spool_find(sp, id != NULL ? id : "", on_found, ask_new(rq, 1));
}

cJSON *
control_ledger_json(const struct spool_status *st)
{
	cJSON *o = cJSON_CreateObject();

	json_add_int(o, "accepted", (int64_t)st->accepted);
	json_add_int(o, "delivered", (int64_t)st->ends[SPOOL_DELIVERED]);
	json_add_int(o, "expired", (int64_t)st->ends[SPOOL_EXPIRED]);
	json_add_int(o, "evicted", (int64_t)st->ends[SPOOL_EVICTED]);
	json_add_int(o, "dropped", (int64_t)st->ends[SPOOL_DROPPED]);
	json_add_int(o, "quarantined", (int64_t)st->quarantined);
	json_add_int(o, "waiting", (int64_t)st->waiting);
	return o;
}

cJSON *
control_spool_json(const struct spool_status *st)
{
	cJSON *o = cJSON_CreateObject();
	char since[21];

	clock_rfc3339(st->since_wall_ms / 1000, since);
	json_add_text(o, "since", since);
	json_add_int(o, "waiting_bytes", (int64_t)st->waiting_bytes);
	json_add_int(o, "accepted_bytes", (int64_t)st->accepted_bytes);
	json_add_int(o, "delivered_bytes", (int64_t)st->delivered_bytes);
	json_add_int(o, "max_size", (int64_t)st->max_size);
	json_add_int(o, "disk_free", (int64_t)st->disk_free);
	json_add_int(o, "sending", (int64_t)st->sending);
	json_add_int(o, "held", (int64_t)st->held);
	json_add_int(o, "not_indexed", (int64_t)st->not_indexed);
	json_add_int(o, "index_percent", st->index_percent);
	json_add_int(o, "folders", (int64_t)st->folders);
	if (st->oldest_age_ms >= 0)
		json_add_int(o, "oldest_age", st->oldest_age_ms / 1000);
	else
		cJSON_AddNullToObject(o, "oldest_age");
	cJSON_AddBoolToObject(o, "rebuilding", st->rebuilding);
	cJSON_AddBoolToObject(o, "full", st->full);
	cJSON_AddBoolToObject(o, "failing", st->failing);
	if (st->full || st->failing)
		json_add_text(o, "why", st->why);
	return o;
}
