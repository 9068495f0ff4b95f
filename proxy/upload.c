/*
 * upload.c - a PUT or POST on its way into the spool
 *
 * What must stay true: no 2xx before the spool says that body, metadata and
 * name are on stable storage; what is refused is refused before its body
 * where that can be known; whatever the client does, the room it reserved is
 * given back. An upload ends twice, in any order: its request is over, and
 * the spool has answered. The later of the two frees it.
 */
#include "proxy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "gateway_conf.h"
#include "http_parser.h"
#include "http_server.h"
#include "log.h"
#include "naming.h"
#include "spool.h"
#include "url.h"
#include "xalloc.h"

#define TYPE_MAX 200

struct upload {
	struct proxy *px;
	struct http_request *rq; /* NULL: over */
	struct spool_upload *u;  /* NULL: committed or aborted */
	bool committing;
	struct naming who;
	char *type, address[64];
	uint64_t received, max;
	int64_t t0;
};

static void
upload_free(struct upload *up)
{
	naming_fini(&up->who);
	free(up->type);
	free(up);
}

static void
refuse(struct proxy *px, struct http_request *rq, int status, const char *error,
    const char *hint)
{
	struct log_text path, text;
	const char *p = http_request_path(rq);

	px->count.refused++;
	log_warn("refused status=%d peer=%s path=%s: %s", status,
	    http_request_peer(rq), log_text(&path, p, strlen(p)),
	    log_text(&text, error, strlen(error)));
	if (status == 507 || status == 503)
		http_reply_header(
		    rq, "Retry-After", status == 507 ? "60" : "5");
	http_reply_error(rq, status, error, hint);
}

/* The request is over, answered or not. */
static void
on_done(struct http_request *rq, bool ok, void *arg)
{
	struct upload *up = arg;

	up->rq = NULL;
	if (up->u != NULL)
		spool_abort(up->u);
	up->u = NULL;
	if (!up->committing)
		upload_free(up);
}

static void
drop(struct upload *up)
{
	if (up->u != NULL)
		spool_abort(up->u);
	up->u = NULL;
}

static void
fail(struct upload *up, int rc)
{
	bool full = rc == -ENOSPC || rc == -EDQUOT;

	up->px->count.failed++;
	log_error("dev=%s upload failed bytes=%llu: %s: nothing of it is kept",
	    up->who.device, (unsigned long long)up->received, strerror(-rc));
	if (up->rq == NULL)
		return;
	if (full)
		http_reply_header(up->rq, "Retry-After", "60");
	http_reply_error(up->rq, full ? 507 : 500,
	    full ? "no space left on the gateway's disk"
		 : "the gateway could not write to its disk",
	    full ? "free space, or wait until uploads have been delivered"
		 : "look at the proxy's log; send the file again");
}

static void
on_room(int rc, void *arg)
{
	struct upload *up = arg;

	if (rc < 0) {
		drop(up);
		fail(up, rc);
		return;
	}
	spool_on_room(up->u, on_room, up);
	http_request_resume(up->rq);
}

static void
reply_created(struct upload *up, const struct spool_item *it)
{
	char sha[65], etag[68], body[192];
	int n;

	hex_encode(it->sha256, 32, sha);
	snprintf(etag, sizeof(etag), "\"%s\"", sha);
	n = snprintf(body, sizeof(body),
	    "{\"id\":\"%s\",\"sha256\":\"%s\",\"size\":%llu}\n", it->id, sha,
	    (unsigned long long)it->size);
	http_reply_header(up->rq, "ETag", etag);
	http_reply(up->rq, 201, "application/json", body, (size_t)n);
}

static void
on_committed(int rc, const struct spool_item *it, void *arg)
{
	struct upload *up = arg;
	struct log_text dev;

	up->committing = false;
	if (rc == 0) {
		up->px->count.uploads++;
		up->px->count.bytes += it->size;
		log_info("id=%s accepted dev=%s bytes=%llu ms=%lld", it->id,
		    log_text(&dev, it->device, strlen(it->device)),
		    (unsigned long long)it->size,
		    (long long)(clock_ms() - up->t0));
	} else {
		fail(up, rc);
	}
	if (up->rq == NULL)
		upload_free(up);
	else if (rc == 0)
		reply_created(up, it);
}

