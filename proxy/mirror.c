/*
 * mirror.c - GET /firmware/m/NAME/PATH: files of vendors who sign nothing
 *
 * A plain read-through cache: what [mirror NAME] url gave under a path is kept
 * whole and given out as it is. Nobody has verified it, and each answer says
 * so. Paths are taken to be immutable. The agent fetches (cache/mirror/NAME/,
 * see doc/firmware.md); a file whose .json is there is complete.
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
#include <event2/buffer.h>

#include "clock.h"
#include "digest.h"
#include "gateway_conf.h"
#include "http_parser.h"
#include "http_server.h"
#include "json.h"
#include "log.h"
#include "pool.h"
#include "proxy.h"
#include "ranges.h"
#include "url.h"
#include "xalloc.h"

#define PATH_MAX_N 1024
#define WAIT_MS 120000
#define LOOK_EVERY_MS 1000
#define META_MAX 8192
#define READ_N 262144
#define READ_LEAST 4096
#define READ_ALL (4u << 20) /* octets in memory for all of them */
#define TOUCH_S 3600
#define TYPE "application/octet-stream"

/* Octets on their way; the request may be over before they are gone. */
struct held {
	struct mirrored *x; /* NULL: gone */
	char data[];
};

/* A request. It looks for the file, rings the agent and looks again. */
struct mirrored {
	TAILQ_ENTRY(mirrored) link;
	struct mirrors *m;
	struct http_request *rq;  /* NULL: gone */
	char *name, *path, *file; /* file: without .json */
	int64_t since_ms, look_ms;
	bool looking, reading, waited;
	bool begun, streams, cut; /* answered; with a body; for nobody */
	/* of the file, when it was found */
	int fd;
	uint64_t size;
	char *type;
	char etag[67];
	struct ranges_body body;
	struct range list[RANGES_MAX];
	uint64_t length;
	/* of a read that is under way */
	struct held *held; /* NULL: none, nothing of it is queued */
	uint64_t off;
	ssize_t n;
};
struct mirrors {
	struct firmware *fw;
	TAILQ_HEAD(, mirrored) all;
	size_t n; /* of them */
	uint64_t requests, hits;
};

static void look(struct mirrored *x);

struct mirrors *
mirrors_new(struct firmware *fw)
{
	struct mirrors *m = xcalloc(1, sizeof(*m));

	m->fw = fw;
	TAILQ_INIT(&m->all);
	return m;
}

void
mirrors_free(struct mirrors *m)
{
	free(m);
}

static void
mirrored_free(struct mirrored *x)
{
	if (x->rq != NULL || x->looking || x->reading)
		return;
	TAILQ_REMOVE(&x->m->all, x, link);
	x->m->n--;
	if (x->held != NULL)
		x->held->x = NULL;
	if (x->fd >= 0)
		close(x->fd);
	free(x->name);
	free(x->path);
	free(x->file);
	free(x->type);
	free(x);
}

static void
on_done(struct http_request *rq, bool ok, void *arg)
{
	struct mirrored *x = arg;

	x->rq = NULL;
	mirrored_free(x);
}

/* ---- the body: read on a thread, as nothing vouches for the page cache ----
 */

static void
run_read(void *arg)
{
	struct mirrored *x = arg;

	do
		x->n = pread(x->fd, x->held->data, (size_t)x->n, (off_t)x->off);
	while (x->n < 0 && errno == EINTR);
}

static void
on_sent(const void *data, size_t n, void *arg)
{
	struct held *h = arg;

	if (h->x != NULL)
		h->x->held = NULL;
	free(h);
}

static void
on_read(void *arg)
{
	struct mirrored *x = arg;
	struct evbuffer *b = evbuffer_new();

	if (b == NULL)
		abort();
	x->reading = false;
	if (x->rq == NULL || x->cut || x->n <= 0) {
		free(x->held);
		x->held = NULL;
		if (x->rq != NULL && !x->cut)
			http_reply_abort(x->rq);
	} else {
		evbuffer_add_reference(
		    b, x->held->data, (size_t)x->n, on_sent, x->held);
		http_reply_write(x->rq, b);
	}
	evbuffer_free(b);
	mirrored_free(x);
}

