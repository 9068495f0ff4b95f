/*
 * leftovers.c - parts that were sent of uploads that will not be finished
 *
 * An upload that is held, evicted, expired, dropped or put in quarantine may
 * have parts at its store, which cost money and are seen by nobody. The spool's
 * record of the end has what was kept of them (spool_ended(), SPOOL_FREE); the
 * signer is asked for the step `abort`, which names no device, as a blocked one
 * is what this may be about. One at a time, aside of deliveries, tried for a
 * week; what is not given up when the agent ends comes again.
 */
#include "leftovers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <event2/event.h>

#include "agent.h"
#include "backoff.h"
#include "certificates.h"
#include "clock.h"
#include "delivery.h"
#include "json.h"
#include "log.h"
#include "sign.h"
#include "signer_client.h"
#include "spool.h"
#include "transfer.h"
#include "updates.h"
#include "xalloc.h"

#define MOST 32 /* in memory */
#define TICK_MS 2000
#define CAP_MS 600000
#define CALL_MS 30000
#define AGE_MS (7 * 86400000LL) /* a replaced storage is kept as long */
#define REFUSED_MOST 3
#define ANSWER_MAX (64 * 1024)

struct leftover {
	TAILQ_ENTRY(leftover) link;
	struct leftovers *all;
	uint64_t number;
	struct spool_item it;
	int64_t ended_ms, next_ms, wait_ms;
	unsigned refused;
	/* while it is worked on */
	struct signer_call *call;
	struct recipe *recipe;
	size_t at;
	struct certificate_wait certificate;
	char *pem;
	struct xfer *xfer;
};

struct leftovers {
	struct agent *agent;
	struct event *timer;
	TAILQ_HEAD(, leftover) list; /* in order of number */
	unsigned n;
	uint64_t read; /* all up to it were read */
	struct leftover *now;
	bool asking, stopped;
};

static void request(struct leftover *x);

static void
turn_after(struct leftovers *l, int64_t ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	if (!l->stopped)
		event_add(l->timer, &tv);
}

static void
leave(struct leftover *x)
{
	signer_cancel(x->call);
	xfer_cancel(x->xfer);
	certificates_leave(&x->certificate);
	recipe_free(x->recipe);
	free(x->pem);
	x->call = NULL;
	x->xfer = NULL;
	x->recipe = NULL;
	x->pem = NULL;
	if (x->all->now == x)
		x->all->now = NULL;
}

static void
forget(struct leftover *x)
{
	leave(x);
	TAILQ_REMOVE(&x->all->list, x, link);
	x->all->n--;
	spool_item_fini(&x->it);
	free(x);
}

/* It is over, well or not: what comes before the first that is left is seen
 * to. */
static void
over(struct leftover *x, const char *how)
{
	struct leftovers *l = x->all;
	struct leftover *first;

	log_info(
	    "id=%s its parts at storage=%s: %s", x->it.id, x->it.storage, how);
	forget(x);
	first = TAILQ_FIRST(&l->list);
	spool_ended_seen(l->agent->spool, SPOOL_FREE,
	    first != NULL ? first->number - 1 : l->read);
	turn_after(l, 0);
}

static void
again(struct leftover *x, const char *why)
{
	struct leftovers *l = x->all;

	leave(x);
	if (clock_ms() - x->ended_ms > AGE_MS) {
		over(x, "left to the store's own rules after a week");
		return;
	}
	x->wait_ms = backoff_next(x->wait_ms, CAP_MS, arc4random_uniform);
	x->next_ms = clock_ms() + x->wait_ms;
	log_debug("id=%s parts: %s", x->it.id, why);
	turn_after(l, 100);
}

static void
refused(struct leftover *x, const char *why)
{
	if (++x->refused >= REFUSED_MOST)
		over(x, why);
	else
		again(x, why);
}

/* ---- at the store -------------------------------------------------------- */

static void
on_answer(const struct xfer_result *r, void *arg)
{
	struct leftover *x = arg;
	const struct recipe_request *rq = &x->recipe->requests[x->at];

	x->xfer = NULL;
	if (r->rc != 0) {
		if (r->tls && x->recipe->certificate_id != NULL)
			certificates_doubt(x->all->agent->certificates,
			    x->recipe->certificate_id);
		again(x, r->error);
	} else if (r->status >= 500 || r->status == 408 || r->status == 429) {
		again(x, "the store is busy");
	} else if (r->status == 404) {
		over(x, "not there any more");
	} else if (!recipe_request_ok(rq, r->status)) {
		refused(x, "the store refuses to give them up");
	} else if (++x->at < x->recipe->requests_n) {
		request(x);
	} else {
		over(x, "given up");
	}
}

static void
request(struct leftover *x)
{
	struct agent *a = x->all->agent;
	const struct recipe_request *rq = &x->recipe->requests[x->at];
	struct xfer_request xr;

	if (rq->body == BODY_FILE) {
		over(x, "the signer would send them again");
		return;
	}
	delivery_request(a, rq, x->pem, &xr);
	xr.timeout_ms = CALL_MS;
	x->xfer = xfer_start(a->stores, &xr, on_answer, x);
}

static void
on_certificate(const char *pem, const char *error, void *arg)
{
	struct leftover *x = arg;

	if (pem == NULL) {
		again(x, error);
		return;
	}
	x->pem = xstrdup(pem);
	request(x);
}

