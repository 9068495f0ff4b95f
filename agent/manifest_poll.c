/*
 * manifest_poll.c - what is published, from whom we trust
 *
 * What must stay true: nothing becomes a feed's manifest before its signature
 * fits a publisher's key, its product and channel are the feed's, and its seq
 * is higher than any before, which the cache checks once more as it commits.
 * Only products of the policy are asked for, so what devices ask for costs no
 * request.
 *
 * The origin is asked every 30 s, with the ETag. When the signer has told of a
 * newer seq the bucket is asked at once, since a CDN may hold the old one;
 * where it cannot be, the manifest's own name (manifest-SEQ.json), which no CDN
 * has seen before. So many polls run at a time, the longest due first; those of
 * feeds with news have places of their own, so that a release never waits for
 * polls that hang.
 */
#include "firmware.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backoff.h"
#include "clock.h"
#include "json.h"
#include "log.h"
#include "pool.h"
#include "transfer.h"
#include "xalloc.h"

#define POLL_MS 30000 /* at most; less by up to a quarter, to be spread */
#define POLLS_MAX 8   /* at a time, and as many of feeds with news */
#define CAP_MS 300000
#define STALE_MAX_S 86400

enum step { STEP_JSON, STEP_SIG, STEP_SIG_BY_SEQ };

/* One look at an origin for one feed. */
struct manifest_get {
	struct firmware *fw;
	struct fw_feed *fd; /* NULL: it is gone */
	enum fw_from from;
	unsigned tried; /* bits of origins asked before */
	enum step step;
	int64_t by_seq; /* ask for manifest-SEQ; 0: the newest */
	int64_t seq;    /* of json */
	struct fw_get *get;
	char *json, *signature;
	size_t json_n;
	char etag[128];
	int64_t max_age_s;
	/* to keep: a job */
	struct cache_manifest keep;
	struct manifest *m;
	int rc;
};

static void ask(struct manifest_get *g);

/* ---- an outcome ---------------------------------------------------------- */

static void
get_free(struct manifest_get *g)
{
	if (g == NULL)
		return;
	fw_get_cancel(g->get);
	if (g->fd != NULL)
		g->fd->get = NULL;
	manifest_free(g->m);
	cache_manifest_free(&g->keep);
	free(g->json);
	free(g->signature);
	free(g);
}

void
manifest_get_leave(struct manifest_get *g)
{
	if (g != NULL && g->keep.json != NULL)
		g->fd = NULL; /* its job is under way: it ends alone */
	else
		get_free(g);
}

static void
later(struct fw_feed *fd, int64_t ms)
{
	fd->next_ms = fd->again ? 0 : clock_ms() + ms;
	fd->again = false;
}

void
feed_now(struct fw_feed *fd)
{
	fd->again = fd->get != NULL;
	fd->next_ms = fd->wait_ms = 0;
}

static int64_t
poll_ms(void)
{
	return POLL_MS - arc4random_uniform(POLL_MS / 4);
}

static bool
behind(const struct fw_feed *fd)
{
	return fd->m == NULL || fd->known_seq > fd->m->seq;
}

/* Nothing more to ask. */
static void
done(struct manifest_get *g)
{
	struct fw_feed *fd = g->fd;

	get_free(g);
	fd->wait_ms = behind(fd)
	    ? backoff_next(fd->wait_ms, POLL_MS, arc4random_uniform)
	    : 0;
	later(fd, behind(fd) ? fd->wait_ms : poll_ms());
	feeds_poll(fd->fw);
}

static void
told(struct fw_feed *fd, enum fw_from from, const char *why, bool loud)
{
	/* Each origin's fault is logged when it changes. */
	if (strcmp(fd->errors[from], why) != 0) {
		if (loud)
			log_error("firmware %s/%s: manifest refused: %s: %s",
			    fd->product, fd->channel, fw_from_name(from), why);
		else
			log_warn("firmware %s/%s: no manifest: %s: %s",
			    fd->product, fd->channel, fw_from_name(from), why);
	}
	snprintf(fd->errors[from], sizeof(fd->errors[from]), "%s", why);
	fd->failing = true;
}

static void
all_well(struct fw_feed *fd)
{
	memset(fd->errors, 0, sizeof(fd->errors));
	fd->failing = false;
}

