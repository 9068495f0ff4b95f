/*
 * check.c - GET /firmware/check: is there something newer for this device?
 *
 * Answered from the manifests that the gateway has, with or without a WAN; asof
 * tells when an origin last confirmed them. Three forms of one decision:
 * key=value lines in a fixed order for sscanf(), JSON by Accept, and with r=1
 * the status alone. Updaters that say in headers of their own who they are get
 * what they expect: RAUC the status, those of ESP8266 and ESP32 the file itself
 * (they follow no redirect), or 304.
 */
#include "firmware.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "catalog.h"
#include "clock.h"
#include "dialect.h"
#include "digest.h"
#include "fleet.h"
#include "gateway_conf.h"
#include "http_parser.h"
#include "http_server.h"
#include "json.h"
#include "log.h"
#include "manifest.h"
#include "offer.h"
#include "proxy.h"
#include "ranges.h"
#include "url.h"
#include "xalloc.h"

#define RETRY_UNKNOWN 10 /* the policy has it, its manifest is not here yet */
#define RING_EVERY_MS 1000

/* A question and its answer. */
struct check {
	struct firmware *fw;
	struct http_request *rq;
	const char *product, *channel, *id; /* id: as the device names itself */
	struct dialect dialect;
	const struct catalog_item *item; /* NULL: not known */
	struct fleet_device *device;
	struct offer offer;
	char *base; /* "http://HOST" */
	char asof[21], etag[35];
};

static const char *const words[] = {
	[OFFER_NONE] = "none",
	[OFFER_UPDATE] = "update",
	[OFFER_WAIT] = "wait",
};

/* ---- where the client finds us ------------------------------------------- */

/* What a Host header may be: a name, an address, a port. */
static bool
good_host(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > 200)
		return false;
	for (; *s != '\0'; s++)
		if (!isalnum((unsigned char)*s) && strchr(".-_:[]", *s) == NULL)
			return false;
	return true;
}

char *
check_base_url(struct http_request *rq)
{
	const char *host = http_request_head(rq)->host;
	char local[HTTP_LOCAL_MAX];

	if (!good_host(host)) {
		http_request_local(rq, local);
		host = local;
	}
	return xasprintf(
	    "%s://%s", http_request_tls(rq) ? "https" : "http", host);
}

static char *
url_of(const struct check *c, const struct manifest_file *f)
{
	char path[BLOB_PATH_MAX];

	blob_path(f->sha256, f->name, path);
	return xasprintf("%s%s", c->base, path);
}

/* ---- forms --------------------------------------------------------------- */

/* The decision, not its age: so that a device may ask If-None-Match. */
static void
make_etag(struct check *c, const char *form)
{
	const struct offer *o = &c->offer;
	uint8_t d[DIGEST_LEN];
	char hex[65] = "", *text;

	if (o->file != NULL)
		hex_encode(o->file->sha256, 32, hex);
	text = xasprintf("%s|%s|%s|%s|%s|%s", form, words[o->status],
	    o->release != NULL ? o->release->version : "", hex,
	    o->status == OFFER_UPDATE ? "" : o->reason, c->base);
	digest_sha256(text, strlen(text), d);
	free(text);
	hex_encode(d, 16, hex);
	snprintf(c->etag, sizeof(c->etag), "\"%s\"", hex);
}

static void
reply_lines(struct check *c)
{
	const struct offer *o = &c->offer;
	char *text, *url, *b64, hex[65];
	bool update = o->status == OFFER_UPDATE;

	if (update) {
		url = url_of(c, o->file);
		hex_encode(o->file->sha256, 32, hex);
		b64 = base64_encode(o->file->sha256, 32);
		text = xasprintf("status=update\nversion=%s\nurl=%s\n"
				 "size=%" PRIu64 "\nsha256=%s\nsha256b64=%s\n"
				 "retry=%" PRId64 "\nasof=%s\n",
		    o->release->version, url, o->file->size, hex, b64, o->retry,
		    c->asof);
		free(url);
		free(b64);
	} else {
		text = xasprintf("status=%s\nretry=%" PRId64 "\nasof=%s\n",
		    words[o->status], o->retry, c->asof);
	}
	http_reply(c->rq, 200, "text/plain; charset=utf-8", text, strlen(text));
	free(text);
}

static cJSON *
file_json(const struct check *c, const struct manifest_file *f)
{
	cJSON *o = cJSON_CreateObject();
	char *url = url_of(c, f), *b64 = base64_encode(f->sha256, 32);

	json_add_text(o, "component", f->component);
	json_add_text(o, "name", f->name);
	json_add_text(o, "url", url);
	json_add_int(o, "size", (int64_t)f->size);
	json_add_hex(o, "sha256", f->sha256, 32);
	json_add_text(o, "sha256b64", b64);
	if (f->has_sha1)
		json_add_hex(o, "sha1", f->sha1, 20);
	if (f->has_md5)
		json_add_hex(o, "md5", f->md5, 16);
	free(url);
	free(b64);
	return o;
}

