/*
 * offer.c - which release a device is to install now, if any
 *
 * One pass: each release gets a verdict, the best of those with nothing against
 * them is offered. What a device did not tell counts against a release that
 * asks for it: a wrong image can brick it, a late one cannot.
 */
#include "offer.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <openssl/evp.h>

#include "manifest.h"

#define DAY 86400
#define RETRY_SOON 60 /* an offer that was not taken, e.g. a cut download */

/* Where a release stands against what the device runs. */
enum standing { HIGHER, NOT_HIGHER, UNKNOWN };

int64_t
offer_window(int from, int to, int64_t now)
{
	int64_t second = ((now % DAY) + DAY) % DAY, minute = second / 60;
	bool open;

	if (from < 0 || from == to)
		return 0;
	open = from < to ? minute >= from && minute < to
			 : minute >= from || minute < to;
	if (open)
		return 0;
	return ((int64_t)from * 60 - second + DAY) % DAY;
}

int
offer_percent(const char *salt, const char *id, unsigned percent)
{
	unsigned char d[32];
	EVP_MD_CTX *md;
	uint32_t v;
	bool ok;

	if (percent >= 100 || percent == 0)
		return percent != 0;
	md = EVP_MD_CTX_new();
	ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
	    EVP_DigestUpdate(md, salt, strlen(salt)) == 1 &&
	    EVP_DigestUpdate(md, ":", 1) == 1 &&
	    EVP_DigestUpdate(md, id, strlen(id)) == 1 &&
	    EVP_DigestFinal_ex(md, d, NULL) == 1;
	EVP_MD_CTX_free(md);
	if (!ok)
		return 0;
	v = (uint32_t)d[0] << 24 | (uint32_t)d[1] << 16 | (uint32_t)d[2] << 8 |
	    d[3];
	return (uint64_t)v * 100 >> 32 < percent;
}

/* By version, else by seq. */
static bool
above(const struct manifest_release *a, const struct manifest_release *b)
{
	int order;

	if (firmware_version_compare(a->version, b->version, &order) &&
	    order != 0)
		return order > 0;
	return a->seq > b->seq;
}

static const struct manifest_release *
release_of(const struct manifest *m, const char *version)
{
	for (size_t i = 0; i < m->releases_n; i++)
		if (strcmp(m->releases[i].version, version) == 0)
			return &m->releases[i];
	return NULL;
}

static enum standing
stand(const struct manifest_release *r, const struct manifest_release *runs,
    const struct offer_ask *a)
{
	int order;

	if (a->version == NULL)
		return HIGHER;
	if (strcmp(a->version, r->version) == 0)
		return NOT_HIGHER;
	if (firmware_version_compare(r->version, a->version, &order) &&
	    order != 0)
		return order > 0 ? HIGHER : NOT_HIGHER;
	if (runs == NULL)
		return UNKNOWN;
	return r->seq > runs->seq ? HIGHER : NOT_HIGHER;
}

static bool
fits_hw(const struct manifest_release *r, const char *hw)
{
	if (r->hw_n == 0)
		return true;
	for (size_t i = 0; hw != NULL && i < r->hw_n; i++)
		if (strcmp(r->hw[i], hw) == 0)
			return true;
	return false;
}

/* Is what runs at least the release's min_from? */
static bool
reaches(const struct manifest *m, const struct manifest_release *r,
    const struct manifest_release *runs, const struct offer_ask *a)
{
	const struct manifest_release *from;
	int order;

	if (r->min_from == NULL)
		return true;
	if (a->version == NULL)
		return false;
	if (firmware_version_compare(a->version, r->min_from, &order))
		return order >= 0;
	from = release_of(m, r->min_from);
	return strcmp(a->version, r->min_from) == 0 ||
	    (runs != NULL && from != NULL && runs->seq >= from->seq);
}

/* Does it fetch this again and again and never runs it? */
static bool
in_vain(const struct manifest_release *r, const struct offer_ask *a)
{
	return a->fetched != NULL && strcmp(a->fetched, r->version) == 0 &&
	    a->fetched_times >= OFFER_TRIES && a->version != NULL &&
	    a->now >= a->fetched_at && a->now - a->fetched_at < OFFER_REST;
}

