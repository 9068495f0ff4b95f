/*
 * upload.c - a PUT or POST on its way into the spool
 *
 * What must stay true: no 2xx before the spool says that body, metadata and
 * name are on stable storage; what is refused is refused before its body where
 * that can be known; whatever the client does, the room it reserved is given
 * back. Of a form nothing is committed before its last delimiter was there.
 * While the disk is behind with any of its files an upload is not read, but for
 * a little each second: cameras give up when nothing is taken for 5 s.
 *
 * An upload goes admit -> (does the name wait already?) -> reserve -> (make
 * room) -> receive -> (and now?) -> commit -> answer. Its request may be over
 * at any time: `waiting` counts what will still call back, and the last one
 * frees it.
 */
#include "upload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <event2/event.h>

#include "access.h"
#include "blocks.h"
#include "checksum.h"
#include "clock.h"
#include "devices.h"
#include "expect.h"
#include "form.h"
#include "gateway_conf.h"
#include "http_parser.h"
#include "http_server.h"
#include "json.h"
#include "log.h"
#include "naming.h"
#include "proxy.h"
#include "shares.h"
#include "spool.h"
#include "url.h"
#include "upload_private.h"
#include "xalloc.h"

#define NUDGE_S 1

static void
drop_files(struct upload *up)
{
	for (unsigned i = 0; i < up->files_n; i++) {
		if (up->files[i]->u != NULL)
			spool_abort(up->files[i]->u);
		up->files[i]->u = NULL;
		up->files[i]->behind = false;
	}
	up->behind = 0;
	up->into = NULL;
}

static void
upload_free(struct upload *up)
{
	for (unsigned i = 0; i < up->files_n; i++) {
		free(up->files[i]->name);
		free(up->files[i]->type);
		free(up->files[i]);
	}
	free(up->files);
	upload_name_release(up);
	condition_fini(&up->condition);
	if (up->nudge != NULL)
		event_free(up->nudge);
	form_free(up->form);
	checksum_free(up->sums);
	naming_fini(&up->who);
	free(up->type);
	free(up);
}

bool
upload_came_back(struct upload *up)
{
	up->waiting--;
	if (up->rq != NULL)
		return true;
	if (up->waiting == 0)
		upload_free(up);
	return false;
}

static void
on_done(struct http_request *rq, bool ok, void *arg)
{
	struct upload *up = arg;

	up->rq = NULL;
	drop_files(up);
	if (up->waiting == 0)
		upload_free(up);
}

void
upload_refuse(struct proxy *px, struct http_request *rq, int status,
    const char *error, const char *hint)
{
	struct log_text path;
	const char *p = http_request_path(rq);

	px->count.refused++;
	refusals_add(&px->refusals, status, error);
	log_warn("refused status=%d peer=%s path=%s: %s", status,
	    http_request_peer(rq), log_text(&path, p, strlen(p)), error);
	if (status == 507 || status == 503)
		http_reply_header(
		    rq, "Retry-After", status == 507 ? "60" : "5");
	http_reply_error(rq, status, error, hint);
}

void
upload_stop(struct upload *up, int status, const char *error, const char *hint)
{
	drop_files(up);
	upload_name_release(up);
	up->refused = true;
	devices_refused(up->px->devices, up->who.device, error, clock_ms());
	upload_refuse(up->px, up->rq, status, error, hint);
}

void
upload_stop_full(struct upload *up, int rc, const char *why)
{
	if (rc == -ENOSPC)
		upload_stop(up, 507, why,
		    "keep the file and try again; raise [spool] max_size or "
		    "free disk space, and see why nothing is delivered");
	else if (rc == -EFBIG)
		upload_stop(up, 413, why, "raise [limits] max_upload");
	else
		upload_stop(up, 503, why, "try again in some seconds");
}

static void
refuse_damaged(struct upload *up)
{
	upload_stop(up, 400, "the body is not what its digest says",
	    "it was damaged on the way: send it again");
}

