/*
 * firmware_origin.c - where firmware comes from: CDN, bucket, backup
 *
 * What must stay true: no URI but one of ours (origin or backup and a path of
 * the manifest's) or one that the signer gave and recipe_parse() passed is ever
 * asked; no redirect is followed; an answer is refused as soon as it is not
 * what was asked for.
 */
#include "firmware_origin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <event2/event.h>

#include "agent.h"
#include "backoff.h"
#include "certificates.h"
#include "clock.h"
#include "json.h"
#include "log.h"
#include "signed_uri.h"
#include "signer_client.h"
#include "transfer.h"
#include "url.h"
#include "xalloc.h"

#define REST_CAP_MS 60000
#define SIGN_TIMEOUT_MS 15000
#define SHARED_BY 4      /* runs at one time */
#define WHOLE_MS 3600000 /* of one get, however slow the line */
/* Slower is a fault: at once if another can be asked, else later. */
#define HURRY_RATE 4096
#define HURRY_S 5
#define LEAST_RATE 512
#define LEAST_S 30

struct health {
	int64_t rest_until_ms, rest_ms;
	uint64_t octets, failed;
	char error[200];
};

struct fw_origins {
	struct agent *agent;
	struct xfers *xfers;
	struct health h[FW_FROM_N];
	struct signed_uris uris;
};

struct fw_get {
	struct fw_origins *o;
	struct fw_get_request rq; /* texts are ours */
	struct xfer_sink sink;
	fw_get_fn fn;
	void *arg;
	struct signer_call *call;
	struct certificate_wait certificate;
	struct event *soon;
	struct xfer *xfer;

	char *pem;
	char why[300];
	bool fresh; /* its URI was signed for it, not for an earlier one */
	bool signed_anew;
};

static const char *const names[FW_FROM_N] = { "origin", "bucket", "backup" };

const char *
fw_from_name(enum fw_from from)
{
	return names[from];
}

/* ---- how each fares ------------------------------------------------------ */

static const char *
base_of(const struct fw_origins *o, enum fw_from from)
{
	const struct gateway_conf *c = o->agent->conf;

	return from == FW_CDN   ? c->firmware_origin
	    : from == FW_BACKUP ? c->firmware_backup
				: NULL;
}

int
fw_origins_pick(const struct fw_origins *o, unsigned without,
    const char *storage, int64_t now_ms, int64_t *wait_ms_out)
{
	int best = -1;
	int64_t best_ms = INT64_MAX;

	for (int i = 0; i < FW_FROM_N; i++) {
		int64_t wait = o->h[i].rest_until_ms - now_ms;

		if ((without & FW_BIT(i)) != 0 ||
		    (i == FW_BUCKET ? storage == NULL
				    : base_of(o, (enum fw_from)i) == NULL))
			continue;
		if (i == FW_BUCKET && wait <= 0 &&
		    !signer_may(o->agent->signer))
			wait = 1000;
		if (wait <= 0) {
			*wait_ms_out = 0;
			return i;
		}
		if (wait < best_ms) {
			best_ms = wait;
			best = i;
		}
	}
	*wait_ms_out = best >= 0 ? best_ms : 0;
	return best;
}

void
fw_origins_ok(struct fw_origins *o, enum fw_from from, uint64_t octets)
{
	struct health *h = &o->h[from];

	if (h->error[0] != '\0')
		log_info("firmware %s works again", names[from]);
	h->error[0] = '\0';
	h->rest_ms = h->rest_until_ms = 0;
	h->octets += octets;
}

void
fw_origins_failed(struct fw_origins *o, enum fw_from from, const char *why)
{
	struct health *h = &o->h[from];
	h->failed++;
	h->rest_ms = backoff_next(h->rest_ms, REST_CAP_MS, arc4random_uniform);
	h->rest_until_ms = clock_ms() + h->rest_ms;
	if (strcmp(h->error, why) != 0)
		log_warn("firmware %s rests %" PRId64 "ms: %s", names[from],
		    h->rest_ms, why);
	snprintf(h->error, sizeof(h->error), "%s", why);
}

void
fw_origins_again(struct fw_origins *o)
{
	for (int i = 0; i < FW_FROM_N; i++)
		o->h[i].rest_until_ms = o->h[i].rest_ms = 0;
	signed_uris_fini(&o->uris);
}

