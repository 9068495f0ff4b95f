/*
 * api_report.c - POST /v1/reports: outcomes of uploads, and how a gateway is
 *
 * A gateway tells each outcome at least once; a row by upload id makes the
 * second telling harmless. Its last status and contact stand in a row, with
 * what it delivered today. What a call brought that is new is one record of the
 * audit log, in the same transaction.
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
#define STATUS_MAX 32768   /* what is longer is not kept */
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

/* What is new of a call, for the audit log. */
struct news {
	cJSON *uploads; /* array of rows */
	int counts[sizeof(outcomes) / sizeof(outcomes[0])];
	int64_t bytes; /* delivered */
	int accepted, repeated;
};

static cJSON *
row_of(const struct api_call *c, const cJSON *v)
{
	static const char *const fields[] = { "id", "outcome", "device", "name",
		"storage", "key", "reason", NULL };
	cJSON *row = cJSON_CreateObject();
	int64_t n;
	char when[21];

	clock_rfc3339(c->now_s, when);
	json_add_text(row, "at", when);
	for (size_t i = 0; fields[i] != NULL; i++) {
		const char *s = json_string(v, fields[i]);

		if (s != NULL && strlen(s) <= 2048)
			json_add_text(row, fields[i], s);
	}
	if (json_int(v, "size", 0, 1LL << 50, &n) == 0)
		json_add_int(row, "size", n);
	if (json_int(v, "attempts", 0, 1LL << 31, &n) == 0)
		json_add_int(row, "attempts", n);
	if (json_int(v, "secondsAgo", 0, c->now_s, &n) == 0) {
		clock_rfc3339(c->now_s - n, when);
		json_add_text(row, "endedAt", when);
	}
	return row;
}

static void
count(struct news *news, const cJSON *row)
{
	const char *outcome = json_string(row, "outcome");
	int64_t size;

	for (size_t i = 0; outcomes[i] != NULL; i++)
		news->counts[i] += strcmp(outcomes[i], outcome) == 0;
	if (strcmp(outcome, "delivered") == 0 &&
	    json_int(row, "size", 0, 1LL << 50, &size) == 0)
		news->bytes += size;
	news->accepted++;
}

static int
take_report(
    struct store_txn *t, struct api_call *c, const cJSON *v, struct news *news)
{
	char *id = xasprintf("%s/%s", c->who.gateway, json_string(v, "id"));
	cJSON *row;
	int rc = store_get_json(t, KIND_REPORT, c->who.tenant, id, &row);

	if (rc == 0) {
		cJSON_Delete(row);
		news->repeated++;
	} else if (rc == -ENOENT) {
		row = row_of(c, v);
		rc = store_put_json(t, KIND_REPORT, c->who.tenant, id, row);
		count(news, row);
		cJSON_DeleteItemFromObjectCaseSensitive(row, "at");
		cJSON_AddItemToArray(news->uploads, row);
	}
	free(id);
	return rc;
}

static int
audit(struct store_txn *t, struct api_call *c, struct news *news)
{
	cJSON *after;
	int rc;

	if (news->accepted == 0)
		return 0;
	after = cJSON_CreateObject();
	for (size_t i = 0; outcomes[i] != NULL; i++)
		if (news->counts[i] > 0)
			json_add_int(after, outcomes[i], news->counts[i]);
	json_add_int(after, "bytes", news->bytes);
	cJSON_AddItemReferenceToObject(after, "uploads", news->uploads);
	rc = api_audit(
	    t, c, c->who.tenant, "uploads.report", c->who.gateway, NULL, after);
	cJSON_Delete(after);
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

/* Last contact, status and what was delivered today. */
static int
note_contact(struct store_txn *t, struct api_call *c, const struct news *news)
{
	cJSON *row = NULL;
	int rc = store_get_json(
	    t, KIND_CONTACT, c->who.tenant, c->who.gateway, &row);

	if (rc == -ENOENT)
		row = cJSON_CreateObject();
	else if (rc != 0)
		return rc;
	set_status(c, row);
	count_bytes(c, row, news->bytes);
	rc = prune(t, c, row, news->accepted);
	if (rc == 0)
		rc = store_put_json(
		    t, KIND_CONTACT, c->who.tenant, c->who.gateway, row);
	cJSON_Delete(row);
	return rc;
}

static int
post_reports(struct store_txn *t, struct api_call *c)
{
	const cJSON *list =
			cJSON_GetObjectItemCaseSensitive(c->json, "reports"),
		    *e;
	struct news news = { 0 };
	int rc = check_all(c, list);

	if (rc != 0)
		return rc;
	news.uploads = cJSON_CreateArray();
	cJSON_ArrayForEach(e, list)
	{
		if (rc == 0)
			rc = take_report(t, c, e, &news);
	}
	if (rc == 0)
		rc = audit(t, c, &news);
	if (rc == 0)
		rc = note_contact(t, c, &news);
	cJSON_Delete(news.uploads);
	c->answer = cJSON_CreateObject();
	json_add_int(c->answer, "accepted", news.accepted);
	json_add_int(c->answer, "repeated", news.repeated);
	return rc;
}

/* clang-format off */
const struct api_route api_report_routes[] = {
	{ "POST", "/v1/reports", ROLE_GATEWAY, API_WRITE, post_reports, BODY_MAX },
	{ NULL },
};
/* clang-format on */
