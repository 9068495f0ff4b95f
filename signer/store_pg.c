/*
 * store_pg.c - the signer's state in PostgreSQL
 *
 * One table of the rows of store.h; what is compared is bytea, so order does
 * not depend on a collation. Only SQL that Citus (distributed by tenant) and
 * CockroachDB take too. Nothing is kept from one transaction for the next, as
 * other signers write to the same rows.
 *
 * A change is SERIALIZABLE: it either saw what it would see alone, or ends
 * with 40001 and is run again. A function may pass over an error of one call,
 * so the transaction remembers its first one, and no such transaction commits.
 * One whose connection breaks is run again on another, unless that was during
 * COMMIT: nobody can tell then whether it counts, and -EIO says so.
 */
#include "store.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "clock.h"
#include "log.h"
#include "pg_pool.h"
#include "store_pg_schema.h"
#include "xalloc.h"

#define STATEMENT_MS 4000
#define GET_MS 4000   /* for one of the connections */
#define OPEN_MS 5000  /* at start, until the database has to be there */
#define AGAIN_MS 8000 /* how long a change is tried against others */
#define LOST_MOST 3   /* times in a call */
#define PAGE 128      /* rows of a scan at once */
#define MEMO 32

/* Never change one: they are in databases. */
static const char *const kinds[KINDS] = {
	[KIND_META] = "meta",
	[KIND_TENANT] = "tenant",
	[KIND_TOKEN] = "token",
	[KIND_STORAGE] = "storage",
	[KIND_REPLACED] = "replaced",
	[KIND_STATUS] = "status",
	[KIND_CERTIFICATE] = "certificate",
	[KIND_GATEWAY] = "gateway",
	[KIND_DEVICE] = "device",
	[KIND_CONTACT] = "contact",
	[KIND_CHANGE] = "change",
	[KIND_REPORT] = "report",
	[KIND_AUDIT] = "audit",
	[KIND_PRODUCT] = "product",
	[KIND_RELEASE] = "release",
	[KIND_MANIFEST] = "manifest",
	[KIND_SIGNED] = "signed",
	[KIND_RUNNING] = "running",
};

struct pg_store {
	struct store store;
	struct pg_pool *pool;
};

/* A row as a view has seen it: a batch asks for the same ones again. */
struct memo {
	enum store_kind kind;
	char *tenant, *id; /* NULL: free */
	char *doc;         /* NULL: there is none */
	size_t n;
};
struct pg_txn {
	struct store_txn txn;
	struct pg *c;
	bool write;
	int failed; /* -errno of the first statement that did */
	struct memo memo[MEMO];
	unsigned memo_next;
};

static const struct store_ops ops;

/* ---- statements ---------------------------------------------------------- */

static int
txn_exec(struct pg_txn *t, const char *sql, const struct pg_value *values,
    size_t n, PGresult **res_out)
{
	int rc = t->failed;

	if (rc == 0)
		rc = pg_exec(t->c, STATEMENT_MS, sql, values, n, res_out);
	/* A missing table is not a missing row. */
	if (rc == -ENOENT || rc == -EEXIST) {
		log_error("database: its tables have been changed");
		rc = -EIO;
	}
	if (rc != 0)
		t->failed = rc;
	return rc;
}

static struct pg_value
octets(const char *s)
{
	return (struct pg_value){ s, strlen(s) };
}

static struct pg_value
kind_value(enum store_kind kind)
{
	return (struct pg_value){ kinds[kind], PG_TEXT };
}

/* ---- what a view has seen ------------------------------------------------ */

static void
memo_drop(struct memo *m)
{
	free(m->tenant);
	free(m->id);
	free(m->doc);
	memset(m, 0, sizeof(*m));
}

static const struct memo *
memo_find(const struct pg_txn *t, enum store_kind kind, const char *tenant,
    const char *id)
{
	for (unsigned i = 0; i < MEMO; i++) {
		const struct memo *m = &t->memo[i];

		if (m->id != NULL && m->kind == kind &&
		    strcmp(m->id, id) == 0 && strcmp(m->tenant, tenant) == 0)
			return m;
	}
	return NULL;
}

static void
memo_add(struct pg_txn *t, enum store_kind kind, const char *tenant,
    const char *id, const char *doc, size_t n)
{
	struct memo *m = &t->memo[t->memo_next++ % MEMO];

	memo_drop(m);
	m->kind = kind;
	m->tenant = xstrdup(tenant);
	m->id = xstrdup(id);
	m->doc = doc != NULL ? xstrndup(doc, n) : NULL;
	m->n = n;
}

static void
memo_fini(struct pg_txn *t)
{
	for (unsigned i = 0; i < MEMO; i++)
		memo_drop(&t->memo[i]);
}

/* ---- rows ---------------------------------------------------------------- */

