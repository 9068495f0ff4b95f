/*
 * firmware.h - firmware at the agent: what its parts share
 *
 * manifest_poll knows what is published, firmware_fill brings it into the cache
 * (lib/cache), firmware_ahead decides what is fetched before a device asks,
 * mirror_fetch keeps files of vendors who sign nothing. All run on the loop;
 * every call of the cache is a job of the one thread of `pool`.
 */
#ifndef FIRMWARE_H
#define FIRMWARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <cjson/cJSON.h>

#include "agent.h"
#include "cache.h"
#include "firmware_origin.h"
#include "manifest.h"
#include "minisign.h"
#include "publisher_keys.h"

#define FW_PRODUCTS_MAX 256
#define FW_FEEDS_MAX 512

/* One product and channel. */
struct fw_feed {
	TAILQ_ENTRY(fw_feed) link;
	struct firmware *fw;
	char product[65], channel[65];
	char *storage;          /* of its bucket; NULL: not known */
	int64_t known_seq;      /* that the signer told of; 0: none */
	struct manifest *m;     /* NULL: none yet */
	char *json, *signature; /* its octets, to tell the same from others */
	size_t json_n;
	char etag[128];
	int64_t checked;          /* Unix seconds when an origin confirmed it */
	int64_t next_ms;          /* poll not before */
	int64_t wait_ms;          /* after failures */
	struct manifest_get *get; /* under way */
	bool get_news;            /* it was begun for a newer seq */
	bool again;               /* what it finds may be old already */
	bool wanted;              /* still in the policy */
	char errors[FW_FROM_N]
		   [160]; /* of each origin, since it was last well */
	bool failing;
	int64_t stale_since_ms, stale_for_ms; /* a CDN lags behind */
};
TAILQ_HEAD(fw_feeds, fw_feed);

struct firmware {
	struct agent *agent;
	struct cache
	    *cache;  /* the pool's thread alone uses it; NULL: not yet */
	int open_rc; /* of opening it */
	unsigned ticks;
	struct pool *pool;
	struct fw_origins *origins;
	struct minisign_public keys[PUBLISHER_KEYS_MAX];
	size_t keys_n;
	bool keys_lost;                  /* publisher_key could not be read */
	char *products[FW_PRODUCTS_MAX]; /* the policy */
	size_t products_n;
	struct fw_feeds feeds;
	struct fills *fills;
	struct ahead *ahead;
	struct mirrors *mirrors;
	struct feedback *feedback;
	struct event *tick;
	bool ready, stopping; /* ready: what the cache holds has been read */
	bool settings_busy,
	    settings_again;         /* they are being taken; once more */
	struct cache_totals totals; /* as of totals_txn */
	uint64_t totals_txn;
	bool looking;
};

