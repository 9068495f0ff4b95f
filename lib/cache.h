/*
 * cache.h - the gateway's firmware cache: files and their LMDB records
 *
 *	state_dir/cache/
 *	    blob/SHA256     sparse file; a slice counts only if its bit is set
 *	    index/          LMDB: blob, slices, manifest, device, meta
 *
 * Agent and proxy both have it open. The agent adds blobs, fills slices and
 * sets bits; the proxy clears bits of slices it found damaged, touches and
 * evicts. Either may find the index damaged and make it anew; the other notices
 * within a second. What must stay true (DESIGN 8):
 *  - a bit is set only after the slice was compared with the signed list and
 *    its octets synced; on a refill the bit is cleared and committed first;
 *  - the sum of reserved sizes never exceeds the limit; a blob is reserved
 *    whole before its first octet;
 *  - rows are input: one that does not fit its format is treated as not there;
 *  - a file without a row is served to nobody. It counts against the limit and
 *    goes first, unless its blob is added again before: then what is in it is
 *    taken over slice by slice, as far as it fits (cache_adopt()).
 *
 * Calls block on the disk; make them on one thread per process, never on a
 * loop. Values handed out are copies.
 */
#ifndef CACHE_H
#define CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define CACHE_BLOBS_MAX 4096
#define CACHE_DEVICES_MAX 10000
#define CACHE_DEVICE_JSON_MAX 2048
/* An unchanged manifest's `checked` is written no more often. */
#define CACHE_CHECKED_S 600

struct cache;

struct cache_blob {
	uint8_t sha256[32];
	uint64_t size;
	uint64_t filled;         /* octets of the slices in place */
	uint8_t list_sha256[32]; /* of the slice list */
	bool have_list;          /* the list itself is in the table slices */
	bool pinned;             /* never evicted while so */
	int64_t last_use;        /* Unix seconds, by whole hours */
	struct timespec ctime;   /* of the file when it was last written */
	char product[65], channel[65], path[320]; /* where it is fetched */
	uint8_t *bitmap; /* malloc'd; bit i & 7 of octet i >> 3 */
	size_t slices;
};
struct cache_manifest {
	char product[65], channel[65];
	int64_t seq;
	int64_t checked; /* Unix seconds when an origin last confirmed it */
	char etag[128];  /* of the origin's answer, "" */
	char *json, *signature; /* exact octets with a NUL, malloc'd */
	size_t json_n;
};

/*
 * Open dir (made if create, by whichever daemon starts first). limit: octets
 * of all blobs together; the index has a fixed share beside. -errno;
 * *why_out (may be NULL, malloc'd) is for people. A damaged index is made
 * anew: blobs are then adopted again only by hashing.
 */
int cache_open(const char *dir, uint64_t limit, bool create,
    struct cache **c_out, char **why_out);
void cache_close(struct cache *c);
void cache_set_limit(struct cache *c, uint64_t limit);
/* Octets of the disk that no blob may take (uploads go first); default 0. */
void cache_set_floor(struct cache *c, uint64_t octets);
/* Octets that may still be written to the disk above the floor. */
uint64_t cache_disk_room(struct cache *c);
/*
 * What cache_disk_room() said last; false: longer than max_age_ms ago, or
 * never. Does not touch the disk: callable from the loop as well.
 */
bool cache_disk_room_seen(
    struct cache *c, int64_t max_age_ms, uint64_t *octets_out);

/* -ENOENT. Free the bitmap by cache_blob_free(). */
int cache_blob_get(
    struct cache *c, const uint8_t sha256[32], struct cache_blob *b_out);
void cache_blob_free(struct cache_blob *b);
/*
 * Reserve and make a blob (its sparse file and row), or find it there: then
 * product, channel and path become those of want. Of want are read sha256,
 * size, list_sha256, product, channel, path, pinned, last_use. 1: new, but its
 * file was there: see cache_adopt(). A row whose file is gone begins anew.
 * -ENOSPC: no room under the limit; ask
 * cache_evict_candidate() and try again. -EDQUOT: the disk's floor. -EINVAL:
 * another size or list than it has, or over FIRMWARE_SIZE_MAX.
 */
