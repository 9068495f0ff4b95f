/*
 * leftovers.c - parts that were sent of uploads that will not be finished
 *
 * An upload that is held, evicted, expired, dropped or put in quarantine may
 * have parts at its store, which cost money and are seen by nobody. The spool's
 * record of the end has what was kept of them (spool_ended(), SPOOL_FREE); the
 * signer is asked for the step `abort`, which names no device, as a blocked one
 * is what this may be about. One at a time of a storage (leftover_list), aside
 * of deliveries, tried for a week; what is not given up when the agent ends
 * comes again.
 */
#include "leftovers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <event2/event.h>

#include "agent.h"
#include "certificates.h"
#include "clock.h"
#include "delivery.h"
#include "json.h"
#include "leftover_list.h"
#include "log.h"
#include "sign.h"
#include "signer_client.h"
#include "spool.h"
#include "transfer.h"
#include "updates.h"
#include "xalloc.h"

#define READ 32 /* records at a time */
#define TICK_MS 2000
#define CALL_MS 30000
#define AGE_MS (7 * 86400000LL) /* a replaced storage is kept as long */
#define REFUSED_MOST 3
#define ANSWER_MAX (64 * 1024)

/* One that is under way. */
struct work {
	struct leftovers *all;
	struct leftover *x;
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
	struct leftover_list list;
	bool asking, stopped;
};

static void request(struct work *w);

static void
turn_after(struct leftovers *l, int64_t ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	if (!l->stopped)
		event_add(l->timer, &tv);
}

static void
leave(struct work *w)
{
	if (w == NULL)
		return;
	w->x->work = NULL;
	signer_cancel(w->call);
	xfer_cancel(w->xfer);
	certificates_leave(&w->certificate);
	recipe_free(w->recipe);
	free(w->pem);
	free(w);
}

/* It is over, well or not: what comes before the first that is left is seen
 * to. works: its storage does. */
static void
over(struct work *w, const char *how, bool works)
{
	struct leftovers *l = w->all;
	struct leftover *x = w->x;

	log_info(
	    "id=%s its parts at storage=%s: %s", x->it.id, x->it.storage, how);
	leave(w);
	leftover_list_done(&l->list, x, works);
	spool_ended_seen(
	    l->agent->spool, SPOOL_FREE, leftover_list_mark(&l->list));
	turn_after(l, 0);
}

/* storage: others of it would fare no better. */
static void
again(struct work *w, const char *why, bool storage)
{
	struct leftovers *l = w->all;
	struct leftover *x = w->x;

	if (clock_ms() - x->ended_ms > AGE_MS) {
		over(w, "left to the store's own rules after a week", false);
		return;
	}
	log_debug("id=%s parts: %s", x->it.id, why);
	leave(w);
	leftover_list_again(&l->list, x, storage, clock_ms());
	turn_after(l, 100);
}

static void
refused(struct work *w, const char *why)
{
	if (++w->x->refused >= REFUSED_MOST)
		over(w, why, true);
	else
		again(w, why, false);
}

/* ---- at the store -------------------------------------------------------- */

static void
on_answer(const struct xfer_result *r, void *arg)
{
	struct work *w = arg;
	const struct recipe_request *rq = &w->recipe->requests[w->at];

	w->xfer = NULL;
	if (r->rc != 0) {
		if (r->tls && w->recipe->certificate_id != NULL)
			certificates_doubt(w->all->agent->certificates,
			    w->recipe->certificate_id);
		again(w, r->error, true);
	} else if (r->status >= 500 || r->status == 408 || r->status == 429) {
		again(w, "the store is busy", true);
	} else if (r->status == 404) {
		over(w, "not there any more", true);
	} else if (!recipe_request_ok(rq, r->status)) {
		refused(w, "the store refuses to give them up");
	} else if (++w->at < w->recipe->requests_n) {
		request(w);
	} else {
		over(w, "given up", true);
	}
}

static void
request(struct work *w)
{
	struct agent *a = w->all->agent;
	const struct recipe_request *rq = &w->recipe->requests[w->at];
	struct xfer_request xr;

	if (rq->body == BODY_FILE) {
		over(w, "the signer would send them again", true);
		return;
	}
	delivery_request(a, rq, w->pem, &xr);
	xr.timeout_ms = CALL_MS;
	w->xfer = xfer_start(a->stores, &xr, on_answer, w);
}

