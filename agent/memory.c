/*
 * memory.c - how much memory this box has for us
 */
#include "memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "xalloc.h"

#define EACH_MIN ((uint64_t)32 << 20) /* a 1080p JPEG takes 25 MB */
#define EACH_MAX ((uint64_t)512 << 20)

/* The number in a file; UINT64_MAX: none is there, or "max". */
static uint64_t
number_in(const char *path)
{
	FILE *f = fopen(path, "re");
	uint64_t v = UINT64_MAX;
	char line[32], *end;

	if (f == NULL)
		return v;
	if (fgets(line, sizeof(line), f) != NULL) {
		errno = 0;
		v = strtoull(line, &end, 10);
		if (end == line || errno != 0)
			v = UINT64_MAX;
	}
	fclose(f);
	return v;
}

/* The least limit of a group and all above it. Cuts `group` short. */
static uint64_t
least_of(const char *base, char *group, const char *file)
{
	uint64_t least = UINT64_MAX, v;
	char *path, *slash;

	for (;;) {
		path = xasprintf("%s%s/%s", base, group, file);
		v = number_in(path);
		free(path);
		if (v < least)
			least = v;
		slash = strrchr(group, '/');
		if (slash == NULL)
			return least;
		*slash = '\0';
	}
}

/* A line of /proc/self/cgroup: "ID:CONTROLLERS:PATH" (cgroups(7)). */
static uint64_t
limit_of(char *line, const char *root)
{
	char *what = strchr(line, ':'), *group, *base, padded[256];
	uint64_t v = UINT64_MAX;

	if (what == NULL || (group = strchr(++what, ':')) == NULL)
		return v;
	*group++ = '\0';
	group[strcspn(group, "\n")] = '\0';
	snprintf(padded, sizeof(padded), ",%s,", what);
	if (what[0] == '\0') {
		base = xasprintf("%s/sys/fs/cgroup", root);
		v = least_of(base, group, "memory.max");
		free(base);
	} else if (strstr(padded, ",memory,") != NULL) {
		base = xasprintf("%s/sys/fs/cgroup/memory", root);
		v = least_of(base, group, "memory.limit_in_bytes");
		free(base);
	}
	return v;
}

uint64_t
memory_of_box(const char *root)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	uint64_t least = UINT64_MAX, v;
	char *path = xasprintf("%s/proc/self/cgroup", root);
	FILE *f = fopen(path, "re");
	char line[4200];

	free(path);
	if (pages > 0 && size > 0)
		least = (uint64_t)pages * (uint64_t)size;
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		v = limit_of(line, root);
		if (v < least)
			least = v;
	}
	if (f != NULL)
		fclose(f);
	return least;
}

struct memory_share
memory_for_workers(uint64_t box, unsigned count)
{
	struct memory_share s = { count, 0 };
	uint64_t all = box / 2; /* the rest: proxy, agent, the system */

	if (all / EACH_MIN < s.count)
		s.count = (unsigned)(all / EACH_MIN);
	if (s.count == 0)
		s.count = 1;
	s.each = all / s.count;
	if (s.each > EACH_MAX)
		s.each = EACH_MAX;
	return s;
}
