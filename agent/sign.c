/*
 * sign.c - recipes for many uploads by one request (POST /v1/sign)
 *
 * Each upload's result is judged alone: one that the signer refuses, or whose
 * recipe is not allowed, does not touch the others. What is said about the
 * whole storage (it does not exist, its host is not listed) counts for the
 * storage's circuit.
 */
#include "sign.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "clock.h"
#include "json.h"
#include "log.h"
#include "scheduler.h"
#include "signer_client.h"
#include "updates.h"
#include "url.h"
#include "xalloc.h"

#define SIGN_TIMEOUT_MS 30000

struct sign_batch {
	struct agent *agent;
	struct signer_call *call;
	size_t n;
	struct delivery *ds[SIGN_MAX];
	bool told[SIGN_MAX];
	int64_t asked_ms;
	void (*over)(struct sign_batch *b, void *arg);
	void *arg;
};

/* ---- the question -------------------------------------------------------- */

static cJSON *
question(const struct delivery *d)
{
	cJSON *o = cJSON_CreateObject(), *metadata = NULL;
	const char *type = d->it.type;
	char hex[65];

	hex_encode(d->it.offer_sha256, 32, hex);
	json_add_text(o, "id", d->it.id);
	json_add_text(o, "storage", d->it.storage);
	json_add_text(o, "device", d->it.device);
	json_add_text(o, "method", d->ask == ASK_LOOK ? "HEAD" : "PUT");
	json_add_text(o, "key", d->it.key);
	json_add_int(o, "size", (int64_t)d->it.offer_size);
	json_add_text(o, "sha256", hex);
	if (d->made != NULL) {
		type = image_made_type(d->made, type);
		metadata = image_made_metadata(d->made, &d->it);
	}
	if (type[0] != '\0')
		json_add_text(o, "contentType", type);
	if (metadata != NULL)
		cJSON_AddItemToObject(o, "metadata", metadata);
	if (d->it.encoding[0] != '\0')
		json_add_text(o, "contentEncoding", d->it.encoding);
	if (d->step[0] == '\0')
		return o;
	if (d->ask != ASK_LOOK)
		json_add_text(
		    o, "step", d->ask == ASK_ABORT ? "abort" : d->step);
	if (d->ask == ASK_SEND && d->part > 0)
		json_add_int(o, "part", d->part);
	if (d->kept != NULL)
		cJSON_AddItemToObject(
		    o, "kept", cJSON_Duplicate(d->kept, true));
	return o;
}

/* ---- the answer ---------------------------------------------------------- */

/* Words of an upload's error: a problem of the signer's, or a text. */
static void
error_words(const cJSON *e, char *out, size_t n)
{
	static const char *const names[] = { "title", "error", "detail" };
	const char *words = cJSON_IsString(e) ? e->valuestring : NULL;
	const char *hint = json_string(e, "hint");

	for (size_t i = 0; words == NULL && i < 3; i++)
		words = json_string(e, names[i]);
	snprintf(out, n, "the signer refuses it: %.200s%s%.150s",
	    words != NULL ? words : "no reason given", hint != NULL ? ": " : "",
	    hint != NULL ? hint : "");
}

static void
refused(struct delivery *d, const cJSON *e)
{
	const char *what = json_string(e, "do");
	int64_t status = 0, retry_s = -1;
	char why[400];

	error_words(e, why, sizeof(why));
	json_int(e, "status", 100, 599, &status);
	json_int(e, "retryAfter", 0, 86400, &retry_s);
	if (what != NULL && strcmp(what, "hold") == 0)
		delivery_hold(d, why);
	else if (what != NULL && strcmp(what, "quarantine") == 0)
		delivery_quarantine(d, why);
	else if (d->ask == ASK_ABORT ||
	    (what != NULL && strcmp(what, "start") == 0))
		delivery_begin_anew(d, why);
	else
		delivery_failed(d, status != 0 ? (int)status : 400,
		    retry_s < 0 ? -1 : retry_s * 1000, why);
}

void
sign_rules(const struct agent *a, const struct storage *st, uint64_t size,
    struct recipe_rules *out)
{
	*out = (struct recipe_rules){
		.size = size,
		.allow_http = a->conf->allow_http,
		.allow_private = a->conf->allow_private,
		.hosts =
		    st->hosts_known ? (const char *const *)st->hosts : NULL,
		.hosts_n = st->hosts_n,
	};
	out->exempt = signer_origins(a->signer, &out->exempt_n);
}

