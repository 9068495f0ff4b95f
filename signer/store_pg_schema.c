/*
 * store_pg_schema.c - the tables of store_pg.c, made and migrated
 *
 * edgehaul_schema has the number of steps that were taken. Each step runs in a
 * transaction with its number, under that row's lock, so of several signers
 * that start at once one takes it and the others find it taken. A step is
 * never changed once released; what is new is a step more, and one that an
 * older signer can live with, as they are replaced one by one.
 */
#include "store_pg_schema.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define STEP_MS 30000

static const char *const steps[] = {
	"CREATE TABLE edgehaul_rows (kind varchar(16) NOT NULL, "
	"tenant bytea NOT NULL, id bytea NOT NULL, doc bytea NOT NULL, "
	"PRIMARY KEY (kind, tenant, id))",
};
#define STEPS ((int)(sizeof(steps) / sizeof(steps[0])))

static int
exec(struct pg *c, const char *sql, const char *text, PGresult **res_out)
{
	struct pg_value v = { text, PG_TEXT };

	return pg_exec(c, STEP_MS, sql, &v, text != NULL, res_out);
}

/* -ENOENT: there is no table, or nothing in it. */
static int
read_version(struct pg *c, const char *sql, int *version_out)
{
	PGresult *res;
	int rc = exec(c, sql, NULL, &res);

	if (rc != 0)
		return rc;
	if (PQntuples(res) == 1)
		*version_out = atoi(PQgetvalue(res, 0, 0));
	else
		rc = -ENOENT;
	PQclear(res);
	return rc;
}

static int
make_schema(struct pg *c)
{
	int rc = exec(c,
	    "CREATE TABLE IF NOT EXISTS edgehaul_schema (name varchar(16) "
	    "PRIMARY KEY, version integer NOT NULL)",
	    NULL, NULL);

	if (rc == 0)
		rc = exec(c,
		    "INSERT INTO edgehaul_schema (name, version) VALUES "
		    "('steps', 0) ON CONFLICT (name) DO NOTHING",
		    NULL, NULL);
	return rc == -EEXIST ? -EAGAIN : rc; /* another made it meanwhile */
}

static int
take_step(struct pg *c, int at)
{
	char version[16];
	int rc = exec(c, steps[at], NULL, NULL);

	snprintf(version, sizeof(version), "%d", at + 1);
	if (rc == 0)
		rc = exec(c,
		    "UPDATE edgehaul_schema SET version = CAST($1 AS integer) "
		    "WHERE name = 'steps'",
		    version, NULL);
	return rc == -EEXIST ? -EAGAIN : rc;
}

/* One step, if it is still to be taken. */
static int
migrate(struct pg *c)
{
	int version = 0;
	int rc = exec(
	    c, "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED", NULL, NULL);

	if (rc == 0)
		rc = read_version(c,
		    "SELECT CAST(version AS varchar(16)) FROM edgehaul_schema "
		    "WHERE name = 'steps' FOR UPDATE",
		    &version);
	if (rc == 0 && version < STEPS)
		rc = take_step(c, version);
	if (rc == 0)
		rc = exec(c, "COMMIT", NULL, NULL);
	else if (!pg_lost(c))
		exec(c, "ROLLBACK", NULL, NULL);
	if (rc == 0 && version < STEPS)
		log_info("database: its tables are at version %d", version + 1);
	return rc;
}

int
pg_schema_update(struct pg *c, char why[PG_WHY])
{
	int version = 0, rc;

	for (int i = 0; i <= STEPS + 1; i++) {
		rc = read_version(c,
		    "SELECT CAST(version AS varchar(16)) FROM edgehaul_schema "
		    "WHERE name = 'steps'",
		    &version);
		if (rc == 0 && version == STEPS)
			return 0;
		if (rc == 0 && version > STEPS) {
			snprintf(why, PG_WHY,
			    "its tables are of version %d, this program knows "
			    "%d: use the newer edgehaul-signer",
			    version, STEPS);
			return -EPROTO;
		}
		rc = rc == -ENOENT ? make_schema(c) : rc == 0 ? migrate(c) : rc;
		if (rc != 0)
			break;
	}
	snprintf(why, PG_WHY,
	    "its tables cannot be made; the signer's log tells why");
	return rc != 0 ? rc : -EIO;
}