/* The release's files, and those of the others of its set. */
static void
add_files(const struct check *c, cJSON *list)
{
	const struct manifest *m = c->item->m;
	const struct manifest_release *r = c->offer.release;

	for (size_t i = 0; i < m->releases_n; i++) {
		const struct manifest_release *s = &m->releases[i];
		bool same = s == r ||
		    (r->set != NULL && s->set != NULL &&
			strcmp(s->set, r->set) == 0);

		for (size_t j = 0; same && j < s->files_n; j++)
			cJSON_AddItemToArray(list, file_json(c, &s->files[j]));
	}
}

static void
reply_json(struct check *c)
{
	const struct offer *o = &c->offer;
	cJSON *v = cJSON_CreateObject(), *f;

	json_add_text(v, "status", words[o->status]);
	json_add_text(v, "reason", o->reason);
	if (o->release != NULL)
		json_add_text(v, "version", o->release->version);
	if (o->status == OFFER_UPDATE) {
		f = file_json(c, o->file);
		cJSON_DeleteItemFromObject(f, "component");
		cJSON_DeleteItemFromObject(f, "name");
		while (f->child != NULL) {
			cJSON *e = cJSON_DetachItemViaPointer(f, f->child);

			cJSON_AddItemToObject(v, e->string, e);
		}
		cJSON_Delete(f);
		add_files(c, cJSON_AddArrayToObject(v, "files"));
	}
	json_add_int(v, "retry", o->retry);
	json_add_text(v, "asof", c->asof);
	if (c->item != NULL) {
		json_add_int(
		    v, "age", firmware_now(c->item->m) - c->item->checked);
		json_add_int(v, "seq", c->item->m->seq);
	}
	http_reply_json(c->rq, 200, v);
}

static void
reply_status(struct check *c)
{
	char *url, text[24];

	switch (c->offer.status) {
	case OFFER_UPDATE:
		url = url_of(c, c->offer.file);
		http_reply_header(c->rq, "Location", url);
		free(url);
		http_reply(c->rq, 302, NULL, NULL, 0);
		break;
	case OFFER_WAIT:
		snprintf(text, sizeof(text), "%" PRId64, c->offer.retry);
		http_reply_header(c->rq, "Retry-After", text);
		http_reply(c->rq, 503, NULL, NULL, 0);
		break;
	case OFFER_NONE:
		http_reply(c->rq, 204, NULL, NULL, 0);
		break;
	}
}

/* Is JSON asked for (RFC 9110 section 12.5.1)? ";q=0" says that it is not. */
static bool
wants_json(const char *accept)
{
	static const char type[] = "application/json";
	const char *s = accept != NULL ? strcasestr(accept, type) : NULL;
	double q = 1;

	if (s == NULL)
		return false;
	for (s += sizeof(type) - 1; *s != '\0' && *s != ','; s++)
		if ((*s == 'q' || *s == 'Q') && s[1] == '=')
			q = strtod(s + 2, NULL);
	return q > 0;
}

static void
reply_esp(struct check *c)
{
	const struct offer *o = &c->offer;
	const struct catalog_blob *cb = o->status == OFFER_UPDATE
	    ? catalog_blob(c->fw->catalog, o->file->sha256)
	    : NULL;

	if (cb != NULL)
		blob_give(c->fw, c->rq, cb);
	else if (o->status == OFFER_WAIT)
		reply_status(c);
	else
		http_reply(c->rq, 304, NULL, NULL, 0);
}

static void
reply(struct check *c)
{
	const char *accept = http_request_header(c->rq, "Accept");
	const char *r = http_request_query_get(c->rq, "r");
	bool status = (r != NULL && strcmp(r, "1") == 0) ||
	    c->dialect.kind == DIALECT_RAUC;
	bool json = wants_json(accept);

	if (c->dialect.kind == DIALECT_ESP) {
		reply_esp(c);
		return;
	}
	make_etag(c, status ? "r" : json ? "json" : "text");
	http_reply_header(c->rq, "Cache-Control", "no-cache");
	http_reply_header(c->rq, "Vary", "Accept");
	http_reply_header(c->rq, "ETag", c->etag);
	/* Conditions are for what else were 200 (RFC 9110, 13.2.1). */
	if (status)
		reply_status(c);
	else if (ranges_none_match(
		     http_request_header(c->rq, "If-None-Match"), c->etag))
		http_reply(c->rq, 304, NULL, NULL, 0);
	else if (json)
		reply_json(c);
	else
		reply_lines(c);
}

/* A parameter of the query; what is empty is as if it were not there. */
static const char *
asked(struct http_request *rq, const char *name)
{
	const char *s = http_request_query_get(rq, name);

	return s != NULL && *s != '\0' ? s : NULL;
}

/* ---- the decision -------------------------------------------------------- */

