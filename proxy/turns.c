/*
 * turns.c - which devices download now, and when the others should come back
 *
 * A device that was seen is kept, the longest unused go first; so what one was
 * admitted to is remembered for the last KEPT devices. All that is asked of the
 * whole (how many are active, who waits) is answered from two lists that hold
 * only those.
 */
#include "turns.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "text_hash.h"
#include "xalloc.h"

#define BUCKETS 256
#define KEPT 4096
#define BLOBS 4              /* a device was admitted to, remembered */
#define PAUSE_MS 5000        /* between two ranges of one file */
#define EARLY_MS 2000        /* who comes back that much before its time */
#define LATE_MS 5000         /* or after it is still awaited */
#define FIRST_GUESS_MS 30000 /* a turn, before any was seen */
#define RETRY_MAX 600

struct turn {
	LIST_ENTRY(turn) link;       /* of its bucket */
	TAILQ_ENTRY(turn) used_link; /* least recently used first */
	TAILQ_ENTRY(turn) now_link;  /* active ones, or those that wait */
	char *device;
	enum { AWAY, ACTIVE, WAITING } state;
	unsigned running;     /* requests */
	int64_t since, until; /* ACTIVE without requests, WAITING: until then */
	uint64_t moved, left;
	uint8_t blobs[BLOBS][32];
	unsigned blobs_n, blobs_at;
};
TAILQ_HEAD(turn_list, turn);

struct turns {
	LIST_HEAD(, turn) buckets[BUCKETS];
	struct turn_list used, active, waiting;
	unsigned n, active_n, waiting_n;
	int64_t usual_ms; /* length of a turn */
};

struct turns *
turns_new(void)
{
	struct turns *t = xcalloc(1, sizeof(*t));

	TAILQ_INIT(&t->used);
	TAILQ_INIT(&t->active);
	TAILQ_INIT(&t->waiting);
	t->usual_ms = FIRST_GUESS_MS;
	return t;
}

static void
go(struct turns *t, struct turn *v, int state)
{
	if (v->state == ACTIVE) {
		TAILQ_REMOVE(&t->active, v, now_link);
		t->active_n--;
	} else if (v->state == WAITING) {
		TAILQ_REMOVE(&t->waiting, v, now_link);
		t->waiting_n--;
	}
	v->state = state;
	if (state == ACTIVE) {
		TAILQ_INSERT_TAIL(&t->active, v, now_link);
		t->active_n++;
	} else if (state == WAITING) {
		TAILQ_INSERT_TAIL(&t->waiting, v, now_link);
		t->waiting_n++;
	}
}

static void
drop(struct turns *t, struct turn *v)
{
	go(t, v, AWAY);
	LIST_REMOVE(v, link);
	TAILQ_REMOVE(&t->used, v, used_link);
	t->n--;
	free(v->device);
	free(v);
}

void
turns_free(struct turns *t)
{
	if (t == NULL)
		return;
	while (!TAILQ_EMPTY(&t->used))
		drop(t, TAILQ_FIRST(&t->used));
	free(t);
}

static unsigned
bucket(const char *s)
{
	return text_hash(s) % BUCKETS;
}

static struct turn *
find(struct turns *t, const char *device)
{
	struct turn *v;

	LIST_FOREACH(v, &t->buckets[bucket(device)], link)
	if (strcmp(v->device, device) == 0)
		break;
	return v;
}

/* The device's, made if it has none; it is the most recently used now. */
static struct turn *
use(struct turns *t, const char *device)
{
	struct turn *v = find(t, device), *old;

	if (v != NULL) {
		TAILQ_REMOVE(&t->used, v, used_link);
		TAILQ_INSERT_TAIL(&t->used, v, used_link);
		return v;
	}
	if (t->n >= KEPT)
		TAILQ_FOREACH(old, &t->used, used_link)
	if (old->running == 0) {
		drop(t, old);
		break;
	}
	v = xcalloc(1, sizeof(*v));
	v->device = xstrdup(device);
	LIST_INSERT_HEAD(&t->buckets[bucket(device)], v, link);
	TAILQ_INSERT_TAIL(&t->used, v, used_link);
	t->n++;
	return v;
}

