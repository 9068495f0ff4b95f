/*
 * pg_pool.h - the few connections that a signer's threads share
 */
#ifndef PG_POOL_H
#define PG_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "pg.h"

struct pg_pool;

#define PG_POOL_MAX 16

/* The URI is copied. Connects to nothing yet. */
struct pg_pool *pg_pool_new(const char *uri);
/* All are back. */
void pg_pool_free(struct pg_pool *p);

/*
 * Borrow a connection until pg_pool_put(). -ETIMEDOUT: the database is away,
 * told at once while it is not tried again, or all were in use for wait_ms.
 * *fresh_out: it was just made, so an error on it is no news of long ago.
 */
int pg_pool_get(
    struct pg_pool *p, int wait_ms, struct pg **c_out, bool *fresh_out);
/* One that is lost is closed, with all that lie idle: they are as old. */
void pg_pool_put(struct pg_pool *p, struct pg *c);
/* Why the last attempt to connect failed; "" if it did not. */
void pg_pool_why(struct pg_pool *p, char why[PG_WHY]);

#endif
