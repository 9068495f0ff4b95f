/*
 * blob.c - firmware by its hash: GET, HEAD /firmware/b/SHA256[/any-name]
 *
 * The URL names the content, so a device that resumes without If-Range gets
 * what it began with. The length is known from the signed manifest: HEAD,
 * conditions and 416 need neither the cache nor an origin. An answer begins
 * when its first octets can be sent; from then on it waits for what is missing
 * with the agent filling, and is cut only when nothing has come for a long
 * time, the blob is revoked or it is gone: a cut is resumed, a wrong octet is
 * not noticed by every device.
 *
 * Temporary trouble is 503 with Retry-After: to some devices 403 and 404 are
 * final. A 416 has no body, as one of them hashes whatever it is sent.
 */
#include "firmware.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <event2/buffer.h>

#include "blob_head.h"
#include "catalog.h"
#include "clock.h"
#include "fleet.h"
#include "gateway_conf.h"
#include "http_server.h"
#include "log.h"
#include "manifest.h"
#include "proxy.h"
#include "ranges.h"
#include "shelf.h"
#include "url.h"
#include "xalloc.h"

#define FIRST_WAIT_MS 15000 /* for the first octet, then 503 */
#define WAIT_MS 60000       /* for any further one, then it is cut */
#define RETRY_SOON 5
#define PIECE_MAX (4u << 20) /* octets queued at once */
#define NO_ORIGIN "no origin gives it now"
#define TYPE "application/octet-stream"

struct download {
	struct shelf_reader reader; /* first: reader.ready() finds it */
	TAILQ_ENTRY(download) link;
	struct firmware *fw;
	struct http_request *rq;
	struct turn *turn;
	uint8_t sha256[32];
	char hex[65], address[48];
	char product[65], channel[65], version[FIRMWARE_VERSION_MAX + 1];
	char md5[33]; /* "": the publisher gave none */
	struct ranges_body body;
	struct range one, *many; /* many: malloc'd */
	uint64_t length, told;   /* of the body; octets that turns knows of */
	int64_t waits_ms;        /* since when; 0: it does not */
	int holds;               /* as shelf_holds(), when it came */
	bool begun, shared;
	bool ended;        /* all is queued */
	bool refused, cut; /* nothing more is to be done */
};

static void pump(struct download *d);

/* ---- the head of an answer ----------------------------------------------- */

/* RFC 9211. */
static const char *
cache_status(const struct download *d)
{
	if (d->holds == 2)
		return "edgehaul; hit";
	if (d->holds == 1)
		return d->shared ? "edgehaul; fwd=partial; collapsed"
				 : "edgehaul; fwd=partial; stored";
	return d->shared ? "edgehaul; fwd=uri-miss; collapsed"
			 : "edgehaul; fwd=uri-miss; stored";
}

/* ---- the body ------------------------------------------------------------ */

static bool
may_send(struct http_request *rq, int fd, uint64_t off, uint64_t n, void *arg)
{
	struct download *d = arg;

	return !d->cut && shelf_may_send(&d->reader, off, n);
}

static void
moved(struct download *d, uint64_t left)
{
	uint64_t sent = d->length - left;

	if (sent > d->told)
		turns_moved(d->turn, sent - d->told, left, clock_ms());
	d->told = sent;
}

static void
waits(struct download *d)
{
	if (d->waits_ms == 0)
		d->waits_ms = clock_ms();
}

static void
cut(struct download *d, const char *why)
{
	if (d->cut)
		return;
	d->cut = true;
	d->fw->count.cut++;
	log_warn("firmware %s address=%s cut: %s", d->hex, d->address, why);
	http_reply_abort(d->rq);
}

/* Queue what stands at the place the answer has come to. false: that is all
 * for now. */
