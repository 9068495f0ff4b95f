/*
 * running.h - rows of what devices run, with an end to their number
 *
 * A row by gateway and device. A gateway that makes up devices fills no more
 * than its share, all of a tenant no more than [signer] devices_max; what was
 * not told again for [signer] devices_keep goes.
 */
#ifndef RUNNING_H
#define RUNNING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <cjson/cJSON.h>

struct store;
struct store_txn;

#define RUNNING_GATEWAY_MAX 10000 /* devices of a gateway */

/* Rows that one gateway tells in a transaction. */
struct running {
	struct store_txn *t;
	const char *tenant, *gateway;
	int64_t max;                /* of the tenant */
	int64_t of_gateway, of_all; /* -1: not counted yet */
	int64_t added;
	int accepted, dropped; /* dropped: new ones beyond what there may be */
};
void running_begin(struct running *r, struct store_txn *t, const char *tenant,
    const char *gateway, int64_t max);
/* Put the row (which has reportedAt) or count it as dropped. 0 or -errno. */
int running_put(struct running *r, const char *device, const cJSON *row);
int running_end(struct running *r);

/* Delete those of a gateway, and of a tenant the count that it keeps. */
int running_delete_gateway(
    struct store_txn *t, const char *tenant, const char *gateway);
int running_delete_tenant(struct store_txn *t, const char *tenant);

/*
 * Delete the rows of all tenants that were told last before before_s, a page a
 * transaction, until *stop. On a thread; *n_out: how many.
 */
int running_age(struct store *s, int64_t before_s, const atomic_bool *stop,
    uint64_t *n_out);

#endif
