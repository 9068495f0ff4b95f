/*
 * offer.h - which release a device is to install now, if any
 *
 * A pure decision on a verified manifest: the same question at the same time
 * has the same answer on every gateway, with or without a WAN.
 */
#ifndef OFFER_H
#define OFFER_H

#include <stdint.h>

struct manifest;
struct manifest_file;
struct manifest_release;

struct offer_ask {
	const char *id;          /* of the device; never NULL */
	const char *hw;          /* NULL: it did not say */
	const char *version;     /* what it runs; NULL: it did not say */
	const char *component;   /* NULL: the release's first file */
	const char *offered;     /* version last offered to it; NULL */
	const char *failed;      /* version it could not install; NULL */
	const char *fetched;     /* version it last fetched; NULL */
	unsigned fetched_times;  /* whole */
	int64_t fetched_at, now; /* Unix seconds */
};
enum offer_status { OFFER_NONE, OFFER_UPDATE, OFFER_WAIT };
struct offer {
	enum offer_status status;
	const char *reason;                     /* static, a word for the log */
	const struct manifest_release *release; /* UPDATE: of the manifest */
	const struct manifest_file *file;
	int64_t retry; /* ask again after so many seconds */
};

#define OFFER_RETRY 3600 /* when nothing is known to come sooner */
/* Who has fetched a release so many times and does not run it is offered it
 * only so many seconds after the last time. */
#define OFFER_TRIES 5
#define OFFER_REST 21600

/*
 * Among the releases that are higher than what runs, that is by semantic
 * version, or by the manifest's seq where versions are equal or no such, the
 * highest that nothing speaks against: hardware, revoked, halted, failed here,
 * min_from (so that a stepping stone is offered), its set, after, window,
 * percent, an expired manifest. m is NULL for a product that is not known. The
 * reason is "update", or that of the highest release that was held back.
 */
void offer_decide(
    const struct manifest *m, const struct offer_ask *a, struct offer *o_out);

/* Seconds since midnight UTC until the window [from, to) of minutes opens; 0:
 * it is open. It may pass midnight; from == to is always open. */
int64_t offer_window(int from, int to, int64_t now);
/* Is the device among so many percent? By SHA-256 of salt and id alone. */
int offer_percent(const char *salt, const char *id, unsigned percent);

#endif
