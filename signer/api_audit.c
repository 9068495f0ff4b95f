/*
 * api_audit.c - GET /v1/audit, and what calls write into it
 */
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit.h"
#include "json.h"
#include "signer.h"
#include "signer_conf.h"
#include "store.h"

int
api_audit(struct store_txn *t, struct api_call *c, const char *tenant,
    const char *action, const char *object, const cJSON *before,
    const cJSON *after)
{
	struct audit a = { tenant, action, object, before, after, c->now_s };
	cJSON *by = cJSON_CreateObject();

	json_add_text(by, "tenant", c->who.tenant);
	json_add_text(by, "role", role_name(c->who.role));
	json_add_text(by, "token", c->who.id);
	return audit_write(t, &a, by, c->sg->conf->audit_keep_ms);
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