/* Those whose time is over go. */
static void
tidy(struct turns *t, int64_t now)
{
	struct turn *v, *next;

	for (v = TAILQ_FIRST(&t->active); v != NULL; v = next) {
		next = TAILQ_NEXT(v, now_link);
		if (v->running == 0 && now >= v->until)
			go(t, v, AWAY);
	}
	for (v = TAILQ_FIRST(&t->waiting); v != NULL; v = next) {
		next = TAILQ_NEXT(v, now_link);
		if (now > v->until + LATE_MS)
			go(t, v, AWAY);
	}
}

static bool
admitted_to(const struct turn *v, const uint8_t sha256[32])
{
	for (unsigned i = 0; i < v->blobs_n; i++)
		if (memcmp(v->blobs[i], sha256, 32) == 0)
			return true;
	return false;
}

/* Places that those who wait may claim before v does. */
static unsigned
ahead_of(const struct turns *t, const struct turn *v, int64_t now)
{
	const struct turn *w;
	unsigned n = 0;

	TAILQ_FOREACH(w, &t->waiting, now_link)
	{
		if (w == v)
			break;
		n += now >= w->until - EARLY_MS;
	}
	return n;
}

static int
by_time(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* How long until v's turn comes: the active ones' ends as their speed tells. */
static int
estimate(const struct turns *t, const struct turn *v, int64_t now)
{
	int64_t *ends = xcalloc(t->active_n + 1, sizeof(*ends)), ms;
	const struct turn *w;
	unsigned n = 0, place = 0;

	TAILQ_FOREACH(w, &t->active, now_link)
	{
		int64_t spent = now - w->since;

		ms = t->usual_ms > spent ? t->usual_ms - spent : 1000;
		if (w->running == 0)
			ms = w->until - now;
		else if (w->moved > 0 && spent > 0)
			ms = (int64_t)((double)w->left / (double)w->moved *
			    (double)spent);
		ends[n++] = ms;
	}
	TAILQ_FOREACH(w, &t->waiting, now_link)
	{
		if (w == v)
			break;
		place++;
	}
	qsort(ends, n, sizeof(*ends), by_time);
	ms = n > 0 ? ends[place % n] + place / n * t->usual_ms : 0;
	free(ends);
	ms = ms / 1000 + 1;
	return ms > RETRY_MAX ? RETRY_MAX : (int)ms;
}

bool
turns_begin(struct turns *t, const char *device, const uint8_t sha256[32],
    bool goes_on, unsigned max, int64_t now, struct turn **turn_out,
    int *retry_out)
{
	struct turn *v = use(t, device);

	tidy(t, now);
	if (v->state != ACTIVE && !(goes_on && admitted_to(v, sha256)) &&
	    t->active_n + ahead_of(t, v, now) >= max) {
		if (v->state != WAITING)
			go(t, v, WAITING);
		*retry_out = estimate(t, v, now);
		v->until = now + *retry_out * (int64_t)1000;
		return false;
	}
	if (v->state != ACTIVE) {
		go(t, v, ACTIVE);
		v->since = now;
		v->moved = v->left = 0;
	}
	v->running++;
	if (!admitted_to(v, sha256)) {
		memcpy(v->blobs[v->blobs_at], sha256, 32);
		v->blobs_at = (v->blobs_at + 1) % BLOBS;
		if (v->blobs_n < BLOBS)
			v->blobs_n++;
	}
	*turn_out = v;
	return true;
}

void
turns_moved(struct turn *v, uint64_t octets, uint64_t left, int64_t now)
{
	v->moved += octets;
	v->left = left;
}

void
turns_end(struct turns *t, struct turn *v, bool last, int64_t now)
{
	if (--v->running > 0)
		return;
	v->until = last ? now : now + PAUSE_MS;
	if (last) {
		t->usual_ms = (3 * t->usual_ms + (now - v->since)) / 4;
		go(t, v, AWAY);
	}
}

int
turns_wait(struct turns *t, const char *device, unsigned max, int64_t now)
{
	struct turn *v = find(t, device);

	tidy(t, now);
	if ((v != NULL && v->state == ACTIVE) ||
	    t->active_n + ahead_of(t, v, now) < max)
		return 0;
	return estimate(t, v, now);
}

unsigned
turns_active(struct turns *t, int64_t now)
{
	tidy(t, now);
	return t->active_n;
}

unsigned
turns_waiting(struct turns *t, int64_t now)
{
	tidy(t, now);
	return t->waiting_n;
}