static void
follow(struct leftover *x)
{
	const char *id = x->recipe->certificate_id, *pem;

	x->at = 0;
	if (x->recipe->requests_n == 0) {
		over(x, "nothing has to be done");
		return;
	}
	if (id != NULL) {
		memset(&x->certificate, 0, sizeof(x->certificate));
		x->certificate.fn = on_certificate;
		x->certificate.arg = x;
		pem = certificates_get(
		    x->all->agent->certificates, id, &x->certificate);
		if (pem == NULL)
			return;
		x->pem = xstrdup(pem);
	}
	request(x);
}

/* ---- at the signer ------------------------------------------------------- */

static void
take_recipe(struct leftover *x, const cJSON *v)
{
	struct agent *a = x->all->agent;
	struct storage *st = storages_get(&a->storages, x->it.storage);
	struct recipe_rules rules;
	char why[256];
	int rc;

	if (st == NULL) {
		again(x, "too many storages");
		return;
	}
	sign_rules(a, st, x->it.offer_size, &rules);
	rc = recipe_parse(v, &rules, &x->recipe, why, sizeof(why));
	if (rc == 0) {
		follow(x);
		return;
	}
	if (rc == -EXDEV)
		updates_again(a->updates);
	refused(x, "its recipe cannot be used");
}

static void
on_signed(const struct signer_answer *ans, void *arg)
{
	struct leftover *x = arg;
	const cJSON *one = cJSON_GetArrayItem(
	    cJSON_GetObjectItemCaseSensitive(ans->json, "results"), 0);
	const cJSON *recipe = cJSON_GetObjectItemCaseSensitive(one, "recipe");
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(one, "error");
	int64_t status = 0;

	x->call = NULL;
	json_int(error, "status", 100, 599, &status);
	if (ans->error != NULL)
		again(x, ans->error);
	else if (cJSON_IsObject(recipe))
		take_recipe(x, recipe);
	else if (status == 0 || status >= 500 || status == 429 || status == 403)
		again(x, "the signer does not sign now");
	else /* its storage is gone for good, or knows no such step */
		refused(x, "the signer does not know how");
}

static void
ask(struct leftover *x)
{
	cJSON *o = cJSON_CreateObject(), *u = cJSON_CreateObject();
	cJSON *kept = json_parse(
	    x->it.kept, strlen(x->it.kept), strlen(x->it.kept), NULL);
	cJSON *values = cJSON_DetachItemFromObjectCaseSensitive(kept, "kept");
	char *text;

	cJSON_Delete(kept);
	cJSON_AddItemToArray(cJSON_AddArrayToObject(o, "uploads"), u);
	json_add_text(u, "id", x->it.id);
	json_add_text(u, "storage", x->it.storage);
	json_add_text(u, "method", "PUT");
	json_add_text(u, "key", x->it.key);
	json_add_text(u, "step", "abort");
	if (values != NULL)
		cJSON_AddItemToObject(u, "kept", values);
	text = json_line(o);
	cJSON_Delete(o);
	x->all->now = x;
	x->call = signer_call(x->all->agent->signer, "/v1/sign", text, CALL_MS,
	    false, on_signed, x);
	free(text);
}

/* ---- turns --------------------------------------------------------------- */

static void
on_ended(int rc, struct spool_ended *list, size_t n, void *arg)
{
	struct leftovers *l = arg;

	l->asking = false;
	if (rc != 0 || l->stopped)
		return;
	for (size_t i = 0; i < n; i++) {
		struct leftover *x = xcalloc(1, sizeof(*x));

		x->all = l;
		x->number = list[i].number;
		x->ended_ms = clock_ms() - list[i].ago_ms;
		x->it = list[i].item;
		memset(&list[i].item, 0, sizeof(list[i].item));
		TAILQ_INSERT_TAIL(&l->list, x, link);
		l->n++;
		l->read = x->number;
	}
	if (n > 0)
		turn_after(l, 0);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct leftovers *l = arg;
	struct leftover *x;
	int64_t now = clock_ms();

	if (l->n < MOST && !l->asking) {
		l->asking = true;
		spool_ended(l->agent->spool, SPOOL_FREE, l->read, MOST - l->n,
		    on_ended, l);
	}
	TAILQ_FOREACH(x, &l->list, link)
	{
		if (l->now != NULL || x->next_ms <= now)
			break;
	}
	if (l->now == NULL && x != NULL)
		ask(x);
	turn_after(l, TICK_MS);
}

struct leftovers *
leftovers_new(struct agent *a)
{
	struct leftovers *l = xcalloc(1, sizeof(*l));

	l->agent = a;
	TAILQ_INIT(&l->list);
	l->timer = evtimer_new(a->base, on_timer, l);
	turn_after(l, TICK_MS);
	return l;
}

void
leftovers_stop(struct leftovers *l)
{
	if (l == NULL)
		return;
	l->stopped = true;
	event_del(l->timer);
	while (!TAILQ_EMPTY(&l->list))
		forget(TAILQ_FIRST(&l->list));
}

void
leftovers_free(struct leftovers *l)
{
	if (l == NULL)
		return;
	event_free(l->timer);
	free(l);
}