/* This origin has none for us: ask the next, or wait. */
static void
next_origin(struct manifest_get *g, const char *why, bool loud)
{
	struct fw_feed *fd = g->fd;
	int64_t wait;
	int from;

	told(fd, g->from, why, loud);
	g->tried |= FW_BIT(g->from);
	from = fw_origins_pick(
	    fd->fw->origins, g->tried, fd->storage, clock_ms(), &wait);
	if (from >= 0 && wait == 0) {
		/* Nothing of what was refused may go with what comes next. */
		manifest_free(g->m);
		g->m = NULL;
		free(g->json);
		free(g->signature);
		g->json = g->signature = NULL;
		g->etag[0] = '\0';
		g->from = (enum fw_from)from;
		g->step = STEP_JSON;
		ask(g);
		return;
	}
	get_free(g);
	fd->wait_ms = backoff_next(fd->wait_ms, CAP_MS, arc4random_uniform);
	later(
	    fd, !behind(fd) && fd->wait_ms < POLL_MS ? poll_ms() : fd->wait_ms);
	feeds_poll(fd->fw);
}

/* ---- keeping ------------------------------------------------------------- */

static void
run_keep(void *arg)
{
	struct manifest_get *g = arg;

	g->rc = cache_manifest_put(g->fw->cache, &g->keep);
}

static void
take(struct manifest_get *g)
{
	struct fw_feed *fd = g->fd;

	manifest_free(fd->m);
	free(fd->json);
	fd->m = g->m;
	g->m = NULL;
	fd->json = g->json;
	fd->json_n = g->json_n;
	g->json = NULL;
	free(fd->signature);
	fd->signature = g->signature;
	g->signature = NULL;
	fd->checked = g->keep.checked;
	fd->stale_since_ms = 0;
	snprintf(fd->etag, sizeof(fd->etag), "%s", g->etag);
	log_info("firmware %s/%s: manifest seq=%" PRId64
		 " releases=%zu from %s",
	    fd->product, fd->channel, fd->m->seq, fd->m->releases_n,
	    fw_from_name(g->from));
	firmware_tell(fd->fw, "manifest %s %s", fd->product, fd->channel);
	for (size_t i = 0; i < fd->m->revoked_n; i++)
		fills_drop(fd->fw->fills, fd->m->revoked[i]);
	ahead_soon(fd->fw->ahead);
}

static void
on_kept(void *arg)
{
	struct manifest_get *g = arg;
	struct fw_feed *fd = g->fd;

	cache_manifest_free(&g->keep);
	g->keep.json = NULL;
	if (fd == NULL || g->fw->stopping) {
		get_free(g);
		return;
	}
	if (g->rc == -EBADMSG) {
		next_origin(g, "its seq was used before for other bytes", true);
		return;
	}
	if (g->rc != 0)
		log_error("firmware %s/%s: cannot be kept: %s", fd->product,
		    fd->channel, strerror(-g->rc));
	all_well(fd);
	if (g->rc == 0 && g->m != NULL)
		take(g);
	done(g);
}

/* json (n octets) is that of the feed, confirmed now. */
static void
keep(struct manifest_get *g, const char *json, size_t n, const char *signature,
    int64_t seq)
{
	struct fw_feed *fd = g->fd;

	snprintf(g->keep.product, sizeof(g->keep.product), "%s", fd->product);
	snprintf(g->keep.channel, sizeof(g->keep.channel), "%s", fd->channel);
	snprintf(g->keep.etag, sizeof(g->keep.etag), "%s", g->etag);
	g->keep.seq = seq;
	g->keep.checked = firmware_now(fd->fw);
	g->keep.json = xmalloc(n + 1);
	memcpy(g->keep.json, json, n);
	g->keep.json[n] = '\0';
	g->keep.json_n = n;
	g->keep.signature = xstrdup(signature);
	pool_run(fd->fw->pool, run_keep, on_kept, g);
}