/* NULL: not set up. The cache is opened by the pool's thread. */
struct firmware *firmware_new(struct agent *a);
void firmware_free(struct firmware *f);
/* New settings, in a->conf. */
void firmware_reload(struct firmware *f);
/* A ring of the proxy; false: it is none of ours. */
bool firmware_ring(struct firmware *f, const char *msg);
/* An answer of /v1/updates. */
void firmware_updates(struct firmware *f, const cJSON *updates);
/* For status; NULL f: "off". */
cJSON *firmware_status(struct firmware *f);
/* Ring the proxy. */
void firmware_tell(struct firmware *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Unix seconds by the signer's clock where that is known. */
int64_t firmware_now(const struct firmware *f);
/* Octets of blobs: mirrors have their part (mirror_fetch.c). */
uint64_t firmware_limit(const struct gateway_conf *c);

/* ---- firmware_open.c ----------------------------------------------------- */

/*
 * Take the settings of now, by a job: opens the cache (made if create) unless
 * it is open, and reads what it kept; reads the keys.
 */
void firmware_settings(struct firmware *f, bool create);

/* ---- firmware_policy.c --------------------------------------------------- */

#define FW_CHANNELS_KEPT_MAX 65536 /* octets of the kept value "channels" */

bool firmware_in_policy(const struct firmware *f, const char *product);
/* What the cache kept of an earlier answer; either may be NULL. */
void firmware_policy_restore(
    struct firmware *f, const cJSON *products, const cJSON *channels);
void firmware_drop_products(struct firmware *f);

/* ---- manifest_feed.c ----------------------------------------------------- */

struct fw_feed *feed_find(
    struct firmware *f, const char *product, const char *channel);
/* Find or make it; NULL: too many, or names that are none. */
struct fw_feed *feed_get(
    struct firmware *f, const char *product, const char *channel);
void feed_free(struct fw_feed *fd);
/* Other keys are ours: what it has, and what is under way, goes. */
void feed_distrust(struct fw_feed *fd);
/* What the cache kept: true if it is signed and ours. */
bool feed_restore(struct firmware *f, const struct cache_manifest *m);
/*
 * -EBADMSG or -ENOKEY: the signature does not fit; another -errno: signed, but
 * not for this feed. why: NULL or of n octets.
 */
int feed_verify(struct firmware *f, const char *product, const char *channel,
    const char *json, size_t json_n, const char *signature,
    struct manifest **m_out, char *why, size_t n);

/* ---- manifest_poll.c ----------------------------------------------------- */

/* The feed goes; what is under way ends without it. NULL is accepted. */
void manifest_get_leave(struct manifest_get *g);
/* There may be news: ask as soon as can be. */
void feed_now(struct fw_feed *fd);
/* Each second, and as one ends: whose time it is. */
void feeds_poll(struct firmware *f);
/* In any channel of its product, also of one that is not polled any more: they
 * are the same octets. Another product may think better of them. */
bool feeds_revoked(
    const struct firmware *f, const char *product, const uint8_t sha256[32]);
/* The file of that content in any manifest of a product that has not revoked
 * it, of a release that is current rather than revoked; NULL. */
const struct manifest_file *feeds_find(struct firmware *f,
    const uint8_t sha256[32], const struct fw_feed **fd_out);

/* ---- firmware_fill.c ----------------------------------------------------- */

struct fills *fills_new(struct firmware *f);
void fills_stop(struct fills *fs);
void fills_free(struct fills *fs);
/* A reader waits for slices. */
void fills_want(
    struct fills *fs, const uint8_t sha256[32], size_t first, size_t count);
/* To be fetched whole when nothing else is to do; pinned from now on. */
void fills_ahead(struct fills *fs, const uint8_t sha256[32]);
/* A file without a row is there: take over what fits. */
void fills_adopt(struct fills *fs, const uint8_t sha256[32]);
/* Octets a second of all; 0: no limit. */
void fills_rate(struct fills *fs, int64_t rate);
/* Revoked: stop, and drop what is there. */
void fills_drop(struct fills *fs, const uint8_t sha256[32]);
/* Each second, and when something changed. */
void fills_plan(struct fills *fs);
cJSON *fills_status(const struct fills *fs);

/* ---- firmware_ahead.c ---------------------------------------------------- */

struct ahead *ahead_new(struct firmware *f);
void ahead_free(struct ahead *h);
/* A manifest came, the policy changed, or time went by: pin anew. */
void ahead_soon(struct ahead *h);
void ahead_tick(struct ahead *h);
/* May so many octets be fetched ahead now? */
bool ahead_may(struct ahead *h, uint64_t octets);
void ahead_spent(struct ahead *h, uint64_t octets);

/* ---- firmware_feedback.c ------------------------------------------------- */

struct feedback *feedback_new(struct firmware *f);
void feedback_stop(struct feedback *fb);
void feedback_free(struct feedback *fb);
void feedback_tick(struct feedback *fb);

/* ---- mirror_fetch.c ------------------------------------------------------ */

struct mirrors *mirrors_new(struct firmware *f);
void mirrors_stop(struct mirrors *m);
void mirrors_free(struct mirrors *m);
/* path as in the ring: percent-encoded, no slash at its start. */
void mirrors_want(struct mirrors *m, const char *name, const char *path);

#endif