static bool
pump_piece(struct download *d)
{
	uint64_t left = http_reply_left(d->rq), n = 0;
	struct evbuffer *b = d->fw->copy;
	struct ranges_piece p;
	bool more = true;

	ranges_piece(&d->body, d->length - left, &p);
	if (p.n == 0) {
		http_reply_end(d->rq);
		d->ended = true;
		return false;
	}
	if (!p.file) {
		evbuffer_add(b, p.text, p.n);
		http_reply_write(d->rq, b);
	} else {
		if (p.n > PIECE_MAX)
			p.n = PIECE_MAX;
		switch (shelf_take(&d->reader, p.off, p.n, &n, b)) {
		case SHELF_FILE:
			http_reply_sendfile(
			    d->rq, shelf_fd(&d->reader), p.off, n);
			break;
		case SHELF_COPY:
			http_reply_write(d->rq, b);
			more = false; /* on_room comes back for the rest */
			break;
		case SHELF_WAIT:
			waits(d);
			more = false;
			break;
		case SHELF_BUSY: /* for its own client: the server's clock runs
				  */
			d->waits_ms = 0;
			more = false;
			break;
		case SHELF_GONE:
			cut(d, "it is not in the cache any more");
			more = false;
			break;
		}
		if (n > 0)
			d->waits_ms = 0;
	}
	return more;
}

static void
on_room(struct http_request *rq, void *arg)
{
	struct download *d = arg;

	d->ended = false; /* an end may have been taken back */
	pump(d);
}

/* The first octets are there. */
static void
begin(struct download *d)
{
	struct http_request *rq = d->rq;
	const char *type = TYPE;
	char etag[67], text[96];
	bool is_range = d->body.boundary[0] != '\0';

	blob_etag(d->hex, etag);
	blob_fields(rq, d->sha256, etag, d->md5);
	http_reply_header(rq, "Cache-Status", cache_status(d));
	if (is_range && d->body.n == 1) {
		snprintf(text, sizeof(text),
		    "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, d->one.first,
		    d->one.first + d->one.n - 1, d->body.size);
		http_reply_header(rq, "Content-Range", text);
	} else if (is_range) {
		snprintf(text, sizeof(text),
		    "multipart/byteranges; boundary=%s", d->body.boundary);
		type = text;
	}
	d->begun = true;
	d->fw->count.hits += d->holds == 2;
	http_reply_check_files(rq, may_send, d);
	http_reply_begin(rq, is_range ? 206 : 200, type, d->length, on_room, d);
}

static void
give_up(struct download *d, int retry, const char *why)
{
	if (d->begun) {
		cut(d, why);
		return;
	}
	d->refused = true;
	firmware_later(d->rq, retry, why,
	    "the gateway has it not yet; see `edgehaul status`");
}

/* Is what it begins with there? If not it waits and is woken. */
static bool
can_begin(struct download *d)
{
	const struct range *first = &d->body.list[0];
	struct evbuffer *b = d->fw->copy;
	enum shelf_answer a;
	uint64_t n;
	int retry;

	a = first->n == 0
	    ? SHELF_FILE
	    : shelf_take(&d->reader, first->first, first->n, &n, b);
	evbuffer_drain(b, evbuffer_get_length(b));
	if (d->holds < 0 && first->n > 0)
		d->holds = shelf_holds(&d->reader, first->first, first->n);
	d->shared = d->shared || shelf_shared(&d->reader);
	if (a == SHELF_GONE)
		give_up(d, RETRY_SOON, "it has left the cache just now");
	if (a == SHELF_WAIT || a == SHELF_BUSY)
		waits(d);
	if (a == SHELF_WAIT && shelf_holds(&d->reader, first->first, 1) == 0 &&
	    (retry = firmware_trouble(d->fw, d->hex)) > 0)
		give_up(d, retry, NO_ORIGIN);
	return a == SHELF_FILE || a == SHELF_COPY;
}

static void
pump(struct download *d)
{
	if (d->cut || d->refused || d->ended)
		return;
	if (!d->begun) {
		if (!can_begin(d))
			return;
		begin(d);
	}
	while (pump_piece(d))
		;
	moved(d, http_reply_left(d->rq));
}

static void
on_ready(struct shelf_reader *r)
{
	pump((struct download *)r);
}

/* ---- life ---------------------------------------------------------------- */

static void
on_done(struct http_request *rq, bool ok, void *arg)
{
	struct download *d = arg;
	struct firmware *fw = d->fw;
	const struct range *end = &d->body.list[d->body.n - 1];
	bool last = end->first + end->n == d->body.size;
	uint64_t sent = d->begun ? d->length - http_reply_left(rq) : 0;

	fw->count.bytes += sent;
	ok = ok && d->begun && !d->cut;
	if (d->turn != NULL)
		turns_end(fw->turns, d->turn, ok && last, clock_ms());
	if (ok && last) {
		bool whole = end->n == d->body.size;

		log_at(fleet_fetched(fw->fleet, d->address, d->product,
			   d->channel, d->version, d->sha256, whole)
			? LOG_INFO
			: LOG_DEBUG,
		    "firmware %s fetched product=%s version=%s address=%s "
		    "bytes=%" PRIu64 "%s",
		    d->hex, d->product, d->version, d->address, sent,
		    whole ? "" : " (its end)");
	}
	shelf_close(&d->reader);
	TAILQ_REMOVE(&fw->downloads, d, link);
	free(d->many);
	free(d);
}