static void
take_recipe(struct sign_batch *b, struct delivery *d, const cJSON *v)
{
	struct agent *a = b->agent;
	struct recipe_rules rules;
	struct recipe *r;
	char why[256], words[300];
	int rc;

	sign_rules(a, d->st, d->it.offer_size, &rules);
	rc = recipe_parse(v, &rules, &r, why, sizeof(why));
	if (rc != 0) {
		snprintf(words, sizeof(words), "recipe refused: %s", why);
		if (rc == -EXDEV)
			updates_again(a->updates); /* ours may be old */
		if (d->ask == ASK_ABORT)
			delivery_begin_anew(d, words);
		else
			delivery_failed(d, 400, -1, words);
		return;
	}
	recipe_free(d->recipe);
	d->recipe = r;
	/* A little less than allowed, for the way there and slow clocks. */
	d->expires_ms = b->asked_ms + r->expires_in_ms -
	    (r->expires_in_ms / 5 < 5000 ? r->expires_in_ms / 5 : 5000);
	scheduler_go(a->scheduler, d, DELIVERY_SIGNED);
}

static void
take_results(struct sign_batch *b, const cJSON *list)
{
	const cJSON *e, *recipe;

	cJSON_ArrayForEach(e, list)
	{
		const char *id = json_string(e, "id");
		size_t i = 0;

		while (id != NULL && i < b->n &&
		    (b->told[i] || strcmp(b->ds[i]->it.id, id) != 0))
			i++;
		if (id == NULL || i == b->n)
			continue;
		b->told[i] = true;
		recipe = cJSON_GetObjectItemCaseSensitive(e, "recipe");
		if (cJSON_IsObject(recipe))
			take_recipe(b, b->ds[i], recipe);
		else
			refused(b->ds[i],
			    cJSON_GetObjectItemCaseSensitive(e, "error"));
	}
}

/* Nobody got a recipe: the signer, or the request as a whole, failed. */
static void
all_failed(struct sign_batch *b, int status, const char *why)
{
	struct agent *a = b->agent;
	int64_t wait_ms = signer_wait_ms(a->signer);
	bool request = status == 400 || status == 413 || status == 422;

	if (request && b->n == 1) {
		delivery_failed(b->ds[0], status, -1, why);
		return;
	}
	for (size_t i = 0; i < b->n; i++) {
		b->ds[i]->alone = request; /* to find the one it is about */
		scheduler_go(a->scheduler, b->ds[i], DELIVERY_SIGN);
	}
	if (request)
		return;
	if (wait_ms == 0 && status != 401 && status != 403) {
		/* The first failures: once more, soon, all together. */
		scheduler_hold_signing(a->scheduler,
		    backoff_next(0, BACKOFF_CAP_MS, arc4random_uniform));
		return;
	}
	scheduler_give_back(
	    a->scheduler, NULL, wait_ms > 1000 ? wait_ms : 1000, why);
}

static void
on_signed(const struct signer_answer *ans, void *arg)
{
	struct sign_batch *b = arg;
	const cJSON *list =
	    cJSON_GetObjectItemCaseSensitive(ans->json, "results");
	bool ok = ans->error == NULL && cJSON_IsArray(list);

	b->call = NULL;
	b->asked_ms = ans->asked_ms;
	if (ok) {
		storages_answers(&b->agent->storages,
		    cJSON_GetObjectItemCaseSensitive(ans->json, "answers"));
		take_results(b, list);
		for (size_t i = 0; i < b->n; i++)
			if (!b->told[i])
				delivery_failed(b->ds[i], 400, -1,
				    "the signer's answer leaves it out");
	} else {
		all_failed(b, ans->status,
		    ans->error != NULL ? ans->error
				       : "the signer's answer has no results");
	}
	b->over(b, b->arg);
	free(b);
}

struct sign_batch *
sign_start(struct agent *a, struct delivery **ds, size_t n,
    void (*over)(struct sign_batch *b, void *arg), void *arg)
{
	struct sign_batch *b = xcalloc(1, sizeof(*b));
	cJSON *o = cJSON_CreateObject(), *list;
	char *text;

	b->agent = a;
	b->over = over;
	b->arg = arg;
	b->n = n;
	list = cJSON_AddArrayToObject(o, "uploads");
	for (size_t i = 0; i < n; i++) {
		b->ds[i] = ds[i];
		cJSON_AddItemToArray(list, question(ds[i]));
		scheduler_go(a->scheduler, ds[i], DELIVERY_ASKED);
	}
	text = json_line(o);
	cJSON_Delete(o);
	b->call = signer_call(
	    a->signer, "/v1/sign", text, SIGN_TIMEOUT_MS, true, on_signed, b);
	free(text);
	return b;
}

void
sign_cancel(struct sign_batch *b)
{
	signer_cancel(b->call);
	free(b);
}
