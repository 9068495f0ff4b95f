/*
 * read_at.h - all of a part of a file
 */
#ifndef READ_AT_H
#define READ_AT_H

#include <stddef.h>
#include <sys/types.h>

/* BLOCKS. The n octets at off, however often pread() takes. 0, -errno of it, or
 * -EBADMSG: the file ends before. */
int read_at(int fd, void *buf, size_t n, off_t off);

#endif