/* Of one read: the less the more of them there are, so that slow clients do
 * not fill the memory. */
static size_t
read_size(const struct mirrors *m)
{
	size_t n = READ_ALL / (m->n > 0 ? m->n : 1);

	return n > READ_N ? READ_N : n < READ_LEAST ? READ_LEAST : n;
}

static void
on_room(struct http_request *rq, void *arg)
{
	struct mirrored *x = arg;
	size_t most = read_size(x->m);
	struct ranges_piece p;
	struct evbuffer *b;

	if (x->held != NULL || x->cut) /* comes back when that is sent */
		return;
	ranges_piece(&x->body, x->length - http_reply_left(rq), &p);
	if (p.n == 0) {
		http_reply_end(rq);
	} else if (p.file) {
		x->n = (ssize_t)(p.n < most ? p.n : most);
		x->off = p.off;
		x->held = xmalloc(sizeof(*x->held) + (size_t)x->n);
		x->held->x = x;
		x->reading = true;
		pool_run(x->m->fw->readers, run_read, on_read, x);
	} else {
		b = evbuffer_new();
		if (b == NULL)
			abort();
		evbuffer_add(b, p.text, p.n);
		http_reply_write(rq, b);
		evbuffer_free(b);
	}
}

/* ---- the answer ---------------------------------------------------------- */

static void
put_fields(struct mirrored *x)
{
	http_reply_header(x->rq, "ETag", x->etag);
	http_reply_header(x->rq, "Accept-Ranges", "bytes");
	http_reply_header(x->rq, "Cache-Control", "public, max-age=3600");
	http_reply_header(x->rq, "Cache-Status",
	    x->waited ? "edgehaul; fwd=uri-miss; stored; detail=unverified"
		      : "edgehaul; hit; detail=unverified");
	http_reply_header(x->rq, "Edgehaul-Verified", "no");
}

static void
reply_body(struct mirrored *x)
{
	const char *range = http_request_header(x->rq, "Range");
	enum ranges_kind kind = RANGES_WHOLE;
	const char *type = x->type;
	char text[96];

	if (ranges_if_range(http_request_header(x->rq, "If-Range"), x->etag))
		kind = ranges_parse(range, x->size, x->list, &x->body.n);
	if (kind == RANGES_NONE) {
		snprintf(text, sizeof(text), "bytes */%" PRIu64, x->size);
		http_reply_header(x->rq, "Content-Range", text);
		http_reply(x->rq, 416, NULL, NULL, 0);
		return;
	}
	x->body.list = x->list;
	x->body.size = x->size;
	if (kind == RANGES_WHOLE) {
		x->list[0] = (struct range){ 0, x->size };
		x->body.n = 1;
	} else if (x->body.n == 1) {
		snprintf(text, sizeof(text),
		    "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, x->list[0].first,
		    x->list[0].first + x->list[0].n - 1, x->size);
		http_reply_header(x->rq, "Content-Range", text);
	} else {
		ranges_boundary(x->body.boundary);
		snprintf(text, sizeof(text),
		    "multipart/byteranges; boundary=%s", x->body.boundary);
		type = text;
	}
	x->length = ranges_length(&x->body);
	x->streams = true;
	http_reply_begin(x->rq, kind == RANGES_SOME ? 206 : 200, type,
	    x->length, on_room, x);
}

static void
reply(struct mirrored *x)
{
	struct http_request *rq = x->rq;

	x->begun = true;
	x->m->hits += !x->waited;
	put_fields(x);
	if (ranges_none_match(
		http_request_header(rq, "If-None-Match"), x->etag))
		http_reply(rq, 304, NULL, NULL, 0);
	else if (strcmp(http_request_method(rq), "HEAD") == 0)
		http_reply(rq, 200, x->type, NULL, x->size);
	else
		reply_body(x);
}