cJSON *
fw_origins_status(const struct fw_origins *o)
{
	cJSON *all = cJSON_CreateObject(), *v;

	for (int i = 0; i < FW_FROM_N; i++) {
		const struct health *h = &o->h[i];

		if (i != FW_BUCKET && base_of(o, (enum fw_from)i) == NULL)
			continue;
		v = cJSON_AddObjectToObject(all, names[i]);
		cJSON_AddBoolToObject(v, "ok", h->error[0] == '\0');
		json_add_int(v, "octets", (int64_t)h->octets);
		json_add_int(v, "failed", (int64_t)h->failed);
		if (h->error[0] != '\0')
			json_add_text(v, "error", h->error);
	}
	return all;
}

/* ---- one get ------------------------------------------------------------- */

static void
get_free(struct fw_get *g)
{
	certificates_leave(&g->certificate);
	signer_cancel(g->call);
	xfer_cancel(g->xfer);
	if (g->soon != NULL)
		event_free(g->soon);
	free((char *)g->rq.path);
	free((char *)g->rq.storage);
	free((char *)g->rq.etag);
	free(g->pem);
	free(g);
}

static void
over(struct fw_get *g, const struct fw_result *r)
{
	fw_get_fn fn = g->fn;
	void *arg = g->arg;

	fn(r, arg);
	get_free(g);
}

static void
over_before(struct fw_get *g, int rc)
{
	struct fw_result r = { .rc = rc, .why = g->why, .body = "" };

	over(g, &r);
}

static void ask(struct fw_get *g);

/*
 * May signing once more help? A URI may have expired early (403), and one that
 * is kept may be that of a storage, or of keys, that were replaced since.
 */
static bool
is_stale(const struct fw_get *g, int status)
{
	if (g->rq.from != FW_BUCKET || g->signed_anew)
		return false;
	return status == 403 ||
	    (!g->fresh && (status == 400 || status == 401 || status == 404));
}

static void
on_answer(const struct xfer_result *x, void *arg)
{
	struct fw_get *g = arg;
	struct fw_result r = { .rc = x->rc,
		.status = x->status,
		.body = x->body,
		.body_n = x->body_n,
		.xfer = x->xfer };

	g->xfer = NULL; /* frees itself */
	if (g->rq.from == FW_BUCKET && x->status >= 400 && x->status < 500)
		signed_uri_drop(&g->o->uris, g->rq.storage, g->rq.path);
	if (is_stale(g, x->status)) {
		g->signed_anew = true;
		ask(g);
		return;
	}
	if (g->why[0] != '\0') {
		r.why = g->why;
		if (r.rc == 0)
			r.rc = -EBADMSG;
	} else if (x->rc == -ETIMEDOUT) {
		r.why = "too slow";
	} else if (x->rc != 0) {
		r.why = x->error;
	} else if (x->status != 200 && x->status != 206 && x->status != 304) {
		snprintf(g->why, sizeof(g->why), "answered %d", x->status);
		r.why = g->why;
	}
	over(g, &r);
}

static int
refuse(struct fw_get *g, const char *fmt, const char *what)
{
	struct log_text t;

	snprintf(g->why, sizeof(g->why), fmt, log_text(&t, what, strlen(what)));
	return -EBADMSG;
}

/* Is the answer the range that was asked for, as it is (RFC 9110 14.4)? */
static int
check_range(struct fw_get *g, struct xfer *t, int status)
{
	const char *got = xfer_header(t, "Content-Range");
	const char *length = xfer_header(t, "Content-Length");
	const char *type = xfer_header(t, "Content-Type");
	uint64_t last = g->rq.offset + g->rq.length - 1;
	char want[64], number[24], words[16];

	snprintf(words, sizeof(words), "%d", status);
	if (status != 206)
		return refuse(g, "answered %s for a range", words);
	if (type != NULL && strncmp(type, "multipart/", 10) == 0)
		return refuse(g, "sent %s for one range", type);
	snprintf(want, sizeof(want), "bytes %" PRIu64 "-%" PRIu64 "/",
	    g->rq.offset, last);
	if (got == NULL || strncmp(got, want, strlen(want)) != 0)
		return refuse(g, "sent another range: %s",
		    got != NULL ? got : "no Content-Range");
	snprintf(number, sizeof(number), "%" PRIu64, g->rq.length);
	if (length != NULL && strcmp(length, number) != 0)
		return refuse(g, "sent another length: %s", length);
	return 0;
}

static int
on_head(void *arg, struct xfer *t, int status)
{
	struct fw_get *g = arg;
	const char *coding = xfer_header(t, "Content-Encoding");

	if (is_stale(g, status))
		return -ECANCELED; /* on_answer() signs again */
	if (coding != NULL && strcmp(coding, "identity") != 0)
		return refuse(g, "sent it encoded: %s", coding);
	if (g->rq.ranged && check_range(g, t, status) != 0)
		return -EBADMSG;
	if (!g->rq.ranged && status != 200) {
		snprintf(g->why, sizeof(g->why), "answered %d", status);
		return -EBADMSG;
	}
	return g->sink.head != NULL ? g->sink.head(g->sink.arg, t, status) : 0;
}