/* The origin has what we have: only the time of that is news. */
static void
confirmed(struct manifest_get *g)
{
	struct fw_feed *fd = g->fd;
	int64_t now = firmware_now(fd->fw);
	bool write = now >= fd->checked + CACHE_CHECKED_S || now < fd->checked;

	all_well(fd);
	fd->stale_since_ms = 0;
	fw_origins_ok(fd->fw->origins, g->from, 0);
	if (g->from == FW_CDN && g->etag[0] != '\0')
		snprintf(fd->etag, sizeof(fd->etag), "%s", g->etag);
	else
		snprintf(g->etag, sizeof(g->etag), "%s", fd->etag);
	if (!write) {
		done(g);
		return;
	}
	fd->checked = now;
	keep(g, fd->json, fd->json_n, fd->signature, fd->m->seq);
}

/* ---- the answers --------------------------------------------------------- */

static int64_t
max_age(const char *control)
{
	const char *s = control != NULL ? strstr(control, "max-age=") : NULL;
	long v = s != NULL ? strtol(s + 8, NULL, 10) : 0;

	return v < 0 ? 0 : v > STALE_MAX_S ? STALE_MAX_S : v;
}

/* A CDN may hold an old one as long as it was allowed to; then we wonder. */
static void
older(struct manifest_get *g)
{
	struct fw_feed *fd = g->fd;
	int64_t now = clock_ms();

	if (fd->stale_since_ms == 0) {
		fd->stale_since_ms = now;
		fd->stale_for_ms = g->max_age_s * 1000;
		log_debug("firmware %s/%s: %s is behind at seq=%" PRId64,
		    fd->product, fd->channel, fw_from_name(g->from), g->seq);
	} else if (now - fd->stale_since_ms > fd->stale_for_ms + POLL_MS) {
		char why[120];

		snprintf(why, sizeof(why),
		    "seq %" PRId64 " again, %" PRId64 " was there before",
		    g->seq, fd->m->seq);
		next_origin(g, why, false);
		return;
	}
	done(g);
}

static void
on_signature(struct manifest_get *g, const char *signature)
{
	struct fw_feed *fd = g->fd;
	char why[200];
	int rc = feed_verify(fd->fw, fd->product, fd->channel, g->json,
	    g->json_n, signature, &g->m, why, sizeof(why));

	if (rc == -EBADMSG && g->step == STEP_SIG && g->by_seq == 0) {
		/* The pair was being replaced: its own signature fits. */
		g->step = STEP_SIG_BY_SEQ;
		ask(g);
		return;
	}
	if (rc != 0) {
		next_origin(g, why, true);
		return;
	}
	if (fd->m != NULL && g->m->seq < fd->m->seq) {
		manifest_free(g->m);
		g->m = NULL;
		older(g);
		return;
	}
	fw_origins_ok(fd->fw->origins, g->from, 0);
	g->signature = xstrdup(signature);
	keep(g, g->json, g->json_n, signature, g->m->seq);
}

static void
on_json(struct manifest_get *g, const struct fw_result *r)
{
	struct fw_feed *fd = g->fd;
	const char *etag = xfer_header(r->xfer, "ETag"), *why = "?";
	cJSON *v;

	g->max_age_s = max_age(xfer_header(r->xfer, "Cache-Control"));
	if (etag != NULL && strlen(etag) < sizeof(g->etag) &&
	    g->from == FW_CDN && g->by_seq == 0)
		strcpy(g->etag, etag);
	if (fd->m != NULL && r->body_n == fd->json_n &&
	    memcmp(r->body, fd->json, fd->json_n) == 0) {
		confirmed(g);
		return;
	}
	v = json_parse(r->body, r->body_n, MANIFEST_MAX, &why);
	if (v == NULL ||
	    json_int(v, "seq", 1, INT64_C(1) << 53, &g->seq) != 0) {
		cJSON_Delete(v);
		next_origin(g, "what it sent is no manifest", true);
		return;
	}
	cJSON_Delete(v);
	if (fd->m != NULL && g->seq < fd->m->seq) {
		older(g);
		return;
	}
	free(g->json);
	g->json = xmalloc(r->body_n + 1);
	memcpy(g->json, r->body, r->body_n + 1);
	g->json_n = r->body_n;
	g->step = STEP_SIG;
	ask(g);
}

