/*
 * file_storage.c - the FILE storage's side of HTTP: /v1/files/...
 *
 * The loop only moves octets: an upload's body is gathered in pieces and given
 * to a thread, one job of an upload at a time, so order is kept; reading pauses
 * while a thread is behind. An upload lives until its request is over and no
 * thread works on it.
 */
#include "file_storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <event2/buffer.h>

#include "api.h"
#include "clock.h"
#include "file_uri.h"
#include "http_parser.h"
#include "http_server.h"
#include "json.h"
#include "log.h"
#include "object.h"
#include "pool.h"
#include "signer.h"
#include "signer_conf.h"
#include "xalloc.h"

#define BEHIND (512 * 1024) /* octets that may wait for the disk */

struct file_storage {
	struct object_dir *dir;
};

enum job { JOB_NONE, JOB_WRITE, JOB_COMMIT, JOB_ABORT, JOB_OPEN, JOB_DELETE };

struct transfer {
	struct signer *sg;
	struct http_request *rq; /* NULL: gone */
	struct file_claim claim;
	enum job job; /* in a thread's hands */
	struct evbuffer *waiting, *writing;
	struct object_writer *writer;
	struct object_meta meta;
	int fd; /* of a GET */
	int rc; /* a job's result, while none runs */
	const char *why;
	int64_t received;
	bool too_long, paused, ended, lost, finished, replied;
};

static void step(struct transfer *t);

/* ---- answers ------------------------------------------------------------- */

static void
refuse(struct http_request *rq, int status, const char *hint, const char *title)
{
	struct problem p = { 0 };

	problem_set(&p, status, hint, "%s", title);
	api_reply_problem(rq, &p);
}

static void
reply_error(struct transfer *t)
{
	switch (t->rc) {
	case -EBADMSG:
		refuse(t->rq, 422, "Send it again.",
		    t->why != NULL ? t->why : "The object is damaged");
		break;
	case -EEXIST:
		refuse(t->rq, 409, "Objects are never written over.",
		    "Another object has this key");
		break;
	case -ESTALE:
		refuse(t->rq, 412, "Read it again.",
		    "The object is not the one that was to be replaced");
		break;
	case -EISDIR:
	case -ENOTDIR:
		refuse(t->rq, 409, "A key cannot be the folder of another.",
		    "Another key stands in the way");
		break;
	case -ENOENT:
		refuse(t->rq, 404, NULL, "There is no such object");
		break;
	case -ENOSPC:
	case -EDQUOT:
		refuse(t->rq, 507, "Make room in [file_storage] dir.",
		    "The disk is full");
		break;
	default:
		log_error("file storage: %s", strerror(-t->rc));
		refuse(t->rq, 500, "It is in the signer's log.",
		    "The disk failed");
	}
}

static void
add_etag(struct transfer *t)
{
	char tag[68];

	snprintf(tag, sizeof(tag), "\"%s\"", t->meta.sha256);
	http_reply_header(t->rq, "ETag", tag);
}

static void
reply_put(struct transfer *t)
{
	if (t->rc < 0) {
		reply_error(t);
		return;
	}
	add_etag(t);
	http_reply(t->rq, t->rc == 1 ? 200 : 201, NULL, NULL, 0);
}