static int
pgs_get(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *id, char **doc_out, size_t *n_out)
{
	struct pg_txn *t = (struct pg_txn *)st;
	struct pg_value v[] = { kind_value(kind), octets(tenant), octets(id) };
	const struct memo *m = t->write ? NULL : memo_find(t, kind, tenant, id);
	const char *doc = NULL;
	PGresult *res = NULL;
	size_t n = 0;
	int rc;

	if (m != NULL) {
		doc = m->doc;
		n = m->n;
	} else {
		rc = txn_exec(t,
		    "SELECT doc FROM edgehaul_rows WHERE kind = $1 AND "
		    "tenant = $2 AND id = $3",
		    v, 3, &res);
		if (rc != 0)
			return rc;
		if (PQntuples(res) > 0) {
			doc = PQgetvalue(res, 0, 0);
			n = (size_t)PQgetlength(res, 0, 0);
		}
		if (!t->write)
			memo_add(t, kind, tenant, id, doc, n);
	}
	rc = doc != NULL ? 0 : -ENOENT;
	if (doc != NULL) {
		*doc_out = xmalloc(n + 1);
		memcpy(*doc_out, doc, n);
		(*doc_out)[n] = '\0';
		*n_out = n;
	}
	PQclear(res);
	return rc;
}

static int
pgs_put(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *id, const char *doc, size_t n)
{
	struct pg_txn *t = (struct pg_txn *)st;
	struct pg_value v[] = { kind_value(kind), octets(tenant), octets(id),
		{ doc, n } };

	return txn_exec(t,
	    "INSERT INTO edgehaul_rows (kind, tenant, id, doc) VALUES "
	    "($1, $2, $3, $4) ON CONFLICT (kind, tenant, id) DO UPDATE SET "
	    "doc = excluded.doc",
	    v, 4, NULL);
}

static int
pgs_del(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *id)
{
	struct pg_txn *t = (struct pg_txn *)st;
	struct pg_value v[] = { kind_value(kind), octets(tenant), octets(id) };
	PGresult *res;
	bool there;
	int rc = txn_exec(t,
	    "DELETE FROM edgehaul_rows WHERE kind = $1 AND tenant = $2 AND "
	    "id = $3",
	    v, 3, &res);

	if (rc != 0)
		return rc;
	there = strcmp(PQcmdTuples(res), "0") != 0;
	PQclear(res);
	return there ? 0 : -ENOENT;
}

/* ---- scans --------------------------------------------------------------- */

struct place {
	char *tenant, *id; /* of the row before; of the last one given */
	bool begun;
};

static int
read_page(struct pg_txn *t, enum store_kind kind, const char *tenant,
    const struct place *at, PGresult **res_out)
{
	struct pg_value one[] = { kind_value(kind), octets(at->tenant),
		octets(at->id) };

	if (tenant != NULL)
		return txn_exec(t,
		    at->begun
			? "SELECT tenant, id, doc FROM edgehaul_rows WHERE "
			  "kind = $1 AND tenant = $2 AND id > $3 "
			  "ORDER BY id LIMIT 128"
			: "SELECT tenant, id, doc FROM edgehaul_rows WHERE "
			  "kind = $1 AND tenant = $2 AND id >= $3 "
			  "ORDER BY id LIMIT 128",
		    one, 3, res_out);
	return txn_exec(t,
	    at->begun ? "SELECT tenant, id, doc FROM edgehaul_rows WHERE "
			"kind = $1 AND (tenant, id) > ($2, $3) "
			"ORDER BY tenant, id LIMIT 128"
		      : "SELECT tenant, id, doc FROM edgehaul_rows WHERE "
			"kind = $1 AND (tenant, id) >= ($2, $3) "
			"ORDER BY tenant, id LIMIT 128",
	    one, 3, res_out);
}

static int
give_row(const PGresult *res, int i, bool with_tenant, struct place *at,
    store_row_fn fn, void *arg)
{
	char *both = NULL;
	int rc;

	free(at->tenant);
	free(at->id);
	/* xstrndup() so that a NUL in a row, of another's making, does not
	 * end the place before its length. */
	at->tenant =
	    xstrndup(PQgetvalue(res, i, 0), (size_t)PQgetlength(res, i, 0));
	at->id =
	    xstrndup(PQgetvalue(res, i, 1), (size_t)PQgetlength(res, i, 1));
	at->begun = true;
	if (with_tenant)
		both = xasprintf("%s/%s", at->tenant, at->id);
	rc = fn(both != NULL ? both : at->id, PQgetvalue(res, i, 2),
	    (size_t)PQgetlength(res, i, 2), arg);
	free(both);
	return rc;
}

static int
pgs_scan(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *after, store_row_fn fn, void *arg)
{
	struct pg_txn *t = (struct pg_txn *)st;
	struct place at = {
		.tenant = xstrdup(tenant != NULL ? tenant : ""),
		.id = xstrdup(tenant != NULL ? after : ""),
		.begun = tenant != NULL && after[0] != '\0',
	};
	PGresult *res;
	int n, rc = 0;

	do {
		rc = read_page(t, kind, tenant, &at, &res);
		if (rc != 0)
			break;
		n = PQntuples(res);
		for (int i = 0; i < n && rc == 0; i++)
			rc = give_row(res, i, tenant == NULL, &at, fn, arg);
		PQclear(res);
	} while (rc == 0 && n == PAGE);
	free(at.tenant);
	free(at.id);
	return rc;
}

/* ---- transactions -------------------------------------------------------- */

