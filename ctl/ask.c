/*
 * ask.c - uploads, from the agent or else the proxy
 *
 * The agent knows more (what it is sending just now), the proxy knows enough
 * when the agent is down. Pages keep the daemons' answers small however long
 * the queue is.
 */
#include "ctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "xalloc.h"

#define PAGE 1000

static int
ask(struct asker *as, const char *path, cJSON **v_out)
{
	static const char agent[] = "edgehaul-agent",
			  proxy[] = "edgehaul-proxy";
	int rc;

	if (as->daemon != NULL)
		return client_json(as->ctl, as->daemon, path, false, v_out);
	as->daemon = agent;
	rc = client_json(as->ctl, agent, path, true, v_out);
	if (rc != EXIT_DOWN && rc != EXIT_LATER)
		return rc;
	as->daemon = proxy; /* the agent is down, or has no spool yet */
	return client_json(as->ctl, proxy, path, false, v_out);
}

int
ask_page(
    struct asker *as, int64_t after, cJSON **uploads_out, int64_t *next_out)
{
	char *path =
	    xasprintf("/queue?after=%" PRId64 "&limit=%d", after, PAGE);
	int64_t next = -1;
	cJSON *v = NULL, *uploads;
	int rc = ask(as, path, &v);

	free(path);
	if (rc != 0)
		return rc;
	uploads = cJSON_DetachItemFromObjectCaseSensitive(v, "uploads");
	json_int(v, "next", 1, INT64_MAX, &next);
	cJSON_Delete(v);
	if (!cJSON_IsArray(uploads) || (next >= 0 && next <= after)) {
		fprintf(stderr,
		    "edgehaul: %s answered with no list of "
		    "uploads\n",
		    as->daemon);
		cJSON_Delete(uploads);
		return EXIT_IO;
	}
	*uploads_out = uploads;
	*next_out = next;
	return 0;
}

int
ask_upload(const struct ctl *ctl, const char *id, cJSON **u_out)
{
	struct asker as = { ctl, NULL };
	char *path = xasprintf("/queue/%s", id);
	cJSON *u = NULL;
	int rc = ask(&as, path, &u);

	/* What came within the last second is known to the proxy alone. */
	if (rc == 0 && u == NULL && strcmp(as.daemon, "edgehaul-agent") == 0) {
		rc = client_json(ctl, "edgehaul-proxy", path, true, &u);
		if (rc == EXIT_DOWN || rc == EXIT_LATER)
			rc = 0;
	}
	free(path);
	if (rc == 0)
		*u_out = u;
	return rc;
}
