/*
 * mirror_fetch.c - files of vendors who sign nothing
 *
 *	cache/mirror/NAME/HEX		the file; HEX: SHA-256 of its path
 *	cache/mirror/NAME/HEX.json	{"path", "type", "size", "fetched"}
 *
 * A plain read-through cache of paths that never change. What must stay true:
 * only hosts of [mirror NAME] are asked, never by a redirect; a file is there
 * whole or not at all (written aside, synced, renamed, its .json last); all of
 * them together take at most a quarter of cache_size, the longest unused going
 * first. Nothing here is verified, and says so.
 */
#include "firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "digest.h"
#include "json.h"
#include "layout.h"
#include "log.h"
#include "mirror_room.h"
#include "pool.h"
#include "transfer.h"
#include "url.h"
#include "xalloc.h"

#define PARALLEL 4
#define WAITING_MAX 64
#define PIECE (256 * 1024)
#define MARGIN (1 << 20) /* of the disk, above the floor */
#define WHOLE_MS 3600000
#define LEAST_RATE 512
#define LEAST_S 30

struct fetch {
	TAILQ_ENTRY(fetch) link;
	struct mirrors *m;
	char *name, *path, *url;
	char *dir; /* cache/mirror/NAME */
	char hex[65];
	struct xfer *xfer;
	bool started, over, failed;
	int status; /* told to the proxy */
	char *type;
	int fd;    /* of HEX.new; the pool's thread */
	char *buf; /* arrives */
	size_t buf_n;
	char *writing; /* on the pool's thread */
	size_t writing_n;
	uint64_t size; /* written or about to be */
	uint64_t limit;
	uint64_t room; /* taken for it; the pool's thread */
	int rc;        /* of the disk */
};
TAILQ_HEAD(fetch_list, fetch);

struct mirrors {
	struct firmware *f;
	struct xfers *xfers;
	struct mirror_room *room; /* the pool's thread */
	struct fetch_list list;
	unsigned running, waiting;
};

static void next(struct mirrors *m);
static void write_piece(struct fetch *x);

/* ---- the end ------------------------------------------------------------- */

static void
fetch_free(struct fetch *x)
{
	TAILQ_REMOVE(&x->m->list, x, link);
	if (x->fd >= 0)
		close(x->fd);
	free(x->name);
	free(x->path);
	free(x->url);
	free(x->dir);
	free(x->type);
	free(x->buf);
	free(x->writing);
	free(x);
}

static char *
file_of(const struct fetch *x, const char *end)
{
	return xasprintf("%s/%s%s", x->dir, x->hex, end);
}

static int
write_json(const struct fetch *x, const char *path)
{
	cJSON *o = cJSON_CreateObject();
	char *text;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0660);
	int rc = fd < 0 ? -errno : 0;
	size_t n;

	json_add_text(o, "path", x->path);
	json_add_text(
	    o, "type", x->type != NULL ? x->type : "application/octet-stream");
	json_add_int(o, "size", (int64_t)x->size);
	json_add_int(o, "fetched", clock_wall_ms() / 1000);
	text = json_line(o);
	n = strlen(text);
	if (rc == 0 && (write(fd, text, n) != (ssize_t)n || fsync(fd) != 0))
		rc = -EIO;
	if (fd >= 0) {
		fchmod(fd, 0660);
		close(fd);
	}
	free(text);
	cJSON_Delete(o);
	return rc;
}

/* File, then .json, each aside and renamed. */
static int
publish(struct fetch *x)
{
	char *aside = file_of(x, ".new"), *file = file_of(x, "");
	char *jaside = file_of(x, ".json.new"), *json = file_of(x, ".json");
	int rc = 0, dir;

	if (fsync(x->fd) != 0 || fchmod(x->fd, 0660) != 0 ||
	    rename(aside, file) != 0)
		rc = -errno;
	if (rc == 0)
		rc = write_json(x, jaside);
	if (rc == 0 && rename(jaside, json) != 0)
		rc = -errno;
	dir = open(x->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (rc == 0 && (dir < 0 || fsync(dir) != 0))
		rc = -errno;
	if (dir >= 0)
		close(dir);
	free(aside);
	free(file);
	free(jaside);
	free(json);
	return rc;
}

static void
run_end(void *arg)
{
	struct fetch *x = arg;
	char *aside = file_of(x, ".new");

	if (x->rc == 0 && !x->failed)
		x->rc = publish(x);
	if (x->rc == 0 && !x->failed) {
		mirror_room_keep(x->m->room, x->room);
	} else {
		unlink(aside);
		mirror_room_give(x->m->room, x->room);
	}
	free(aside);
}

static void
ran_end(void *arg)
{
	struct fetch *x = arg;
	struct mirrors *m = x->m;
	struct log_text t;

	if (x->rc != 0 && !x->failed) {
		log_error("mirror %s: %s cannot be kept: %s", x->name,
		    log_text(&t, x->path, strlen(x->path)), strerror(-x->rc));
		x->status = 507;
	}
	if (!m->f->stopping)
		firmware_tell(
		    m->f, "mirrored %s %s %d", x->name, x->path, x->status);
	m->running--;
	fetch_free(x);
	if (!m->f->stopping)
		next(m);
}

/* Transfer and writing are both over. */
static void
maybe_end(struct fetch *x)
{
	if (!x->over || x->writing != NULL)
		return;
	if (x->buf_n > 0 && x->rc == 0 && !x->failed) {
		write_piece(x);
		return;
	}
	pool_run(x->m->f->pool, run_end, ran_end, x);
}

/* ---- pieces to the disk -------------------------------------------------- */

static int
open_aside(struct fetch *x)
{
	char *aside = file_of(x, ".new"), *slash;
	int rc = layout_make_dirs(x->dir);

	if (rc == 0) {
		chmod(x->dir, 02770);
		slash = strrchr(x->dir, '/');
		*slash = '\0';
		chmod(x->dir, 02770);
		*slash = '/';
		x->fd =
		    open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0660);
		if (x->fd < 0)
			rc = -errno;
	}
	free(aside);
	return rc;
}

