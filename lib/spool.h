/*
 * spool.h - uploads that we have acknowledged and the cloud has not
 *
 * A file per upload is the truth, the LMDB index follows it (doc/spool.md).
 * The proxy opens the spool to write (incoming/, committers, rows), the agent
 * to drain it (take, offer, done); both may look. All calls are made on the
 * caller's event loop and return at once; disks are waited for by threads
 * inside, and every callback runs on the loop, in no particular order, exactly
 * once, before spool_close() returns at the latest (rc -ECANCELED).
 */
#ifndef SPOOL_H
#define SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct checksums;
struct event_base;
struct spool;
struct spool_upload;

enum spool_role { SPOOL_WRITER, SPOOL_DRAINER };
enum spool_state {
	SPOOL_WAITING,
	SPOOL_SENDING,
	SPOOL_HELD,
	SPOOL_QUARANTINED
};
/* Why an upload left the spool: the columns of the ledger (DESIGN 3.2). */
enum spool_end {
	SPOOL_DELIVERED,
	SPOOL_EXPIRED,
	SPOOL_EVICTED,
	SPOOL_DROPPED,
	SPOOL_ENDS,
	/* Not of the ledger, but told as well (struct spool_ended). */
	SPOOL_ENDED_QUARANTINED = SPOOL_ENDS,
	SPOOL_ENDED_PARTS /* no end: parts at a store were given up */
};

struct spool_options {
	uint64_t max_size;   /* octets of all item files */
	uint64_t index_size; /* octets of the LMDB map, at creation; 0: from
				max_size */
	unsigned committers; /* threads; 0: the default */
	bool sync_single;    /* rename, then one fsync of the file */
	uint64_t free_floor; /* octets of the file system to leave free */
	uint64_t max_upload;
	uint64_t share, share_files; /* see spool_set_share() */
	int64_t scrub_pause_ms;      /* between two items that are read back, to
					find damage early; 0: they are not */
	/*
	 * The disk is behind with all uploads together (true): take no more
	 * octets until it has caught up (false). On the loop; may be NULL.
	 */
	void (*on_behind)(bool behind, void *arg);
	void *behind_arg;
};

#define SPOOL_ID_LEN 32 /* hex digits: 16 of the epoch, 16 of the sequence */

/* Free-size texts are copies owned by the item, never NULL ("" if absent). */
struct spool_item {
	char id[SPOOL_ID_LEN + 1];
	uint64_t seq;
	uint64_t size; /* octets as received */
	uint8_t sha256[32];
	int64_t received_wall_ms;   /* by the gateway's clock at receipt */
	char *device, *name, *type; /* type: Content-Type or "" */
	char *address;              /* of the client */
	enum spool_state state;
	unsigned attempts;
	int64_t due_in_ms; /* 0: now; else how long until the next try */
	int64_t age_ms;    /* since receipt, by clocks that can be trusted */
	char *last_error;
	bool found; /* by a rebuild: ask the store for it before sending */
	/* What was offered to the store: set once, before the first signing. */
	bool offered;
	char *storage, *key, *encoding;
	uint64_t offer_size;
	uint8_t offer_sha256[32];
	char *kept; /* JSON of multi-step uploads, "" if none */
};
void spool_item_fini(struct spool_item *it);

/*
 * Open or create the spool in dir (mode 02770, the group shared by proxy and
 * agent). A drainer waits for nothing: -ENOENT until the writer has made it.
 * Recovery of what the last second left runs here (writer); a rebuild of a
 * lost index runs behind, see spool_status. -EBUSY: another process has this
 * role. -EPROTO: made by a newer or older format, *why_out says what to do.
 */
int spool_open(struct event_base *base, const char *dir, enum spool_role role,
    const struct spool_options *opt, struct spool **sp_out, char **why_out);
/* Make a folder, and those above it, each with its name on stable storage. */
int spool_make_dirs(const char *path);
/* Finishes commits in hand, ends threads. NULL is accepted. */
void spool_close(struct spool *sp);

/* ---- the writer's side --------------------------------------------------- */

struct spool_meta {
	const char *device, *name, *type, *address;
	int64_t repeat_window_ms; /* 0: repeats are not recognised */
};

/*
 * May an upload of this size be taken now? 0, or -ENOSPC (507: *why_out tells
 * which of spool, disk, inodes or index is full), -EBUSY (503: too much not
 * yet indexed, or the disk failed too often), -EFBIG (413). size UINT64_MAX:
 * unknown. The space is reserved and given back by commit or abort.
 */
int spool_reserve(struct spool *sp, uint64_t size, struct spool_upload **u_out,
    const char **why_out);
/*
 * What the client says its body is; before the first octet. A body that is
 * something else is not kept: the commit ends with -EBADMSG.
 */
void spool_expect(struct spool_upload *u, const struct checksums *want);
/* Would size octets more fit? As spool_reserve(), reserving nothing: for
 * bodies of unknown length, asked now and then. */