static int
commit(struct pg_txn *t)
{
	PGresult *res;
	int rc = pg_exec(t->c, STATEMENT_MS, "COMMIT", NULL, 0, &res);

	if (rc == -ECONNRESET || rc == -ETIMEDOUT) {
		if (!t->write)
			return 0; /* what was read was read */
		log_error("database: the connection broke during COMMIT");
		return -EIO;
	}
	if (rc == 0 && strcmp(PQcmdStatus(res), "COMMIT") != 0)
		rc = -EIO; /* it had failed and was rolled back */
	if (rc == 0)
		PQclear(res);
	return rc;
}

/* -EAGAIN, -ECONNRESET and -ETIMEDOUT: not done, may be run again. */
static int
run_once(struct pg *c, store_fn fn, void *arg, bool write)
{
	struct pg_txn t = { .txn.ops = &ops, .c = c, .write = write };
	int rc = txn_exec(&t,
	    write ? "BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE"
		  : "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, "
		    "READ ONLY",
	    NULL, 0, NULL);

	if (rc == 0) {
		rc = fn(&t.txn, arg);
		memo_fini(&t);
		if (t.failed != 0)
			rc = t.failed;
		/* Of fn's own; not to be taken for a failure of ours. */
		else if (rc == -EAGAIN || rc == -ECONNRESET)
			rc = -EIO;
		if (rc == 0)
			rc = commit(&t);
		else if (!pg_lost(c))
			pg_exec(c, STATEMENT_MS, "ROLLBACK", NULL, 0, NULL);
	}
	return rc;
}

/* Up to 2, 4, 8, ... 256 ms, so that those who met do not meet again. */
static void
pause_after(unsigned tries)
{
	unsigned bits = tries < 8 ? tries : 8;
	uint32_t r = 0;
	struct timespec t = { 0 };

	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) < 0)
		r = (uint32_t)clock_ms();
	t.tv_nsec = (long)(r % ((1000u << bits) + 1)) * 1000;
	nanosleep(&t, NULL);
}

static int
run(struct store *st, store_fn fn, void *arg, bool write)
{
	struct pg_store *s = (struct pg_store *)st;
	int64_t until_ms = clock_ms() + AGAIN_MS;
	unsigned lost = 0, met = 0;
	struct pg *c;
	bool fresh, gone;
	int rc;

	for (;;) {
		rc = pg_pool_get(s->pool, GET_MS, &c, &fresh);
		if (rc != 0)
			return rc;
		rc = run_once(c, fn, arg, write);
		gone = pg_lost(c);
		pg_pool_put(s->pool, c);
		if (rc == -EAGAIN && clock_ms() < until_ms)
			pause_after(++met);
		else if (rc != -ECONNRESET || !gone || ++lost == LOST_MOST)
			break;
	}
	/* -EAGAIN: too many others; as good as away for now. */
	return rc == -EAGAIN || rc == -ECONNRESET ? -ETIMEDOUT : rc;
}

static int
pgs_update(struct store *s, store_fn fn, void *arg)
{
	return run(s, fn, arg, true);
}

static int
pgs_view(struct store *s, store_fn fn, void *arg)
{
	return run(s, fn, arg, false);
}

static void
pgs_close(struct store *st)
{
	struct pg_store *s = (struct pg_store *)st;

	pg_pool_free(s->pool);
	free(s);
}

static const struct store_ops ops = {
	.name = "postgresql",
	.shared = true,
	.update = pgs_update,
	.view = pgs_view,
	.close = pgs_close,
	.get = pgs_get,
	.put = pgs_put,
	.del = pgs_del,
	.scan = pgs_scan,
};

/* ---- opening ------------------------------------------------------------- */

/* Get the tables ready; tried again while the database starts. */
static int
prepare(struct pg_pool *pool, char why[PG_WHY])
{
	int64_t until_ms = clock_ms() + OPEN_MS;
	struct timespec pause = { .tv_nsec = 50000000 };
	struct pg *c;
	bool fresh;
	int rc;

	for (;;) {
		rc = pg_pool_get(pool, GET_MS, &c, &fresh);
		if (rc == 0) {
			rc = pg_schema_update(c, why);
			pg_pool_put(pool, c);
			if (rc != -ECONNRESET && rc != -EAGAIN)
				return rc;
		} else {
			pg_pool_why(pool, why);
		}
		if (clock_ms() >= until_ms)
			return rc;
		nanosleep(&pause, NULL);
	}
}

bool
store_pg_uri_ok(const char *uri)
{
	return pg_uri_ok(uri);
}

int
store_open_pg(const char *uri, struct store **s_out, char **why_out)
{
	struct pg_store *s = xcalloc(1, sizeof(*s));
	char why[PG_WHY] = "";
	int rc;

	s->store.ops = &ops;
	s->pool = pg_pool_new(uri);
	rc = prepare(s->pool, why);
	if (rc == 0) {
		*s_out = &s->store;
		return 0;
	}
	if (why_out != NULL)
		*why_out = xstrdup(why[0] != '\0' ? why : strerror(-rc));
	pgs_close(&s->store);
	return rc;
}