static int
on_write(void *arg, const char *p, size_t n)
{
	struct fw_get *g = arg;

	return g->sink.write(g->sink.arg, p, n);
}

/* The signer's own address, FILE storages have it, is always allowed. */
static void
manners(struct fw_get *g, const char *uri, struct xfer_request *x)
{
	struct agent *a = g->o->agent;
	const struct origin *own;
	struct origin there;
	size_t n;

	x->allow_http = a->conf->allow_http || g->rq.from == FW_BUCKET;
	x->allow_private = a->conf->allow_private;
	x->proxy = a->conf->upload_proxy;
	x->ca_pem = g->pem;
	if (origin_parse(uri, &there) != 0)
		return;
	own = signer_origins(a->signer, &n);
	for (size_t i = 0; i < n; i++)
		if (origin_equal(&own[i], &there)) {
			x->allow_private = true;
			if (g->pem == NULL)
				x->ca_file = a->conf->ca_file;
		}
	if (host_is_private(there.host))
		x->proxy = NULL;
}

#define OWN_HEADERS 3

static void
send_get(struct fw_get *g, const char *uri, const struct recipe_header *more,
    size_t more_n)
{
	struct recipe_header *h = xcalloc(more_n + OWN_HEADERS, sizeof(*h));
	struct xfer_sink sink = { on_head, on_write, g };
	struct xfer_request x = { .method = "GET",
		.uri = uri,
		.answer_max = g->rq.answer_max,
		.timeout_ms = WHOLE_MS,
		.least_rate = g->rq.hurry ? HURRY_RATE : LEAST_RATE,
		.least_s = g->rq.hurry ? HURRY_S : LEAST_S };
	int64_t rate = g->o->agent->conf->rate_limit;
	char range[64];
	size_t n = more_n;

	/* Our own rate, which several share, is nobody's fault. */
	if (rate != CONF_NONE && rate > 0)
		x.timeout_ms += (int64_t)g->rq.length * SHARED_BY * 1000 / rate;
	if (more_n > 0)
		memcpy(h, more, more_n * sizeof(*h));
	h[n++] = (struct recipe_header){ (char *)"Accept-Encoding",
		(char *)"identity" };
	if (g->rq.ranged) {
		snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64,
		    g->rq.offset, g->rq.offset + g->rq.length - 1);
		h[n++] = (struct recipe_header){ (char *)"Range", range };
	}
	if (g->rq.etag != NULL && g->rq.etag[0] != '\0')
		h[n++] = (struct recipe_header){ (char *)"If-None-Match",
			(char *)g->rq.etag };
	x.headers = h;
	x.headers_n = n;
	if (g->sink.write != NULL)
		x.sink = &sink;
	manners(g, uri, &x);
	g->xfer = xfer_start(g->o->xfers, &x, on_answer, g);
	free(h);
}

static void
on_pem(const char *pem, const char *error, void *arg)
{
	struct fw_get *g = arg;

	if (pem == NULL) {
		snprintf(g->why, sizeof(g->why),
		    "no certificate of the store: %s", error);
		over_before(g, -EKEYREJECTED);
		return;
	}
	g->pem = xstrdup(pem);
	ask(g);
}

static void
send_signed(struct fw_get *g, struct signed_uri *u)
{
	const struct recipe_request *rq = &u->recipe->requests[0];
	const char *id = u->recipe->certificate_id, *pem;

	if (id != NULL && g->pem == NULL) {
		g->certificate.fn = on_pem;
		g->certificate.arg = g;
		pem = certificates_get(
		    g->o->agent->certificates, id, &g->certificate);
		if (pem == NULL)
			return;
		g->pem = xstrdup(pem);
	}
	send_get(g, rq->uri, rq->headers, rq->headers_n);
}