static void
refuse_failed(struct upload *up, int rc)
{
	struct log_text dev;

	if (rc == -EBADMSG) {
		refuse_damaged(up);
		return;
	}
	if (rc == -EMFILE || rc == -ENFILE) {
		upload_stop(up, 503, "too many files are open",
		    "try again in some seconds");
		return;
	}
	if (rc == -EROFS) {
		upload_stop(up, 503, "the gateway's disk is read-only",
		    "its file system met an error: look at the kernel's log");
		return;
	}
	if (rc == -EFBIG) { /* FAT, or ulimit -f */
		upload_stop(up, 413,
		    "the file is larger than the gateway's disk can hold in "
		    "one",
		    "set max_upload below what its file system takes");
		return;
	}
	up->px->count.failed++;
	log_error("dev=%s upload failed bytes=%llu: %s: nothing of it is kept",
	    log_text(&dev, up->who.device, strlen(up->who.device)),
	    (unsigned long long)up->received, strerror(-rc));
	if (rc == -ENOSPC || rc == -EDQUOT)
		upload_stop(up, 507, "no space left on the gateway's disk",
		    "free space, or wait until uploads have been delivered");
	else
		upload_stop(up, 500, "the gateway could not write to its disk",
		    "look at the proxy's log; send the file again");
}

/* ---- the answer -----------------------------------------------------------
 */

static cJSON *
file_json(const struct file *f)
{
	cJSON *o = cJSON_CreateObject();
	char sha[65];

	hex_encode(f->sha256, 32, sha);
	json_add_text(o, "id", f->id);
	json_add_text(o, "sha256", sha);
	json_add_int(o, "size", (int64_t)f->size);
	return o;
}

static void
answer(struct upload *up)
{
	bool repeat = true;
	char etag[68];
	cJSON *o, *list;

	for (unsigned i = 0; i < up->files_n; i++) {
		if (up->files[i]->rc != 0) {
			refuse_failed(up, up->files[i]->rc);
			return;
		}
		repeat = repeat && up->files[i]->repeat;
	}
	o = file_json(up->files[0]);
	if (up->form != NULL && up->files_n > 1) {
		list = cJSON_AddArrayToObject(o, "uploads");
		for (unsigned i = 0; i < up->files_n; i++)
			cJSON_AddItemToArray(list, file_json(up->files[i]));
	}
	etag[0] = '"';
	hex_encode(up->files[0]->sha256, 32, etag + 1);
	etag[65] = '"';
	etag[66] = '\0';
	http_reply_header(up->rq, "ETag", etag);
	http_reply_json(up->rq, repeat ? 200 : 201, o);
}

/* ---- commit ---------------------------------------------------------------
 */

static void
note_accepted(struct file *f, const struct spool_item *it)
{
	struct upload *up = f->up;
	struct log_text dev;

	up->px->count.uploads++;
	up->px->count.bytes += it->size;
	devices_accepted(
	    up->px->devices, it->device, it->size, false, clock_ms());
	log_info("id=%s accepted dev=%s bytes=%llu ms=%lld", it->id,
	    log_text(&dev, it->device, strlen(it->device)),
	    (unsigned long long)it->size, (long long)(clock_ms() - up->t0));
	upload_name_accepted(up, it);
}

static void
note_repeat(struct file *f)
{
	devices_accepted(
	    f->up->px->devices, f->up->who.device, f->size, true, clock_ms());
	log_info("id=%s repeated: answered without a second copy", f->id);
}

static void
on_committed(int rc, const struct spool_item *it, void *arg)
{
	struct file *f = arg;
	struct upload *up = f->up;

	f->repeat = rc == -EEXIST;
	f->rc = f->repeat ? 0 : rc;
	if (f->rc == 0) {
		memcpy(f->id, it->id, sizeof(f->id));
		memcpy(f->sha256, it->sha256, sizeof(f->sha256));
		f->size = it->size;
	}
	if (rc == 0)
		note_accepted(f, it);
	else if (f->repeat)
		note_repeat(f);
	up->commits--;
	if (upload_came_back(up) && up->commits == 0)
		answer(up);
}