static struct download *
download_new(
    struct firmware *fw, struct http_request *rq, const struct catalog_blob *cb)
{
	struct download *d = xcalloc(1, sizeof(*d));
	const struct manifest *m = cb->item->m;

	d->fw = fw;
	d->rq = rq;
	d->reader.ready = on_ready;
	d->holds = -1;
	memcpy(d->sha256, cb->sha256, 32);
	hex_encode(cb->sha256, 32, d->hex);
	snprintf(d->address, sizeof(d->address), "%s", http_request_peer(rq));
	snprintf(d->product, sizeof(d->product), "%s", m->product);
	snprintf(d->channel, sizeof(d->channel), "%s", m->channel);
	snprintf(d->version, sizeof(d->version), "%s", cb->release->version);
	blob_md5(cb->file, d->md5);
	d->body.size = cb->file->size;
	TAILQ_INSERT_TAIL(&fw->downloads, d, link);
	http_request_on_done(rq, on_done, d);
	return d;
}

/* list is NULL for the whole file. */
static void
lay_out(struct download *d, const struct range *list, size_t n)
{
	d->one.n = d->body.size;
	d->body.list = &d->one;
	d->body.n = 1;
	if (list != NULL) {
		ranges_boundary(d->body.boundary);
		d->one = list[0];
		d->body.n = n;
	}
	if (n > 1) {
		d->many = xcalloc(n, sizeof(*d->many));
		memcpy(d->many, list, n * sizeof(*list));
		d->body.list = d->many;
	}
	d->length = ranges_length(&d->body);
}

/* ---- requests ------------------------------------------------------------ */

/* Was it offered to a device at this address, if that is asked for? */
static bool
offered(
    struct firmware *fw, struct http_request *rq, const struct catalog_blob *cb)
{
	if (!fw->px->conf->require_check ||
	    fleet_was_offered(fw->fleet, http_request_peer(rq),
		cb->item->m->product, cb->release->version))
		return true;
	http_reply_header(rq, "Cache-Control", "no-store");
	http_reply_error(rq, 403, "no check has offered this to the device",
	    "ask /firmware/check first, or set [firmware] require_check = no");
	return false;
}

/* The blob, or NULL after an answer. */
static const struct catalog_blob *
find(struct firmware *fw, struct http_request *rq)
{
	const char *hex = http_request_param(rq, "sha256");
	const struct catalog_blob *cb = NULL;
	uint8_t sha256[32];

	if (firmware_refuses(fw, rq, NULL))
		return NULL;
	if (strlen(hex) == 64 && hex_decode(hex, sha256, 32) == 0)
		cb = catalog_blob(fw->catalog, sha256);
	if (cb == NULL) {
		http_reply_header(rq, "Cache-Control", "no-store");
		http_reply_error(rq, 404, "no manifest names this content",
		    "ask /firmware/check for what there is");
	} else if (cb->revoked) {
		http_reply_header(rq, "Cache-Control", "no-store");
		http_reply_error(rq, 410, "the publisher has revoked this",
		    "ask /firmware/check for what there is");
		cb = NULL;
	} else if (!offered(fw, rq, cb)) {
		cb = NULL;
	}
	return cb;
}

/* Has the device its turn? Else it was told when to come back. */
static bool
has_turn(struct download *d, bool goes_on)
{
	struct firmware *fw = d->fw;
	int retry;

	if (turns_begin(fw->turns, d->address, d->sha256, goes_on,
		(unsigned)fw->px->conf->parallel_devices, clock_ms(), &d->turn,
		&retry))
		return true;
	fw->count.busy++;
	d->refused = true;
	firmware_later(d->rq, retry,
	    "as many devices download now as may at one time",
	    "come back then, or raise [firmware] parallel_devices");
	return false;
}

