/*
 * store_pg.c - the signer's state in PostgreSQL, for several signers at once
 *
 * One table of (kind, tenant, id, doc), so it can be distributed by tenant, in
 * SQL that Citus and CockroachDB take as well: no types but TEXT and BYTEA, no
 * functions, no locks. Changes are SERIALIZABLE and run again on a
 * serialization failure (40001) or deadlock (40P01). ids are BYTEA because
 * bytes have one order everywhere, texts have not. A connection is one call's
 * at a time; broken ones are thrown away, and the call is tried once more if
 * it cannot have been committed.
 */
#include "store.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>
#include <libpq-fe.h>

#include "log.h"
#include "xalloc.h"

#define TRIES 12
#define PAGE 200

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
};

struct conn {
	SLIST_ENTRY(conn) link;
	PGconn *pg;
};

struct pg {
	struct store store;
	char *uri;
	pthread_mutex_t lock;
	SLIST_HEAD(, conn) idle;
};
struct pg_txn {
	struct store_txn txn;
	PGconn *pg;
	bool again; /* a serialization failure was seen */
};

static const struct store_ops ops;

/* ---- connections --------------------------------------------------------- */

static void
on_notice(void *arg, const char *message)
{
	log_debug("postgresql: %s", message);
}

static struct conn *
conn_new(struct pg *p)
{
	static const char *const names[] = { "dbname", "connect_timeout",
		"options", "application_name", NULL };
	const char *values[] = { p->uri, "3",
		"-c statement_timeout=10000 -c "
		"idle_in_transaction_session_timeout=20000",
		"edgehaul-signer", NULL };
	PGconn *pg = PQconnectdbParams(names, values, 1);
	struct conn *c;

	if (PQstatus(pg) != CONNECTION_OK) {
		log_warn("postgresql: %.*s",
		    (int)strcspn(PQerrorMessage(pg), "\n"), PQerrorMessage(pg));
		PQfinish(pg);
		return NULL;
	}
	PQsetNoticeProcessor(pg, on_notice, NULL);
	c = xcalloc(1, sizeof(*c));
	c->pg = pg;
	return c;
}

static struct conn *
conn_take(struct pg *p)
{
	struct conn *c;

	pthread_mutex_lock(&p->lock);
	c = SLIST_FIRST(&p->idle);
	if (c != NULL)
		SLIST_REMOVE_HEAD(&p->idle, link);
	pthread_mutex_unlock(&p->lock);
	return c != NULL ? c : conn_new(p);
}

static void
conn_free(struct conn *c)
{
	PQfinish(c->pg);
	free(c);
}

/* Back to the others, if it can be used again. */
static void
conn_give(struct pg *p, struct conn *c)
{
	if (PQstatus(c->pg) != CONNECTION_OK ||
	    PQtransactionStatus(c->pg) != PQTRANS_IDLE) {
		conn_free(c);
		return;
	}
	pthread_mutex_lock(&p->lock);
	SLIST_INSERT_HEAD(&p->idle, c, link);
	pthread_mutex_unlock(&p->lock);
}

/* A connection that broke tells that the others of its time did, too. */
static void
drop_idle(struct pg *p)
{
	struct conn *c;

	pthread_mutex_lock(&p->lock);
	while ((c = SLIST_FIRST(&p->idle)) != NULL) {
		SLIST_REMOVE_HEAD(&p->idle, link);
		conn_free(c);
	}
	pthread_mutex_unlock(&p->lock);
}

/* ---- statements ---------------------------------------------------------- */

/* What a failed result means; 0 if it did not fail. */
static int
result_errno(PGconn *pg, const PGresult *r, bool *again)
{
	ExecStatusType st = PQresultStatus(r);
	const char *state;

	if (st == PGRES_COMMAND_OK || st == PGRES_TUPLES_OK)
		return 0;
	state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	if (state != NULL &&
	    (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0)) {
		*again = true;
		return -EAGAIN;
	}
	log_warn("postgresql: %.*s", (int)strcspn(PQerrorMessage(pg), "\n"),
	    PQerrorMessage(pg));
	if (state != NULL && strncmp(state, "53", 2) == 0)
		return -ENOSPC; /* insufficient resources */
	return -EIO;
}

