/*
 * resident.c - are these octets of a file in memory?
 */
#include "resident.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define ASK_MAX (1u << 20) /* octets of one question */
#define PAGE_LEAST 4096
#ifndef SYS_cachestat
#define SYS_cachestat 451 /* newer than many headers; -ENOSYS if not there */
#endif

/* linux/mman.h: struct cachestat_range and struct cachestat */
struct extent {
	uint64_t off, n;
};
struct pages {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

static bool
count_pages(int fd, uint64_t off, uint64_t n, uint64_t *cached_out)
{
	struct extent e = { off, n };
	struct pages p;

	if (syscall(SYS_cachestat, fd, &e, &p, 0) != 0)
		return false;
	*cached_out = p.cached;
	return true;
}

void
resident_init_before(struct resident *r, int fd, uint64_t size)
{
	char path[40];
	void *map;

	memset(r, 0, sizeof(*r));
	r->size = size;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (size == 0 || size > SIZE_MAX / 4 || access(path, W_OK) != 0)
		return;
	map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED)
		r->map = map;
}

/* Of a layer above another file system (overlayfs) it tells of pages that
 * nobody uses: what was read just now is not there. */
static bool
can_count(int fd)
{
	uint64_t cached;
	char octet;

	return pread(fd, &octet, 1, 0) == 1 && count_pages(fd, 0, 1, &cached) &&
	    cached == 1;
}

void
resident_init(struct resident *r, int fd, uint64_t size)
{
	if (size == 0 || !can_count(fd)) {
		resident_init_before(r, fd, size);
		return;
	}
	memset(r, 0, sizeof(*r));
	r->size = size;
	r->counts = true;
}

void
resident_fini(struct resident *r)
{
	if (r->map != NULL)
		munmap(r->map, (size_t)r->size);
	r->map = NULL;
}

/* A question of at most ASK_MAX octets, from a page's beginning. */
static bool
mapped_has(const struct resident *r, uint64_t off, uint64_t n, uint64_t page)
{
	unsigned char in[ASK_MAX / PAGE_LEAST + 1];
	uint64_t pages = (n + page - 1) / page;

	if (mincore((char *)r->map + off, (size_t)n, in) != 0)
		return false;
	for (uint64_t i = 0; i < pages; i++)
		if (!(in[i] & 1))
			return false;
	return true;
}

static bool
read_has(int fd, uint64_t off, uint64_t n)
{
	char buf[65536];

	while (n > 0) {
		struct iovec iov = { buf, n < sizeof(buf) ? n : sizeof(buf) };
		ssize_t k = preadv2(fd, &iov, 1, (off_t)off, RWF_NOWAIT);

		if (k <= 0)
			return false;
		off += (uint64_t)k;
		n -= (uint64_t)k;
	}
	return true;
}

bool
resident_has(const struct resident *r, int fd, uint64_t off, uint64_t n)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), end = off + n, cached;

	if (end > r->size)
		return false;
	if (r->map == NULL && !r->counts)
		return read_has(fd, off, n);
	off -= off % page;
	if (r->counts)
		return count_pages(fd, off, end - off, &cached) &&
		    cached == (end - off + page - 1) / page;
	while (off < end) {
		uint64_t k = end - off < ASK_MAX ? end - off : ASK_MAX;

		if (!mapped_has(r, off, k, page))
			return false;
		off += k;
	}
	return true;
}