int cache_blob_add(struct cache *c, const struct cache_blob *want);
/* Is there a file without a row for it? Its size in *size_out. */
bool cache_orphan(
    struct cache *c, const uint8_t sha256[32], uint64_t *size_out);
/* How much more than the limit would be reserved with `size` added; 0: fits. */
uint64_t cache_short_of(struct cache *c, uint64_t size);
/* Row first, then the file. -ENOENT. */
int cache_blob_remove(struct cache *c, const uint8_t sha256[32]);
/* Its file cannot be opened: if it is not there, the row goes (1), so that it
 * is added anew. 0: it is there. -ENOENT: no row. */
int cache_blob_lost(struct cache *c, const uint8_t sha256[32]);
/* The least recently used blob that is not pinned; -ENOENT: all are. skip
 * (may be NULL) says which have readers. */
int cache_evict_candidate(struct cache *c,
    bool (*skip)(const uint8_t sha256[32], void *arg), void *arg,
    uint8_t sha256_out[32]);
int cache_blob_touch(struct cache *c, const uint8_t sha256[32], int64_t now);
int cache_blob_pin(struct cache *c, const uint8_t sha256[32], bool pinned);
/* The file for reading, or for writing too. A descriptor or -errno. */
int cache_blob_open_file(struct cache *c, const uint8_t sha256[32], bool write);

/* The slice list; checked against list_sha256 at every read. */
int cache_list_put(
    struct cache *c, const uint8_t sha256[32], const uint8_t *list, size_t n);
int cache_list_get(struct cache *c, const uint8_t sha256[32],
    uint8_t **list_out, size_t *n_out);

/* Slices first..first+n-1 are written and synced: set their bits and note the
 * file's ctime. */
int cache_slices_set(struct cache *c, const uint8_t sha256[32], size_t first,
    size_t n, const struct timespec *ctime);
/* They are damaged or to be written again: clear and commit. */
int cache_slices_clear(
    struct cache *c, const uint8_t sha256[32], size_t first, size_t n);
/* Compare what the file holds in the slices first..first+n-1 that are not set
 * with the list, and set those that fit. Reads and hashes; *adopted_out how
 * many. -ENOENT: no blob or no list. */
int cache_adopt(struct cache *c, const uint8_t sha256[32], size_t first,
    size_t n, size_t *adopted_out);

/* -ESTALE: an older seq than what is kept (never rolled back). The same seq
 * with the same octets renews `checked` (written at most each CACHE_CHECKED_S)
 * and the etag; with others it is -EBADMSG. */
int cache_manifest_put(struct cache *c, const struct cache_manifest *m);
int cache_manifest_get(struct cache *c, const char *product,
    const char *channel, struct cache_manifest *m_out);
/* Its publisher's key is no longer trusted. -ENOENT. */
int cache_manifest_remove(
    struct cache *c, const char *product, const char *channel);
void cache_manifest_free(struct cache_manifest *m);

/* fn returns 0 to go on. What it is given is a copy that the call frees. */
int cache_each_blob(struct cache *c,
    int (*fn)(const struct cache_blob *b, void *arg), void *arg);
int cache_each_manifest(struct cache *c,
    int (*fn)(const struct cache_manifest *m, void *arg), void *arg);

/* Small values by name: "products" (the policy, JSON), "seen/PRODUCT" ... */
int cache_meta_put(struct cache *c, const char *name, const char *value);
int cache_meta_get(struct cache *c, const char *name, char **value_out);

/* What a device last told: JSON under "ID"; at most 10,000 are kept, the
 * longest silent goes first. */
int cache_device_put(struct cache *c, const char *id, const char *json);
/* Several in one commit, which is a sync of the disk. */
int cache_device_put_many(struct cache *c, const char *const *ids,
    const char *const *jsons, size_t n);
int cache_device_each(struct cache *c, const char *after,
    int (*fn)(const char *id, const char *json, void *arg), void *arg);

struct cache_totals {
	uint64_t reserved, filled, limit;
	uint64_t blobs, pinned;
};
void cache_totals(struct cache *c, struct cache_totals *t_out);
/* Changes with each commit of any process; cheap, no disk. Callable from the
 * loop as well. */
uint64_t cache_last_txn(struct cache *c);

#endif
