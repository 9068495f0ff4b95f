/*
 * status.c - what the agent tells of itself
 *
 * The proxy shows it beside its own: it gets a datagram when something has
 * changed, and now and then to see that the agent lives. What is told must fit
 * in one; the list of storages is cut before that. What was saved per camera
 * goes page by page, one with each.
 */
#include "status.h"

#include <stdlib.h>
#include <string.h>
#include <event2/event.h>

#include "agent.h"
#include "clock.h"
#include "config.h"
#include "doorbell.h"
#include "firmware.h"
#include "http_server.h"
#include "image.h"
#include "json.h"
#include "scheduler.h"
#include "signer_client.h"
#include "text.h"
#include "xalloc.h"

#define ALIVE_MS 4000

cJSON *
status_json(struct agent *a)
{
	cJSON *o = cJSON_CreateObject(), *c;

	json_add_text(o, "version", PACKAGE_VERSION);
	cJSON_AddItemToObject(o, "signer", signer_status(a->signer));
	cJSON_AddItemToObject(
	    o, "storages", storages_status(&a->storages, clock_ms()));
	cJSON_AddBoolToObject(o, "spool", a->spool != NULL);
	c = cJSON_AddObjectToObject(o, "uploads");
	json_add_int(c, "delivered", (int64_t)a->delivered);
	json_add_int(c, "delivered_bytes", (int64_t)a->delivered_bytes);
	json_add_int(c, "deferred", (int64_t)a->deferred);
	json_add_int(c, "quarantined", (int64_t)a->quarantined);
	json_add_int(c, "sent_bytes", (int64_t)a->uplink.sent);
	json_add_int(c, "rate_limit", a->uplink.bucket.rate);
	if (a->scheduler != NULL)
		scheduler_status(a->scheduler, c);
	if (a->images != NULL)
		images_status(a->images, cJSON_AddObjectToObject(o, "images"));
	cJSON_AddItemToObject(o, "firmware", firmware_status(a->firmware));
	return o;
}

void
on_status(struct http_request *rq, void *arg)
{
	struct agent *a = arg;
	cJSON *o = status_json(a);

	if (a->images != NULL)
		cJSON_AddItemToObject(
		    cJSON_GetObjectItemCaseSensitive(o, "images"), "cameras",
		    images_cameras(a->images, true));
	json_add_int(o, "uptime", (clock_ms() - a->begun_ms) / 1000);
	http_reply_json(rq, 200, o);
}

/* Shorten list, a part of o, until o's line fits a datagram. */
static void
cut(const cJSON *o, cJSON *list, char **line)
{
	int n;

	while (strlen(*line) > DOORBELL_MAX - 16 &&
	    (n = cJSON_GetArraySize(list)) > 0) {
		cJSON_DeleteItemFromArray(list, n - 1);
		free(*line);
		*line = json_line(o);
	}
}

/* What changes by itself with time is not told: an idle agent is silent. */
static char *
told(struct agent *a)
{
	cJSON *o = status_json(a), *uploads;
	char *line, *msg;

	cJSON_DeleteItemFromObjectCaseSensitive(
	    cJSON_GetObjectItemCaseSensitive(o, "signer"), "last_ok_s");
	uploads = cJSON_GetObjectItemCaseSensitive(o, "uploads");
	cJSON_DeleteItemFromObjectCaseSensitive(uploads, "uploads");
	line = json_line(o);
	cut(o, cJSON_GetObjectItemCaseSensitive(o, "storages"), &line);
	cut(o,
	    cJSON_GetObjectItemCaseSensitive(
		cJSON_GetObjectItemCaseSensitive(o, "firmware"), "products"),
	    &line);
	cJSON_Delete(o);
	msg = xasprintf("status %s", line);
	free(line);
	return msg;
}

/* The next page of what was saved per camera; after the last the first. */
static void
tell_images(struct agent *a)
{
	cJSON *all = images_cameras(a->images, false), *item;
	int n = cJSON_GetArraySize(all),
	    i = a->images_at < n ? a->images_at : 0;
	struct text t = { 0 };
	char *line;

	text_str(&t, "images [");
	for (item = cJSON_GetArrayItem(all, i); item != NULL;
	     item = item->next, i++) {
		line = json_line(item);
		if (t.n + strlen(line) + 2 >= DOORBELL_MAX) {
			free(line);
			break;
		}
		if (t.s[t.n - 1] != '[')
			text_char(&t, ',');
		text_str(&t, line);
		free(line);
	}
	text_char(&t, ']');
	a->images_at = i;
	if (n > 0)
		doorbell_ring(a->bell, a->proxy_bell, t.s);
	text_fini(&t);
	cJSON_Delete(all);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct agent *a = arg;
	char *msg = told(a);

	if (a->status_told == NULL || strcmp(a->status_told, msg) != 0 ||
	    clock_ms() - a->status_told_ms >= ALIVE_MS) {
		doorbell_ring(a->bell, a->proxy_bell, msg);
		a->status_told_ms = clock_ms();
		if (a->images != NULL)
			tell_images(a);
	}
	free(a->status_told);
	a->status_told = msg;
}

void
status_begin(struct agent *a)
{
	struct timeval tv = { 1, 0 };

	a->status_timer = event_new(a->base, -1, EV_PERSIST, on_timer, a);
	event_add(a->status_timer, &tv);
}

void
status_end(struct agent *a)
{
	if (a->status_timer != NULL)
		event_free(a->status_timer);
	free(a->status_told);
}