int spool_room(struct spool *sp, uint64_t size, const char **why_out);
/*
 * Would one more upload of size octets take the device over octets or files
 * (0: no limit)? Or the address, unless NULL. As of the last second.
 */
bool spool_over_share(struct spool *sp, const char *device, const char *address,
    uint64_t size, uint64_t octets, uint64_t files);
/* The smallest octets and files that spool_over_share() will be asked with; 0:
 * none. What devices hold is known in a second. */
void spool_set_share(struct spool *sp, uint64_t octets, uint64_t files);
/* Add octets (copied). 0, or 1: written fast enough, pause until on_room. */
int spool_write(struct spool_upload *u, const void *p, size_t n);
/* May one who was told to pause for seconds add a little all the same, so that
 * its client is not given up for dead? */
bool spool_bears_more(struct spool *sp);
/* Room again after spool_write() said 1, or the disk failed (rc < 0). */
void spool_on_room(
    struct spool_upload *u, void (*on_room)(int rc, void *arg), void *arg);
/*
 * Make it durable. Takes u. fn gets 0 and the item (id, size, sha256 set,
 * borrowed during the call) once body, metadata and name are on stable
 * storage; or -errno, and nothing of it remains. -EEXIST: the same device,
 * name and content was made durable within repeat_window_ms; item is that one
 * (id, size, sha256), and nothing new is kept.
 */
void spool_commit(struct spool_upload *u, const struct spool_meta *meta,
    void (*fn)(int rc, const struct spool_item *it, void *arg), void *arg);
/* Drop what was written. Takes u. */
void spool_abort(struct spool_upload *u);

/* ---- the drainer's side -------------------------------------------------- */

typedef void (*spool_items_fn)(
    int rc, struct spool_item *items, size_t n, void *arg);
typedef void (*spool_fn)(int rc, void *arg);

/*
 * Up to max items in state waiting that are ready to be sent: first those that
 * were deferred and fall due within ahead_ms (0: by now; INT64_MAX: all), then
 * never tried ones with seq > after, in order of seq. (What comes back to
 * waiting by defer, release or requeue counts as deferred.) The array and
 * items are valid during the call only unless an item is stolen by copying
 * the struct and zeroing the original. Items come again until their state
 * changes: remember what is in hand. Cheap when nothing changed.
 */
void spool_ready(struct spool *sp, uint64_t after, int64_t ahead_ms, size_t max,
    spool_items_fn fn, void *arg);
/* When is the next waiting item due? ms from now; -1: none is delayed. As of
 * the last spool_ready() or change by this process. */
int64_t spool_next_due_ms(const struct spool *sp);
/*
 * Items are about to be signed: state sending, and if not offered before, the
 * item's storage, key, encoding, offer_size and offer_sha256 are committed
 * with it and never change. Items are copied. rc of the whole transaction;
 * an item that is gone or not waiting is left out and told by its `seq` in
 * gone[] (valid during the call).
 */
void spool_send(struct spool *sp, const struct spool_item *items, size_t n,
    void (*fn)(int rc, const uint64_t *gone, size_t gone_n, void *arg),
    void *arg);
/*
 * What was offered cannot be made again, and the store does not have it: the
 * offer of an item in state sending is replaced by it->offer_size,
 * offer_sha256 and encoding, and what was kept of its parts is forgotten. The
 * key stays. (The one exception to "never change": doc/images.md.)
 */
void spool_offer_anew(
    struct spool *sp, const struct spool_item *it, spool_fn fn, void *arg);
/* Remember the JSON of a multi-step upload (upload id, part tags). */
void spool_keep(
    struct spool *sp, uint64_t seq, const char *kept, spool_fn fn, void *arg);
/* Back to waiting, to be tried again after wait_ms; attempts + 1 if counts. */
void spool_defer(struct spool *sp, uint64_t seq, int64_t wait_ms, bool counts,
    const char *error, spool_fn fn, void *arg);
/* Held: not sent until released (a blocked device). What was kept of its parts
 * goes to SPOOL_FREE, they begin anew. */
void spool_hold(
    struct spool *sp, uint64_t seq, const char *why, spool_fn fn, void *arg);
void spool_release_device(
    struct spool *sp, const char *device, spool_fn fn, void *arg);
/* The row goes (committed), then, perhaps a little after fn, the file. Batched:
 * fn comes within a second. */
void spool_end(struct spool *sp, uint64_t seq, enum spool_end how,
    const char *why, spool_fn fn, void *arg);
/* To quarantine/ with a .json beside. */
void spool_quarantine(
    struct spool *sp, uint64_t seq, const char *why, spool_fn fn, void *arg);
/* All items left in `sending` by a crash become waiting again; call at start.
 */
void spool_requeue(struct spool *sp, spool_fn fn, void *arg);
/*
 * Open an item's file for reading; its body is the first it->size octets.
 * BLOCKS on the disk: call it from a thread of your own, never from the loop.
 * -EBADMSG: footer and row do not fit.
 */
