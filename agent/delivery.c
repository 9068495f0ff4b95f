/*
 * delivery.c - sends one upload as its recipe says
 *
 * The requests of a recipe run one after the other. What an answer means is
 * looked up in the signer's rows; what has no row is retried: nothing is given
 * up unless the signer says so. A success counts only when all octets went,
 * the SHA-256 of what was read fits, and the store's answer fits `verify`.
 *
 * An upload in parts is the same with several recipes: start, as many parts as
 * that told, finish; between them what was kept is committed, so that a restart
 * goes on with the next part. If the storage is replaced meanwhile, what was
 * begun is given up where it was begun, as well as that goes, and begun anew.
 * Parts of one file go one after the other, whatever `parallel` says: the
 * SHA-256 of the whole is made as they go by, and the end of the last one is
 * withheld until it fits. A fast uplink is filled by several files at once.
 */
#include "delivery.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <event2/event.h>

#include "agent.h"
#include "body.h"
#include "clock.h"
#include "scheduler.h"
#include "signer_client.h"
#include "transfer.h"
#include "verify.h"
#include "xalloc.h"

#define ANSWER_MAX (64 * 1024)

static void request_start(struct delivery *d);

/* ---- life ---------------------------------------------------------------- */

static void
on_turn(void *arg)
{
	struct delivery *d = arg;

	if (d->xfer != NULL)
		xfer_resume(d->xfer);
}

struct delivery *
delivery_new(struct agent *a, struct spool_item *it, struct storage *st)
{
	struct delivery *d = xcalloc(1, sizeof(*d));

	d->agent = a;
	d->it = *it;
	memset(it, 0, sizeof(*it));
	d->st = st;
	d->turn.go = on_turn;
	d->turn.arg = d;
	if (d->it.found)
		d->ask = ASK_LOOK;
	delivery_kept_parse(d);
	return d;
}

void
delivery_stop(struct delivery *d)
{
	image_cancel(d->shrinking);
	d->shrinking = NULL;
	certificates_leave(&d->certificate);
	xfer_cancel(d->xfer);
	d->xfer = NULL;
	uplink_leave(&d->agent->uplink, &d->turn);
	body_close(d->body);
	d->body = NULL;
	recipe_free(d->recipe);
	d->recipe = NULL;
	free(d->pem);
	d->pem = NULL;
	d->at = 0;
}

void
delivery_free(struct delivery *d)
{
	delivery_stop(d);
	body_hash_free(d->hash);
	image_made_unref(d->made);
	cJSON_Delete(d->kept);
	if (d->again != NULL)
		event_free(d->again);
	spool_item_fini(&d->it);
	free(d);
}

/* ---- on to another recipe ------------------------------------------------ */

void
delivery_sign_again(struct delivery *d)
{
	delivery_stop(d);
	scheduler_go(d->agent->scheduler, d, DELIVERY_SIGN);
}

/* Begin from nothing: the store no longer knows the parts. */
static void
start_over(struct delivery *d, const char *why)
{
	if (d->starts++ > 0) {
		delivery_failed(d, 404, -1, why);
		return;
	}
	delivery_forget_parts(d);
	d->ask = ASK_SEND;
	delivery_sign_again(d);
}

/* Look whether it is there already. */
static void
look(struct delivery *d, const char *why)
{
	if (d->looks++ > 0) {
		delivery_failed(d, 400, -1, why);
		return;
	}
	d->ask = ASK_LOOK;
	delivery_sign_again(d);
}

void
delivery_begin_anew(struct delivery *d, const char *why)
{
	if (d->ask == ASK_SEND && d->step[0] != '\0') {
		d->ask = ASK_ABORT;
		delivery_sign_again(d);
	} else {
		start_over(d, why);
	}
}

