/*
 * store.c - what is the same for every database
 */
#include "store.h"

#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "xalloc.h"

#define ROW_MAX (4 << 20)

#ifdef HAVE_PQ
static const bool has_pg = true;
#else
static const bool has_pg = false;

bool
store_pg_uri_ok(const char *uri)
{
	return false;
}

int
store_open_pg(const char *uri, struct store **s_out, char **why_out)
{
	return -EOPNOTSUPP;
}
#endif

const char *
store_name_wrong(const char *database)
{
	if (strcmp(database, "lmdb") == 0)
		return NULL;
	if (strncmp(database, "postgresql://", 13) != 0)
		return "write lmdb or postgresql://USER@HOST/NAME";
	if (!has_pg)
		return "PostgreSQL is not built into this program (configure "
		       "--with-postgresql; Debian: libpq-dev)";
	if (!store_pg_uri_ok(database))
		return "the postgresql:// URI cannot be read: look for an "
		       "unknown parameter, or a character that has to be "
		       "written as %XX";
	return NULL;
}

int
store_open(const char *database, const char *dir, uint64_t max_size,
    struct store **s_out, char **why_out)
{
	const char *wrong = store_name_wrong(database);

	if (wrong != NULL) {
		if (why_out != NULL)
			*why_out = xstrdup(wrong);
		return has_pg ? -EINVAL : -EOPNOTSUPP;
	}
	if (strcmp(database, "lmdb") == 0)
		return store_open_lmdb(dir, max_size, s_out, why_out);
	return store_open_pg(database, s_out, why_out);
}

void
store_close(struct store *s)
{
	if (s != NULL)
		s->ops->close(s);
}

int
store_update(struct store *s, store_fn fn, void *arg)
{
	return s->ops->update(s, fn, arg);
}

int
store_view(struct store *s, store_fn fn, void *arg)
{
	return s->ops->view(s, fn, arg);
}

static int
check(const char *tenant, const char *id)
{
	return (tenant != NULL && strlen(tenant) > STORE_TENANT_MAX) ||
		strlen(id) > STORE_ID_MAX
	    ? -ENAMETOOLONG
	    : 0;
}

int
store_get(struct store_txn *t, enum store_kind kind, const char *tenant,
    const char *id, char **doc_out, size_t *n_out)
{
	int rc = check(tenant, id);

	/* What can never have been put is not there. */
	return rc != 0 ? -ENOENT
		       : t->ops->get(t, kind, tenant, id, doc_out, n_out);
}

int
store_put(struct store_txn *t, enum store_kind kind, const char *tenant,
    const char *id, const char *doc, size_t n)
{
	int rc = check(tenant, id);

	if (rc == 0 && n > ROW_MAX)
		rc = -EMSGSIZE;
	return rc != 0 ? rc : t->ops->put(t, kind, tenant, id, doc, n);
}

int
store_del(struct store_txn *t, enum store_kind kind, const char *tenant,
    const char *id)
{
	return check(tenant, id) != 0 ? -ENOENT
				      : t->ops->del(t, kind, tenant, id);
}

int
store_scan(struct store_txn *t, enum store_kind kind, const char *tenant,
    const char *after, store_row_fn fn, void *arg)
{
	int rc =
	    t->ops->scan(t, kind, tenant, after != NULL ? after : "", fn, arg);

	return rc == 1 ? 0 : rc;
}

int
store_get_json(struct store_txn *t, enum store_kind kind, const char *tenant,
    const char *id, cJSON **v_out)
{
	char *doc;
	size_t n;
	cJSON *v;
	int rc = store_get(t, kind, tenant, id, &doc, &n);

	if (rc != 0)
		return rc;
	v = json_parse(doc, n, ROW_MAX, NULL);
	free(doc);
	if (!cJSON_IsObject(v)) {
		cJSON_Delete(v);
		return -EBADMSG;
	}
	*v_out = v;
	return 0;
}

int
store_put_json(struct store_txn *t, enum store_kind kind, const char *tenant,
    const char *id, const cJSON *v)
{
	char *doc = json_line(v);
	int rc = store_put(t, kind, tenant, id, doc, strlen(doc));

	free(doc);
	return rc;
}

int
store_version(struct store_txn *t, const char *tenant, int64_t *version_out)
{
	char *doc;
	size_t n;
	int rc = store_get(t, KIND_CHANGE, tenant, "version", &doc, &n);

	if (rc == -ENOENT) {
		*version_out = 0;
		return 0;
	}
	if (rc != 0)
		return rc;
	*version_out = strtoll(doc, NULL, 10);
	free(doc);
	return *version_out > 0 ? 0 : -EBADMSG;
}

int
store_changed(struct store_txn *t, const char *tenant, int64_t *version)
{
	char text[24];
	int64_t v;
	int rc = store_version(t, tenant, &v);

	if (rc != 0)
		return rc;
	snprintf(text, sizeof(text), "%lld", (long long)++v);
	rc = store_put(t, KIND_CHANGE, tenant, "version", text, strlen(text));
	if (rc == 0 && version != NULL)
		*version = v;
	return rc;
}
