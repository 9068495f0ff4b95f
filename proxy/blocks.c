/*
 * blocks.c - blocked devices are refused at the door
 *
 * The names that the cloud blocked are the agent's file. Which name an address
 * used last is remembered for the last 4096 addresses; one whose name is
 * blocked is blocked itself, for as long as the name is. These are kept in a
 * file of ours, so that a restart does not let a blocked device in under
 * another name, and others push them out of the table last: what one sends
 * under many names or addresses lets nobody in. Names are sorted: the cloud may
 * block very many, and the loop looks for one at each request.
 */
#include "blocks.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "blocklist.h"
#include "json.h"
#include "log.h"
#include "text_hash.h"
#include "xalloc.h"

#define SEEN 4096 /* a power of two */
#define WAYS 4
#define DEVICE_MAX 80

struct seen {
	char address[48];
	char device[DEVICE_MAX]; /* its beginning is enough to differ */
	bool blocked;            /* the device */
	uint64_t at;             /* 0: free */
};

/* In order. */
struct texts {
	char **v;
	size_t n;
};

struct blocks {
	char *names_path;
	struct blocklist *names_file, *addresses_file;
	cJSON *names;
	struct texts sorted; /* of names, whose they are */
	struct texts cut;    /* of the long ones, as much as is remembered */
	struct timespec mtime;
	uint64_t clock;
	bool unsaved;
	struct seen seen[SEEN];
};

static struct seen *
set_of(const struct blocks *b, const char *address)
{
	return (
	    struct seen *)&b->seen[text_hash(address) % (SEEN / WAYS) * WAYS];
}

/* Does a give way before b? */
static bool
goes_first(const struct seen *a, const struct seen *b)
{
	if (a->blocked != b->blocked)
		return b->blocked;
	return a->at < b->at;
}

