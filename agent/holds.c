/*
 * holds.c - uploads of blocked devices are held, and let go when unblocked
 *
 * An upload is held when the signer refuses it as blocked. With each answer of
 * /v1/updates the devices that left the list are released. What was held
 * before the agent started is looked for in the spool once, page by page, and
 * only if its counters say that there is any.
 */
#include "holds.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "blocklist.h"
#include "doorbell.h"
#include "json.h"
#include "log.h"
#include "scheduler.h"
#include "spool.h"
#include "xalloc.h"

#define PAGE 500

struct holds {
	struct agent *agent;
	cJSON *blocked; /* names of devices, array */
	bool sought, seeking, told;
	struct blocklist *file;
};

static void
on_released(int rc, void *arg)
{
	struct holds *h = arg;

	if (rc == 0)
		scheduler_ring(h->agent->scheduler);
}

static void
release(struct holds *h, const char *device)
{
	struct log_text t;

	log_info("device=%s no longer blocked: its uploads go on",
	    log_text(&t, device, strlen(device)));
	spool_release_device(h->agent->spool, device, on_released, h);
}

static void
on_page(int rc, struct spool_item *items, size_t n, void *arg)
{
	struct holds *h = arg;
	cJSON *done;

	if (rc != 0 || n == 0) {
		h->seeking = false;
		h->sought = rc == 0;
		return;
	}
	done = cJSON_CreateArray(); /* each device once a page */
	for (size_t i = 0; i < n; i++) {
		const char *device = items[i].device;

		if (items[i].state != SPOOL_HELD ||
		    blocklist_has(h->blocked, device) ||
		    blocklist_has(done, device))
			continue;
		cJSON_AddItemToArray(done, cJSON_CreateString(device));
		release(h, device);
	}
	cJSON_Delete(done);
	spool_list(h->agent->spool, items[n - 1].seq, PAGE, on_page, h);
}

static void
on_status(int rc, const struct spool_status *st, void *arg)
{
	struct holds *h = arg;

	if (rc != 0 || st->held == 0) {
		h->seeking = false;
		h->sought = rc == 0;
		return;
	}
	spool_list(h->agent->spool, 0, PAGE, on_page, h);
}

/* The proxy refuses them from now on, also after a restart without WAN. A list
 * that is too long for a ring it finds in the file. */
static void
tell_proxy(struct holds *h)
{
	struct agent *a = h->agent;
	cJSON *o = cJSON_CreateObject();
	char *line, *ring;

	cJSON_AddItemToObject(o, "devices", cJSON_Duplicate(h->blocked, true));
	line = json_line(o);
	ring = xasprintf("blocked %s", line);
	if (strlen(ring) < DOORBELL_MAX)
		doorbell_ring(a->bell, a->proxy_bell, ring);
	free(ring);
	free(line);
	cJSON_Delete(o);
	blocklist_save(h->file, cJSON_Duplicate(h->blocked, true));
}

struct holds *
holds_new(struct agent *a)
{
	struct holds *h = xcalloc(1, sizeof(*h));
	char *path;

	h->agent = a;
	path = xasprintf("%s/blocked.json", a->conf->state_dir);
	h->file = blocklist_new(path);
	free(path);
	h->blocked = blocklist_load(h->file);
	if (h->blocked == NULL)
		h->blocked = cJSON_CreateArray();
	return h;
}

void
holds_free(struct holds *h)
{
	if (h == NULL)
		return;
	cJSON_Delete(h->blocked);
	blocklist_free(h->file);
	free(h);
}

void
holds_update(struct holds *h, const cJSON *devices)
{
	cJSON *now = cJSON_CreateArray(), *before = h->blocked;
	const cJSON *e;

	if (!cJSON_IsArray(devices)) {
		cJSON_Delete(now);
		return;
	}
	cJSON_ArrayForEach(e, devices)
	{
		const char *name = json_string(e, "device");

		if (name != NULL && json_bool(e, "blocked", true))
			cJSON_AddItemToArray(now, cJSON_CreateString(name));
	}
	h->blocked = now;
	if (!h->told || !cJSON_Compare(now, before, true)) {
		h->told = true;
		tell_proxy(h);
		if (h->agent->scheduler != NULL)
			scheduler_block(h->agent->scheduler, now);
	}
	cJSON_ArrayForEach(e, before)
	{
		if (!blocklist_has(now, e->valuestring))
			release(h, e->valuestring);
	}
	cJSON_Delete(before);
	if (!h->sought && !h->seeking) {
		h->seeking = true;
		spool_status(h->agent->spool, on_status, h);
	}
}