/* What holds back a release, whoever asks; NULL: nothing. */
static const char *
held(const struct manifest_release *r, int64_t now)
{
	return r->revoked     ? "revoked"
	    : r->halted       ? "halted"
	    : r->files_n == 0 ? "no-file"
	    : now < r->after  ? "after"
			      : NULL;
}

/* All releases of its set go together or not at all. */
static bool
set_ready(
    const struct manifest *m, const struct manifest_release *r, int64_t now)
{
	for (size_t i = 0; r->set != NULL && i < m->releases_n; i++) {
		const struct manifest_release *s = &m->releases[i];

		if (s->set != NULL && strcmp(s->set, r->set) == 0 &&
		    held(s, now) != NULL)
			return false;
	}
	return true;
}

static const struct manifest_file *
file_of(const struct manifest_release *r, const char *component)
{
	if (component == NULL)
		return r->files_n > 0 ? &r->files[0] : NULL;
	for (size_t i = 0; i < r->files_n; i++)
		if (strcmp(r->files[i].component, component) == 0)
			return &r->files[i];
	return NULL;
}

/* What speaks against the release for this device; NULL: nothing. */
static const char *
against(const struct manifest *m, const struct manifest_release *r,
    const struct manifest_release *runs, const struct offer_ask *a)
{
	const char *why = held(r, a->now);
	bool known = a->offered != NULL && strcmp(a->offered, r->version) == 0;

	if (!fits_hw(r, a->hw))
		return "hardware";
	if (why != NULL && strcmp(why, "after") != 0)
		return why;
	if (a->failed != NULL && strcmp(a->failed, r->version) == 0)
		return "failed-here";
	if (in_vain(r, a))
		return "in-vain";
	if (!reaches(m, r, runs, a))
		return "min-from";
	if (file_of(r, a->component) == NULL)
		return "no-file";
	if (!set_ready(m, r, a->now))
		return why != NULL ? why : "set";
	if (why != NULL)
		return why;
	if (a->now >= m->expires && !known)
		return "expired";
	if (!offer_percent(r->salt, a->id, r->percent))
		return "percent";
	return NULL;
}

static void
sooner(struct offer *o, int64_t seconds)
{
	if (seconds > 0 && seconds < o->retry)
		o->retry = seconds;
}

void
offer_decide(
    const struct manifest *m, const struct offer_ask *a, struct offer *o_out)
{
	const struct manifest_release *runs = NULL, *best = NULL, *top = NULL;
	struct offer o = { OFFER_NONE, "unknown-product", NULL, NULL,
		OFFER_RETRY };
	int64_t opens;

	if (m == NULL) {
		*o_out = o;
		return;
	}
	o.reason = "current";
	if (a->version != NULL)
		runs = release_of(m, a->version);
	for (size_t i = 0; i < m->releases_n; i++) {
		const struct manifest_release *r = &m->releases[i];
		enum standing s = stand(r, runs, a);
		const char *why;

		if (s == NOT_HIGHER)
			continue;
		why = s == UNKNOWN ? "unknown-version" : against(m, r, runs, a);
		if (why == NULL && (best == NULL || above(r, best)))
			best = r;
		if (why != NULL && (top == NULL || above(r, top))) {
			top = r;
			o.reason = why;
		}
		if (why != NULL && strcmp(why, "after") == 0)
			sooner(&o, r->after - a->now);
		if (why != NULL && strcmp(why, "in-vain") == 0)
			sooner(&o, a->fetched_at + OFFER_REST - a->now);
	}
	if (best != NULL) {
		opens =
		    offer_window(best->window_from, best->window_to, a->now);
		o.status = opens > 0 ? OFFER_WAIT : OFFER_UPDATE;
		o.reason = opens > 0 ? "window" : "update";
		o.retry = opens > 0 ? opens : RETRY_SOON;
		o.release = best;
		o.file = file_of(best, a->component);
	}
	*o_out = o;
}
