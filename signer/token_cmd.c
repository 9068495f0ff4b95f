/*
 * token_cmd.c - edgehaul-signer token create
 *
 * Writes to the same database as a daemon that runs; the token counts from
 * the next request on.
 */
#include "command.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "audit.h"
#include "clock.h"
#include "duration.h"
#include "json.h"
#include "signer_conf.h"
#include "store.h"
#include "token.h"

static const char usage[] =
    "usage: edgehaul-signer --config FILE token create --tenant T --role "
    "ROLE\n"
    "           [--gateway ID] [--expires P90D]\n"
    "  ROLE is root, admin, publisher or gateway (with --gateway)\n";

struct want {
	const char *tenant, *role, *gateway;
	int64_t expires_s; /* 0: never */
	int64_t audit_keep_ms;
	char *token;
};

/* Tokens are what all else hangs on: whoever has this machine makes them. */
static int
note(struct store_txn *t, const struct want *w, const cJSON *row, int64_t now)
{
	struct audit a = { w->tenant, "token.create", json_string(row, "id"),
		NULL, row, now };
	cJSON *by = cJSON_CreateObject();

	json_add_text(by, "tenant", w->tenant);
	json_add_text(by, "role", "operator");
	json_add_int(by, "uid", (int64_t)getuid());
	return audit_write(t, &a, by, w->audit_keep_ms);
}

static int
create(struct store_txn *t, void *arg)
{
	struct want *w = arg;
	int64_t now = clock_wall_ms() / 1000;
	cJSON *row = NULL;
	char *token;
	int rc;

	rc = token_create(t, w->tenant, role_parse(w->role), w->gateway, now,
	    w->expires_s != 0 ? now + w->expires_s : 0, &token, &row);
	if (rc != 0)
		return rc;
	rc = store_changed(t, w->tenant, NULL);
	if (rc == 0)
		rc = note(t, w, row, now);
	cJSON_Delete(row);
	if (rc != 0) {
		free(token);
	} else {
		free(w->token); /* of a run that was not committed */
		w->token = token;
	}
	return rc;
}

static int
parse(int argc, char **argv, struct want *w)
{
	static const struct option options[] = {
		{ "tenant", required_argument, NULL, 't' },
		{ "role", required_argument, NULL, 'r' },
		{ "gateway", required_argument, NULL, 'g' },
		{ "expires", required_argument, NULL, 'e' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 't')
			w->tenant = optarg;
		else if (c == 'r')
			w->role = optarg;
		else if (c == 'g')
			w->gateway = optarg;
		else if (c != 'e' ||
		    duration_parse(optarg, &w->expires_s) != 0 ||
		    w->expires_s < 60)
			return -EINVAL;
	}
	return optind == argc && w->tenant != NULL && w->role != NULL ? 0
								      : -EINVAL;
}

/* What is wrong with the names, in words; NULL: nothing. */
static const char *
wrong(const struct want *w)
{
	enum role role = role_parse(w->role);

	if (role == 0)
		return "--role is root, admin, publisher or gateway";
	if (!tenant_ok(w->tenant))
		return "--tenant is lower-case letters, digits and dashes";
	if (role == ROLE_GATEWAY && w->gateway == NULL)
		return "a token of role gateway needs --gateway ID";
	if (role != ROLE_GATEWAY && w->gateway != NULL)
		return "--gateway is for the role gateway";
	if (w->gateway != NULL && !gateway_ok(w->gateway))
		return "--gateway is letters, digits, - _ and .";
	return NULL;
}

int
command_token(const struct signer_conf *conf, int argc, char **argv)
{
	struct want w = { .audit_keep_ms = conf->audit_keep_ms };
	struct store *store;
	char *why = NULL;
	int rc;

	if (argc < 2 || strcmp(argv[1], "create") != 0 ||
	    parse(argc - 1, argv + 1, &w) != 0) {
		fputs(usage, stderr);
		return EX_USAGE;
	}
	if (wrong(&w) != NULL) {
		fprintf(stderr, "edgehaul-signer: %s\n", wrong(&w));
		return EX_USAGE;
	}
	mkdir(conf->state_dir, 0700); /* if it fails store_open() tells */
	rc = store_open(conf->database, conf->state_dir,
	    (uint64_t)conf->database_size, &store, &why);
	if (rc != 0) {
		fprintf(stderr, "edgehaul-signer: %s\n",
		    why != NULL ? why : strerror(-rc));
		free(why);
		return EX_CANTCREAT;
	}
	rc = store_update(store, create, &w);
	store_close(store);
	if (rc != 0) {
		fprintf(stderr, "edgehaul-signer: no token made: %s\n",
		    strerror(-rc));
		free(w.token);
		return EX_IOERR;
	}
	printf("%s\n", w.token);
	explicit_bzero(w.token, strlen(w.token));
	free(w.token);
	return 0;
}
