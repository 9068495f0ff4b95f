/*
 * token.h - bearer tokens
 *
 * A token is "eh.TENANT.ID.SECRET". Tenant and id find its row; only the
 * SHA-256 of the whole is kept, and it is compared in constant time. A gateway
 * has at most two that are valid: making a third ends the oldest.
 */
#ifndef TOKEN_H
#define TOKEN_H

#include <stdbool.h>
#include <stdint.h>
#include <cjson/cJSON.h>

struct store_txn;

enum role {
	ROLE_ROOT = 1,
	ROLE_ADMIN = 2,
	ROLE_PUBLISHER = 4,
	ROLE_GATEWAY = 8
};

/* Who is asking. */
struct identity {
	char tenant[65], id[33], gateway[129]; /* gateway "" but for its role */
	enum role role;
};

/* 0 if there is no such role. */
enum role role_parse(const char *s);
const char *role_name(enum role r);
/* Lower-case letters, digits and dashes, 1 to 63, no dash at either end. */
bool tenant_ok(const char *s);
/* Letters, digits, '-', '_', '.', 1 to 128, not beginning with '.'. */
bool gateway_ok(const char *s);

/*
 * Make a token, and the rows of tenant and gateway if they are missing.
 * gateway: for ROLE_GATEWAY, else NULL. expires_s: Unix seconds, 0: never.
 * 0: *token_out is malloc'd, row_out (may be NULL) as GET shows it. -EINVAL: a
 * name that cannot be, or a gateway missing.
 */
int token_create(struct store_txn *t, const char *tenant, enum role role,
    const char *gateway, int64_t now_s, int64_t expires_s, char **token_out,
    cJSON **row_out);
/* -EACCES: no such token, or expired. -errno of the store. */
int token_check(struct store_txn *t, const char *token, int64_t now_s,
    struct identity *who_out);
/* A token's row without its hash. */
cJSON *token_show(const cJSON *row);

#endif