static void
run_piece(void *arg)
{
	struct fetch *x = arg;
	const char *p = x->writing;
	size_t n = x->writing_n;
	uint64_t more = mirror_room_of(x->size) - x->room;

	x->rc = mirror_room_take(x->m->room, x->limit, more);
	if (x->rc == 0)
		x->room += more;
	/* Uploads go first for the disk. */
	if (cache_disk_room(x->m->f->cache) < n + MARGIN)
		x->rc = -ENOSPC;
	if (x->rc == 0 && x->fd < 0)
		x->rc = open_aside(x);
	while (n > 0 && x->rc == 0) {
		ssize_t k = write(x->fd, p, n);

		if (k < 0 && errno != EINTR)
			x->rc = -errno;
		if (k > 0) {
			p += k;
			n -= (size_t)k;
		}
	}
}

static void
ran_piece(void *arg)
{
	struct fetch *x = arg;

	free(x->writing);
	x->writing = NULL;
	if (x->rc != 0 && !x->over) {
		xfer_cancel(x->xfer);
		x->xfer = NULL;
		x->over = true;
	}
	if (x->xfer != NULL && !x->m->f->stopping)
		xfer_resume(x->xfer);
	maybe_end(x);
}

static void
write_piece(struct fetch *x)
{
	x->writing = x->buf;
	x->writing_n = x->buf_n;
	x->size += x->buf_n;
	x->buf = NULL;
	x->buf_n = 0;
	pool_run(x->m->f->pool, run_piece, ran_piece, x);
}

/* ---- from the vendor ----------------------------------------------------- */

static int
on_head(void *arg, struct xfer *t, int status)
{
	struct fetch *x = arg;
	const char *type = xfer_header(t, "Content-Type");
	const char *coding = xfer_header(t, "Content-Encoding");
	const char *length = xfer_header(t, "Content-Length");

	if (status != 200 ||
	    (coding != NULL && strcmp(coding, "identity") != 0))
		return -EBADMSG;
	if (length != NULL && strtoull(length, NULL, 10) > x->limit)
		return -EFBIG;
	if (type != NULL && strlen(type) < 100)
		x->type = xstrdup(type);
	return 0;
}

static int
on_octets(void *arg, const char *p, size_t n)
{
	struct fetch *x = arg;

	if (x->buf_n + n > PIECE && x->writing != NULL)
		return -EAGAIN; /* until ran_piece() */
	if (x->size + x->buf_n + n > x->limit)
		return -EFBIG;
	if (x->buf_n + n > PIECE)
		write_piece(x);
	if (x->buf == NULL)
		x->buf = xmalloc(PIECE);
	memcpy(x->buf + x->buf_n, p, n);
	x->buf_n += n;
	return 0;
}

static void
on_answer(const struct xfer_result *r, void *arg)
{
	struct fetch *x = arg;
	struct log_text t;
	const char *length = xfer_header(r->xfer, "Content-Length");

	x->xfer = NULL;
	x->over = true;
	x->status = r->rc == 0 && r->status == 200 ? 200
	    : r->status == 404 || r->status == 410 ? 404
						   : 502;
	x->failed = x->status != 200;
	/* An empty file, or one without a body: nothing to keep. */
	if (!x->failed && x->size + x->buf_n == 0) {
		x->failed = true;
		x->status = 404;
	}
	if (!x->failed && length != NULL &&
	    strtoull(length, NULL, 10) != x->size + x->buf_n) {
		x->failed = true;
		x->status = 502;
	}
	if (x->failed)
		log_warn("mirror %s: %s: %s %d", x->name,
		    log_text(&t, x->path, strlen(x->path)),
		    r->error != NULL ? r->error : "answered", r->status);
	maybe_end(x);
}

