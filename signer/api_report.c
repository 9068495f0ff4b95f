/*
 * api_report.c - POST /v1/reports: outcomes of uploads, and how a gateway is
 *
 * A gateway tells each outcome at least once; a row by upload id makes the
 * second telling harmless. Its last status and contact stand in a row, with
 * what it delivered today.
 */
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "gateway.h"
#include "json.h"
#include "store.h"
#include "xalloc.h"

#define BODY_MAX (1 << 20)
#define REPORTS_MAX 1000
#define STATUS_MAX 65536
#define KEEP_S (3 * 86400) /* how long a second telling is recognised */
#define PRUNE_MAX 2048

static const char *const outcomes[] = { "delivered", "expired", "evicted",
	"dropped", "quarantined", NULL };

static bool
is_outcome(const char *s)
{
	for (size_t i = 0; s != NULL && outcomes[i] != NULL; i++)
		if (strcmp(s, outcomes[i]) == 0)
			return true;
	return false;
}

static bool
report_ok(const cJSON *v)
{
	const char *id = json_string(v, "id");

	return id != NULL && gateway_ok(id) &&
	    is_outcome(json_string(v, "outcome"));
}

static int
check_all(struct api_call *c, const cJSON *list)
{
	const cJSON *e;
	int i = 0;

	if (list == NULL || cJSON_IsNull(list))
		return 0;
	if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > REPORTS_MAX) {
		problem_field(&c->problem, "/reports", NULL,
		    "This must be a list of at most 1000 reports.");
		return -EINVAL;
	}
	cJSON_ArrayForEach(e, list)
	{
		char pointer[32];

		snprintf(pointer, sizeof(pointer), "/reports/%d", i++);
		if (!report_ok(e))
			problem_field(&c->problem, pointer,
			    "outcome: delivered, expired, evicted, dropped or "
			    "quarantined.",
			    "A report needs an id and an outcome.");
	}
	return c->problem.status == 0 ? 0 : -EINVAL;
}

/* 0: new. 1: told before. */
static int
take_report(struct store_txn *t, struct api_call *c, const cJSON *v)
{
	static const char *const fields[] = { "id", "outcome", "device",
		"storage", "key", "reason", NULL };
	char *id = xasprintf("%s/%s", c->who.gateway, json_string(v, "id"));
	cJSON *row;
	int64_t size;
	char when[21];
	int rc = store_get_json(t, KIND_REPORT, c->who.tenant, id, &row);

	if (rc == 0) {
		cJSON_Delete(row);
		free(id);
		return 1;
	}
	if (rc == -ENOENT) {
		row = cJSON_CreateObject();
		clock_rfc3339(c->now_s, when);
		json_add_text(row, "at", when);
		for (size_t i = 0; fields[i] != NULL; i++) {
			const char *s = json_string(v, fields[i]);

			if (s != NULL && strlen(s) <= 2048)
				json_add_text(row, fields[i], s);
		}
		if (json_int(v, "size", 0, 1LL << 50, &size) == 0)
			json_add_int(row, "size", size);
		rc = store_put_json(t, KIND_REPORT, c->who.tenant, id, row);
		cJSON_Delete(row);
	}
	free(id);
	return rc;
}

/* ---- the row of a gateway's last contact --------------------------------- */

/* What was delivered today, by our clock, for the policy's bytesPerDay. */
static void
count_bytes(struct api_call *c, cJSON *row, int64_t bytes)
{
	int64_t day = c->now_s / 86400, then = 0, sum = 0;

	if (json_int(row, "day", 0, INT64_MAX / 2048, &then) != 0 ||
	    json_int(row, "bytes", 0, INT64_MAX / 2048, &sum) != 0 ||
	    then != day)
		sum = 0;
	cJSON_DeleteItemFromObjectCaseSensitive(row, "day");
	cJSON_DeleteItemFromObjectCaseSensitive(row, "bytes");
	json_add_int(row, "day", day);
	json_add_int(row, "bytes", sum + bytes);
}