static void
on_kept(int rc, void *arg)
{
	struct delivery *d = arg;

	if (rc == -ECANCELED)
		return; /* the spool is being closed */
	if (rc != 0) {
		delivery_defer(d, 5000, false, "cannot note its parts: spool");
		return;
	}
	delivery_sign_again(d);
}

/* All requests of the recipe have succeeded: what comes next? */
static void
recipe_done(struct delivery *d)
{
	const struct recipe *r = d->recipe;
	char *text;

	if (d->ask == ASK_ABORT) {
		delivery_begin_anew(d, "the storage was replaced");
		return;
	}
	if (r->parts > 0 && d->ask == ASK_SEND) {
		d->parts = r->parts;
		d->part = 1;
	} else if (d->part > 0 && d->part < d->parts && d->ask == ASK_SEND) {
		d->part++; /* of the same step */
	} else {
		d->part = 0;
	}
	if (d->ask == ASK_LOOK || (d->part <= 1 && r->step == NULL)) {
		delivery_done(d);
		return;
	}
	if (d->part <= 1)
		snprintf(d->step, sizeof(d->step), "%s", r->step);
	delivery_store_ok(d);
	text = delivery_kept_text(d);
	spool_keep(d->agent->spool, d->it.seq, text, on_kept, d);
	free(text);
}

/* ---- answers ------------------------------------------------------------- */

/* Do what the row says. */
static void
act(struct delivery *d, enum recipe_do what, const struct xfer_result *r,
    const char *why)
{
	switch (what) {
	case DO_RETRY:
	case DO_WAIT:
		delivery_failed(d, r->status, r->retry_after_ms, why);
		break;
	case DO_SIGN:
		if (d->signs++ > 0)
			delivery_failed(d, r->status, r->retry_after_ms, why);
		else
			delivery_sign_again(d);
		break;
	case DO_QUARANTINE:
		delivery_store_ok(d);
		delivery_quarantine(d, why);
		break;
	case DO_VERIFY:
		look(d, why);
		break;
	case DO_DONE:
		delivery_done(d);
		break;
	case DO_START:
		start_over(d, why);
		break;
	}
}

/* Looked for and not there. */
static void
absent(struct delivery *d, const char *why)
{
	if (d->lost) {
		delivery_offer_original(d);
	} else if (d->step[0] != '\0') {
		start_over(d, why);
	} else if (d->it.found && d->looks == 0) {
		d->looks++;
		d->ask = ASK_SEND;
		delivery_sign_again(d);
	} else {
		delivery_failed(d, 404, -1, why);
	}
}

static void
refused(struct delivery *d, const struct xfer_result *r, const char *code)
{
	char why[300];
	enum recipe_do what = DO_RETRY;

	snprintf(why, sizeof(why), "store answered %d%s%s", r->status,
	    *code != '\0' ? " " : "", code);
	if (d->ask == ASK_LOOK &&
	    (r->status == 404 ||
		(r->status == 403 &&
		    (d->lost || (d->it.found && d->looks == 0))))) {
		absent(d, why);
		return;
	}
	if (recipe_answers_find(
		&d->st->answers, r->status, code, false, &what) != 0 &&
	    r->status == 403)
		what = DO_SIGN; /* no row: perhaps it was used too late */
	act(d, what, r, why);
}

static void
verdict(struct delivery *d)
{
	char why[300];

	switch (verify_answer(d, why, sizeof(why))) {
	case VERIFY_FITS:
		recipe_done(d);
		break;
	case VERIFY_DIFFERS:
		if (d->lost)
			absent(d, why);
		else if (delivery_original_instead(d))
			verdict(d);
		else if (d->ask == ASK_LOOK)
			delivery_quarantine(d, why);
		else
			delivery_failed(d, 400, -1, why);
		break;
	case VERIFY_UNKNOWN:
		if (d->lost)
			absent(d, why);
		else
			look(d, why);
		break;
	case VERIFY_LATER: /* verdict() comes again */
		break;
	}
}

void
delivery_verdict(struct delivery *d)
{
	verdict(d);
}

