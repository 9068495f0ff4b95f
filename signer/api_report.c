/*
 * api_report.c - POST /v1/reports: outcomes of uploads, and how a gateway is
 *
 * A gateway tells each outcome at least once; a row by upload id makes the
 * second telling harmless. Its last status and contact stand in a row.
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

static int
take_status(struct store_txn *t, struct api_call *c)
{
	const cJSON *status =
	    cJSON_GetObjectItemCaseSensitive(c->json, "status");
	cJSON *row = NULL;
	char when[21], *line;
	int rc = store_get_json(
	    t, KIND_CONTACT, c->who.tenant, c->who.gateway, &row);

	if (rc == -ENOENT)
		row = cJSON_CreateObject();
	else if (rc != 0)
		return rc;
	clock_rfc3339(c->now_s, when);
	cJSON_DeleteItemFromObjectCaseSensitive(row, "lastContact");
	json_add_text(row, "lastContact", when);
	if (cJSON_IsObject(status)) {
		line = json_line(status);
		cJSON_DeleteItemFromObjectCaseSensitive(row, "status");
		if (strlen(line) <= STATUS_MAX)
			cJSON_AddItemToObject(
			    row, "status", cJSON_Duplicate(status, true));
		free(line);
	}
	rc =
	    store_put_json(t, KIND_CONTACT, c->who.tenant, c->who.gateway, row);
	cJSON_Delete(row);
	return rc;
}

static int
post_reports(struct store_txn *t, struct api_call *c)
{
	const cJSON *list =
			cJSON_GetObjectItemCaseSensitive(c->json, "reports"),
		    *e;
	int accepted = 0, repeated = 0, rc = check_all(c, list);

	if (rc != 0)
		return rc;
	cJSON_ArrayForEach(e, list)
	{
		rc = take_report(t, c, e);
		if (rc < 0)
			return rc;
		accepted += rc == 0;
		repeated += rc == 1;
	}
	rc = take_status(t, c);
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