static int
command(PGconn *pg, const char *sql, bool *again)
{
	PGresult *r = PQexec(pg, sql);
	int rc = result_errno(pg, r, again);

	PQclear(r);
	return rc;
}

/* kind, tenant, id (BYTEA), doc; NULL for what the statement has not. */
static PGresult *
run(struct pg_txn *t, const char *sql, int n, enum store_kind kind,
    const char *tenant, const char *id, const char *doc, int *rc)
{
	const char *values[4] = { kinds[kind], tenant, id, doc };
	int lengths[4] = { 0, 0, id != NULL ? (int)strlen(id) : 0, 0 };
	static const int formats[4] = { 0, 0, 1, 0 };
	PGresult *r =
	    PQexecParams(t->pg, sql, n, NULL, values, lengths, formats, 0);

	*rc = result_errno(t->pg, r, &t->again);
	return r;
}

static int
pg_get(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *id, char **doc_out, size_t *n_out)
{
	int rc;
	PGresult *r = run((struct pg_txn *)st,
	    "SELECT doc FROM edgehaul_rows WHERE kind = $1 AND tenant = $2 "
	    "AND id = $3",
	    3, kind, tenant, id, NULL, &rc);

	if (rc == 0 && PQntuples(r) == 0)
		rc = -ENOENT;
	if (rc == 0) {
		*n_out = (size_t)PQgetlength(r, 0, 0);
		*doc_out = xstrndup(PQgetvalue(r, 0, 0), *n_out);
	}
	PQclear(r);
	return rc;
}

static int
pg_put(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *id, const char *doc, size_t n)
{
	char *text = xstrndup(doc, n);
	int rc;
	PGresult *r = run((struct pg_txn *)st,
	    "INSERT INTO edgehaul_rows (kind, tenant, id, doc) "
	    "VALUES ($1, $2, $3, $4) ON CONFLICT (kind, tenant, id) "
	    "DO UPDATE SET doc = excluded.doc",
	    4, kind, tenant, id, text, &rc);

	PQclear(r);
	free(text);
	return rc;
}

static int
pg_del(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *id)
{
	int rc;
	PGresult *r = run((struct pg_txn *)st,
	    "DELETE FROM edgehaul_rows WHERE kind = $1 AND tenant = $2 AND "
	    "id = $3",
	    3, kind, tenant, id, NULL, &rc);

	if (rc == 0 && strcmp(PQcmdTuples(r), "0") == 0)
		rc = -ENOENT;
	PQclear(r);
	return rc;
}

/* Hand out rows; *last_out is the id to go on after, malloc'd, or NULL. */
static int
give_rows(const PGresult *r, bool all_tenants, store_row_fn fn, void *arg,
    char **last_out)
{
	int n = PQntuples(r), rc = 0;

	*last_out = NULL;
	for (int i = 0; rc == 0 && i < n; i++) {
		size_t id_n;
		unsigned char *raw = PQunescapeBytea(
		    (const unsigned char *)PQgetvalue(r, i, 1), &id_n);
		char *id = all_tenants
		    ? xasprintf("%s/%.*s", PQgetvalue(r, i, 0), (int)id_n,
			  (const char *)raw)
		    : xstrndup((const char *)raw, id_n);

		PQfreemem(raw);
		rc = fn(
		    id, PQgetvalue(r, i, 2), (size_t)PQgetlength(r, i, 2), arg);
		if (i == n - 1)
			*last_out = id;
		else
			free(id);
	}
	return rc;
}

static int
pg_scan(struct store_txn *st, enum store_kind kind, const char *tenant,
    const char *after, store_row_fn fn, void *arg)
{
	static const char one[] =
	    "SELECT tenant, id, doc FROM edgehaul_rows WHERE kind = $1 AND "
	    "tenant = $2 AND id > $3 ORDER BY id LIMIT 200";
	static const char all[] =
	    "SELECT tenant, id, doc FROM edgehaul_rows WHERE kind = $1 "
	    "ORDER BY tenant, id";
	struct pg_txn *t = (struct pg_txn *)st;
	char *last = xstrdup(after);
	int rc = 0, n = PAGE;

	while (rc == 0 && n == PAGE) {
		PGresult *r = run(t, tenant != NULL ? one : all,
		    tenant != NULL ? 3 : 1, kind, tenant, last, NULL, &rc);

		n = rc == 0 ? PQntuples(r) : 0;
		free(last);
		last = NULL;
		if (rc == 0)
			rc = give_rows(r, tenant == NULL, fn, arg, &last);
		PQclear(r);
		if (tenant == NULL)
			break;
	}
	free(last);
	return rc;
}