static void
get(struct firmware *fw, struct http_request *rq, const struct catalog_blob *cb)
{
	const char *range = http_request_header(rq, "Range");
	struct range list[RANGES_MAX];
	enum ranges_kind kind = RANGES_WHOLE;
	uint64_t size = cb->file->size;
	struct download *d;
	char hex[65], etag[67], md5[33];
	size_t n = 0;

	hex_encode(cb->sha256, 32, hex);
	blob_etag(hex, etag);
	blob_md5(cb->file, md5);
	if (ranges_if_range(http_request_header(rq, "If-Range"), etag))
		kind = ranges_parse(range, size, list, &n);
	if (kind == RANGES_NONE) {
		blob_fields(rq, cb->sha256, etag, md5);
		blob_reply_416(rq, size);
		return;
	}
	fw->count.requests++;
	d = download_new(fw, rq, cb);
	lay_out(d, kind == RANGES_SOME ? list : NULL, n);
	if (!has_turn(d, d->body.list[0].first > 0))
		return;
	shelf_open(fw->shelf, &d->reader, d->address, cb->sha256,
	    cb->file->slices_sha256, size);
	pump(d);
}

void
blob_give(
    struct firmware *fw, struct http_request *rq, const struct catalog_blob *cb)
{
	bool head = strcmp(http_request_method(rq), "HEAD") == 0;
	char hex[65], etag[67], md5[33];

	hex_encode(cb->sha256, 32, hex);
	blob_etag(hex, etag);
	blob_md5(cb->file, md5);
	if (!ranges_match(http_request_header(rq, "If-Match"), etag)) {
		blob_fields(rq, cb->sha256, etag, md5);
		http_reply(rq, 412, NULL, NULL, 0);
	} else if (ranges_none_match(
		       http_request_header(rq, "If-None-Match"), etag)) {
		blob_fields(rq, cb->sha256, etag, md5);
		http_reply(rq, 304, NULL, NULL, 0);
	} else if (head) {
		blob_fields(rq, cb->sha256, etag, md5);
		http_reply(rq, 200, TYPE, NULL, cb->file->size);
	} else {
		get(fw, rq, cb);
	}
}

void
on_blob(struct http_request *rq, void *arg)
{
	struct proxy *px = arg;
	struct firmware *fw = px->firmware;
	const struct catalog_blob *cb = find(fw, rq);

	if (cb != NULL)
		blob_give(fw, rq, cb);
}

/* ---- housework ----------------------------------------------------------- */

void
blob_tick(struct firmware *fw, int64_t now_ms)
{
	struct download *d, *next;

	for (d = TAILQ_FIRST(&fw->downloads); d != NULL; d = next) {
		next = TAILQ_NEXT(d, link);
		if (d->waits_ms != 0 && !d->cut && !d->refused &&
		    now_ms - d->waits_ms > (d->begun ? WAIT_MS : FIRST_WAIT_MS))
			give_up(d, RETRY_SOON, "the origin has sent nothing");
	}
}

void
blob_trouble(struct firmware *fw, const char *hex, int retry)
{
	struct download *d, *next;

	for (d = TAILQ_FIRST(&fw->downloads); d != NULL; d = next) {
		next = TAILQ_NEXT(d, link);
		if (strcmp(d->hex, hex) == 0 && d->waits_ms != 0 && !d->begun &&
		    !d->refused)
			give_up(d, retry, NO_ORIGIN);
	}
}

void
blob_catalog(struct firmware *fw)
{
	struct download *d, *next;

	for (d = TAILQ_FIRST(&fw->downloads); d != NULL; d = next) {
		const struct catalog_blob *cb =
		    catalog_blob(fw->catalog, d->sha256);

		next = TAILQ_NEXT(d, link);
		if (cb == NULL || !cb->revoked || d->cut || d->refused)
			continue;
		if (d->begun) {
			cut(d, "the publisher has revoked it");
			continue;
		}
		d->refused = true;
		http_reply_error(
		    d->rq, 410, "the publisher has revoked this", NULL);
	}
}

void
blob_blocked(struct firmware *fw)
{
	struct download *d, *next;

	for (d = TAILQ_FIRST(&fw->downloads); d != NULL; d = next) {
		next = TAILQ_NEXT(d, link);
		if (d->cut || d->refused ||
		    !firmware_is_blocked(fw, d->address))
			continue;
		if (d->begun) {
			cut(d, "the device is blocked");
			continue;
		}
		d->refused = true;
		firmware_reply_blocked(d->rq);
	}
}
