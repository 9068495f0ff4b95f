/*
 * verify.h - is a spool file what its footer says?
 */
#ifndef VERIFY_H
#define VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For openat(): reading an item must not be a write, of its time of access. */
int verify_open(int dir, const char *name);

/*
 * Read all of an open item file and compare: footer, number, length, SHA-256.
 * BLOCKS on the disk. go_on (may be NULL) is called with the octets of each
 * piece of at most 256 KiB and may wait; false ends it with -ECANCELED. 0,
 * -EBADMSG (*why_out, static, says what), -EIO, another -errno. What is read
 * comes from the disk where the kernel lets us ask for that.
 */
int verify_file(int fd, uint64_t seq, bool (*go_on)(size_t n, void *arg),
    void *arg, const char **why_out);

#endif
