/*
 * api_running.c - what devices run: told by gateways, read by publishers
 *
 * The last word of a device counts. A gateway that is blocked tells nothing.
 */
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "firmware.h"
#include "gateway.h"
#include "json.h"
#include "running.h"
#include "signer.h"
#include "signer_conf.h"
#include "store.h"
#include "xalloc.h"

#define FEEDBACK_MAX (1 << 20)
#define DEVICES_AT_ONCE 1000
#define LOOKED_AT_MAX 10000 /* rows for a page: it may have few or none */

/* A device as its gateway tells of it: what is known and short is kept. */
static cJSON *
device_row(const struct api_call *c, const cJSON *v)
{
	static const char *const texts[] = { "id", "product", "channel", "hw",
		"version", "source", "offered", "fetched", "fetched_version",
		"failed", NULL };
	static const char *const numbers[] = { "seen", "offered_at",
		"fetched_at", "full", NULL };
	cJSON *row = cJSON_CreateObject();
	char when[21];
	int64_t n;

	for (size_t i = 0; texts[i] != NULL; i++) {
		const char *s = json_string(v, texts[i]);

		if (s != NULL && strlen(s) <= DEVICE_MAX)
			json_add_text(row, texts[i], s);
	}
	for (size_t i = 0; numbers[i] != NULL; i++)
		if (json_int(v, numbers[i], 0, INT64_MAX / 2048, &n) == 0)
			json_add_int(row, numbers[i], n);
	clock_rfc3339(c->now_s, when);
	json_add_text(row, "gateway", c->who.gateway);
	json_add_text(row, "reportedAt", when);
	return row;
}

static int
check_devices(struct api_call *c, const cJSON *list)
{
	const cJSON *e;
	int i = 0;

	if (!cJSON_IsArray(list) ||
	    cJSON_GetArraySize(list) > DEVICES_AT_ONCE) {
		problem_field(&c->problem, "/devices", NULL,
		    "This must be a list of at most %d devices.",
		    DEVICES_AT_ONCE);
		return -EINVAL;
	}
	cJSON_ArrayForEach(e, list)
	{
		const char *id = json_string(e, "id");
		char *pointer = xasprintf("/devices/%d/id", i++);

		if (id == NULL || !device_ok(id))
			problem_field(&c->problem, pointer,
			    "1 to 255 octets without slashes and controls.",
			    "This is no name of a device.");
		free(pointer);
	}
	return c->problem.status == 0 ? 0 : -EINVAL;
}

static int
post_feedback(struct store_txn *t, struct api_call *c)
{
	const cJSON *list =
			cJSON_GetObjectItemCaseSensitive(c->json, "devices"),
		    *e;
	struct gateway g;
	struct running r;
	int rc = check_devices(c, list);

	if (rc == 0)
		rc = api_gateway(t, c, &g);
	if (rc != 0)
		return rc;
	gateway_fini(&g);
	running_begin(
	    &r, t, c->who.tenant, c->who.gateway, c->sg->conf->devices_max);
	cJSON_ArrayForEach(e, list)
	{
		cJSON *row;

		if (rc != 0)
			break;
		row = device_row(c, e);
		rc = running_put(&r, json_string(e, "id"), row);
		cJSON_Delete(row);
	}
	if (rc == 0)
		rc = running_end(&r);
	c->answer = cJSON_CreateObject();
	json_add_int(c->answer, "accepted", r.accepted);
	json_add_int(c->answer, "dropped", r.dropped);
	return rc;
}

struct page {
	cJSON *items;
	const char *product, *channel;
	int64_t left, looked;
	char last[STORE_ID_MAX + 1];
	bool more;
};

static int
on_paged(const char *id, const char *doc, size_t n, void *arg)
{
	struct page *p = arg;
	cJSON *row;
	const char *product, *channel;

	if (p->left == 0 || p->looked++ == LOOKED_AT_MAX) {
		p->more = true;
		return 1;
	}
	row = json_parse(doc, n, n, NULL);
	product = json_string(row, "product");
	channel = json_string(row, "channel");
	snprintf(p->last, sizeof(p->last), "%s", id);
	if (product == NULL || strcmp(product, p->product) != 0 ||
	    (channel != NULL && strcmp(channel, p->channel) != 0)) {
		cJSON_Delete(row);
		return 0;
	}
	p->left--;
	cJSON_AddItemToArray(p->items, row);
	return 0;
}

static int
get_running(struct store_txn *t, struct api_call *c)
{
	struct page p = { .product = c->param[0], .channel = c->param[1] };
	int rc = firmware_names(c);

	if (rc == 0)
		rc = api_page_size(c, &p.left);
	if (rc != 0)
		return rc;
	c->answer = cJSON_CreateObject();
	p.items = cJSON_AddArrayToObject(c->answer, "items");
	rc = store_scan(t, KIND_RUNNING, c->who.tenant, c->after, on_paged, &p);
	api_page_next(c, p.more ? p.last : NULL);
	return rc;
}

#define PUBLISHER (ROLE_PUBLISHER | ROLE_ADMIN | ROLE_ROOT)
/* clang-format off */
const struct api_route api_running_routes[] = {
	{ "POST", "/v1/firmware/feedback", ROLE_GATEWAY, API_WRITE, post_feedback, FEEDBACK_MAX },
	{ "GET",  "/v1/firmware/:product/:channel/devices", PUBLISHER, API_READ, get_running, 0 },
	{ NULL },
};
/* clang-format on */
