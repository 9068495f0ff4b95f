/*
 * storage.h - what the agent knows of each storage of the signer
 *
 * A name, which hosts it has, what its answers mean, and how it fares. Names
 * come from the configuration and from items, so their number is bounded.
 */
#ifndef STORAGE_H
#define STORAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <cjson/cJSON.h>

#include "circuit.h"
#include "pace.h"
#include "recipe.h"

#define STORAGES_MAX 256
#define STORAGE_HOSTS_MAX 64

struct storage {
	TAILQ_ENTRY(storage) link;
	char *name;
	struct circuit circuit;
	struct pace pace;
	unsigned running;  /* uploads under way to it */
	unsigned pipeline; /* marked, being signed, or signed and waiting */
	unsigned ready;    /* in the window */
	bool hurry;        /* deferred uploads of it are called back */
	bool hosts_known;
	bool tells_sha256; /* its last answer had what verify's "or" names */
	char **hosts;
	size_t hosts_n;
	struct recipe_answers answers;
	uint64_t delivered, delivered_bytes, failed; /* since the start */
	char error[256];                             /* "" while all is well */
	bool filling;    /* more of it are to be marked */
	unsigned lately; /* delivered in AHEAD_MS of ahead.c */
	uint64_t lately_from;
	int64_t lately_ms;
	int64_t sought_ms;  /* when one to probe with was last looked for */
	int64_t hurried_ms; /* when deferred uploads were last called back */
};
TAILQ_HEAD(storages, storage);

/* Finds or makes it. NULL: there are STORAGES_MAX already. */
struct storage *storages_get(struct storages *list, const char *name);
void storages_fini(struct storages *list);
/* Take the hosts from the "storages" of an answer of /v1/updates: an object
 * of {NAME: {"hosts": [...]}} or a list of {"name", "hosts"}. */
void storages_hosts(struct storages *list, const cJSON *v);
/* Take what answers mean from {NAME: [rows]} of an answer of /v1/sign. */
void storages_answers(struct storages *list, const cJSON *v);
/* [{"name", "ok", "state", ...}] for status. */
cJSON *storages_status(const struct storages *list, int64_t now_ms);

#endif