/* ---- transactions -------------------------------------------------------- */

static void
pause_ms(unsigned ms)
{
	struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

/* One try. *again: it may be tried again. */
static int
attempt(struct pg *p, const char *begin, store_fn fn, void *arg, bool *again)
{
	struct conn *c = conn_take(p);
	struct pg_txn t = { .txn.ops = &ops };
	bool broken;
	int rc;

	*again = false;
	if (c == NULL)
		return -ETIMEDOUT;
	t.pg = c->pg;
	rc = command(c->pg, begin, &t.again);
	if (rc != 0) { /* nothing has been done yet */
		broken = PQstatus(c->pg) != CONNECTION_OK;
		conn_free(c);
		if (broken)
			drop_idle(p);
		*again = broken;
		return -ETIMEDOUT;
	}
	rc = fn(&t.txn, arg);
	if (rc == 0)
		rc = command(c->pg, "COMMIT", &t.again);
	else
		command(c->pg, "ROLLBACK", &(bool){ false });
	if (t.again) {
		*again = true;
		if (PQtransactionStatus(c->pg) != PQTRANS_IDLE)
			command(c->pg, "ROLLBACK", &(bool){ false });
	}
	if (PQstatus(c->pg) != CONNECTION_OK)
		drop_idle(p);
	conn_give(p, c);
	return rc;
}

static int
transact(struct pg *p, const char *begin, store_fn fn, void *arg)
{
	int rc = -EIO;
	bool again = true;

	for (unsigned i = 0; again && i < TRIES; i++) {
		if (i > 1)
			pause_ms((1u << i) + arc4random_uniform(1u << i));
		rc = attempt(p, begin, fn, arg, &again);
	}
	return rc;
}

static int
pg_update(struct store *s, store_fn fn, void *arg)
{
	return transact(
	    (struct pg *)s, "BEGIN ISOLATION LEVEL SERIALIZABLE", fn, arg);
}

static int
pg_view(struct store *s, store_fn fn, void *arg)
{
	return transact((struct pg *)s,
	    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", fn, arg);
}

static void
pg_close(struct store *s)
{
	struct pg *p = (struct pg *)s;

	drop_idle(p);
	pthread_mutex_destroy(&p->lock);
	explicit_bzero(p->uri, strlen(p->uri)); /* may hold a password */
	free(p->uri);
	free(p);
}

static const struct store_ops ops = {
	.name = "postgresql",
	.shared = true,
	.update = pg_update,
	.view = pg_view,
	.close = pg_close,
	.get = pg_get,
	.put = pg_put,
	.del = pg_del,
	.scan = pg_scan,
};

/* Two signers that start at once may both make it: the second tries again. */
static int
make_schema(struct pg *p)
{
	static const char sql[] =
	    "CREATE TABLE IF NOT EXISTS edgehaul_rows ("
	    "kind TEXT NOT NULL, tenant TEXT NOT NULL, id BYTEA NOT NULL, "
	    "doc TEXT NOT NULL, PRIMARY KEY (kind, tenant, id))";
	struct conn *c = conn_take(p);
	bool again;
	int rc;

	if (c == NULL)
		return -ETIMEDOUT;
	rc = command(c->pg, sql, &again);
	if (rc != 0)
		rc = command(c->pg, sql, &again);
	conn_give(p, c);
	return rc;
}

int
store_open_pg(const char *uri, struct store **s_out, char **why_out)
{
	struct pg *p = xcalloc(1, sizeof(*p));
	int rc;

	p->store.ops = &ops;
	p->uri = xstrdup(uri);
	pthread_mutex_init(&p->lock, NULL);
	SLIST_INIT(&p->idle);
	rc = make_schema(p);
	if (rc != 0) {
		if (why_out != NULL)
			*why_out = xstrdup("PostgreSQL cannot be used; the "
					   "lines before say why");
		pg_close(&p->store);
		return rc;
	}
	*s_out = &p->store;
	return 0;
}
