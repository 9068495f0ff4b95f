/*
 * replay.c - the disk as a power cut would have left it
 *
 *	replay IMAGE LOG LIMIT OUT MODE SEED
 *
 * OUT becomes IMAGE with those writes of LOG that begin before LIMIT. What a
 * flush has made durable is always there. Of what came after the last flush,
 * MODE says what reached the disk: prefix, all of it; drop, half of the writes
 * by chance, in an order of chance; torn, the same, and one of them only up to
 * some sector. Prints how many writes were pending and kept, and the time (ns)
 * of the last record. MODE offsets prints the place of each record instead:
 * one line "OFFSET OP NS" each.
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wlog.h"

#define SECTOR 512

struct mapped {
	const unsigned char *p;
	size_t n;
};

struct write {
	struct wlog_record r;
	const unsigned char *data;
};

static struct mapped
map(const char *path)
{
	int fd = open(path, O_RDONLY);
	struct mapped m = { NULL, 0 };
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		err(1, "%s", path);
	m.n = (size_t)st.st_size;
	if (m.n > 0) {
		m.p = mmap(NULL, m.n, PROT_READ, MAP_SHARED, fd, 0);
		if (m.p == MAP_FAILED)
			err(1, "%s", path);
	}
	close(fd);
	return m;
}

/* A small generator of our own, so that a seed means the same everywhere. */
static uint32_t
chance(uint64_t *state, uint32_t below)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((*state >> 33) % below);
}

/* The record at *off; false at the end (a record cut short is none). */
static bool
next(const struct mapped *log, size_t *off, struct write *w)
{
	if (log->n - *off < sizeof(w->r))
		return false;
	memcpy(&w->r, log->p + *off, sizeof(w->r));
	w->data = log->p + *off + sizeof(w->r);
	if (log->n - *off - sizeof(w->r) < w->r.len)
		return false;
	*off += sizeof(w->r) + w->r.len;
	return true;
}

static void
list(const struct mapped *log)
{
	size_t off = 0, at = 0;
	struct write w;

	for (; next(log, &off, &w); at = off)
		printf("%zu %c %llu\n", at, w.r.op, (unsigned long long)w.r.ns);
}

static void
put(int fd, const struct write *w, uint32_t len)
{
	if (pwrite(fd, w->data, len, (off_t)w->r.offset) != (ssize_t)len)
		err(1, "write");
}

/* Keep the holes of the image as holes: it is mostly empty. */
static int
copy(const char *from, const char *to)
{
	struct mapped m = map(from);
	int fd = open(to, O_RDWR | O_CREAT | O_TRUNC, 0600);
	static const unsigned char zero[4096];

	if (fd < 0 || ftruncate(fd, (off_t)m.n) != 0)
		err(1, "%s", to);
	for (size_t off = 0; off < m.n; off += sizeof(zero)) {
		size_t n = m.n - off < sizeof(zero) ? m.n - off : sizeof(zero);

		if (memcmp(m.p + off, zero, n) != 0 &&
		    pwrite(fd, m.p + off, n, (off_t)off) != (ssize_t)n)
			err(1, "%s", to);
	}
	munmap((void *)m.p, m.n);
	return fd;
}

/* What of the pending writes got to the disk: the number kept. */
static size_t
settle(int fd, struct write *pending, size_t n, const char *mode, uint64_t seed)
{
	size_t kept = 0;

	if (strcmp(mode, "prefix") != 0) {
		for (size_t i = 0; i < n; i++)
			if (chance(&seed, 2) == 0)
				pending[kept++] = pending[i];
		for (size_t i = kept; i > 1; i--) {
			size_t j = chance(&seed, (uint32_t)i);
			struct write w = pending[i - 1];

			pending[i - 1] = pending[j];
			pending[j] = w;
		}
	} else {
		kept = n;
	}
	for (size_t i = 0; i < kept; i++) {
		uint32_t len = pending[i].r.len;

		if (i + 1 == kept && strcmp(mode, "torn") == 0)
			len = chance(&seed, len / SECTOR + 1) * SECTOR;
		put(fd, &pending[i], len);
	}
	return kept;
}

int
main(int argc, char **argv)
{
	struct mapped log;
	struct write w, *pending = NULL;
	size_t off = 0, at = 0, limit, n = 0, room = 0, kept;
	uint64_t ns = 0;
	int fd;

	if (argc == 3 && strcmp(argv[2], "offsets") == 0) {
		log = map(argv[1]);
		list(&log);
		return 0;
	}
	if (argc != 7)
		errx(2, "IMAGE LOG LIMIT OUT MODE SEED, or LOG offsets");
	log = map(argv[2]);
	limit = strtoull(argv[3], NULL, 10);
	fd = copy(argv[1], argv[4]);
	for (; at < limit && next(&log, &off, &w); at = off) {
		ns = w.r.ns;
		if (w.r.op == 'F') {
			for (size_t i = 0; i < n; i++)
				put(fd, &pending[i], pending[i].r.len);
			n = 0;
			continue;
		}
		if (n == room) {
			room = room == 0 ? 256 : 2 * room;
			pending = realloc(pending, room * sizeof(*pending));
			if (pending == NULL)
				err(1, "memory");
		}
		pending[n++] = w;
	}
	kept = settle(fd, pending, n, argv[5], strtoull(argv[6], NULL, 10));
	printf("%zu %zu %llu\n", n, kept, (unsigned long long)ns);
	free(pending);
	return close(fd) == 0 ? 0 : 1;
}