/* The request has succeeded by its status. */
static void
succeeded(struct delivery *d, const struct xfer_result *r)
{
	const struct recipe_request *rq = &d->recipe->requests[d->at];
	bool last = d->at + 1 == d->recipe->requests_n;
	const char *missing;
	char why[160];

	if (rq->body == BODY_FILE &&
	    (r->sent != rq->length || body_state(d->body) != 1)) {
		delivery_failed(d, r->status, -1,
		    "store answered before it had all octets");
		return;
	}
	missing = delivery_keep(d, rq, r);
	if (missing != NULL) {
		snprintf(why, sizeof(why), "store's answer %d lacks its %s",
		    r->status, missing);
		delivery_failed(d, r->status, -1, why);
		return;
	}
	if (last)
		verify_note(d, r);
	if (rq->body == BODY_FILE) {
		body_hash_free(d->hash);
		d->hash = body_take_hash(d->body);
	}
	body_close(d->body);
	d->body = NULL;
	if (!last) {
		d->at++;
		request_start(d);
		return;
	}
	verdict(d);
}

/* The octets could not be read, or are not those that were received. */
static void
unreadable(struct delivery *d, int rc)
{
	char why[200];

	if (d->made != NULL && d->made->smaller) {
		image_forget(d->agent->images, d->it.seq);
		delivery_defer(
		    d, 1000, true, "its smaller copy cannot be read");
		return;
	}
	if (rc == -EBADMSG || rc == -EIO || rc == -ENOENT || rc == -ENODATA) {
		snprintf(why, sizeof(why), "%s",
		    rc == -EBADMSG ? "the file on disk is damaged: its SHA-256 "
				     "is not that of receipt"
			: rc == -EIO
			? "the file on disk cannot be read: disk error"
			: "the file is no longer on disk");
		delivery_quarantine(d, why);
		return;
	}
	snprintf(why, sizeof(why), "cannot read the file: %s", strerror(-rc));
	delivery_defer(d, 5000, true, why);
}

void
delivery_unreadable(struct delivery *d, int rc)
{
	unreadable(d, rc);
}

static void
on_answer(const struct xfer_result *r, void *arg)
{
	struct delivery *d = arg;
	const struct recipe_request *rq = &d->recipe->requests[d->at];
	enum recipe_do what;
	char code[128], why[400];

	d->xfer = NULL;
	uplink_leave(&d->agent->uplink, &d->turn);
	if (d->ask == ASK_ABORT) { /* whatever the old store says to it */
		delivery_begin_anew(d, "the storage was replaced");
		return;
	}
	if (r->rc != 0) {
		if (d->body != NULL && body_state(d->body) < 0) {
			unreadable(d, body_state(d->body));
			return;
		}
		if (r->tls && d->recipe->certificate_id != NULL)
			certificates_doubt(
			    d->agent->certificates, d->recipe->certificate_id);
		snprintf(why, sizeof(why), "%s %.120s: %s", rq->method,
		    rq->origin.host, r->error);
		delivery_failed(d, 0, r->retry_after_ms, why);
		return;
	}
	answer_code(r->body, r->body_n, code, sizeof(code));
	if (!recipe_request_ok(rq, r->status)) {
		refused(d, r, code);
		return;
	}
	/* Some say 200 and mean an error. */
	if (code[0] != '\0' &&
	    recipe_answers_find(
		&d->st->answers, r->status, code, true, &what) == 0) {
		refused(d, r, code);
		return;
	}
	succeeded(d, r);
}

/* ---- requests ------------------------------------------------------------ */

static ssize_t
source_read(void *arg, char *buf, size_t n)
{
	struct delivery *d = arg;
	struct uplink *u = &d->agent->uplink;
	size_t may = uplink_take(u, &d->turn, n);
	ssize_t got;

	if (may == 0)
		return -EAGAIN;
	got = body_read(d->body, buf, may);
	uplink_return(u, may - (got > 0 ? (size_t)got : 0));
	return got;
}