/* As much of a name as is remembered, no letter cut in two. */
static void
cut_name(const char *device, char out[DEVICE_MAX])
{
	size_t n = strnlen(device, DEVICE_MAX - 1);

	while (n > 0 && device[n] != '\0' && !json_utf8(device, n))
		n--;
	memcpy(out, device, n);
	out[n] = '\0';
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool
among(const struct texts *t, const char *text)
{
	return t->n > 0 &&
	    bsearch(&text, t->v, t->n, sizeof(*t->v), by_text) != NULL;
}

static void
forget_sorted(struct blocks *b)
{
	for (size_t i = 0; i < b->cut.n; i++)
		free(b->cut.v[i]);
	free(b->cut.v);
	free(b->sorted.v);
	b->cut = b->sorted = (struct texts){ 0 };
}

static void
sort_names(struct blocks *b)
{
	size_t n = (size_t)cJSON_GetArraySize(b->names);
	struct texts *all = &b->sorted, *cut = &b->cut;
	char name[DEVICE_MAX];
	const cJSON *e;

	forget_sorted(b);
	all->v = xcalloc(n + 1, sizeof(*all->v));
	cut->v = xcalloc(n + 1, sizeof(*cut->v));
	cJSON_ArrayForEach(e, b->names)
	{
		all->v[all->n++] = e->valuestring;
		cut_name(e->valuestring, name);
		if (strcmp(name, e->valuestring) != 0)
			cut->v[cut->n++] = xstrdup(name);
	}
	qsort(all->v, all->n, sizeof(*all->v), by_text);
	qsort(cut->v, cut->n, sizeof(*cut->v), by_text);
}

/* device: as remembered. */
static bool
is_blocked(const struct blocks *b, const char *device)
{
	return among(&b->sorted, device) || among(&b->cut, device);
}

static void
remember(
    struct blocks *b, const char *address, const char *device, bool blocked)
{
	struct seen *s = set_of(b, address), *to = s;

	for (int i = 0; i < WAYS; i++) {
		if (strcmp(s[i].address, address) == 0) {
			to = &s[i];
			break;
		}
		if (goes_first(&s[i], to))
			to = &s[i];
	}
	if (blocked && (!to->blocked || strcmp(to->address, address) != 0))
		b->unsaved = true;
	snprintf(to->address, sizeof(to->address), "%s", address);
	cut_name(device, to->device);
	to->blocked = blocked;
	to->at = ++b->clock;
}

static bool
address_blocked(const struct blocks *b, const char *address)
{
	const struct seen *s = set_of(b, address);

	for (int i = 0; i < WAYS; i++)
		if (s[i].blocked && strcmp(s[i].address, address) == 0)
			return true;
	return false;
}

/* ---- the file of addresses ------------------------------------------------
 */

/* Texts "ADDRESS DEVICE". */
static void
load_addresses(struct blocks *b)
{
	cJSON *list = blocklist_load(b->addresses_file);
	const cJSON *e;

	cJSON_ArrayForEach(e, list)
	{
		char address[48];
		size_t n = strcspn(e->valuestring, " ");

		if (n >= sizeof(address) || e->valuestring[n] == '\0')
			continue;
		memcpy(address, e->valuestring, n);
		address[n] = '\0';
		remember(b, address, e->valuestring + n + 1, false);
	}
	cJSON_Delete(list);
}

static void
save_addresses(struct blocks *b)
{
	cJSON *list = cJSON_CreateArray();

	for (int i = 0; i < SEEN; i++) {
		const struct seen *s = &b->seen[i];
		char text[sizeof(s->address) + sizeof(s->device)];

		if (!s->blocked)
			continue;
		snprintf(text, sizeof(text), "%s %s", s->address, s->device);
		cJSON_AddItemToArray(list, cJSON_CreateString(text));
	}
	blocklist_save(b->addresses_file, list); /* takes it */
	b->unsaved = false;
}

struct blocks *
blocks_new(const char *state_dir)
{
	struct blocks *b = xcalloc(1, sizeof(*b));
	char *path;

	b->names_path = xasprintf("%s/blocked.json", state_dir);
	b->names_file = blocklist_new(b->names_path);
	path = xasprintf("%s/blocked-addresses.json", state_dir);
	b->addresses_file = blocklist_new(path);
	free(path);
	load_addresses(b);
	b->names = cJSON_CreateArray();
	blocks_refresh(b);
	return b;
}

void
blocks_free(struct blocks *b)
{
	if (b == NULL)
		return;
	forget_sorted(b);
	cJSON_Delete(b->names);
	free(b->names_path);
	blocklist_free(b->names_file);
	blocklist_free(b->addresses_file);
	free(b);
}

/* ---- names ----------------------------------------------------------------
 */

static void
follow_names(struct blocks *b)
{
	for (int i = 0; i < SEEN; i++) {
		struct seen *s = &b->seen[i];
		bool now = s->at != 0 && is_blocked(b, s->device);

		if (now != s->blocked)
			b->unsaved = true;
		s->blocked = now;
	}
	if (b->unsaved)
		save_addresses(b);
}

static bool
blocks_set(struct blocks *b, cJSON *names)
{
	if (cJSON_Compare(names, b->names, true)) {
		cJSON_Delete(names);
		return false;
	}
	cJSON_Delete(b->names);
	b->names = names;
	sort_names(b);
	log_info("blocked devices=%d", cJSON_GetArraySize(names));
	follow_names(b);
	return true;
}

bool
blocks_told(struct blocks *b, const char *text, size_t n)
{
	cJSON *names = blocklist_parse(text, n);

	return names != NULL ? blocks_set(b, names) : blocks_refresh(b);
}

bool
blocks_refresh(struct blocks *b)
{
	struct stat st;
	cJSON *names;

	if (b->unsaved) /* by uploads since the last time */
		save_addresses(b);
	if (stat(b->names_path, &st) != 0 ||
	    (st.st_mtim.tv_sec == b->mtime.tv_sec &&
		st.st_mtim.tv_nsec == b->mtime.tv_nsec))
		return false;
	b->mtime = st.st_mtim;
	names = blocklist_load(b->names_file);
	/* unreadable: what was blocked stays blocked */
	return names != NULL && blocks_set(b, names);
}

bool
blocks_has(
    const struct blocks *b, const char *device, const char *address, bool known)
{
	return among(&b->sorted, device) ||
	    (!known && address_blocked(b, address));
}

bool
blocks_refuse(
    struct blocks *b, const char *device, const char *address, bool known)
{
	bool named = among(&b->sorted, device);

	if (!named && blocks_has(b, device, address, known))
		return true; /* for what it did under another name */
	remember(b, address, device, named);
	return named;
}