/* ---- looking ------------------------------------------------------------- */

static bool
good_type(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > 100)
		return false;
	for (; *s != '\0'; s++)
		if (*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

/* Read NAME.json; NULL: there is none, or none that is one. */
static cJSON *
read_meta(const char *file, int64_t now_s)
{
	char *path = xasprintf("%s.json", file), text[META_MAX];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	ssize_t n;

	free(path);
	if (fd < 0)
		return NULL;
	n = read(fd, text, sizeof(text));
	if (n > 0 && fstat(fd, &st) == 0 && now_s - st.st_mtime > TOUCH_S)
		futimens(fd, NULL); /* used now; not if we may not */
	close(fd);
	return n > 0 ? json_parse(text, (size_t)n, META_MAX, NULL) : NULL;
}

static void
run_look(void *arg)
{
	struct mirrored *x = arg;
	cJSON *o = read_meta(x->file, clock_wall_ms() / 1000);
	const char *type = json_string(o, "type");
	int64_t size;
	struct stat st;

	if (o != NULL && json_int(o, "size", 0, INT64_MAX, &size) == 0)
		x->fd = open(x->file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (x->fd >= 0 &&
	    (fstat(x->fd, &st) != 0 || !S_ISREG(st.st_mode) ||
		st.st_size != size)) {
		close(x->fd);
		x->fd = -1;
	}
	if (x->fd >= 0) {
		x->size = (uint64_t)size;
		x->type =
		    xstrdup(type != NULL && good_type(type) ? type : TYPE);
		snprintf(x->etag, sizeof(x->etag), "\"%llx-%llx\"",
		    (unsigned long long)st.st_size,
		    (unsigned long long)st.st_mtim.tv_sec * 1000000000ull +
			(unsigned long long)st.st_mtim.tv_nsec);
	}
	cJSON_Delete(o);
}

static void
on_looked(void *arg)
{
	struct mirrored *x = arg;

	x->looking = false;
	x->look_ms = clock_ms();
	if (x->rq != NULL && !x->begun && x->fd >= 0) {
		reply(x);
	} else if (x->rq != NULL && !x->begun) {
		x->waited = true;
		firmware_ring(x->m->fw, "mirror %s %s", x->name, x->path);
	}
	mirrored_free(x);
}

static void
look(struct mirrored *x)
{
	if (x->looking || x->begun)
		return;
	x->looking = true;
	pool_run(x->m->fw->disk, run_look, on_looked, x);
}

static void
give_up(struct mirrored *x, int status)
{
	x->begun = true;
	http_reply_header(x->rq, "Edgehaul-Verified", "no");
	if (status == 404 || status == 410) {
		http_reply_header(x->rq, "Cache-Control", "no-store");
		http_reply_error(x->rq, status,
		    "the mirrored server has no "
		    "such file",
		    NULL);
		return;
	}
	firmware_later(x->rq, 30, "the mirrored server does not give it now",
	    "see the agent's log for \"mirror\"");
}

void
mirrors_tick(struct mirrors *m, int64_t now_ms)
{
	struct mirrored *x, *next;

	for (x = TAILQ_FIRST(&m->all); x != NULL; x = next) {
		next = TAILQ_NEXT(x, link);
		if (x->rq == NULL || x->begun)
			continue;
		if (now_ms - x->since_ms > WAIT_MS)
			give_up(x, 503);
		else if (now_ms - x->look_ms >= LOOK_EVERY_MS)
			look(x);
	}
}

void
mirrors_blocked(struct mirrors *m)
{
	struct mirrored *x, *next;

	for (x = TAILQ_FIRST(&m->all); x != NULL; x = next) {
		const char *peer;

		next = TAILQ_NEXT(x, link);
		if (x->rq == NULL || x->cut || (x->begun && !x->streams))
			continue;
		peer = http_request_peer(x->rq);
		if (!firmware_is_blocked(m->fw, peer))
			continue;
		log_warn("mirror %s address=%s cut: the device is blocked",
		    x->name, peer);
		x->cut = true;
		if (x->streams) {
			http_reply_abort(x->rq);
		} else {
			x->begun = true;
			firmware_reply_blocked(x->rq);
		}
	}
}

/* "NAME PATH STATUS" */
void
mirrors_told(struct mirrors *m, const char *msg)
{
	size_t name_n = strcspn(msg, " "), path_n;
	const char *path = msg + name_n + (msg[name_n] == ' ');
	struct mirrored *x, *next;
	int status;

	path_n = strcspn(path, " ");
	status = atoi(path + path_n);
	for (x = TAILQ_FIRST(&m->all); x != NULL; x = next) {
		next = TAILQ_NEXT(x, link);
		if (x->rq == NULL || x->begun || strlen(x->name) != name_n ||
		    strlen(x->path) != path_n ||
		    memcmp(x->name, msg, name_n) != 0 ||
		    memcmp(x->path, path, path_n) != 0)
			continue;
		if (status >= 200 && status < 300)
			look(x);
		else
			give_up(x, status);
	}
}

/* ---- requests ------------------------------------------------------------ */

/* The path as sent, behind /firmware/m/NAME/: no blanks, controls, dot
 * segments or query. NULL: it is not to be fetched. */
static char *
path_of(struct http_request *rq, const char *name)
{
	const char *t = http_request_head(rq)->target;
	size_t skip = strlen("/firmware/m/") + strlen(name) + 1, n;
	const char *decoded = http_request_param(rq, "*");
	char *out = xasprintf("/firmware/m/%s/", name);
	bool plain = strncmp(t, out, skip) == 0;

	free(out);
	if (!plain || strlen(t) == skip || strchr(t, '?') != NULL)
		return NULL;
	t += skip;
	n = strlen(t);
	if (n > PATH_MAX_N || t[strspn(t, "/")] == '\0' || *t == '/')
		return NULL;
	for (const char *s = t; *s != '\0'; s++)
		if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f ||
		    *s == '\\')
			return NULL;
	out = xasprintf("/%s/", decoded);
	if (strstr(out, "/../") != NULL || strstr(out, "/./") != NULL) {
		free(out);
		return NULL;
	}
	free(out);
	return xstrdup(t);
}

void
on_mirror(struct http_request *rq, void *arg)
{
	struct proxy *px = arg;
	struct firmware *fw = px->firmware;
	const char *name = http_request_param(rq, "name");
	struct mirrored *x;
	char *path, hex[65], *dir;

	if (firmware_refuses(fw, rq, NULL))
		return;
	if (gateway_conf_mirror(px->conf, name) == NULL) {
		http_reply_error(rq, 404, "there is no mirror of that name",
		    "[mirror NAME] url in gateway.conf makes one");
		return;
	}
	path = path_of(rq, name);
	if (path == NULL) {
		http_reply_error(rq, 400, "this is no path to fetch",
		    "no query, no blanks, no dot segments");
		return;
	}
	x = xcalloc(1, sizeof(*x));
	x->m = fw->mirrors;
	x->m->requests++;
	x->rq = rq;
	x->fd = -1;
	x->name = xstrdup(name);
	x->path = path;
	digest_sha256_hex(path, strlen(path), hex);
	dir = gateway_conf_path(px->conf, "cache");
	x->file = xasprintf("%s/mirror/%s/%s", dir, name, hex);
	free(dir);
	x->since_ms = clock_ms();
	TAILQ_INSERT_TAIL(&x->m->all, x, link);
	x->m->n++;
	http_request_on_done(rq, on_done, x);
	look(x);
}
