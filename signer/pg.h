/*
 * pg.h - one connection to PostgreSQL, or what speaks its protocol
 *
 * libpq with a deadline on everything: a server that has gone silent costs a
 * thread seconds, not for ever. A connection belongs to one thread at a time.
 */
#ifndef PG_H
#define PG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <libpq-fe.h>

struct pg;

/* A parameter of a statement: octets as bytea, or text if n is PG_TEXT. */
struct pg_value {
	const char *p;
	size_t n;
};
#define PG_TEXT SIZE_MAX

#define PG_WHY 200

/*
 * Connect. uri is postgresql://..., the caller's; what it does not say has
 * defaults that notice a dead server. 0, -EINVAL: no URI, -ECONNREFUSED,
 * -ETIMEDOUT; why, without a secret, is for people.
 */
int pg_open(
    const char *uri, int timeout_ms, struct pg **c_out, char why[PG_WHY]);
void pg_close(struct pg *c);
/* Can libpq read it? Nothing is connected to. */
bool pg_uri_ok(const char *uri);
/* Is the peer on another machine and the connection in clear? */
bool pg_in_clear(const struct pg *c);

/*
 * Run one statement with n values. 0: *res_out (may be NULL), columns binary,
 * is the caller's to PQclear().
 * -EAGAIN	serialization failure: the transaction has to be run again
 * -ECONNRESET	the connection is lost (pg_lost()), so is the transaction
 * -ETIMEDOUT	no answer in time: the same
 * -EEXIST, -ENOENT	a table or a row that is there, a table that is not
 * -ENOSPC	the server's disk is full
 * -EIO	anything else; it is in the log
 */
int pg_exec(struct pg *c, int timeout_ms, const char *sql,
    const struct pg_value *values, size_t n, PGresult **res_out);
bool pg_lost(const struct pg *c);

#endif
