/*
 * blocks.c - blocked devices are refused at the door
 *
 * Two lists: the names that the cloud blocked (the agent's file) and the
 * addresses that were seen under them (ours, kept in a file too, so that a
 * restart does not let a blocked device in under another name). Which names
 * an address used last is remembered for the last 4096 addresses.
 */
#include "blocks.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "blocklist.h"
#include "log.h"
#include "text_hash.h"
#include "xalloc.h"

#define SEEN 4096 /* a power of two */
#define WAYS 4

struct seen {
	char address[48];
	char device[80]; /* of longer names the beginning is enough to differ */
	uint64_t at;
};

struct blocks {
	char *names_path;
	struct blocklist *names_file, *addresses_file;
	cJSON *names, *addresses;
	struct timespec mtime;
	uint64_t clock;
	struct seen seen[SEEN];
};

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
	b->addresses = blocklist_load(b->addresses_file);
	if (b->addresses == NULL)
		b->addresses = cJSON_CreateArray();
	b->names = cJSON_CreateArray();
	blocks_refresh(b);
	return b;
}

void
blocks_free(struct blocks *b)
{
	if (b == NULL)
		return;
	cJSON_Delete(b->names);
	cJSON_Delete(b->addresses);
	free(b->names_path);
	blocklist_free(b->names_file);
	blocklist_free(b->addresses_file);
	free(b);
}

static struct seen *
set_of(struct blocks *b, const char *address)
{
	return &b->seen[text_hash(address) % (SEEN / WAYS) * WAYS];
}

static void
remember(struct blocks *b, const char *address, const char *device)
{
	struct seen *s = set_of(b, address), *oldest = s;

	for (int i = 0; i < WAYS; i++) {
		if (strcmp(s[i].address, address) == 0) {
			oldest = &s[i];
			break;
		}
		if (s[i].at < oldest->at)
			oldest = &s[i];
	}
	snprintf(oldest->address, sizeof(oldest->address), "%s", address);
	snprintf(oldest->device, sizeof(oldest->device), "%s", device);
	oldest->at = ++b->clock;
}

static bool
is_blocked(const cJSON *names, const char *device)
{
	char cut[sizeof(((struct seen *)0)->device)];
	const cJSON *e;

	snprintf(cut, sizeof(cut), "%s", device);
	cJSON_ArrayForEach(e, names)
	{
		if (strncmp(e->valuestring, cut, sizeof(cut) - 1) == 0)
			return true;
	}
	return false;
}

/* Addresses of names that are blocked; those of an empty list are let go. */
static void
follow_names(struct blocks *b)
{
	cJSON *now = cJSON_GetArraySize(b->names) == 0
	    ? cJSON_CreateArray()
	    : cJSON_Duplicate(b->addresses, true);

	for (int i = 0; i < SEEN; i++)
		if (b->seen[i].at != 0 &&
		    is_blocked(b->names, b->seen[i].device) &&
		    !blocklist_has(now, b->seen[i].address))
			cJSON_AddItemToArray(
			    now, cJSON_CreateString(b->seen[i].address));
	if (!cJSON_Compare(now, b->addresses, true))
		blocklist_save(b->addresses_file, cJSON_Duplicate(now, true));
	cJSON_Delete(b->addresses);
	b->addresses = now;
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
	return blocklist_has(b->names, device) ||
	    (!known && blocklist_has(b->addresses, address));
}

bool
blocks_refuse(
    struct blocks *b, const char *device, const char *address, bool known)
{
	bool named = blocklist_has(b->names, device);

	if (!named && blocks_has(b, device, address, known))
		return true; /* for what it did under another name */
	remember(b, address, device);
	return named;
}