static bool
plain(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

/* As x-edge-meta-NAME; whatever stands on disk, no line is broken. */
static void
add_metadata(struct transfer *t)
{
	const char *s = t->meta.metadata;
	cJSON *o = s != NULL ? json_parse(s, strlen(s), strlen(s), NULL) : NULL;
	const cJSON *e;

	cJSON_ArrayForEach(e, o)
	{
		char *name = xasprintf("x-edge-meta-%s", e->string);

		if (cJSON_IsString(e) && plain(e->valuestring) &&
		    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") ==
			strlen(name))
			http_reply_header(t->rq, name, e->valuestring);
		free(name);
	}
	cJSON_Delete(o);
}

/*
 * One range of octets (RFC 9110 section 14): "bytes=A-B", "A-" or "-N". False:
 * it is none, the whole is the answer. An empty one cannot be met.
 */
static bool
take_range(const char *s, uint64_t size, uint64_t *from, uint64_t *n)
{
	unsigned long long a, b;
	char end;

	if (s == NULL || strncasecmp(s, "bytes=", 6) != 0)
		return false;
	s += 6;
	if (sscanf(s, "-%llu%c", &b, &end) == 1 && s[1] != '-') {
		*n = b < size ? b : size;
		*from = size - *n;
		return true;
	}
	if (s[0] < '0' || s[0] > '9')
		return false;
	if (sscanf(s, "%llu-%llu%c", &a, &b, &end) != 2) {
		if (sscanf(s, "%llu-%c", &a, &end) != 1 || strchr(s, ','))
			return false;
		b = UINT64_MAX;
	}
	if (b < a)
		return false;
	*from = a;
	*n = a >= size ? 0 : b >= size ? size - a : b - a + 1;
	return true;
}

/* The whole or the range that was asked for. */
static void
reply_range(struct transfer *t)
{
	uint64_t size = (uint64_t)t->meta.size, from = 0, n = size;
	bool get = strcmp(t->claim.method, "GET") == 0;
	bool range = get && http_request_header(t->rq, "If-Range") == NULL &&
	    take_range(http_request_header(t->rq, "Range"), size, &from, &n);
	char text[80];

	http_reply_header(t->rq, "Accept-Ranges", "bytes");
	if (range && n == 0) {
		snprintf(text, sizeof(text), "bytes */%llu",
		    (unsigned long long)size);
		http_reply_header(t->rq, "Content-Range", text);
		http_reply(t->rq, 416, NULL, NULL, 0);
		return;
	}
	if (range) {
		snprintf(text, sizeof(text), "bytes %llu-%llu/%llu",
		    (unsigned long long)from,
		    (unsigned long long)(from + n - 1),
		    (unsigned long long)size);
		http_reply_header(t->rq, "Content-Range", text);
	}
	http_reply_begin(t->rq, range ? 206 : 200,
	    t->meta.type != NULL ? t->meta.type : "application/octet-stream", n,
	    NULL, NULL);
	if (strcmp(t->claim.method, "HEAD") != 0 && n > 0)
		http_reply_sendfile(t->rq, t->fd, from, n);
	http_reply_end(t->rq);
}

static void
reply_get(struct transfer *t)
{
	if (t->rc < 0) {
		reply_error(t);
		return;
	}
	if (t->fd < 0) { /* deleted */
		http_reply(t->rq, 204, NULL, NULL, 0);
		return;
	}
	add_etag(t);
	if (t->meta.encoding != NULL)
		http_reply_header(t->rq, "Content-Encoding", t->meta.encoding);
	add_metadata(t);
	reply_range(t);
}

/* ---- threads ------------------------------------------------------------- */

static int
write_pieces(struct transfer *t)
{
	struct evbuffer_iovec v;
	int rc = 0;

	while (rc == 0 && evbuffer_get_length(t->writing) > 0) {
		evbuffer_peek(t->writing, -1, NULL, &v, 1);
		rc = object_write(t->writer, v.iov_base, v.iov_len);
		evbuffer_drain(t->writing, v.iov_len);
	}
	return rc;
}

static void
run(void *arg)
{
	struct transfer *t = arg;
	struct object_dir *d = t->sg->file_storage->dir;
	const struct file_claim *c = &t->claim;

	switch (t->job) {
	case JOB_WRITE:
		if (t->writer == NULL)
			t->rc = object_begin(d, &t->writer);
		if (t->rc == 0)
			t->rc = write_pieces(t);
		break;
	case JOB_COMMIT:
		if (t->writer == NULL) /* an empty body */
			t->rc = object_begin(d, &t->writer);
		if (t->rc == 0)
			t->rc = object_commit(t->writer, c->tenant, c->storage,
			    c->key, c->replace, &t->meta, &t->why);
		t->writer = NULL;
		break;
	case JOB_ABORT:
		object_abort(t->writer);
		t->writer = NULL;
		break;
	case JOB_OPEN:
		t->rc = object_open(
		    d, c->tenant, c->storage, c->key, &t->fd, &t->meta);
		break;
	case JOB_DELETE:
		t->rc = object_delete(d, c->tenant, c->storage, c->key);
		break;
	case JOB_NONE:
		break;
	}
}

static void
ran(void *arg)
{
	struct transfer *t = arg;

	if (t->job == JOB_COMMIT || t->job == JOB_OPEN || t->job == JOB_DELETE)
		t->finished = true;
	t->job = JOB_NONE;
	step(t);
}

static void
start_job(struct transfer *t, enum job job)
{
	t->job = job;
	pool_run(t->sg->files, run, ran, t);
}

/* ---- an upload ----------------------------------------------------------- */

static void
transfer_free(struct transfer *t)
{
	evbuffer_free(t->waiting);
	evbuffer_free(t->writing);
	file_claim_fini(&t->claim);
	object_meta_fini(&t->meta);
	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

/* What comes next, after any event: the one place that decides. */
static void
step(struct transfer *t)
{
	if (t->job != JOB_NONE)
		return;
	if (t->too_long && t->rc == 0) {
		t->rc = -EBADMSG;
		t->why = "The body is longer than may be";
	}
	if (t->writer != NULL && (t->lost || t->rc < 0)) {
		start_job(t, JOB_ABORT);
		return;
	}
	if (t->rc == 0 && !t->lost && !t->finished &&
	    evbuffer_get_length(t->waiting) > 0) {
		evbuffer_add_buffer(t->writing, t->waiting);
		start_job(t, JOB_WRITE);
		if (t->paused && t->rq != NULL) {
			t->paused = false;
			http_request_resume(t->rq);
		}
		return;
	}
	if (t->rc == 0 && t->ended && !t->lost && !t->finished) {
		start_job(t, JOB_COMMIT);
		return;
	}
	if (t->rq == NULL) {
		transfer_free(t);
	} else if ((t->finished || t->rc < 0) && !t->replied && !t->lost) {
		t->replied = true;
		if (strcmp(t->claim.method, "PUT") == 0)
			reply_put(t);
		else
			reply_get(t);
	}
}

static int
on_data(struct http_request *rq, const char *p, size_t n, void *arg)
{
	struct transfer *t = arg;
	int64_t most = t->sg->conf->file_max_size;

	if (t->too_long || t->replied)
		return 0;
	t->received += (int64_t)n;
	if ((t->claim.size >= 0 && t->received > t->claim.size) ||
	    t->received > most) {
		t->too_long = true;
		step(t);
		return 0;
	}
	evbuffer_add(t->waiting, p, n);
	step(t);
	t->paused = evbuffer_get_length(t->waiting) > BEHIND;
	return t->paused ? 1 : 0;
}

static void
on_end(struct http_request *rq, void *arg)
{
	struct transfer *t = arg;

	t->ended = true;
	t->meta.size = t->claim.size;
	if (t->claim.sha256 != NULL)
		snprintf(t->meta.sha256, sizeof(t->meta.sha256), "%s",
		    t->claim.sha256);
	t->meta.type = t->claim.type != NULL ? xstrdup(t->claim.type) : NULL;
	t->meta.encoding =
	    t->claim.encoding != NULL ? xstrdup(t->claim.encoding) : NULL;
	t->meta.metadata =
	    t->claim.metadata != NULL ? xstrdup(t->claim.metadata) : NULL;
	step(t);
}

static void
on_lost(struct http_request *rq, void *arg)
{
	struct transfer *t = arg;

	t->lost = true;
	step(t);
}

static void
on_done(struct http_request *rq, bool ok, void *arg)
{
	struct transfer *t = arg;

	t->rq = NULL;
	if (!t->finished)
		t->lost = true;
	step(t);
}

/* ---- requests ------------------------------------------------------------ */

static bool
same_header(const char *sent, const char *signed_value)
{
	if (signed_value == NULL)
		return true;
	return sent != NULL && strcmp(sent, signed_value) == 0;
}

/* What can be known of a PUT before its body. */
static bool
refuse_put(struct http_request *rq, const struct signer *sg,
    const struct file_claim *c)
{
	uint64_t length = http_request_length(rq);
	const char *encoding = http_request_header(rq, "Content-Encoding");

	if (!same_header(http_request_header(rq, "Content-Type"), c->type) ||
	    !same_header(encoding, c->encoding) ||
	    (encoding != NULL && c->encoding == NULL))
		refuse(rq, 403, "Send the headers of the recipe as they are.",
		    "Content-Type or Content-Encoding is not what was "
		    "signed");
	else if (length != UINT64_MAX && c->size >= 0 &&
	    length != (uint64_t)c->size)
		refuse(rq, 403, "Ask for a recipe for what is to be sent.",
		    "Content-Length is not what was signed");
	else if (length != UINT64_MAX &&
	    length > (uint64_t)sg->conf->file_max_size)
		refuse(rq, 413, "Raise [file_storage] max_size.",
		    "The object is too large");
	else
		return false;
	return true;
}

static struct transfer *
transfer_new(struct signer *sg, struct http_request *rq, struct file_claim *c)
{
	struct transfer *t = xcalloc(1, sizeof(*t));

	t->sg = sg;
	t->rq = rq;
	t->claim = *c;
	t->fd = -1;
	t->waiting = evbuffer_new();
	t->writing = evbuffer_new();
	http_request_on_done(rq, on_done, t);
	return t;
}

/* Split the target as it was sent; false: it was answered. */
static bool
take_claim(struct signer *sg, struct http_request *rq, struct file_claim *c)
{
	const char *target = http_request_head(rq)->target;
	size_t n = strcspn(target, "?");
	char *path = xstrndup(target, n);
	int rc = file_uri_parse(
	    &sg->env.file_key, path, target[n] == '?' ? target + n + 1 : "", c);

	free(path);
	if (rc == 0 && c->expiry > clock_wall_ms() / 1000 &&
	    strcmp(c->method, http_request_method(rq)) == 0)
		return true;
	if (rc != 0)
		refuse(rq, 403, "Only URIs made by this signer lead here.",
		    "The signature does not fit");
	else if (c->expiry <= clock_wall_ms() / 1000)
		refuse(rq, 403, "Ask for a new one.", "The URI has expired");
	else
		refuse(rq, 403, "The method is part of the signature.",
		    "The URI was signed for another method");
	if (rc == 0)
		file_claim_fini(c);
	return false;
}

void
file_storage_on_request(struct http_request *rq, void *arg)
{
	static const struct http_sink sink = { on_data, on_end, on_lost };
	struct signer *sg = arg;
	struct file_claim c;
	struct transfer *t;

	if (!take_claim(sg, rq, &c))
		return;
	if (strcmp(c.method, "PUT") == 0) {
		if (refuse_put(rq, sg, &c)) {
			file_claim_fini(&c);
			return;
		}
		t = transfer_new(sg, rq, &c);
		http_request_receive(rq, &sink, t);
		return;
	}
	t = transfer_new(sg, rq, &c);
	start_job(t, strcmp(c.method, "DELETE") == 0 ? JOB_DELETE : JOB_OPEN);
}

int
file_storage_open(struct signer *sg, struct file_storage **fs_out)
{
	struct file_storage *fs = xcalloc(1, sizeof(*fs));
	char *meta = xasprintf("%s/file-meta", sg->conf->state_dir);
	int rc = object_dir_open(sg->conf->file_dir, meta, &fs->dir);

	free(meta);
	if (rc != 0)
		free(fs);
	else
		*fs_out = fs;
	return rc;
}

void
file_storage_close(struct file_storage *fs)
{
	if (fs == NULL)
		return;
	object_dir_close(fs->dir);
	free(fs);
}
