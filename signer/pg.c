/*
 * pg.c - one connection to PostgreSQL, or what speaks its protocol
 *
 * The socket is never waited for but in wait_socket(), under the deadline of
 * the call. A connection that missed one, or whose server is going down, is
 * lost for good: who knows what it would answer next. What the server says of
 * an error is logged without its detail, which may quote rows.
 */
#include "pg.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/ssl.h>

#include "clock.h"
#include "log.h"
#include "xalloc.h"

#define VALUES_MAX 4
#define OID_BYTEA 17
#define OID_TEXT 25
#define MS_MAX 3600000

struct pg {
	PGconn *conn;
	bool lost;
};

/* The first that begins so is meant. */
static const struct {
	const char *sqlstate;
	int rc;
} states[] = {
	{ "40001", -EAGAIN },     /* serialization_failure */
	{ "40P01", -EAGAIN },     /* deadlock_detected */
	{ "23505", -EEXIST },     /* unique_violation: two make one table */
	{ "42710", -EEXIST },     /* duplicate_object: of its type */
	{ "42P07", -EEXIST },     /* duplicate_table */
	{ "42P01", -ENOENT },     /* undefined_table */
	{ "53100", -ENOSPC },     /* disk_full */
	{ "25006", -ECONNRESET }, /* read only: it is no primary any more */
	{ "08", -ECONNRESET },    /* connection exceptions */
	{ "57P", -ECONNRESET },   /* it stops, crashed, or is starting */
};

/* ---- waiting ------------------------------------------------------------- */

/* Octets that TLS has read and libpq has not: no poll() tells of them. */
static bool
tls_has_more(PGconn *conn)
{
	SSL *ssl = PQsslStruct(conn, "OpenSSL");

	return ssl != NULL && SSL_pending(ssl) > 0;
}

/* 0: something of events, or an error, is there. */
static int
wait_socket(PGconn *conn, short events, int64_t deadline_ms)
{
	struct pollfd p = { .fd = PQsocket(conn), .events = events };
	int64_t left;
	int n;

	if (p.fd < 0)
		return -ECONNRESET;
	do {
		left = deadline_ms - clock_ms();
		if (left <= 0)
			return -ETIMEDOUT;
		n = poll(&p, 1, left < MS_MAX ? (int)left : MS_MAX);
	} while (n < 0 && errno == EINTR);
	return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

/* ---- connecting ---------------------------------------------------------- */

/* Its first line, which has no secret and no octet that hurts a log. */
static void
take_why(char why[PG_WHY], const char *message)
{
	size_t n = strcspn(message, "\n");

	n = n < PG_WHY - 1 ? n : PG_WHY - 1;
	memcpy(why, message, n);
	why[n] = '\0';
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)why[i] < ' ' || why[i] == 0x7f)
			why[i] = ' ';
}

static void
on_notice(void *arg, const PGresult *res)
{
	const char *s = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	char why[PG_WHY];

	if (s != NULL) {
		take_why(why, s);
		log_debug("database: %s", why);
	}
}

static int
connect_by(PGconn *conn, int64_t deadline_ms)
{
	PostgresPollingStatusType s = PGRES_POLLING_WRITING;
	int rc = 0;

	if (PQstatus(conn) == CONNECTION_BAD)
		return -ECONNREFUSED;
	while (rc == 0 && s != PGRES_POLLING_OK) {
		rc = wait_socket(conn,
		    s == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline_ms);
		if (rc == 0)
			s = PQconnectPoll(conn);
		if (s == PGRES_POLLING_FAILED)
			rc = -ECONNREFUSED;
	}
	return rc;
}

/* What stands before dbname is a default, the URI may say otherwise. */
static PGconn *
start(const char *uri)
{
	static const char *const names[] = { "fallback_application_name",
		"gssencmode", "keepalives_idle", "keepalives_interval",
		"keepalives_count", "tcp_user_timeout", "dbname", NULL };
	const char *values[] = { "edgehaul-signer", "disable", "30", "5", "3",
		"10000", uri, NULL };

	return PQconnectStartParams(names, values, 1);
}

bool
pg_uri_ok(const char *uri)
{
	PQconninfoOption *o = PQconninfoParse(uri, NULL);

	PQconninfoFree(o);
	return o != NULL;
}