static int
on_data(struct http_request *rq, const char *p, size_t n, void *arg)
{
	struct upload *up = arg;

	if (up->u == NULL)
		return 0; /* refused: what comes is drained */
	up->received += n;
	if (up->received > up->max) {
		drop(up);
		refuse(up->px, rq, 413, "the upload is larger than max_upload",
		    "raise [limits] max_upload, or that of its [camera]");
		return 0;
	}
	return spool_write(up->u, p, n);
}

static void
on_end(struct http_request *rq, void *arg)
{
	struct upload *up = arg;
	struct spool_meta meta = { up->who.device, up->who.name, up->type,
		up->address };
	struct spool_upload *u = up->u;

	if (u == NULL)
		return;
	up->u = NULL;
	up->committing = true;
	spool_commit(u, &meta, on_committed, up);
}

static void
on_lost(struct http_request *rq, void *arg)
{
	struct upload *up = arg;
	struct log_text dev;

	log_warn("dev=%s upload lost after bytes=%llu: the connection broke or "
		 "was too slow; nothing of it is kept",
	    log_text(&dev, up->who.device, strlen(up->who.device)),
	    (unsigned long long)up->received);
	drop(up);
}

/* What can be refused before the body. */
static bool
admit(struct proxy *px, struct http_request *rq, struct naming *who,
    uint64_t *max_out)
{
	const struct gateway_conf *conf = px->conf;
	const char *error, *hint, *type;
	uint64_t size = http_request_length(rq);
	int status = naming_make(conf, http_request_head(rq)->target,
	    http_request_path(rq), http_request_peer(rq), who, &error, &hint);

	if (status != 0) {
		refuse(px, rq, status, error, hint);
		return false;
	}
	*max_out = (uint64_t)(who->camera != NULL && who->camera->max_upload > 0
		? who->camera->max_upload
		: conf->max_upload);
	type = http_request_header(rq, "Content-Type");
	if (!http_request_has_body(rq))
		refuse(px, rq, 411, "the upload has no length",
		    "send Content-Length, or Transfer-Encoding: chunked");
	else if (http_request_header(rq, "Content-Range") != NULL)
		refuse(px, rq, 400, "parts of a file are not taken",
		    "send the whole file, without Content-Range");
	else if (type != NULL &&
	    strncasecmp(type, "multipart/form-data", 19) == 0)
		refuse(px, rq, 415, "forms are not taken",
		    "send the file itself as the body of a PUT or POST");
	else if (size != UINT64_MAX && size > *max_out)
		refuse(px, rq, 413, "the upload is larger than max_upload",
		    "raise [limits] max_upload, or that of its [camera]");
	else
		return true;
	naming_fini(who);
	return false;
}

static void
refuse_reserve(
    struct proxy *px, struct http_request *rq, int rc, const char *why)
{
	if (rc == -ENOSPC)
		refuse(px, rq, 507, why,
		    "keep the file and try again; raise [spool] max_size or "
		    "free disk space, and see why nothing is delivered");
	else if (rc == -EFBIG)
		refuse(px, rq, 413, why, "raise [limits] max_upload");
	else
		refuse(px, rq, 503, why, "try again in some seconds");
}

void
on_upload(struct http_request *rq, void *arg)
{
	static const struct http_sink sink = { on_data, on_end, on_lost };
	struct proxy *px = arg;
	const char *why, *type;
	struct naming who = { 0 };
	struct spool_upload *u;
	struct upload *up;
	uint64_t max;
	int rc;

	if (!admit(px, rq, &who, &max))
		return;
	rc = spool_reserve(px->spool, http_request_length(rq), &u, &why);
	if (rc != 0) {
		naming_fini(&who);
		refuse_reserve(px, rq, rc, why);
		return;
	}
	type = http_request_header(rq, "Content-Type");
	up = xcalloc(1, sizeof(*up));
	up->px = px;
	up->rq = rq;
	up->u = u;
	up->who = who;
	up->type = xstrndup(type != NULL ? type : "", TYPE_MAX);
	snprintf(up->address, sizeof(up->address), "%s", http_request_peer(rq));
	up->max = max;
	up->t0 = clock_ms();
	http_request_on_done(rq, on_done, up);
	spool_on_room(u, on_room, up);
	http_request_receive(rq, &sink, up);
}
