/*
 * updates.c - one long poll that tells what changed at the signer
 *
 * Storages and their hosts are taken over in full with each answer. A signer
 * that lacks the call is asked now and then; until an answer has come, the
 * hosts of storages are not known and recipes are held to the other rules.
 */
#include "updates.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <event2/event.h>

#include "agent.h"
#include "backoff.h"
#include "clock.h"
#include "firmware.h"
#include "holds.h"
#include "json.h"
#include "log.h"
#include "signer_client.h"
#include "xalloc.h"

#define POLL_MS 75000 /* the signer holds it for 50 s */
#define LACKS_MS 300000
#define CAP_MS 60000

struct updates {
	struct agent *agent;
	struct signer_call *call;
	struct event *timer;
	struct holds *holds;
	int64_t version; /* -1: ask for all */
	int64_t wait_ms;
	bool told; /* that the signer lacks it */
};

static void ask(struct updates *u);

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	ask(arg);
}

static void
later(struct updates *u, int64_t ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	event_add(u->timer, &tv);
}

static void
on_answer(const struct signer_answer *a, void *arg)
{
	struct updates *u = arg;
	int64_t version;

	u->call = NULL;
	if (a->error != NULL) {
		if (a->rc == 0 && a->status == 404) {
			if (!u->told)
				log_info("signer has no /v1/updates: changes "
					 "there are seen when signing");
			u->told = true;
			later(u, LACKS_MS);
			return;
		}
		u->wait_ms =
		    backoff_next(u->wait_ms, CAP_MS, arc4random_uniform);
		later(u, u->wait_ms);
		return;
	}
	if (json_int(a->json, "version", 0, INT64_MAX, &version) != 0 &&
	    json_int(a->json, "seq", 0, INT64_MAX, &version) != 0)
		version = -1;
	storages_hosts(&u->agent->storages,
	    cJSON_GetObjectItemCaseSensitive(a->json, "storages"));
	firmware_updates(u->agent->firmware, a->json);
	holds_update(
	    u->holds, cJSON_GetObjectItemCaseSensitive(a->json, "devices"));
	/* One that answers at once without news must not be asked in a loop. */
	later(u,
	    version == u->version && clock_ms() - a->asked_ms < 5000 ? 5000
								     : 50);
	u->version = version;
	u->wait_ms = 0;
	signer_alive(u->agent->signer);
}

static void
ask(struct updates *u)
{
	char path[64] = "/v1/updates";

	if (u->call != NULL)
		return;
	if (u->version >= 0)
		snprintf(path, sizeof(path), "/v1/updates?after=%" PRId64,
		    u->version);
	u->call = signer_call(
	    u->agent->signer, path, NULL, POLL_MS, false, on_answer, u);
}

void
updates_again(struct updates *u)
{
	signer_cancel(u->call);
	u->call = NULL;
	u->version = -1;
	later(u, 100);
}

struct updates *
updates_new(struct agent *a)
{
	struct updates *u = xcalloc(1, sizeof(*u));

	u->agent = a;
	u->version = -1;
	u->timer = evtimer_new(a->base, on_timer, u);
	u->holds = holds_new(a);
	later(u, 0);
	return u;
}

void
updates_stop(struct updates *u)
{
	if (u == NULL)
		return;
	signer_cancel(u->call);
	u->call = NULL;
	event_del(u->timer);
}

void
updates_free(struct updates *u)
{
	if (u == NULL)
		return;
	event_free(u->timer);
	holds_free(u->holds);
	free(u);
}