static int
source_rewind(void *arg)
{
	struct delivery *d = arg;

	body_rewind(d->body);
	return 0;
}

int
delivery_file(const struct delivery *d)
{
	return d->made != NULL && d->made->smaller ? d->made->fd : 0;
}

static void
body_start(struct delivery *d, const struct recipe_request *rq)
{
	bool last = d->at + 1 == d->recipe->requests_n;
	struct body_range range = {
		.offset = rq->offset,
		.length = rq->length,
		.digest = last ? verify_along(d) : DIGEST_NONE,
		.before = d->hash,
		.file = delivery_file(d),
	};

	d->hash = NULL;
	d->body = body_open(d->agent->bodies, &d->it, &range, on_turn, d);
}

void
delivery_prepare(struct delivery *d)
{
	if (d->body == NULL && d->hash == NULL && d->step[0] == '\0' &&
	    d->recipe->requests_n > 0 &&
	    d->recipe->requests[0].body == BODY_FILE)
		body_start(d, &d->recipe->requests[0]);
}

void
delivery_request(struct agent *a, const struct recipe_request *rq,
    const char *pem, struct xfer_request *out)
{
	const struct origin *own;
	size_t own_n;

	*out = (struct xfer_request){
		.method = rq->method,
		.uri = rq->uri,
		.headers = rq->headers,
		.headers_n = rq->headers_n,
		.answer_max = ANSWER_MAX,
		.ca_pem = pem,
		.allow_http = true, /* the recipe has been checked */
		.allow_private = a->conf->allow_private,
		.proxy = a->conf->upload_proxy,
	};
	own = signer_origins(a->signer, &own_n);
	for (size_t i = 0; i < own_n; i++)
		if (origin_equal(&own[i], &rq->origin)) {
			out->allow_private = true;
			if (pem == NULL)
				out->ca_file = a->conf->ca_file;
		}
	if (host_is_private(rq->origin.host))
		out->proxy = NULL;
	if (rq->body == BODY_TEXT)
		out->text = rq->text;
}

static void
request_start(struct delivery *d)
{
	const struct recipe_request *rq = &d->recipe->requests[d->at];
	struct xfer_source source = { source_read, source_rewind, d };
	struct xfer_request xr;

	if (clock_ms() >= d->expires_ms) {
		delivery_sign_again(d);
		return;
	}
	delivery_request(d->agent, rq, d->pem, &xr);
	if (rq->body == BODY_FILE) {
		if (d->body == NULL) /* else it was prepared */
			body_start(d, rq);
		xr.source = &source;
		xr.length = rq->length;
	}
	d->xfer = xfer_start(d->agent->stores, &xr, on_answer, d);
}

static void
on_certificate(const char *pem, const char *error, void *arg)
{
	struct delivery *d = arg;
	char why[300];

	if (pem == NULL && d->ask == ASK_ABORT) {
		delivery_begin_anew(d, "the storage was replaced");
		return;
	}
	if (pem == NULL) {
		snprintf(
		    why, sizeof(why), "no certificate of the store: %s", error);
		delivery_failed(d, 400, -1, why);
		return;
	}
	d->pem = xstrdup(pem);
	request_start(d);
}

void
delivery_start(struct delivery *d)
{
	const char *id = d->recipe->certificate_id, *pem;

	if (d->begun_ms == 0)
		d->begun_ms = clock_ms();
	d->at = 0;
	if (d->recipe->requests_n == 0) {
		recipe_done(d); /* a start that needs no request */
		return;
	}
	if (id != NULL) {
		d->certificate.fn = on_certificate;
		d->certificate.arg = d;
		pem = certificates_get(
		    d->agent->certificates, id, &d->certificate);
		if (pem == NULL)
			return;
		d->pem = xstrdup(pem);
	}
	request_start(d);
}
