/*
 * shelf.h - the blobs that are being read, and what may be sent of them
 *
 * What must stay true (DESIGN 8):
 *  - an octet leaves only from a slice that this process has compared with the
 *    signed list since the file last changed (its ctime), while the slice stays
 *    in memory; else a thread reads and compares it first, and what it has read
 *    is sent if the file does not hold still;
 *  - a slice that does not fit loses its bit in the index before anyone waits
 *    for it again;
 *  - the loop never waits for a disk; memory is bounded whatever the number of
 *    readers: an open blob costs its slice list, at most COPIES_MAX slices are
 *    held at a time, one lent to a reader until it is on its way, a share of
 *    them to an address; so who reads slowly holds up nobody else;
 *  - a blob with readers is not evicted.
 */
#ifndef SHELF_H
#define SHELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <time.h>

struct blob;
struct cache;
struct evbuffer;
struct pool;
struct shelf;

struct shelf_calls {
	/* Slices first..first+count-1 are missing and waited for. */
	void (*want)(const char *hex, size_t first, size_t count, void *arg);
	void *arg;
};
struct shelf_counts {
	uint64_t checked, damaged, copied; /* slices */
	unsigned open, readers;
};

/* *cache is used on disk's one thread only, and may still be NULL. */
struct shelf *shelf_new(struct pool *disk, struct pool *readers,
    struct cache **cache, const struct shelf_calls *calls);
/* No reader is left and the pools are about to go: begin nothing more. */
void shelf_stop(struct shelf *s);
/* No reader is left, and no job. NULL is accepted. */
void shelf_free(struct shelf *s);
/* Once a second: look again for those who wait. */
void shelf_tick(struct shelf *s, int64_t now_ms);
/* The agent says that a blob has changed; NULL: any may have. */
void shelf_look(struct shelf *s, const uint8_t sha256[32]);
/* Make room for so many octets under the cache's limit, or free so many of the
 * disk; on the disk thread. */
void shelf_evict(struct shelf *s, uint64_t octets, bool disk);
void shelf_counts(const struct shelf *s, struct shelf_counts *c_out);

/* One reader of a blob; embedded in what reads. */
struct shelf_reader {
	LIST_ENTRY(shelf_reader) link; /* while it waits */
	struct blob *blob;
	struct shelf_share *share; /* its address's */
	struct shelf_loan *loan;   /* a copy on its way to it; NULL: none */
	size_t slice, last;        /* waits for, and is going to want up to */
	bool waits;
	/* Something has changed: try again. Called on the loop. */
	void (*ready)(struct shelf_reader *r);
};
/* address: of the peer, whose readers share what may be lent to one.
 * list_sha256: of the slice list, as the manifest has it that the reader goes
 * by; what the cache holds under another list is nothing to it. */
void shelf_open(struct shelf *s, struct shelf_reader *r, const char *address,
    const uint8_t sha256[32], const uint8_t list_sha256[32], uint64_t size);
void shelf_close(struct shelf_reader *r);

enum shelf_answer {
	SHELF_FILE, /* *n_out octets may be sent from shelf_fd() */
	SHELF_COPY, /* *n_out octets were added to copy */
	SHELF_WAIT, /* ready() will be called */
	SHELF_BUSY, /* so it will, when copies that its address has were sent */
	SHELF_GONE  /* removed or not readable: end the answer */
};
/* What can be sent from off, of n > 0 octets that are wanted from there on. */
enum shelf_answer shelf_take(struct shelf_reader *r, uint64_t off, uint64_t n,
    uint64_t *n_out, struct evbuffer *copy);
int shelf_fd(const struct shelf_reader *r);
/* For http_reply_check_files(): may it leave now? */
bool shelf_may_send(struct shelf_reader *r, uint64_t off, uint64_t n);
/* How much of the wanted octets is in the cache: 0 none, 1 some, 2 all; -1:
 * not known yet. */
int shelf_holds(const struct shelf_reader *r, uint64_t off, uint64_t n);
/* Is another reader waiting for the same blob? */
bool shelf_shared(const struct shelf_reader *r);

#endif
