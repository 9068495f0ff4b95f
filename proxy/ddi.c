/*
 * ddi.c - the part of hawkBit's device API that SWUpdate and
 * rauc-hawkbit-updater need (Direct Device Integration API, v1)
 *
 * The tenant is the product; where it is none that the gateway knows, the
 * attribute "product" of the device's configData is. Hardware, version and
 * channel come from its configData as well, the version later from its own
 * feedback. The number of an action is the seq of the release, so nothing has
 * to be kept: what stands in the manifest answers for a deployment as long as
 * it is not revoked.
 */
#include "firmware.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "catalog.h"
#include "clock.h"
#include "fleet.h"
#include "gateway_conf.h"
#include "http_server.h"
#include "json.h"
#include "log.h"
#include "manifest.h"
#include "offer.h"
#include "proxy.h"
#include "url.h"
#include "xalloc.h"

#define BODY_MAX (256 << 10) /* feedback carries the log of an installation */
#define SLEEP_LEAST 10
#define SLEEP_NEW 5 /* of a device that is to tell what it is first */
#define NEW_S 60

/* A request of a device. */
struct ddi {
	struct firmware *fw;
	struct http_request *rq;
	const char *tenant;
	struct fleet_device *device;
	const struct catalog_item *item; /* NULL: nothing known */
};

/* ---- who asks ------------------------------------------------------------ */

static const char *
product_of(struct firmware *fw, const char *tenant, const char *id)
{
	const struct fleet_device *d = fleet_find(fw->fleet, id);

	if (catalog_knows(fw->catalog, tenant) || d == NULL ||
	    d->product == NULL)
		return tenant;
	return d->product;
}

/* false: it was answered. */
static bool
ddi_open(struct proxy *px, struct http_request *rq, struct ddi *x_out)
{
	struct firmware *fw = px->firmware;
	const char *id = http_request_param(rq, "id"), *product;
	struct fleet_device *d;

	memset(x_out, 0, sizeof(*x_out));
	x_out->fw = fw;
	x_out->rq = rq;
	x_out->tenant = http_request_param(rq, "tenant");
	if (firmware_refuses(fw, rq, id))
		return false;
	product = product_of(fw, x_out->tenant, id);
	if (!firmware_product_ok(product)) {
		http_reply_error(rq, 404, "the tenant is no product",
		    "the tenant of the device's configuration is the product's "
		    "name");
		return false;
	}
	product = xstrdup(product); /* it may be the device's own */
	d = fleet_asks(fw->fleet, id, http_request_peer(rq), product, NULL,
	    NULL, NULL, "ddi");
	x_out->device = d;
	x_out->item = catalog_find(
	    fw->catalog, product, d->channel != NULL ? d->channel : "stable");
	free((char *)(uintptr_t)product);
	http_reply_header(rq, "Cache-Control", "no-store");
	return true;
}

static char *
href(const struct ddi *x, const char *what, int64_t action)
{
	char *base = check_base_url(x->rq), *out;
	char *tenant = url_encode(x->tenant, strlen(x->tenant), "");
	char *id = url_encode(x->device->id, strlen(x->device->id), "");

	out = xasprintf(
	    "%s/firmware/ddi/%s/controller/v1/%s/%s", base, tenant, id, what);
	if (action != 0) {
		char *more = xasprintf("%s/%" PRId64, out, action);

		free(out);
		out = more;
	}
	free(base);
	free(tenant);
	free(id);
	return out;
}

static void
add_link(const struct ddi *x, cJSON *links, const char *what, int64_t action)
{
	cJSON *o = cJSON_AddObjectToObject(links, what);
	char *url = href(x, what, action);

	json_add_text(o, "href", url);
	free(url);
}

static const struct manifest_release *
release_by(const struct ddi *x, const char *version, int64_t seq)
{
	const struct manifest *m = x->item != NULL ? x->item->m : NULL;

	for (size_t i = 0; m != NULL && i < m->releases_n; i++)
		if (version != NULL
			? strcmp(m->releases[i].version, version) == 0
			: m->releases[i].seq == seq)
			return &m->releases[i];
	return NULL;
}

/* The release of the request's action; NULL: none, 404 was answered. */
static const struct manifest_release *
action(const struct ddi *x)
{
	const char *text = http_request_param(x->rq, "action");
	const struct manifest_release *r = NULL;
	char *end;
	int64_t seq = strtoll(text, &end, 10);

	if (*text != '\0' && *end == '\0')
		r = release_by(x, NULL, seq);
	if (r == NULL)
		http_reply_error(x->rq, 404, "there is no such action", NULL);
	return r;
}

/* ---- polling ------------------------------------------------------------- */

/* What it was offered, but must not install any more. */
static const struct manifest_release *
to_cancel(const struct ddi *x)
{
	const struct fleet_device *d = x->device;
	const struct manifest_release *r =
	    d->offered != NULL ? release_by(x, d->offered, 0) : NULL;

	if (r == NULL || (!r->revoked && !r->halted) ||
	    (d->version != NULL && strcmp(d->version, r->version) == 0))
		return NULL;
	return r;
}

