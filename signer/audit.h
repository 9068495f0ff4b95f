/*
 * audit.h - records of who did what when to which object
 */
#ifndef AUDIT_H
#define AUDIT_H

#include <stdint.h>
#include <cjson/cJSON.h>

struct store_txn;

struct audit {
	const char *tenant, *action, *object;
	const cJSON *before, *after; /* without secrets; NULL: none */
	int64_t now_s;
};

/* Write one in the transaction of the change. Takes by: {tenant, role, token}
 * or who else did it. keep_ms: [signer] audit_keep. */
int audit_write(
    struct store_txn *t, const struct audit *a, cJSON *by, int64_t keep_ms);

#endif
