/*
 * running.c - rows of what devices run, with an end to their number
 *
 * The number of a tenant's rows stands in a row of its own, changed in the
 * transaction that adds or deletes some; without one (a state made by an older
 * version) they are counted once. A device that is known costs no counting.
 */
#include "running.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "store.h"
#include "xalloc.h"

#define COUNT "running" /* of KIND_META */
#define PAGE 1000

/* ---- counting ------------------------------------------------------------ */

struct counting {
	const char *prefix;
	int64_t n, max;
};

static int
on_counted(const char *id, const char *doc, size_t n, void *arg)
{
	struct counting *k = arg;

	if (strncmp(id, k->prefix, strlen(k->prefix)) != 0)
		return 1;
	return ++k->n >= k->max;
}

static int
count_rows(struct store_txn *t, const char *tenant, const char *prefix,
    int64_t max, int64_t *n_out)
{
	struct counting k = { prefix, 0, max };
	int rc = store_scan(t, KIND_RUNNING, tenant, prefix, on_counted, &k);

	*n_out = k.n;
	return rc;
}

static int
get_count(struct store_txn *t, const char *tenant, int64_t *n_out)
{
	char *text;
	size_t n;
	int rc = store_get(t, KIND_META, tenant, COUNT, &text, &n);

	if (rc == -ENOENT)
		return count_rows(t, tenant, "", INT64_MAX, n_out);
	if (rc != 0)
		return rc;
	*n_out = strtoll(text, NULL, 10);
	free(text);
	return 0;
}

static int
set_count(struct store_txn *t, const char *tenant, int64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, n > 0 ? n : 0);
	return store_put(t, KIND_META, tenant, COUNT, text, strlen(text));
}

/* ---- what a gateway tells ------------------------------------------------ */

void
running_begin(struct running *r, struct store_txn *t, const char *tenant,
    const char *gateway, int64_t max)
{
	*r = (struct running){ .t = t,
		.tenant = tenant,
		.gateway = gateway,
		.max = max,
		.of_gateway = -1,
		.of_all = -1 };
}

static int
count_all(struct running *r)
{
	char *prefix;
	int rc;

	if (r->of_all >= 0)
		return 0;
	prefix = xasprintf("%s/", r->gateway);
	rc = count_rows(
	    r->t, r->tenant, prefix, RUNNING_GATEWAY_MAX, &r->of_gateway);
	free(prefix);
	return rc == 0 ? get_count(r->t, r->tenant, &r->of_all) : rc;
}

int
running_put(struct running *r, const char *device, const cJSON *row)
{
	char *id = xasprintf("%s/%s", r->gateway, device);
	cJSON *old = NULL;
	bool full = false;
	int rc = store_get_json(r->t, KIND_RUNNING, r->tenant, id, &old);

	cJSON_Delete(old);
	if (rc == -ENOENT) {
		rc = count_all(r);
		full =
		    r->of_gateway >= RUNNING_GATEWAY_MAX || r->of_all >= r->max;
		if (rc == 0 && !full) {
			r->of_gateway++;
			r->of_all++;
			r->added++;
		}
	}
	if (rc == -EBADMSG)
		rc = 0; /* damaged: this one is whole */
	if (rc == 0 && full)
		r->dropped++;
	else if (rc == 0) {
		rc = store_put_json(r->t, KIND_RUNNING, r->tenant, id, row);
		r->accepted += rc == 0;
	}
	free(id);
	return rc;
}

int
running_end(struct running *r)
{
	return r->added > 0 ? set_count(r->t, r->tenant, r->of_all) : 0;
}

/* ---- deleting ------------------------------------------------------------ */

/* Rows to go: of a gateway, or that are old; a page at most. */
struct going {
	const char *prefix;
	char before[21]; /* "": whenever they were told */
	size_t looked, most;
	char last[STORE_ID_MAX + 1];
	char **ids;
	size_t n;
	bool more;
};