int
pg_open(const char *uri, int timeout_ms, struct pg **c_out, char why[PG_WHY])
{
	struct pg *c;
	int rc;

	/* libpq's own words would quote the URI, with its password. */
	if (!pg_uri_ok(uri)) {
		take_why(why, "the postgresql:// URI cannot be read");
		return -EINVAL;
	}
	c = xcalloc(1, sizeof(*c));
	c->conn = start(uri);
	if (c->conn == NULL)
		abort(); /* memory, as in xmalloc() */
	PQsetNoticeReceiver(c->conn, on_notice, NULL);
	rc = connect_by(c->conn, clock_ms() + timeout_ms);
	if (rc == 0 && PQsetnonblocking(c->conn, 1) != 0)
		rc = -EIO;
	if (rc == 0) {
		*c_out = c;
		return 0;
	}
	take_why(why,
	    rc == -ETIMEDOUT ? "no answer in time" : PQerrorMessage(c->conn));
	pg_close(c);
	return rc;
}

void
pg_close(struct pg *c)
{
	if (c == NULL)
		return;
	PQfinish(c->conn);
	free(c);
}

bool
pg_in_clear(const struct pg *c)
{
	const char *addr = PQhostaddr(c->conn), *host = PQhost(c->conn);

	return !PQsslInUse(c->conn) && host != NULL && host[0] != '/' &&
	    addr != NULL && strncmp(addr, "127.", 4) != 0 &&
	    strcmp(addr, "::1") != 0;
}

bool
pg_lost(const struct pg *c)
{
	return c->lost;
}

/* ---- statements ---------------------------------------------------------- */

static int
flush(PGconn *conn, int64_t deadline_ms)
{
	int n, rc;

	while ((n = PQflush(conn)) == 1) {
		rc = wait_socket(conn, POLLIN | POLLOUT, deadline_ms);
		if (rc != 0)
			return rc;
		if (PQconsumeInput(conn) == 0)
			return -ECONNRESET;
	}
	return n == 0 ? 0 : -ECONNRESET;
}

/* The result of the one statement, all of which is read. */
static int
receive(PGconn *conn, int64_t deadline_ms, PGresult **res_out)
{
	PGresult *res = NULL, *next;
	int rc;

	for (;;) {
		while (PQisBusy(conn)) {
			rc = tls_has_more(conn)
			    ? 0
			    : wait_socket(conn, POLLIN, deadline_ms);
			if (rc == 0 && PQconsumeInput(conn) == 0)
				rc = -ECONNRESET;
			if (rc != 0) {
				PQclear(res);
				return rc;
			}
		}
		next = PQgetResult(conn);
		if (next == NULL)
			break;
		PQclear(res);
		res = next;
	}
	*res_out = res;
	return res != NULL ? 0 : -ECONNRESET;
}

static int
send_all(PGconn *conn, const char *sql, const struct pg_value *values, size_t n,
    int64_t deadline_ms)
{
	Oid types[VALUES_MAX];
	const char *p[VALUES_MAX];
	int lengths[VALUES_MAX], formats[VALUES_MAX];

	assert(n <= VALUES_MAX);
	for (size_t i = 0; i < n; i++) {
		bool text = values[i].n == PG_TEXT;

		types[i] = text ? OID_TEXT : OID_BYTEA;
		formats[i] = !text;
		p[i] = values[i].p;
		lengths[i] = text ? 0 : (int)values[i].n;
	}
	if (PQsendQueryParams(
		conn, sql, (int)n, types, p, lengths, formats, 1) == 0)
		return -ECONNRESET;
	return flush(conn, deadline_ms);
}

/* What a result is, as -errno. */
static int
judge(const PGresult *res)
{
	ExecStatusType s = PQresultStatus(res);
	const char *state, *message;
	char why[PG_WHY];

	if (s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK)
		return 0;
	state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	if (state == NULL) /* made by libpq: the connection broke */
		return -ECONNRESET;
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		if (strncmp(state, states[i].sqlstate,
			strlen(states[i].sqlstate)) == 0)
			return states[i].rc;
	message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	take_why(why, message != NULL ? message : "");
	log_error("database: %s: %s", state, why);
	return -EIO;
}

int
pg_exec(struct pg *c, int timeout_ms, const char *sql,
    const struct pg_value *values, size_t n, PGresult **res_out)
{
	int64_t deadline_ms = clock_ms() + timeout_ms;
	PGresult *res = NULL;
	int rc = c->lost ? -ECONNRESET : 0;

	if (rc == 0)
		rc = send_all(c->conn, sql, values, n, deadline_ms);
	if (rc == 0)
		rc = receive(c->conn, deadline_ms, &res);
	if (rc != 0) /* not by the server's word */
		c->lost = true;
	else
		rc = judge(res);
	if (rc == -ECONNRESET || PQstatus(c->conn) != CONNECTION_OK)
		c->lost = true;
	if (rc == 0 && res_out != NULL)
		*res_out = res;
	else
		PQclear(res);
	return rc;
}
