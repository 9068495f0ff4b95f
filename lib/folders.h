/*
 * folders.h - the open folders of item/ that new uploads go to
 *
 * For the committer threads; all calls BLOCK on the disk and on each other,
 * and on nobody else.
 */
#ifndef FOLDERS_H
#define FOLDERS_H

#include <stdint.h>

struct folders;
struct layout;

struct folders *folders_new(const struct layout *l);
void folders_free(struct folders *f); /* NULL accepted; none may be in use */

/*
 * The folder of a sequence number, open until folders_put(). A new one is made
 * and its own name is on stable storage when this returns 0. -errno: the disk.
 */
int folders_get(struct folders *f, uint64_t seq, int *fd_out);
void folders_put(struct folders *f, uint64_t seq);

#endif
