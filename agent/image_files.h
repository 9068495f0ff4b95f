/*
 * image_files.h - a thread that opens, makes and hashes the files of a run
 *
 * The loop never waits for a disk, and an image worker cannot open anything,
 * so this thread does it for both.
 */
#ifndef IMAGE_FILES_H
#define IMAGE_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "spool.h"
#include "worker_proto.h"

struct event_base;
struct image_files;

/* Embedded in its owner; idle until one of the two calls below. */
struct image_task {
	void (*fn)(struct image_task *t); /* on the loop, once per call */
	void *arg;
	struct spool_item it;        /* id, seq, size and sha256 are used */
	int fd_in, fd_out;           /* -1: closed; the owner's */
	enum worker_content content; /* by its first octets */
	uint64_t out_size;
	uint8_t out_sha256[32];
	int rc;
	/* inside */
	struct image_files *files;
	bool away, dropped;
};
void image_task_init(struct image_task *t, const struct spool_item *it,
    void (*fn)(struct image_task *t));

struct image_files *image_files_new(
    struct event_base *base, struct spool *sp, const char *dir);
/* All tasks must be over. NULL is accepted. */
void image_files_free(struct image_files *f);
/* Open the body, look what it is, and make an empty, unlinked file, unless it
 * is packed already. */
void image_files_open(struct image_files *f, struct image_task *t);
/* Look whether fd_out holds out_size octets, and hash them. */
void image_files_hash(struct image_files *f, struct image_task *t);
/* Nobody waits for it: close its files, free(t) when the thread is done. */
void image_files_drop(struct image_task *t);

#endif