static void
start(struct fetch *x)
{
	struct agent *a = x->m->f->agent;
	struct recipe_header h = { (char *)"Accept-Encoding",
		(char *)"identity" };
	struct xfer_sink sink = { on_head, on_octets, x };
	char *uri = xasprintf("%s/%s", x->url, x->path);
	struct xfer_request rq = { .method = "GET",
		.uri = uri,
		.headers = &h,
		.headers_n = 1,
		.sink = &sink,
		.timeout_ms = WHOLE_MS,
		.least_rate = LEAST_RATE,
		.least_s = LEAST_S,
		.allow_http = a->conf->allow_http,
		.allow_private = a->conf->allow_private,
		.proxy = a->conf->upload_proxy };

	x->started = true;
	x->m->running++;
	x->m->waiting--;
	x->xfer = xfer_start(x->m->xfers, &rq, on_answer, x);
	free(uri);
}

static void
next(struct mirrors *m)
{
	struct fetch *x;

	TAILQ_FOREACH(x, &m->list, link)
	if (!x->started && m->running < PARALLEL)
		start(x);
}

/* Segments of a path that is percent-encoded: none of them leads elsewhere. */
static bool
path_ok(const char *path)
{
	static const char allowed[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	    "-._~!$&'()*+,;=:@%/";
	char *copy, *save = NULL;
	bool ok = *path != '\0' && *path != '/' &&
	    strspn(path, allowed) == strlen(path) && strstr(path, "//") == NULL;

	copy = xstrdup(path);
	for (char *s = strtok_r(copy, "/", &save); s != NULL && ok;
	     s = strtok_r(NULL, "/", &save)) {
		char *plain;
		size_t n;

		ok = url_decode(s, strlen(s), false, &plain, &n) == 0;
		if (!ok)
			break;
		ok = strlen(plain) == n && strcmp(plain, ".") != 0 &&
		    strcmp(plain, "..") != 0 && strchr(plain, '/') == NULL;
		free(plain);
	}
	free(copy);
	return ok;
}

void
mirrors_want(struct mirrors *m, const char *name, const char *path)
{
	const struct mirror_conf *c =
	    gateway_conf_mirror(m->f->agent->conf, name);
	struct fetch *x;
	char *dir;

	if (c == NULL || !path_ok(path))
		return;
	TAILQ_FOREACH(x, &m->list, link)
	if (strcmp(x->name, name) == 0 && strcmp(x->path, path) == 0)
		return;
	if (m->waiting >= WAITING_MAX)
		return; /* it will be asked for again */
	x = xcalloc(1, sizeof(*x));
	dir = gateway_conf_path(m->f->agent->conf, "cache");
	x->m = m;
	x->fd = -1;
	x->name = xstrdup(name);
	x->path = xstrdup(path);
	x->url = xstrdup(c->url);
	x->dir = xasprintf("%s/mirror/%s", dir, name);
	x->limit = (uint64_t)m->f->agent->conf->cache_size / 4;
	digest_sha256_hex(path, strlen(path), x->hex);
	TAILQ_INSERT_TAIL(&m->list, x, link);
	m->waiting++;
	free(dir);
	next(m);
}

static void
run_look(void *arg)
{
	struct mirrors *m = arg;

	mirror_room_look(m->room);
}

static void
ran_look(void *arg)
{
}

struct mirrors *
mirrors_new(struct firmware *f)
{
	struct mirrors *m = xcalloc(1, sizeof(*m));
	char *dir;

	m->f = f;
	m->xfers = xfers_new(f->agent->base, 4);
	TAILQ_INIT(&m->list);
	dir = gateway_conf_path(f->agent->conf, "cache/mirror");
	m->room = mirror_room_new(dir);
	free(dir);
	/* Before any file of theirs is opened: the same thread does that. */
	pool_run(f->pool, run_look, ran_look, m);
	return m;
}

void
mirrors_stop(struct mirrors *m)
{
	struct fetch *x, *after;

	for (x = TAILQ_FIRST(&m->list); x != NULL; x = after) {
		after = TAILQ_NEXT(x, link);
		if (!x->started) {
			fetch_free(x);
			continue;
		}
		xfer_cancel(x->xfer);
		x->xfer = NULL;
		if (!x->over)
			x->failed = x->over = true;
		else
			continue; /* its last job is under way */
		maybe_end(x);
	}
}

void
mirrors_free(struct mirrors *m)
{
	xfers_free(m->xfers);
	mirror_room_free(m->room);
	free(m);
}