/* The recipe of the only result; NULL: g->why tells. */
static struct recipe *
recipe_of(struct fw_get *g, const struct signer_answer *ans)
{
	struct agent *a = g->o->agent;
	struct storage *st = storages_get(&a->storages, g->rq.storage);
	const cJSON *one = cJSON_GetArrayItem(
	    cJSON_GetObjectItemCaseSensitive(ans->json, "results"), 0);
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(one, "recipe");
	struct recipe_rules rules = { .allow_http = a->conf->allow_http,
		.allow_private = a->conf->allow_private };
	struct recipe *r = NULL;

	if (ans->error != NULL) {
		snprintf(g->why, sizeof(g->why), "signer: %s", ans->error);
		return NULL;
	}
	if (st != NULL && st->hosts_known) {
		rules.hosts = (const char *const *)st->hosts;
		rules.hosts_n = st->hosts_n;
	}
	rules.exempt = signer_origins(a->signer, &rules.exempt_n);
	if (!cJSON_IsObject(v)) {
		const cJSON *e = cJSON_GetObjectItemCaseSensitive(one, "error");
		const char *words = json_string(e, "title");

		snprintf(g->why, sizeof(g->why),
		    "the signer refuses it: %.200s",
		    words != NULL ? words : "no reason given");
		return NULL;
	}
	if (recipe_parse(v, &rules, &r, g->why, sizeof(g->why)) != 0)
		return NULL;
	if (r->requests_n != 1 || strcmp(r->requests[0].method, "GET") != 0) {
		snprintf(g->why, sizeof(g->why), "the recipe is no single GET");
		recipe_free(r);
		return NULL;
	}
	return r;
}

static void
on_signed(const struct signer_answer *ans, void *arg)
{
	struct fw_get *g = arg;
	struct recipe *r = recipe_of(g, ans);

	g->call = NULL;
	if (r == NULL)
		over_before(g, -EACCES);
	else
		send_signed(g,
		    signed_uri_keep(&g->o->uris, g->rq.storage, g->rq.path, r,
			ans->asked_ms));
}

static void
sign(struct fw_get *g)
{
	cJSON *o = cJSON_CreateObject(), *v = cJSON_CreateObject();
	char *text;

	g->fresh = true;
	json_add_text(v, "id", "firmware");
	json_add_text(v, "storage", g->rq.storage);
	json_add_text(v, "method", "GET");
	json_add_text(v, "key", g->rq.path);
	cJSON_AddItemToArray(cJSON_AddArrayToObject(o, "uploads"), v);
	text = json_line(o);
	cJSON_Delete(o);
	g->call = signer_call(g->o->agent->signer, "/v1/sign", text,
	    SIGN_TIMEOUT_MS, false, on_signed, g);
	free(text);
}

static void
ask(struct fw_get *g)
{
	const char *base = base_of(g->o, g->rq.from);
	struct signed_uri *u;
	char *path, *uri;

	if (g->rq.from == FW_BUCKET) {
		u = signed_uri_find(&g->o->uris, g->rq.storage, g->rq.path);
		if (u != NULL)
			send_signed(g, u);
		else
			sign(g);
		return;
	}
	if (base == NULL) { /* taken out of the settings meanwhile */
		snprintf(g->why, sizeof(g->why), "not set");
		over_before(g, -ENOENT);
		return;
	}
	path = url_encode(g->rq.path, strlen(g->rq.path), "/");
	uri = xasprintf("%s/%s", base, path);
	send_get(g, uri, NULL, 0);
	free(path);
	free(uri);
}

static void
on_soon(evutil_socket_t fd, short what, void *arg)
{
	ask(arg);
}

struct fw_get *
fw_get(struct fw_origins *o, const struct fw_get_request *rq, fw_get_fn fn,
    void *arg)
{
	struct fw_get *g = xcalloc(1, sizeof(*g));
	struct timeval now = { 0, 0 };

	g->o = o;
	g->rq = *rq;
	g->rq.path = xstrdup(rq->path);
	g->rq.storage = rq->storage != NULL ? xstrdup(rq->storage) : NULL;
	g->rq.etag = rq->etag != NULL ? xstrdup(rq->etag) : NULL;
	if (rq->sink != NULL)
		g->sink = *rq->sink;
	g->rq.sink = NULL;
	g->fn = fn;
	g->arg = arg;
	g->soon = evtimer_new(o->agent->base, on_soon, g);
	event_add(g->soon, &now);
	return g;
}

void
fw_get_resume(struct fw_get *g)
{
	if (g != NULL && g->xfer != NULL)
		xfer_resume(g->xfer);
}

void
fw_get_cancel(struct fw_get *g)
{
	if (g != NULL)
		get_free(g);
}

struct fw_origins *
fw_origins_new(struct agent *a)
{
	struct fw_origins *o = xcalloc(1, sizeof(*o));

	o->agent = a;
	o->xfers = xfers_new(a->base, 8);
	TAILQ_INIT(&o->uris.list);
	return o;
}

void
fw_origins_free(struct fw_origins *o)
{
	if (o == NULL)
		return;
	signed_uris_fini(&o->uris);
	xfers_free(o->xfers);
	free(o);
}
