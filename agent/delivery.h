/*
 * delivery.h - one upload on its way from the spool to its store
 *
 * The scheduler makes it, has it marked in the spool and signed, and starts
 * it; delivery.c sends what the recipe says and decides what the answers mean;
 * mark.c has the outcome committed. Then the scheduler frees it.
 */
#ifndef DELIVERY_H
#define DELIVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <cjson/cJSON.h>

#include "certificates.h"
#include "image.h"
#include "recipe.h"
#include "spool.h"
#include "storage.h"
#include "uplink.h"

struct agent;
struct event;
struct lane;
struct xfer_result;

enum delivery_state {
	DELIVERY_READY,  /* in the window, not touched in the spool */
	DELIVERY_SHRINK, /* with the image workers */
	DELIVERY_SHRUNK, /* they are done with it */
	DELIVERY_OFFER,  /* being marked as `sending` */
	DELIVERY_SIGN,   /* to be signed */
	DELIVERY_ASKED,  /* the signer has been asked */
	DELIVERY_SIGNED, /* has a recipe, waits for its turn */
	DELIVERY_RUN,    /* requests are under way */
	DELIVERY_MARK,   /* its outcome is being committed */
	DELIVERY_STATES
};
enum delivery_ask {
	ASK_SEND, /* a recipe that sends it */
	ASK_LOOK, /* a recipe that tells whether it is there */
	ASK_ABORT /* a recipe that gives up the parts that were sent */
};
enum delivery_mark { MARK_DELIVERED, MARK_DEFER, MARK_HOLD, MARK_QUARANTINE };

struct delivery {
	struct agent *agent;
	struct spool_item it;
	struct storage *st;
	enum delivery_state state;
	bool probe;   /* of the storage's circuit */
	bool slot;    /* counts among those under way */
	bool counted; /* among the storage's pipeline */
	int64_t begun_ms;

	/* the scheduler's */
	TAILQ_ENTRY(delivery) link;
	struct delivery *next_same; /* of the table of those in hand */
	struct lane *lane;

	/* shrink.c's: a smaller copy instead of the body, or what was found */
	struct image_wish wish;
	struct image_run *shrinking;
	struct image_made *made;
	bool lost; /* the copy that was offered cannot be made again */

	/* what to ask the signer for */
	enum delivery_ask ask;
	char step[64];       /* as a recipe named it, "" at first */
	int64_t part, parts; /* which of how many; 0: not yet, or no more */
	cJSON *kept;         /* values of earlier steps, NULL: none */
	unsigned signs, looks, starts; /* in this try */
	bool alone;                    /* not with others in one request */

	/* what the recipe says and how far it is */
	struct recipe *recipe;
	int64_t expires_ms;
	size_t at; /* of recipe->requests */
	struct certificate_wait certificate;
	char *pem;
	struct xfer *xfer;
	struct body *body;
	struct body_hash *hash; /* of the parts sent so far */
	struct uplink_waiter turn;
	bool have_md5;
	uint8_t md5[16];   /* of the whole */
	uint8_t sent[32];  /* digest of the last body sent */
	size_t sent_n;     /* 0: none was made */
	char seen[3][256]; /* digest, size and SHA-256 that the store told */

	/* what is to be committed */
	enum delivery_mark mark;
	int64_t wait_ms;
	bool counts;
	char why[400];
	struct event *again;
	int64_t again_ms;
};

/* Takes the item's texts, zeroes *it. */
struct delivery *delivery_new(
    struct agent *a, struct spool_item *it, struct storage *st);
/* Stops what is under way. */
void delivery_free(struct delivery *d);
/* Send it as d->recipe says. */
void delivery_start(struct delivery *d);
/* Signed: begin to read its octets, if it is a whole file of one recipe. */
void delivery_prepare(struct delivery *d);
/* One request of a recipe as an exchange; a body from the file is left out.
 * What out points to is the recipe's, pem and the configuration. */
struct xfer_request;
void delivery_request(struct agent *a, const struct recipe_request *rq,
    const char *pem, struct xfer_request *out);
/* What is read instead of the spool's file, for struct body_range. */
int delivery_file(const struct delivery *d);
/* Forget the requests in hand (before another recipe). */
void delivery_stop(struct delivery *d);
/* Ask for another recipe. Begin the parts anew. */
void delivery_sign_again(struct delivery *d);
void delivery_forget_parts(struct delivery *d);
/* The storage is another one now: give up what was begun, begin anew. */
void delivery_begin_anew(struct delivery *d, const char *why);
/* lost.c: the original in place of the copy that was offered. */
void delivery_offer_original(struct delivery *d);
/* After a rebuild: true if the original is to be looked for instead. */
bool delivery_original_instead(struct delivery *d);
/* Keep what an answer tells; the name of a value that it lacks, or NULL. */
const char *delivery_keep(struct delivery *d, const struct recipe_request *rq,
    const struct xfer_result *r);
/* The text kept in the spool of an upload in parts, and back. */
char *delivery_kept_text(const struct delivery *d);
void delivery_kept_parse(struct delivery *d);

/*
 * The outcome; each has it committed and then calls scheduler_over(). The
 * store or signer is to blame for a failure of delivery_failed(): it counts
 * for the circuit; status 0: it did not answer.
 */
void delivery_failed(
    struct delivery *d, int status, int64_t retry_after_ms, const char *why);
/* Not the store's fault: only back to waiting. */
void delivery_defer(
    struct delivery *d, int64_t wait_ms, bool counts, const char *why);
void delivery_done(struct delivery *d);
void delivery_hold(struct delivery *d, const char *why);
void delivery_quarantine(struct delivery *d, const char *why);
/* The store answers: close its circuit. */
void delivery_store_ok(struct delivery *d);

#endif
