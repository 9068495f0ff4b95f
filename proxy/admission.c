/*
 * admission.c - what can be refused by the head alone
 *
 * Before the body, and before 100 Continue: so that a device need not send what
 * will not be kept.
 */
#include "upload_private.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "checksum.h"
#include "devices.h"
#include "expect.h"
#include "form.h"
#include "gateway_conf.h"
#include "http_server.h"
#include "proxy.h"
#include "shares.h"

/* Has the device used up what it may send in a minute, or keep here? */
static bool
over_share(struct upload *up)
{
	struct proxy *px = up->px;
	struct shares may = shares_of(px->conf, up->who.camera);
	/* Whose name is only a claim. */
	const char *address =
	    px->conf->count_addresses && up->who.camera == NULL
	    ? http_request_peer(up->rq)
	    : NULL;
	char text[16] = "60";
	int wait = 0;

	if (may.per_minute != 0)
		wait = devices_too_fast(px->devices, up->who.device, address,
		    may.per_minute, up->t0);
	if (wait > 0) {
		snprintf(text, sizeof(text), "%d", wait);
		http_reply_header(up->rq, "Retry-After", text);
		upload_stop(up, 429, "this device sends too often",
		    "wait, or raise uploads_per_minute of [limits] or of its "
		    "[camera]");
	} else if (spool_over_share(px->spool, up->who.device, address,
		       up->size == UINT64_MAX ? 0 : up->size, may.octets,
		       may.files)) {
		http_reply_header(up->rq, "Retry-After", text);
		upload_stop(up, 429, "this camera's share of the spool is full",
		    "wait until some of it is delivered, or raise share or "
		    "waiting_per_device of [limits] or of its [camera]");
	}
	return up->refused;
}

static bool
is_form(const char *type)
{
	static const char form[] = "multipart/form-data";
	size_t n = sizeof(form) - 1;

	return type != NULL && strncasecmp(type, form, n) == 0 &&
	    (type[n] == '\0' || strchr("; \t", type[n]) != NULL);
}

/* What can be refused by the head alone. */
bool
admission_check(struct upload *up)
{
	struct http_request *rq = up->rq;
	const char *type = http_request_header(rq, "Content-Type");
	struct checksums want;
	const char *why;

	if (!http_request_has_body(rq)) {
		upload_stop(up, 411, "the upload has no length",
		    "send Content-Length, or Transfer-Encoding: chunked");
	} else if (http_request_header(rq, "Content-Range") != NULL) {
		upload_stop(up, 400, "parts of a file are not taken",
		    "send the whole file, without Content-Range");
	} else if (up->size != UINT64_MAX && up->size > up->max) {
		upload_stop(up, 413, "the upload is larger than max_upload",
		    "raise [limits] max_upload, or that of its [camera]");
	} else if (over_share(up)) {
		return false;
	} else if (expect_digests(rq, &want) != 0) {
		upload_stop(up, 400,
		    "a digest header is not readable or contradicts another",
		    "send Content-MD5: BASE64 or Repr-Digest: "
		    "sha-256=:BASE64:, or none");
	} else if (is_form(type)) {
		up->form = form_new(type, &upload_form_events, up, &why);
		if (up->form == NULL)
			upload_stop(up, 400, why, "use a shorter boundary");
	}
	return !up->refused;
}
