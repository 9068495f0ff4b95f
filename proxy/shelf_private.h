/*
 * shelf_private.h - what shelf.c (blobs and readers) and shelf_check.c (slices
 * compared on threads) share
 */
#ifndef SHELF_PRIVATE_H
#define SHELF_PRIVATE_H

#include "shelf.h"

#include "manifest.h"
#include "resident.h"

#define BLOBS_BUCKETS 64
#define SHARES_BUCKETS 64
#define WANTS 8 /* remembered, so that they are not repeated too often */

struct check;

struct blob {
	LIST_ENTRY(blob) link; /* of its bucket */
	TAILQ_ENTRY(blob) idle_link;
	struct shelf *shelf;
	uint8_t sha256[32], list_sha256[32];
	char hex[65];
	uint64_t size;
	size_t slices;
	unsigned readers, jobs; /* freed when both are 0 */
	bool looked;            /* the index was asked at least once */
	bool looking, again;
	bool gone;    /* its row is: readers end, a new one opens it anew */
	bool is_idle; /* on the list of the shelf */
	int fd;       /* -1 */
	struct resident mem;
	struct timespec ctime; /* of the file, for which `good` holds */
	uint8_t *have;         /* bitmap of the index; NULL: no row */
	uint8_t *good;         /* compared with the list */
	uint8_t *list;         /* NULL */
	int64_t touched_s;
	struct {
		size_t first, count;
		int64_t at_ms;
	} wants[WANTS];
	unsigned wants_at;
	LIST_HEAD(, shelf_reader) waiting;
	LIST_HEAD(, check) checks; /* under way */
	struct check *fresh;       /* has just been compared */
};

struct shelf {
	struct pool *disk, *readers;
	struct cache **cache;
	struct shelf_calls calls;
	struct shelf_counts counts;
	LIST_HEAD(, blob) buckets[BLOBS_BUCKETS];
	TAILQ_HEAD(, blob)
	idle; /* without readers, least recently used first */
	unsigned idle_n, copies, lent,
	    coming; /* lent, being compared for readers
		     */
	bool stopping;
	bool starved; /* somebody waits for a copy to be given back */
	LIST_HEAD(, shelf_share) shares[SHARES_BUCKETS];
	struct {
		bool running;
		uint8_t sha256[32]; /* the blob it is at */
		size_t slice;       /* the next of it */
		int64_t again_ms;   /* not before */
	} scrub;
	int64_t now_ms;
};

static inline bool
bit_get(const uint8_t *map, size_t i)
{
	return map != NULL && (map[i >> 3] >> (i & 7) & 1);
}

static inline void
bit_set(uint8_t *map, size_t i, bool on)
{
	if (on)
		map[i >> 3] |= (uint8_t)(1u << (i & 7));
	else
		map[i >> 3] &= (uint8_t) ~(1u << (i & 7));
}

/* shelf.c */
/* Ask the index again, soon. */
void blob_look(struct blob *b);
/* Wake who waits for the slice; SIZE_MAX: for any. */
void blob_wake(struct blob *b, size_t slice);
/* Has the file changed since? Then nothing of it is good. */
void blob_watch(struct blob *b);
/* Close blobs without readers, but for so many. */
void blob_forget_idle(struct shelf *s, unsigned keep);
/* A job ends: the blob may go. */
void blob_job_done(struct blob *b);

/* shelf_check.c */
/* Compare a slice on a thread, unless that is under way: before it is asked
 * for; the one that a reader waits for. false: it may not be lent a copy yet,
 * and is woken when it may. */
void check_ahead(struct blob *b, size_t slice);
bool check_for(struct shelf_reader *r);
/* If the slice was just compared and may be lent: add its octets from off, at
 * most n, to out; how many. */
uint64_t check_copy(struct shelf_reader *r, size_t slice, uint64_t off,
    uint64_t n, struct evbuffer *out);
void share_enter(struct shelf *s, struct shelf_reader *r, const char *address);
void share_leave(struct shelf *s, struct shelf_reader *r);
/* Read and compare one slice of fd; 0, -EIO, -EBADMSG. n: its length. */
int check_slice(
    int fd, const uint8_t *list, size_t slice, char *data, size_t n);

/* shelf_scrub.c */
/* Of what nobody reads: one slice at a time, slowly. Called once a second. */
void shelf_scrub(struct shelf *s);

#endif
