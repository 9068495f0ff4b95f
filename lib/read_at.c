/*
 * read_at.c - all of a part of a file
 */
#include "read_at.h"

#include <errno.h>
#include <unistd.h>

int
read_at(int fd, void *buf, size_t n, off_t off)
{
	char *p = buf;

	while (n > 0) {
		ssize_t got = pread(fd, p, n, off);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EBADMSG;
		p += got;
		off += got;
		n -= (size_t)got;
	}
	return 0;
}