int spool_open_body(struct spool *sp, const struct spool_item *it, int *fd_out);

/* ---- what ended -----------------------------------------------------------
 */

/* An upload as it was when it ended; last_error is the reason, kept is of
 * parts that may still lie at the store ("": none do). */
struct spool_ended {
	uint64_t number; /* grows */
	unsigned how;    /* enum spool_end */
	int64_t ago_ms;  /* by the spool's clock */
	struct spool_item item;
};
typedef void (*spool_ended_fn)(
    int rc, struct spool_ended *list, size_t n, void *arg);
/* Two that want to know: who tells the signer, and who frees stores of parts
 * (gets only what has `kept`). */
enum spool_reader { SPOOL_TELL, SPOOL_FREE, SPOOL_READERS };
/*
 * What ended, by whichever process, and this reader has not seen to: the oldest
 * max of those with a larger number than `after`, which may go back. The list
 * is valid during the call only, but items may be stolen as of spool_ready().
 * What is not told for long is forgotten when there is too much of it (a
 * sixteenth of the index); a rebuild of the index forgets all.
 */
void spool_ended(struct spool *sp, enum spool_reader reader, uint64_t after,
    size_t max, spool_ended_fn fn, void *arg);
/* All up to this number is seen to; noted within a second. */
void spool_ended_seen(
    struct spool *sp, enum spool_reader reader, uint64_t number);
/* "delivered" ...; "" for what is no end. */
const char *spool_ended_name(unsigned how);

/* ---- making room ----------------------------------------------------------
 */

/* Uploads of this device and name that wait (any state but quarantined), the
 * oldest first, at most max (writer). The first question after a start reads
 * the index, in steps; from then on it costs four octets an upload. */
void spool_same_name(struct spool *sp, const char *device, const char *name,
    size_t max, spool_items_fn fn, void *arg);
/* It will be asked: read the index for it now, behind everything else. */
void spool_prepare_names(struct spool *sp);
/* End an upload as evicted unless it is being sent: -EBUSY. */
void spool_evict(
    struct spool *sp, uint64_t seq, const char *why, spool_fn fn, void *arg);
/*
 * Evict the oldest that are not being sent, so that an upload of size octets
 * has room, with some to spare; at most 256 of them, and none for room that
 * is being made already. 0: try whether there is room now, and ask again if
 * not. -ENOSPC: all that waits would not be enough, and then none of it goes.
 */
void spool_make_room(struct spool *sp, uint64_t size, spool_fn fn, void *arg);

/* End as expired what waits for longer than max_age_ms, by clocks that can be
 * trusted; at most 256 at once, never what is being sent. Call it now and then.
 */
void spool_expire(struct spool *sp, int64_t max_age_ms);

/* ---- reading back ---------------------------------------------------------
 */

#define SPOOL_CHECK_BAD 100
/* A check of all items: is each what its footer says? */
struct spool_check {
	bool running;
	uint64_t number;          /* of this check; 0: there was none */
	uint64_t checked, octets; /* so far */
	uint64_t bad;             /* of them; they go to quarantine */
	struct {
		char id[SPOOL_ID_LEN + 1];
		const char *why;      /* static */
	} bad_items[SPOOL_CHECK_BAD]; /* the first of them */
};
/* Begin one in the background (writer). One that runs is left to run. */
void spool_check_start(struct spool *sp);
void spool_check_state(struct spool *sp, struct spool_check *out);

/* ---- for both ------------------------------------------------------------ */

struct spool_status {
	uint64_t accepted, ends[SPOOL_ENDS], quarantined, waiting; /* uploads */
	uint64_t waiting_bytes, accepted_bytes, delivered_bytes;
	uint64_t sending, held;
	int64_t since_wall_ms; /* from when the counters count */
	int64_t oldest_age_ms; /* of the oldest waiting; -1: none */
	uint64_t not_indexed;  /* accepted, row still to come */
	uint64_t disk_free, max_size;
	unsigned index_percent; /* of the map in use */
	uint64_t folders;       /* of item/ */
	bool rebuilding;
	bool full;     /* the last reserve was refused for space */
	bool failing;  /* nothing can be written just now */
	char why[128]; /* of full or failing */
};
void spool_status(struct spool *sp,
    void (*fn)(int rc, const struct spool_status *st, void *arg), void *arg);
/* One upload by its id (also one not yet indexed, for the writer). n is 0 or 1.
 */
void spool_find(struct spool *sp, const char *id, spool_items_fn fn, void *arg);
/* A page of all uploads in order of seq, after `after`. */
void spool_list(
    struct spool *sp, uint64_t after, size_t max, spool_items_fn fn, void *arg);
/* Called on the loop when committed rows appeared (writer: ring the agent). */
void spool_on_change(struct spool *sp, void (*fn)(void *arg), void *arg);
const char *spool_state_name(enum spool_state s);

#endif
