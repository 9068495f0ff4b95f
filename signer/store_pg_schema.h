/*
 * store_pg_schema.h - the tables of store_pg.c, made and migrated
 */
#ifndef STORE_PG_SCHEMA_H
#define STORE_PG_SCHEMA_H

#include "pg.h"

/*
 * Bring the tables to the version this program knows. Any number of signers
 * may do so at once, and one that may not make tables (SQL's GRANT) finds
 * them made. -EPROTO: a newer program has been at them. -EAGAIN, -ECONNRESET:
 * try again. why is for people.
 */
int pg_schema_update(struct pg *c, char why[PG_WHY]);

#endif
