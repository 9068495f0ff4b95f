/*
 * folders.h - the open folders of item/ that new uploads go to
 *
 * For the committer threads; all calls BLOCK on the disk and on each other,
 * and on nobody else.
 */
#ifndef FOLDERS_H
#define FOLDERS_H

#include <stdbool.h>
#include <stdint.h>

struct folders;
struct layout;

struct folders *folders_new(const struct layout *l);
void folders_free(struct folders *f); /* NULL accepted; none may be in use */

/*
 * Make a received file durable as item `seq`: move it from folder `from`, where
 * it is called temp, to its own, and sync both. It comes to lie there together
 * with those of other threads that do the same. fd: the file, written. single:
 * a file system on which one fsync(fd) after the rename does it all. 0; or
 * -errno, and it has its old name or none.
 */
int folders_publish(struct folders *f, uint64_t seq, int from, const char *temp,
    int fd, bool single);

#endif
