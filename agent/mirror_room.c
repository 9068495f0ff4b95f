/*
 * mirror_room.c - the room that files of mirrors take
 *
 * What must stay true: the sum is never less than what is there; the folders
 * are read at the start and when something has to go, then so much that it is
 * seldom, not for each piece of each file.
 */
#include "mirror_room.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "xalloc.h"

#define BLOCK 4096
#define HEX 64
#define AT_ONCE 16 /* a 16th of the limit more than is needed goes */

struct kept {
	char *path; /* without .json */
	uint64_t size;
	time_t used;
};
struct mirror_room {
	char *dir;
	uint64_t kept, coming;
};
struct kept_list {
	struct kept *v;
	size_t n;
	uint64_t sum;
	unsigned swept;
};

struct mirror_room *
mirror_room_new(const char *dir)
{
	struct mirror_room *r = xcalloc(1, sizeof(*r));

	r->dir = xstrdup(dir);
	return r;
}

void
mirror_room_free(struct mirror_room *r)
{
	if (r == NULL)
		return;
	free(r->dir);
	free(r);
}

uint64_t
mirror_room_of(uint64_t size)
{
	/* Its .json too: there may be any number of small files. */
	return (size + BLOCK - 1) / BLOCK * BLOCK + BLOCK;
}

/* ---- folders ------------------------------------------------------------- */

/* A complete file; false: its .json is without it. */
static bool
list_file(struct kept_list *l, const char *dir, int fd, const char *json)
{
	struct stat st, body;
	char name[HEX + 1];

	memcpy(name, json, HEX);
	name[HEX] = '\0';
	if (fstatat(fd, json, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    fstatat(fd, name, &body, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
	l->v[l->n] = (struct kept){ xasprintf("%s/%s", dir, name),
		mirror_room_of((uint64_t)body.st_size), st.st_mtime };
	l->sum += l->v[l->n++].size;
	return true;
}

static bool
has_json(int fd, const char *name)
{
	char json[HEX + sizeof(".json")];
	struct stat st;

	memcpy(json, name, HEX);
	strcpy(json + HEX, ".json");
	return fstatat(fd, json, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* sweep: nothing is on its way, so what is not complete never will be. */
static void
list_folder(struct kept_list *l, const char *dir, bool sweep)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		size_t n = strspn(e->d_name, "0123456789abcdef");
		const char *end = e->d_name + n;
		bool good;

		if (n != HEX)
			continue; /* none of ours */
		if (strcmp(end, ".json") == 0)
			good = list_file(l, dir, dirfd(d), e->d_name);
		else if (*end == '\0')
			good = has_json(dirfd(d), e->d_name);
		else
			good = strcmp(end, ".new") != 0 &&
			    strcmp(end, ".json.new") != 0;
		if (!good && sweep && unlinkat(dirfd(d), e->d_name, 0) == 0)
			l->swept++;
	}
	if (d != NULL)
		closedir(d);
}

static void
list_all(const struct mirror_room *r, struct kept_list *l, bool sweep)
{
	DIR *d = opendir(r->dir);
	struct dirent *e;

	memset(l, 0, sizeof(*l));
	while (d != NULL && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.') {
			char *dir = xasprintf("%s/%s", r->dir, e->d_name);

			list_folder(l, dir, sweep);
			free(dir);
		}
	if (d != NULL)
		closedir(d);
}

static void
list_free(struct kept_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].path);
	free(l->v);
}

void
mirror_room_look(struct mirror_room *r)
{
	struct kept_list l;

	list_all(r, &l, true);
	r->kept = l.sum;
	if (l.swept > 0)
		log_info("mirrors: %u left-overs were removed", l.swept);
	list_free(&l);
}

/* ---- room ---------------------------------------------------------------- */

static int
by_use(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	return (x->used > y->used) - (x->used < y->used);
}

static void
remove_kept(const struct kept *k)
{
	char *json = xasprintf("%s.json", k->path);

	unlink(json); /* first: without it there is no file */
	unlink(k->path);
	free(json);
}

/* Until at most so much is kept: the longest unused go. */
static void
shrink_to(struct mirror_room *r, uint64_t most)
{
	struct kept_list l;

	list_all(r, &l, false);
	if (l.n > 0)
		qsort(l.v, l.n, sizeof(*l.v), by_use);
	for (size_t i = 0; i < l.n && l.sum > most; i++) {
		remove_kept(&l.v[i]);
		l.sum -= l.v[i].size;
	}
	r->kept = l.sum;
	list_free(&l);
}

int
mirror_room_take(struct mirror_room *r, uint64_t limit, uint64_t octets)
{
	uint64_t need = r->coming + octets, spare = limit / AT_ONCE;

	if (need > limit)
		return -ENOSPC;
	if (r->kept > limit - need)
		shrink_to(r, limit - need > spare ? limit - need - spare : 0);
	if (r->kept > limit - need)
		return -ENOSPC; /* it cannot be removed */
	r->coming = need;
	return 0;
}

void
mirror_room_keep(struct mirror_room *r, uint64_t octets)
{
	r->coming -= octets;
	r->kept += octets;
}

void
mirror_room_give(struct mirror_room *r, uint64_t octets)
{
	r->coming -= octets;
}

uint64_t
mirror_room_sum(const struct mirror_room *r)
{
	return r->kept + r->coming;
}