static bool
has_turn(const struct ddi *x)
{
	return turns_wait(x->fw->turns, x->device->address,
		   (unsigned)x->fw->px->conf->parallel_devices,
		   clock_ms()) == 0;
}

/*
 * Is it the first time that we hear of it? What it runs is asked for first: any
 * release is higher than what is not known, an older one, too. A device that
 * tells nothing has its offer with its next poll.
 */
static bool
is_new(const struct fleet_device *d)
{
	return d->version == NULL && d->since != 0 &&
	    d->seen - d->since < SLEEP_NEW;
}

static int
sleep_after(const struct fleet_device *d, const struct offer *o, bool asks)
{
	if (asks && d->seen - d->since < NEW_S)
		return SLEEP_NEW;
	if (o->retry < SLEEP_LEAST)
		return SLEEP_LEAST;
	return o->retry < OFFER_RETRY ? (int)o->retry : OFFER_RETRY;
}

static void
sleep_text(int s, char out[24])
{
	snprintf(out, 24, "%02d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
}

void
on_ddi_poll(struct http_request *rq, void *arg)
{
	const struct manifest_release *stop;
	cJSON *o, *links, *polling;
	struct offer offer;
	char sleep[24];
	struct ddi x;
	bool asks;

	if (!ddi_open(arg, rq, &x))
		return;
	x.fw->count.checks++;
	firmware_decide(x.fw, x.device, x.item, NULL, &offer);
	stop = to_cancel(&x);
	o = cJSON_CreateObject();
	links = cJSON_CreateObject();
	if (stop != NULL)
		add_link(&x, links, "cancelAction", stop->seq);
	else if (offer.status == OFFER_UPDATE && !is_new(x.device) &&
	    has_turn(&x)) {
		add_link(&x, links, "deploymentBase", offer.release->seq);
		firmware_offered(x.fw, x.device, &offer);
	}
	asks = x.device->hw == NULL || x.device->version == NULL;
	if (asks)
		add_link(&x, links, "configData", 0);
	sleep_text(sleep_after(x.device, &offer, asks), sleep);
	polling = cJSON_AddObjectToObject(
	    cJSON_AddObjectToObject(o, "config"), "polling");
	json_add_text(polling, "sleep", sleep);
	cJSON_AddItemToObject(o, "_links", links);
	http_reply_json(rq, 200, o);
}

/* ---- a deployment -------------------------------------------------------- */

static cJSON *
artifact_json(const struct ddi *x, const struct manifest_file *f)
{
	cJSON *o = cJSON_CreateObject(), *hashes, *links, *link;
	char path[BLOB_PATH_MAX], *base = check_base_url(x->rq), *url;

	blob_path(f->sha256, f->name, path);
	url = xasprintf("%s%s", base, path);
	json_add_text(o, "filename", f->name);
	hashes = cJSON_AddObjectToObject(o, "hashes");
	if (f->has_sha1)
		json_add_hex(hashes, "sha1", f->sha1, 20);
	if (f->has_md5)
		json_add_hex(hashes, "md5", f->md5, 16);
	json_add_hex(hashes, "sha256", f->sha256, 32);
	json_add_int(o, "size", (int64_t)f->size);
	links = cJSON_AddObjectToObject(o, "_links");
	link = cJSON_AddObjectToObject(links, "download-http");
	json_add_text(link, "href", url);
	if (http_request_tls(x->rq)) {
		link = cJSON_AddObjectToObject(links, "download");
		json_add_text(link, "href", url);
	}
	free(base);
	free(url);
	return o;
}

/* One chunk for each component. */
static cJSON *
chunks_json(const struct ddi *x, const struct manifest_release *r)
{
	cJSON *list = cJSON_CreateArray(), *c, *artifacts;

	for (size_t i = 0; i < r->files_n; i++) {
		const struct manifest_file *f = &r->files[i];

		c = cJSON_CreateObject();
		json_add_text(c, "part",
		    strcmp(f->component, "firmware") == 0 ? "os"
							  : f->component);
		json_add_text(c, "version", r->version);
		json_add_text(c, "name", x->item->m->product);
		artifacts = cJSON_AddArrayToObject(c, "artifacts");
		cJSON_AddItemToArray(artifacts, artifact_json(x, f));
		cJSON_AddItemToArray(list, c);
	}
	return list;
}

void
on_ddi_deployment(struct http_request *rq, void *arg)
{
	const struct manifest_release *r;
	cJSON *o, *deployment;
	char text[24];
	struct ddi x;

	if (!ddi_open(arg, rq, &x) || (r = action(&x)) == NULL)
		return;
	if (r->revoked || r->halted || x.device->offered == NULL ||
	    strcmp(x.device->offered, r->version) != 0) {
		http_reply_error(
		    rq, 404, "this is not offered to the device", NULL);
		return;
	}
	o = cJSON_CreateObject();
	snprintf(text, sizeof(text), "%" PRId64, r->seq);
	json_add_text(o, "id", text);
	deployment = cJSON_AddObjectToObject(o, "deployment");
	json_add_text(deployment, "download", "forced");
	json_add_text(deployment, "update", "forced");
	cJSON_AddItemToObject(deployment, "chunks", chunks_json(&x, r));
	http_reply_json(rq, 200, o);
}

/* What is being cancelled: GET .../cancelAction/ID */
void
on_ddi_cancel(struct http_request *rq, void *arg)
{
	const struct manifest_release *r;
	cJSON *o, *c;
	char text[24];
	struct ddi x;

	if (!ddi_open(arg, rq, &x) || (r = action(&x)) == NULL)
		return;
	snprintf(text, sizeof(text), "%" PRId64, r->seq);
	o = cJSON_CreateObject();
	json_add_text(o, "id", text);
	c = cJSON_AddObjectToObject(o, "cancelAction");
	json_add_text(c, "stopId", text);
	http_reply_json(rq, 200, o);
}

/* ---- what the device tells ----------------------------------------------- */

/* The device of a request whose body has come; false: it was answered. */
static bool
reopen(struct http_request *rq, struct proxy *px, struct ddi *x_out,
    const char *body, size_t n, cJSON **v_out)
{
	cJSON *v = json_parse(body, n, BODY_MAX, NULL);

	if (!cJSON_IsObject(v)) {
		cJSON_Delete(v);
		http_reply_error(rq, 400, "the body is no JSON object", NULL);
		return false;
	}
	if (!ddi_open(px, rq, x_out)) {
		cJSON_Delete(v);
		return false;
	}
	*v_out = v;
	return true;
}

static void
on_feedback_body(struct http_request *rq, const char *body, size_t n, void *arg)
{
	const struct manifest_release *r;
	const cJSON *status, *result;
	const char *execution, *finished;
	struct log_text id;
	struct ddi x;
	cJSON *v;
	bool stop = strstr(http_request_path(rq), "/cancelAction/") != NULL;

	if (!reopen(rq, arg, &x, body, n, &v))
		return;
	r = action(&x);
	if (r == NULL) {
		cJSON_Delete(v);
		return;
	}
	status = cJSON_GetObjectItemCaseSensitive(v, "status");
	result = cJSON_GetObjectItemCaseSensitive(status, "result");
	execution = json_string(status, "execution");
	finished = json_string(result, "finished");
	if (execution != NULL && finished != NULL &&
	    strcmp(execution, "closed") == 0) {
		bool ok = strcmp(finished, "success") == 0;

		log_info("firmware device=%s product=%s version=%s: %s",
		    log_text(&id, x.device->id, strlen(x.device->id)),
		    x.device->product, r->version,
		    stop     ? "cancelled"
			: ok ? "installed"
			     : "installation failed");
		if (stop)
			fleet_withdrawn(x.fw->fleet, x.device);
		else if (ok || strcmp(finished, "failure") == 0)
			fleet_installed(x.fw->fleet, x.device, r->version, ok);
	}
	cJSON_Delete(v);
	http_reply(rq, 200, NULL, NULL, 0);
}

void
on_ddi_feedback(struct http_request *rq, void *arg)
{
	http_request_collect(rq, BODY_MAX, on_feedback_body, arg);
}

/* The first of these attributes that there is. */
static const char *
attribute(const cJSON *data, const char *const *names)
{
	const char *s = NULL;

	for (; *names != NULL && (s == NULL || *s == '\0'); names++)
		s = json_string(data, *names);
	return s;
}

static void
on_config_body(struct http_request *rq, const char *body, size_t n, void *arg)
{
	static const char *const hw[] = { "hw", "hwRevision", "hw_revision",
		"HwRevision", "hardware", NULL };
	static const char *const version[] = { "v", "version", "swVersion",
		"sw_version", "fwVersion", "fw_version", NULL };
	static const char *const channel[] = { "ch", "channel", NULL };
	static const char *const product[] = { "product", NULL };
	const char *p, *ch;
	const cJSON *data;
	struct ddi x;
	cJSON *v;

	if (!reopen(rq, arg, &x, body, n, &v))
		return;
	data = cJSON_GetObjectItemCaseSensitive(v, "data");
	p = attribute(data, product);
	ch = attribute(data, channel);
	if (p == NULL || !firmware_product_ok(p) ||
	    catalog_knows(x.fw->catalog, x.tenant))
		p = NULL;
	if (ch != NULL && !firmware_product_ok(ch))
		ch = NULL;
	fleet_asks(x.fw->fleet, x.device->id, http_request_peer(rq), p, ch,
	    attribute(data, hw), attribute(data, version), "ddi");
	cJSON_Delete(v);
	http_reply(rq, 200, NULL, NULL, 0);
}

void
on_ddi_config(struct http_request *rq, void *arg)
{
	http_request_collect(rq, BODY_MAX, on_config_body, arg);
}