static int
on_row(const char *id, const char *doc, size_t n, void *arg)
{
	struct going *g = arg;
	const char *at;
	cJSON *row;
	bool goes = true;

	if (strncmp(id, g->prefix, strlen(g->prefix)) != 0)
		return 1;
	if (g->looked++ == g->most) {
		g->more = true;
		return 1;
	}
	snprintf(g->last, sizeof(g->last), "%s", id);
	if (g->before[0] != '\0') {
		row = json_parse(doc, n, n, NULL);
		at = json_string(row, "reportedAt");
		goes = at == NULL || strcmp(at, g->before) < 0;
		cJSON_Delete(row);
	}
	if (goes) {
		g->ids = xrealloc(g->ids, (g->n + 1) * sizeof(*g->ids));
		g->ids[g->n++] = xstrdup(id);
	}
	return 0;
}

static int
delete_rows(
    struct store_txn *t, const char *tenant, const char *after, struct going *g)
{
	int64_t have = 0;
	int rc = store_scan(t, KIND_RUNNING, tenant, after, on_row, g);

	if (rc == 0 && g->n > 0)
		rc = get_count(t, tenant, &have);
	for (size_t i = 0; i < g->n; i++) {
		if (rc == 0)
			rc = store_del(t, KIND_RUNNING, tenant, g->ids[i]);
		free(g->ids[i]);
	}
	if (rc == 0 && g->n > 0)
		rc = set_count(t, tenant, have - (int64_t)g->n);
	free(g->ids);
	g->ids = NULL;
	return rc;
}

int
running_delete_gateway(
    struct store_txn *t, const char *tenant, const char *gateway)
{
	char *prefix = xasprintf("%s/", gateway);
	struct going g = { .prefix = prefix, .most = SIZE_MAX };
	int rc = delete_rows(t, tenant, prefix, &g);

	free(prefix);
	return rc;
}

int
running_delete_tenant(struct store_txn *t, const char *tenant)
{
	int rc = store_del(t, KIND_META, tenant, COUNT);

	return rc == -ENOENT ? 0 : rc;
}

/* ---- ageing -------------------------------------------------------------- */

struct ageing {
	int64_t before_s;
	char **tenants;
	size_t n;
	const char *tenant;
	char after[STORE_ID_MAX + 1];
	/* Of the last page, until its transaction is through. */
	char last[STORE_ID_MAX + 1];
	size_t gone;
	bool more;
};

/* "TENANT/" */
static int
on_tenant(const char *id, const char *doc, size_t n, void *arg)
{
	struct ageing *a = arg;

	a->tenants = xrealloc(a->tenants, (a->n + 1) * sizeof(*a->tenants));
	a->tenants[a->n++] = xstrndup(id, strcspn(id, "/"));
	return 0;
}

static void
forget(struct ageing *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->tenants[i]);
	free(a->tenants);
	a->tenants = NULL;
	a->n = 0;
}

static int
list_tenants(struct store_txn *t, void *arg)
{
	forget(arg); /* of an earlier run */
	return store_scan(t, KIND_TENANT, NULL, NULL, on_tenant, arg);
}

static int
age_page(struct store_txn *t, void *arg)
{
	struct ageing *a = arg;
	struct going g = { .prefix = "", .most = PAGE };
	int rc;

	clock_rfc3339(a->before_s, g.before);
	rc = delete_rows(t, a->tenant, a->after, &g);
	a->gone = g.n;
	a->more = g.more;
	snprintf(a->last, sizeof(a->last), "%s", g.last);
	return rc;
}

int
running_age(
    struct store *s, int64_t before_s, const atomic_bool *stop, uint64_t *n_out)
{
	struct ageing a = { .before_s = before_s };
	int rc = store_view(s, list_tenants, &a);

	*n_out = 0;
	for (size_t i = 0; rc == 0 && i < a.n && !*stop; i++) {
		a.tenant = a.tenants[i];
		a.after[0] = '\0';
		do {
			rc = store_update(s, age_page, &a);
			*n_out += rc == 0 ? a.gone : 0;
			strcpy(a.after, a.last);
		} while (rc == 0 && a.more && !*stop);
	}
	forget(&a);
	return rc;
}