static void
on_certificate(const char *pem, const char *error, void *arg)
{
	struct work *w = arg;

	if (pem == NULL) {
		again(w, error, true);
		return;
	}
	w->pem = xstrdup(pem);
	request(w);
}

static void
follow(struct work *w)
{
	const char *id = w->recipe->certificate_id, *pem;

	w->at = 0;
	if (w->recipe->requests_n == 0) {
		over(w, "nothing has to be done", true);
		return;
	}
	if (id != NULL) {
		memset(&w->certificate, 0, sizeof(w->certificate));
		w->certificate.fn = on_certificate;
		w->certificate.arg = w;
		pem = certificates_get(
		    w->all->agent->certificates, id, &w->certificate);
		if (pem == NULL)
			return;
		w->pem = xstrdup(pem);
	}
	request(w);
}

/* ---- at the signer ------------------------------------------------------- */

static void
take_recipe(struct work *w, const cJSON *v)
{
	struct agent *a = w->all->agent;
	struct storage *st = storages_get(&a->storages, w->x->it.storage);
	struct recipe_rules rules;
	char why[256];
	int rc;

	if (st == NULL) {
		again(w, "too many storages", true);
		return;
	}
	sign_rules(a, st, w->x->it.offer_size, &rules);
	rc = recipe_parse(v, &rules, &w->recipe, why, sizeof(why));
	if (rc == 0) {
		follow(w);
		return;
	}
	if (rc == -EXDEV)
		updates_again(a->updates);
	refused(w, "its recipe cannot be used");
}

static void
on_signed(const struct signer_answer *ans, void *arg)
{
	struct work *w = arg;
	const cJSON *one = cJSON_GetArrayItem(
	    cJSON_GetObjectItemCaseSensitive(ans->json, "results"), 0);
	const cJSON *recipe = cJSON_GetObjectItemCaseSensitive(one, "recipe");
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(one, "error");
	int64_t status = 0;

	w->call = NULL;
	json_int(error, "status", 100, 599, &status);
	if (ans->error != NULL)
		again(w, ans->error, true);
	else if (cJSON_IsObject(recipe))
		take_recipe(w, recipe);
	else if (status == 0 || status >= 500 || status == 429 || status == 403)
		again(w, "the signer does not sign now", true);
	else /* its storage is gone for good, or knows no such step */
		refused(w, "the signer does not know how");
}

static void
ask(struct leftovers *l, struct leftover *x)
{
	struct work *w = x->work = xcalloc(1, sizeof(*w));
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
	w->all = l;
	w->x = x;
	w->call = signer_call(
	    l->agent->signer, "/v1/sign", text, CALL_MS, false, on_signed, w);
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
	for (size_t i = 0; i < n; i++)
		leftover_list_offer(&l->list, list[i].number,
		    clock_ms() - list[i].ago_ms, &list[i].item);
	leftover_list_end(&l->list, n > 0 ? list[n - 1].number : 0, n < READ);
	if (n > 0)
		turn_after(l, 0);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct leftovers *l = arg;
	struct leftover *x;
	uint64_t from = leftover_list_from(&l->list);

	if (!l->asking) {
		l->asking = true;
		leftover_list_begin(&l->list, from);
		spool_ended(
		    l->agent->spool, SPOOL_FREE, from, READ, on_ended, l);
	}
	while ((x = leftover_list_next(&l->list, clock_ms())) != NULL)
		ask(l, x);
	turn_after(l, TICK_MS);
}

struct leftovers *
leftovers_new(struct agent *a)
{
	struct leftovers *l = xcalloc(1, sizeof(*l));

	l->agent = a;
	leftover_list_init(&l->list);
	l->timer = evtimer_new(a->base, on_timer, l);
	turn_after(l, TICK_MS);
	return l;
}

void
leftovers_stop(struct leftovers *l)
{
	struct leftover_shop *s;

	if (l == NULL)
		return;
	l->stopped = true;
	event_del(l->timer);
	TAILQ_FOREACH(s, &l->list.shops, link)
	if (s->now != NULL)
		leave(s->now->work);
	leftover_list_fini(&l->list);
}

void
leftovers_free(struct leftovers *l)
{
	if (l == NULL)
		return;
	event_free(l->timer);
	free(l);
}