static void
set_status(struct api_call *c, cJSON *row)
{
	const cJSON *status =
	    cJSON_GetObjectItemCaseSensitive(c->json, "status");
	char when[21], *line;

	clock_rfc3339(c->now_s, when);
	cJSON_DeleteItemFromObjectCaseSensitive(row, "lastContact");
	json_add_text(row, "lastContact", when);
	if (!cJSON_IsObject(status))
		return;
	line = json_line(status);
	cJSON_DeleteItemFromObjectCaseSensitive(row, "status");
	if (strlen(line) <= STATUS_MAX)
		cJSON_AddItemToObject(
		    row, "status", cJSON_Duplicate(status, true));
	free(line);
}

/* ---- forgetting ---------------------------------------------------------- */

/* Some rows of the gateway, from where the last look ended. */
struct pruning {
	const char *prefix;
	char before[21]; /* what is older may go */
	int left;
	char *ids[PRUNE_MAX];
	size_t n;
	char last[STORE_ID_MAX + 1];
};

static int
on_report(const char *id, const char *doc, size_t n, void *arg)
{
	struct pruning *p = arg;
	const char *at;
	cJSON *row;

	if (strncmp(id, p->prefix, strlen(p->prefix)) != 0 || p->left-- == 0)
		return 1;
	snprintf(p->last, sizeof(p->last), "%s", id);
	row = json_parse(doc, n, n, NULL);
	at = json_string(row, "at");
	if (at == NULL || strcmp(at, p->before) < 0)
		p->ids[p->n++] = xstrdup(id);
	cJSON_Delete(row);
	return 0;
}

/*
 * Ids are kept for some days only, so that the state does not grow with every
 * upload there ever was. Each call looks at twice as many rows as it brings,
 * going round, so old ones go faster than new ones come.
 */
static int
prune(struct store_txn *t, struct api_call *c, cJSON *contact, int brought)
{
	char *prefix = xasprintf("%s/", c->who.gateway);
	const char *after = json_string(contact, "prunedTo");
	struct pruning p = { .prefix = prefix, .left = 2 * brought + 16 };
	int rc;

	if (p.left > PRUNE_MAX)
		p.left = PRUNE_MAX;
	clock_rfc3339(c->now_s - KEEP_S, p.before);
	rc = store_scan(t, KIND_REPORT, c->who.tenant,
	    after != NULL && after[0] != '\0' ? after : prefix, on_report, &p);
	for (size_t i = 0; i < p.n; i++) {
		if (rc == 0)
			rc = store_del(t, KIND_REPORT, c->who.tenant, p.ids[i]);
		free(p.ids[i]);
	}
	if (p.left > 0) /* the end: from the beginning next time */
		p.last[0] = '\0';
	cJSON_DeleteItemFromObjectCaseSensitive(contact, "prunedTo");
	json_add_text(contact, "prunedTo", p.last);
	free(prefix);
	return rc;
}

static int
post_reports(struct store_txn *t, struct api_call *c)
{
	const cJSON *list =
			cJSON_GetObjectItemCaseSensitive(c->json, "reports"),
		    *e;
	int accepted = 0, repeated = 0, rc = check_all(c, list);
	int64_t bytes = 0, size;
	cJSON *row = NULL;

	if (rc != 0)
		return rc;
	cJSON_ArrayForEach(e, list)
	{
		rc = take_report(t, c, e);
		if (rc < 0)
			return rc;
		accepted += rc == 0;
		repeated += rc == 1;
		if (rc == 0 &&
		    strcmp(json_string(e, "outcome"), "delivered") == 0 &&
		    json_int(e, "size", 0, 1LL << 50, &size) == 0)
			bytes += size;
	}
	rc = store_get_json(
	    t, KIND_CONTACT, c->who.tenant, c->who.gateway, &row);
	if (rc == -ENOENT)
		row = cJSON_CreateObject();
	else if (rc != 0)
		return rc;
	set_status(c, row);
	count_bytes(c, row, bytes);
	rc = prune(t, c, row, accepted);
	if (rc == 0)
		rc = store_put_json(
		    t, KIND_CONTACT, c->who.tenant, c->who.gateway, row);
	cJSON_Delete(row);
	c->answer = cJSON_CreateObject();
	json_add_int(c->answer, "accepted", accepted);
	json_add_int(c->answer, "repeated", repeated);
	return rc;
}

/* clang-format off */
const struct api_route api_report_routes[] = {
	{ "POST", "/v1/reports", ROLE_GATEWAY, API_WRITE, post_reports, BODY_MAX },
	{ NULL },
};
/* clang-format on */