/* A body that was sent to a folder has no name. */
const char *
upload_file_name(const struct file *f)
{
	if (f->name != NULL)
		return f->name;
	return f->up->who.name[0] != '\0' ? f->up->who.name : "upload";
}

static void
commit_files(struct upload *up)
{
	struct spool_upload *u;

	up->commits = up->files_n;
	up->waiting += up->files_n;
	for (unsigned i = 0; i < up->files_n; i++) {
		struct file *f = up->files[i];
		struct spool_meta meta = { up->who.device, upload_file_name(f),
			f->type != NULL ? f->type : up->type,
			http_request_peer(up->rq), up->repeat_window_ms };

		u = f->u;
		f->u = NULL;
		spool_commit(u, &meta, on_committed, f);
	}
}

/* ---- the body -------------------------------------------------------------
 */

static void
on_room(int rc, void *arg)
{
	struct file *f = arg;
	struct upload *up = f->up;

	if (rc < 0) {
		refuse_failed(up, rc);
		return;
	}
	spool_on_room(f->u, on_room, f);
	if (!f->behind)
		return;
	f->behind = false;
	if (--up->behind == 0 && !up->evicting)
		http_request_resume(up->rq);
}

void
upload_file_take(struct file *f, const char *p, size_t n)
{
	if (spool_write(f->u, p, n) == 1 && !f->behind) {
		f->behind = true;
		f->up->behind++;
	}
}

/* A file that will take octets; 0 or the error of the reservation. */
int
upload_file_add(struct upload *up, uint64_t size, const char *name,
    const char *type, const char **why_out)
{
	struct spool_upload *u;
	struct file *f;
	int rc = spool_reserve(up->px->spool, size, &u, why_out);

	if (rc != 0)
		return rc;
	f = xcalloc(1, sizeof(*f));
	f->up = up;
	f->u = u;
	if (name != NULL) {
		f->name = xstrdup(name);
		f->type = xstrndup(type, TYPE_MAX);
	}
	up->files =
	    xrealloc(up->files, (up->files_n + 1) * sizeof(struct file *));
	up->files[up->files_n++] = up->into = f;
	spool_on_room(u, on_room, f);
	return 0;
}

/* The disk has been behind for seconds: one read's worth, if that is still
 * little; then it is paused again. */
static void
on_nudge(evutil_socket_t fd, short what, void *arg)
{
	struct upload *up = arg;
	struct timeval tv = { NUDGE_S, 0 };

	if (up->rq == NULL || up->behind == 0)
		return;
	event_add(up->nudge, &tv);
	if (!up->evicting && spool_bears_more(up->px->spool))
		http_request_resume(up->rq);
}

/* 1: read no more for now. */
static int
pause_if_behind(struct upload *up)
{
	struct timeval tv = { NUDGE_S, 0 };

	if (up->behind == 0)
		return up->evicting;
	if (up->nudge == NULL)
		up->nudge = evtimer_new(up->px->base, on_nudge, up);
	if (up->nudge != NULL && !event_pending(up->nudge, EV_TIMEOUT, NULL))
		event_add(up->nudge, &tv);
	return 1;
}

static bool
too_large(struct upload *up)
{
	if (up->received <= up->max)
		return false;
	upload_stop(up, 413, "the upload is larger than max_upload",
	    "raise [limits] max_upload, or that of its [camera]");
	return true;
}

static int
on_data(struct http_request *rq, const char *p, size_t n, void *arg)
{
	struct upload *up = arg;
	const char *why;
	int rc;

	if (up->refused)
		return 0; /* what still comes is drained */
	up->received += n;
	if (too_large(up))
		return 0;
	if (up->form == NULL) {
		upload_file_take(up->into, p, n);
	} else {
		checksum_update(up->sums, p, n);
		rc = form_feed(up->form, p, n, &why);
		if (rc != 0 && !up->refused)
			upload_stop(up, -rc, why,
			    "send multipart/form-data as RFC 7578 says, or "
			    "the file itself by PUT");
	}
	if (!up->refused && !up->evicting &&
	    (up->size == UINT64_MAX || up->form != NULL) &&
	    up->received - up->asked >= ROOM_EACH) {
		up->asked = up->received;
		upload_ask_room(up);
	}
	return up->refused ? 0 : pause_if_behind(up);
}