static void
on_got(const struct fw_result *r, void *arg)
{
	struct manifest_get *g = arg;
	struct fw_feed *fd = g->fd;

	g->get = NULL;
	if (g->step == STEP_SIG_BY_SEQ && (r->rc != 0 || r->status != 200)) {
		next_origin(g, "its signature does not fit", true);
	} else if (r->rc != 0) {
		fw_origins_failed(fd->fw->origins, g->from, r->why);
		next_origin(g, r->why, false);
	} else if (r->status == 304 && g->step == STEP_JSON && fd->m != NULL) {
		confirmed(g);
	} else if (r->status != 200) {
		next_origin(
		    g, r->why != NULL ? r->why : "answered strangely", false);
	} else if (g->step == STEP_JSON) {
		on_json(g, r);
	} else if (memchr(r->body, '\0', r->body_n) != NULL) {
		next_origin(g, "its signature is none", true);
	} else {
		on_signature(g, r->body);
	}
}

static void
ask(struct manifest_get *g)
{
	struct fw_feed *fd = g->fd;
	bool numbered = g->by_seq > 0 || g->step == STEP_SIG_BY_SEQ;
	int64_t seq = g->by_seq > 0 ? g->by_seq : g->seq;
	char *number = numbered ? xasprintf("-%" PRId64, seq) : xstrdup("");
	char *path = xasprintf("%s/%s/manifest%s.json%s", fd->product,
	    fd->channel, number, g->step == STEP_JSON ? "" : ".minisig");
	struct fw_get_request rq = { .from = g->from,
		.path = path,
		.storage = fd->storage,
		.answer_max = g->step == STEP_JSON ? MANIFEST_MAX
						   : MINISIGN_SIGNATURE_MAX,
		.hurry = fd->known_seq > 0 };

	if (g->step == STEP_JSON && g->from == FW_CDN && !numbered &&
	    fd->m != NULL)
		rq.etag = fd->etag;
	g->get = fw_get(fd->fw->origins, &rq, on_got, g);
	free(number);
	free(path);
}

/* ---- whose time it is ---------------------------------------------------- */

/* The signer told of a seq that is not here. */
static bool
has_news(const struct fw_feed *fd)
{
	return behind(fd) && fd->known_seq > 0;
}

static void
start(struct fw_feed *fd)
{
	bool newer = has_news(fd);
	struct manifest_get *g;
	int64_t wait;
	int from = -1;

	fd->again = false;
	/* The bucket is asked when it has news, or nobody else is there. */
	if (newer)
		from = fw_origins_pick(fd->fw->origins,
		    FW_BIT(FW_CDN) | FW_BIT(FW_BACKUP), fd->storage, clock_ms(),
		    &wait);
	if (from < 0 || wait > 0)
		from = fw_origins_pick(
		    fd->fw->origins, 0, fd->storage, clock_ms(), &wait);
	if (from < 0 || wait > 0) {
		later(fd, from < 0 ? poll_ms() : wait);
		return;
	}
	g = xcalloc(1, sizeof(*g));
	g->fw = fd->fw;
	g->fd = fd;
	g->from = (enum fw_from)from;
	if (newer && fd->m != NULL && from != FW_BUCKET)
		g->by_seq = fd->known_seq;
	fd->get = g;
	ask(g);
}

/* The one that is due the longest; NULL: none. */
static struct fw_feed *
most_due(struct firmware *f, bool news)
{
	struct fw_feed *fd, *best = NULL;
	int64_t now = clock_ms();

	TAILQ_FOREACH(fd, &f->feeds, link)
	if (fd->wanted && fd->get == NULL && fd->next_ms <= now &&
	    has_news(fd) == news &&
	    (best == NULL || fd->next_ms < best->next_ms))
		best = fd;
	return best;
}

static void
poll_some(struct firmware *f, bool news)
{
	struct fw_feed *fd;
	unsigned running = 0;

	TAILQ_FOREACH(fd, &f->feeds, link)
	running += fd->get != NULL && fd->get_news == news;
	while (running < POLLS_MAX && (fd = most_due(f, news)) != NULL) {
		fd->get_news = news;
		start(fd); /* or it is due later */
		running += fd->get != NULL;
	}
}

void
feeds_poll(struct firmware *f)
{
	if (f->keys_n == 0 || !f->ready || f->stopping)
		return;
	poll_some(f, true);
	poll_some(f, false);
}
