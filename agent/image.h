/*
 * image.h - smaller bodies on the way: which, in what order, with what result
 *
 * Between the spool and the first signing an upload may pass an image worker.
 * What comes of it is an unlinked file beside the spool (a copy: the original
 * stays in the spool until the store has what was offered), to be offered in
 * the original's place; or nothing, and the original is offered. Nothing here
 * can fail an upload. All calls are made on the loop's thread.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <cjson/cJSON.h>

#include "gateway_conf.h"
#include "spool.h"
#include "worker_proto.h"

struct event_base;
struct images;
struct image_run;

/* A smaller copy of a body, or what was found about it. Counted references. */
struct image_made {
	unsigned refs;
	uint64_t seq; /* of the upload */
	bool smaller; /* fd, size and sha256 are of a copy */
	bool damaged; /* a JPEG that is truncated or broken */
	int fd;
	uint64_t size;
	uint8_t sha256[32];
	enum worker_step step;
	unsigned quality, max_dimension; /* of a lossy step */
};
struct image_made *image_made_ref(struct image_made *m);
/* NULL is accepted. */
void image_made_unref(struct image_made *m);
/* Content-Type of the copy (type: the original's) and Content-Encoding. */
const char *image_made_type(const struct image_made *m, const char *type);
const char *image_made_encoding(const struct image_made *m);
/* The object's metadata for the signer, or NULL: none. */
cJSON *image_made_metadata(
    const struct image_made *m, const struct spool_item *it);

/* What is wished for a body. */
struct image_wish {
	bool lossy;
	enum worker_jpeg jpeg;
	unsigned quality, max_dimension;
	unsigned cpu_percent; /* of the processors, for all workers */
	bool again; /* it was offered as a copy, which is to be made again */
	bool look;  /* only whether it is damaged: the original was offered */
};
/* False: it goes as it is. pressure: the queue is old. */
bool image_wanted(const struct gateway_conf *c, const struct spool_item *it,
    bool pressure, struct image_wish *out);

/* dir: where copies lie, in the spool's file system. sp must outlive it. */
struct images *images_new(
    struct event_base *base, struct spool *sp, const char *dir);
/* All runs must be cancelled before. NULL is accepted. */
void images_free(struct images *im);

/* It goes as it is: others like it gained nothing. Costs no look at the file.
 */
bool images_unlikely(struct images *im, const struct spool_item *it,
    const struct image_wish *wish);
/*
 * Try to make a smaller copy. fn: once, on the loop, never from within;
 * m: the callee's reference, or NULL: the original goes and nothing is known.
 */
typedef void (*image_fn)(struct image_made *m, void *arg);
struct image_run *image_start(struct images *im, const struct spool_item *it,
    const struct image_wish *wish, image_fn fn, void *arg);
/* fn is not called. NULL is accepted. */
void image_cancel(struct image_run *r);
/* Those that wait for a worker. How long a body takes with one, by the last. */
unsigned images_waiting(const struct images *im);
int64_t images_job_ms(const struct images *im);
/*
 * The uplink could send more than the workers give: up to n of those that wait
 * go as they are, those first whose cameras save least per processor second.
 * As many as workers are kept waiting, so that these do not starve either;
 * none if no worker has got anything done for a while.
 */
void images_pass(struct images *im, unsigned n);

/* A copy made earlier, for a try that was cut short; a new reference, or NULL.
 */
struct image_made *image_known(struct images *im, uint64_t seq);
/* The upload has left the spool. */
void image_forget(struct images *im, uint64_t seq);

/* Reasons of worker_proto.h as words, for logs and counters. */
const char *image_outcome_word(enum worker_outcome o);
/* Totals; per camera (image_stats.h). */
void images_status(const struct images *im, cJSON *o);
cJSON *images_cameras(const struct images *im, bool whole);

#endif