/* A product that is not here: the agent may know where to get it. */
static void
ask_agent(struct check *c)
{
	struct firmware *fw = c->fw;
	int64_t now = clock_ms();

	if (!catalog_knows(fw->catalog, c->product))
		return;
	c->offer.status = OFFER_WAIT;
	c->offer.reason = "no-manifest-yet";
	c->offer.retry = RETRY_UNKNOWN;
	if (now - fw->asked_ms < RING_EVERY_MS && fw->asked_ms != 0)
		return;
	fw->asked_ms = now;
	firmware_ring(fw, "check %s %s", c->product, c->channel);
}

/* As many as may download now? Then the device is told when to come back. */
static void
maybe_wait(struct check *c)
{
	int wait;

	if (c->offer.status != OFFER_UPDATE)
		return;
	wait = turns_wait(c->fw->turns, http_request_peer(c->rq),
	    (unsigned)c->fw->px->conf->parallel_devices, clock_ms());
	if (wait == 0)
		return;
	c->offer.status = OFFER_WAIT;
	c->offer.reason = "turn";
	c->offer.retry = wait;
}

void
firmware_decide(struct firmware *fw, struct fleet_device *d,
    const struct catalog_item *item, const char *component, struct offer *o_out)
{
	const struct manifest *m = item != NULL ? item->m : NULL;
	struct offer_ask ask = { .id = d->id,
		.hw = d->hw,
		.version = d->version,
		.component = component,
		.offered = d->offered,
		.failed = d->failed,
		.fetched = d->fetched_version,
		.fetched_times = d->full,
		.fetched_at = d->fetched_at,
		.now = firmware_now(m) };

	offer_decide(m, &ask, o_out);
}

void
firmware_offered(
    struct firmware *fw, struct fleet_device *d, const struct offer *o)
{
	struct log_text id;

	fw->count.offers++;
	if (d->offered == NULL || strcmp(d->offered, o->release->version) != 0)
		log_info("firmware offered product=%s version=%s device=%s "
			 "address=%s",
		    d->product, o->release->version,
		    log_text(&id, d->id, strlen(d->id)), d->address);
	fleet_offered(fw->fleet, d, o->release->version, o->file->sha256);
}

/* It cannot hold the file, or has it: under a version of its own, perhaps. */
static void
spare(struct check *c)
{
	const struct dialect *d = &c->dialect;
	const struct manifest_file *f = c->offer.file;
	const char *why = NULL;

	if (c->offer.status != OFFER_UPDATE)
		return;
	if (d->has_md5 && f->has_md5 && memcmp(d->md5, f->md5, 16) == 0)
		why = "current";
	else if (f->size > d->free)
		why = "too-large";
	if (why == NULL)
		return;
	c->offer = (struct offer){ OFFER_NONE, why, NULL, NULL, OFFER_RETRY };
}

/* What the query says, else a header of the device's dialect. */
static const char *
said(struct check *c, const char *key, const char *header)
{
	const char *v = asked(c->rq, key);

	return v != NULL ? v : header;
}

static void
decide(struct check *c)
{
	struct http_request *rq = c->rq;
	struct firmware *fw = c->fw;
	const struct manifest *m;
	struct log_text id;

	c->item = catalog_find(fw->catalog, c->product, c->channel);
	m = c->item != NULL ? c->item->m : NULL;
	c->device = fleet_asks(fw->fleet, c->id, http_request_peer(rq),
	    c->product, c->channel, said(c, "hw", c->dialect.hw),
	    said(c, "v", dialect_version(&c->dialect, m)), "check");
	firmware_decide(fw, c->device, c->item,
	    said(c, "c", c->dialect.component), &c->offer);
	spare(c);
	if (c->item == NULL)
		ask_agent(c);
	else
		clock_rfc3339(c->item->checked, c->asof);
	maybe_wait(c);
	if (c->offer.status == OFFER_UPDATE)
		firmware_offered(fw, c->device, &c->offer);
	log_debug("firmware check product=%s device=%s: %s %s", c->product,
	    log_text(&id, c->device->id, strlen(c->device->id)),
	    words[c->offer.status], c->offer.reason);
}

void
on_firmware_check(struct http_request *rq, void *arg)
{
	struct proxy *px = arg;
	struct check c = { .fw = px->firmware, .rq = rq, .channel = "stable" };
	const char *ch = asked(rq, "ch");

	dialect_read(rq, &c.dialect);
	c.id = said(&c, "id", c.dialect.id);
	c.product = asked(rq, "p");
	if (ch != NULL)
		c.channel = ch;
	strcpy(c.asof, "never");
	if (firmware_refuses(c.fw, rq, c.id))
		return;
	c.fw->count.checks++;
	if (c.product == NULL || !firmware_product_ok(c.product) ||
	    !firmware_product_ok(c.channel)) {
		http_reply_error(rq, 400, "p, or ch, is missing or no name",
		    "ask /firmware/check?p=PRODUCT&hw=H&v=RUNNING&id=SERIAL");
		return;
	}
	c.base = check_base_url(rq);
	decide(&c);
	reply(&c);
	free(c.base);
}
