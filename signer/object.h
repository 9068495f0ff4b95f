/*
 * object.h - objects of FILE storages on disk
 *
 * DIR/TENANT/STORAGE/KEY, so that `find` shows them. Calls block: they are
 * made on threads. An object is complete or not there, and once there its
 * bytes never change, unless a writer was told which ones it replaces.
 */
#ifndef OBJECT_H
#define OBJECT_H

#include <stdint.h>

#include "digest.h"

struct object_dir;

struct object_meta {
	char sha256[65];
	char *type, *encoding; /* NULL: none */
	char *metadata;        /* a JSON object of texts, or NULL */
	int64_t size;
};
void object_meta_fini(struct object_meta *m);

/*
 * dir holds the objects, meta_dir what the file system cannot keep with them
 * (extended attributes). Both are made; what a crash left behind is removed.
 */
int object_dir_open(
    const char *dir, const char *meta_dir, struct object_dir **d_out);
void object_dir_close(struct object_dir *d);

/* One being written. */
struct object_writer;
int object_begin(struct object_dir *d, struct object_writer **w_out);
int object_write(struct object_writer *w, const void *p, size_t n);
/*
 * Make it durable under its name; m has what is to be kept (sha256 and size are
 * filled in). Takes w. 0: new. 1: the same bytes were there. -EEXIST: others
 * are; if replace is their SHA-256 (64 digits), they are replaced, else
 * -ESTALE. -EBADMSG, *why_out (static): size or SHA-256 of m, if given, do not
 * fit. -EISDIR, -ENOTDIR: another key stands in the way.
 */
int object_commit(struct object_writer *w, const char *tenant,
    const char *storage, const char *key, const char *replace,
    struct object_meta *m, const char **why_out);
void object_abort(struct object_writer *w);

/* Open for reading: *fd_out and m_out are the caller's. -ENOENT. */
int object_open(struct object_dir *d, const char *tenant, const char *storage,
    const char *key, int *fd_out, struct object_meta *m_out);
int object_delete(struct object_dir *d, const char *tenant, const char *storage,
    const char *key);

#endif
