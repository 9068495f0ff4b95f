/*
 * api_audit.c - who did what when to which object
 *
 * A record is written in the transaction of the change itself. Ids are the
 * time in ms and a counter, in hexadecimal, so they sort by time; a clock that
 * is set back only makes the next id one larger than the last. Each record
 * takes along a few that are older than audit_keep, so the log does not grow
 * for ever and nothing has to look for them.
 */
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "signer.h"
#include "signer_conf.h"
#include "store.h"
#include "xalloc.h"

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
api_audit(struct store_txn *t, struct api_call *c, const char *tenant,
    const char *action, const char *object, const cJSON *before,
    const cJSON *after)
{
	cJSON *row = cJSON_CreateObject(), *by;
	char id[17], when[21];
	int rc = next_id(t, tenant, id);

	clock_rfc3339(c->now_s, when);
	json_add_text(row, "id", id);
	json_add_text(row, "at", when);
	by = cJSON_AddObjectToObject(row, "by");
	json_add_text(by, "tenant", c->who.tenant);
	json_add_text(by, "role", role_name(c->who.role));
	json_add_text(by, "token", c->who.id);
	json_add_text(row, "action", action);
	json_add_text(row, "object", object);
	/* A row of a delete must not take more than the delete gives. */
	if (before != NULL && !t->full)
		cJSON_AddItemToObject(
		    row, "before", cJSON_Duplicate(before, true));
	if (after != NULL && !t->full)
		cJSON_AddItemToObject(
		    row, "after", cJSON_Duplicate(after, true));
	if (rc == 0)
		rc = store_put_json(t, KIND_AUDIT, tenant, id, row);
	if (rc == 0)
		rc = prune(t, tenant, c->sg->conf->audit_keep_ms);
	cJSON_Delete(row);
	return rc;
}

#define PAGE_OCTETS (1 << 20) /* a page ends early beyond it */

struct page {
	cJSON *items;
	int64_t left;
	size_t octets;
	char last[17];
	bool more;
};

static int
on_row(const char *id, const char *doc, size_t n, void *arg)
{
	struct page *p = arg;
	cJSON *row;

	if (p->left-- <= 0 || p->octets > PAGE_OCTETS) {
		p->more = true;
		return 1;
	}
	row = json_parse(doc, n, n, NULL);
	if (row == NULL)
		return -EBADMSG;
	p->octets += n;
	cJSON_AddItemToArray(p->items, row);
	snprintf(p->last, sizeof(p->last), "%.16s", id);
	return 0;
}

static int
get_audit(struct store_txn *t, struct api_call *c)
{
	struct page p = { .more = false };
	int rc = api_page_size(c, &p.left);

	if (rc != 0)
		return rc;
	if (c->after != NULL && c->after[0] != '\0' &&
	    (strlen(c->after) != 16 ||
		strspn(c->after, "0123456789abcdef") != 16)) {
		problem_field(&c->problem, "", "The next of the page before.",
		    "The parameter after is no place in the audit log.");
		return -EINVAL;
	}
	c->answer = cJSON_CreateObject();
	p.items = cJSON_AddArrayToObject(c->answer, "items");
	rc = store_scan(t, KIND_AUDIT, c->who.tenant, c->after, on_row, &p);
	api_page_next(c, p.more ? p.last : NULL);
	return rc;
}

/* clang-format off */
const struct api_route api_audit_routes[] = {
	{ "GET", "/v1/audit", ROLE_ADMIN | ROLE_ROOT, API_READ, get_audit, 0 },
	{ NULL },
};
/* clang-format on */