static void
on_end(struct http_request *rq, void *arg)
{
	struct upload *up = arg;

	if (up->refused)
		return;
	if (up->form != NULL && !form_complete(up->form))
		upload_stop(up, 400, "the form ends before its last boundary",
		    "the body was cut short: send it again");
	else if (up->files_n == 0)
		upload_stop(up, 400, "the form has no file",
		    "a file is a part with a filename or a content type");
	else if (!checksum_fits(up->sums))
		refuse_damaged(up);
	else
		upload_name_last(up, commit_files);
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
	drop_files(up);
}

/* ---- admission ------------------------------------------------------------
 */

static void reserve(struct upload *up);

static void
on_evicted(int rc, void *arg)
{
	struct upload *up = arg;

	if (!upload_came_back(up))
		return;
	if (rc != 0)
		upload_evict_no_more(up);
	reserve(up);
}

static void
receive(struct upload *up)
{
	static const struct http_sink sink = { on_data, on_end, on_lost };

	http_request_forget_head(up->rq);
	http_request_receive(up->rq, &sink, up);
}

/* The digests that the head announces; admission has seen that they can be
 * read. */
static void
expect(struct upload *up)
{
	struct checksums want;

	expect_digests(up->rq, &want);
	if (up->form != NULL)
		up->sums = checksum_begin(&want, ~0U);
	else if (want.has != 0)
		spool_expect(up->into->u, &want);
}

static void
reserve(struct upload *up)
{
	struct proxy *px = up->px;
	uint64_t need = up->size == UINT64_MAX ? ROOM_EACH : up->size;
	const char *why;
	int rc;

	rc = spool_room(px->spool, need, &why);
	if (rc == 0 && up->form == NULL) /* each part makes its own */
		rc = upload_file_add(up, up->size, NULL, NULL, &why);
	if (rc == 0) {
		expect(up);
		receive(up);
	} else if (upload_may_evict(up, rc)) {
		up->waiting++;
		spool_make_room(px->spool, need, on_evicted, up);
	} else {
		upload_stop_full(up, rc, why);
	}
}

static struct upload *
upload_new(struct proxy *px, struct http_request *rq, struct naming *who)
{
	struct upload *up = xcalloc(1, sizeof(*up));
	const char *type = http_request_header(rq, "Content-Type");

	up->px = px;
	up->rq = rq;
	up->who = *who;
	up->type = xstrndup(type != NULL ? type : "", TYPE_MAX);
	up->size = http_request_length(rq);
	up->max = (uint64_t)(who->camera != NULL && who->camera->max_upload > 0
		? who->camera->max_upload
		: px->conf->max_upload);
	up->repeat_window_ms = shares_repeat_window_ms(px->conf, who->camera);
	up->t0 = clock_ms();
	http_request_on_done(rq, on_done, up);
	return up;
}

void
on_upload(struct http_request *rq, void *arg)
{
	struct proxy *px = arg;
	const char *error, *hint;
	struct naming who = { 0 };
	struct upload *up;
	bool post = strcmp(http_request_method(rq), "POST") == 0;
	int status = naming_make(px->conf, http_request_head(rq)->target,
	    http_request_path(rq), http_request_peer(rq), post, &who, &error,
	    &hint);

	if (status != 0) {
		upload_refuse(px, rq, status, error, hint);
		return;
	}
	up = upload_new(px, rq, &who);
	if (blocks_refuse(px->blocks, who.device, http_request_peer(rq),
		who.by_address)) {
		upload_stop(up, 403, "this device is blocked",
		    "the operator in the cloud blocked it; unblock it there");
		return;
	}
	if (!access_check(px->access, who.camera, rq, up->t0)) {
		upload_stop(up, 401,
		    "this camera must give its user and password",
		    "set them in the camera; [camera] user and password_file "
		    "are what the gateway expects");
		return;
	}
	if (!admission_check(up))
		return;
	if (upload_name_rule(up))
		upload_name_first(up, reserve);
}
