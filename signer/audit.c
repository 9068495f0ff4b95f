/*
 * audit.c - records of who did what when to which object
 *
 * A record is written in the transaction of the change itself. Ids are the
 * time in ms and a counter, in hexadecimal, so they sort by time; a clock that
 * is set back only makes the next id one larger than the last. Each record
 * takes along a few that are older than audit_keep, so the log does not grow
 * for ever and nothing has to look for them.
 */
#include "audit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "conf.h"
#include "json.h"
#include "store.h"

#define PRUNE 8

static int
next_id(struct store_txn *t, const char *tenant, char id[17])
{
	uint64_t now = (uint64_t)clock_wall_ms() << 12, last = 0;
	char *text;
	size_t n;
	int rc = store_get(t, KIND_META, tenant, "audit", &text, &n);

	if (rc == 0) {
		last = strtoull(text, NULL, 16);
		free(text);
	} else if (rc != -ENOENT) {
		return rc;
	}
	snprintf(id, 17, "%016llx",
	    (unsigned long long)(now > last ? now : last + 1));
	return store_put(t, KIND_META, tenant, "audit", id, 16);
}

struct old {
	char before[17];
	char ids[PRUNE][17];
	size_t n;
};

static int
on_old(const char *id, const char *doc, size_t n, void *arg)
{
	struct old *o = arg;

	if (strcmp(id, o->before) >= 0 || o->n == PRUNE)
		return 1;
	snprintf(o->ids[o->n++], sizeof(o->ids[0]), "%.16s", id);
	return 0;
}

static int
prune(struct store_txn *t, const char *tenant, int64_t keep_ms)
{
	struct old o = { .n = 0 };
	int64_t before = clock_wall_ms() - keep_ms;
	int rc;

	if (keep_ms == CONF_NONE || before <= 0)
		return 0;
	snprintf(o.before, sizeof(o.before), "%016llx",
	    (unsigned long long)before << 12);
	rc = store_scan(t, KIND_AUDIT, tenant, NULL, on_old, &o);
	for (size_t i = 0; rc == 0 && i < o.n; i++)
		rc = store_del(t, KIND_AUDIT, tenant, o.ids[i]);
	return rc;
}

int
audit_write(
    struct store_txn *t, const struct audit *a, cJSON *by, int64_t keep_ms)
{
	cJSON *row = cJSON_CreateObject();
	char id[17], when[21];
	int rc = next_id(t, a->tenant, id);

	clock_rfc3339(a->now_s, when);
	json_add_text(row, "id", id);
	json_add_text(row, "at", when);
	cJSON_AddItemToObject(row, "by", by);
	json_add_text(row, "action", a->action);
	json_add_text(row, "object", a->object);
	/* A row of a delete must not take more than the delete gives. */
	if (a->before != NULL && !t->full)
		cJSON_AddItemToObject(
		    row, "before", cJSON_Duplicate(a->before, true));
	if (a->after != NULL && !t->full)
		cJSON_AddItemToObject(
		    row, "after", cJSON_Duplicate(a->after, true));
	if (rc == 0)
		rc = store_put_json(t, KIND_AUDIT, a->tenant, id, row);
	if (rc == 0)
		rc = prune(t, a->tenant, keep_ms);
	cJSON_Delete(row);
	return rc;
}
