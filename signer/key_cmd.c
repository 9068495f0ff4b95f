/*
 * key_cmd.c - edgehaul-signer key rotate: seal all secrets with a new key
 *
 * The new key is written beside the old one first, then all rows are sealed
 * anew in one transaction, then the new key takes the old one's name. Cut off
 * in between, the command is run again: rows that the new key opens already
 * stay as they are. The daemon must not run: it has the old key in memory.
 */
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "json.h"
#include "seal.h"
#include "signer_conf.h"
#include "storage.h"
#include "store.h"
#include "xalloc.h"

struct row {
	enum store_kind kind;
	char *tenant, *id;
	cJSON *json;
};
struct rotation {
	struct seal *old, *new;
	enum store_kind kind;
	struct row *rows;
	size_t n;
};

static int
on_row(const char *id, const char *doc, size_t n, void *arg)
{
	struct rotation *r = arg;
	size_t tenant_n = strcspn(id, "/");
	struct row *row;

	r->rows = xrealloc(r->rows, (r->n + 1) * sizeof(*r->rows));
	row = &r->rows[r->n++];
	row->kind = r->kind;
	row->tenant = xstrndup(id, tenant_n);
	row->id = xstrdup(id + tenant_n + 1);
	row->json = json_parse(doc, n, n, NULL);
	return row->json != NULL ? 0 : -EBADMSG;
}

static void
drop_rows(struct rotation *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free(r->rows[i].tenant);
		free(r->rows[i].id);
		cJSON_Delete(r->rows[i].json);
	}
	free(r->rows);
	r->rows = NULL;
	r->n = 0;
}

static int
seal_again(struct store_txn *t, const struct rotation *r, struct row *row)
{
	/* A replaced storage's id is "name/version". */
	char *name = xstrndup(row->id, strcspn(row->id, "/"));
	cJSON *doc = cJSON_GetObjectItemCaseSensitive(row->json, "doc");
	cJSON *copy = cJSON_Duplicate(doc, true);
	int rc = storage_unseal(r->new, row->tenant, name, copy);

	cJSON_Delete(copy);
	if (rc == 0) { /* done by a run that was cut off, or no secrets */
		free(name);
		return 0;
	}
	rc = storage_unseal(r->old, row->tenant, name, doc);
	if (rc == 0) {
		storage_seal(r->new, row->tenant, name, doc);
		rc = store_put_json(
		    t, row->kind, row->tenant, row->id, row->json);
	} else {
		fprintf(stderr,
		    "edgehaul-signer: storage %s of %s is sealed with neither "
		    "key: delete it or set it anew first\n",
		    name, row->tenant);
	}
	free(name);
	return rc;
}

static int
rotate(struct store_txn *t, void *arg)
{
	static const enum store_kind kinds[] = { KIND_STORAGE, KIND_REPLACED };
	struct rotation *r = arg;
	int rc = 0;

	drop_rows(r);
	for (size_t i = 0; rc == 0 && i < 2; i++) {
		r->kind = kinds[i];
		rc = store_scan(t, kinds[i], NULL, NULL, on_row, r);
	}
	for (size_t i = 0; rc == 0 && i < r->n; i++)
		rc = seal_again(t, r, &r->rows[i]);
	if (rc == 0) /* as main.c notes it */
		rc = store_put(t, KIND_META, "seal", "key", seal_key_id(r->new),
		    strlen(seal_key_id(r->new)));
	return rc;
}

static int
run(const struct signer_conf *conf, struct rotation *r)
{
	struct store *store;
	char *why = NULL;
	int rc = store_open(conf->database, conf->state_dir,
	    (uint64_t)conf->database_size, &store, &why);

	if (rc != 0) {
		fprintf(stderr, "edgehaul-signer: %s\n",
		    why != NULL ? why : strerror(-rc));
		free(why);
		return rc;
	}
	rc = store_update(store, rotate, r);
	store_close(store);
	return rc;
}

int
command_key(const struct signer_conf *conf, int argc, char **argv)
{
	char *path = xasprintf("%s/seal.key", conf->state_dir);
	char *next = xasprintf("%s/seal.key.next", conf->state_dir);
	struct rotation r = { 0 };
	int rc = EX_USAGE;

	if (argc != 2 || strcmp(argv[1], "rotate") != 0) {
		fputs("usage: edgehaul-signer --config FILE key rotate\n"
		      "  stop all signers first; give the others the new key\n",
		    stderr);
		goto out;
	}
	rc = seal_open(path, false, &r.old);
	if (rc == 0)
		rc = seal_open(next, true, &r.new);
	if (rc == 0)
		rc = run(conf, &r);
	if (rc == 0 && rename(next, path) != 0)
		rc = -errno;
	if (rc != 0)
		fprintf(stderr, "edgehaul-signer: not rotated: %s\n",
		    strerror(-rc));
	else
		printf("rotated: %zu rows, key %s\n", r.n, seal_key_id(r.new));
	rc = rc == 0 ? 0 : EX_IOERR;
out:
	drop_rows(&r);
	seal_close(r.old);
	seal_close(r.new);
	free(path);
	free(next);
	return rc;
}
