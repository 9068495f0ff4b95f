/*
 * azure_rest.h - calls of the signer itself to Azure: tokens, keys, containers
 *
 * OAuth client credentials (Microsoft identity platform, v2.0), Get User
 * Delegation Key and Create Container of the Blob service's REST reference.
 */
#ifndef AZURE_REST_H
#define AZURE_REST_H

#include <stdbool.h>
#include <stdint.h>

struct credential;
struct fetch_error;
struct storage;

/* Texts of a credential: a user delegation key, and the token it was got by. */
enum {
	UDK_OID,
	UDK_TID,
	UDK_START,
	UDK_EXPIRY,
	UDK_SERVICE,
	UDK_VERSION,
	UDK_VALUE,
	UDK_BEARER
};

/* base: URI of the blob service, "https://host/path". */
int azure_fetch_udk(const struct storage *s, const char *base,
    bool allow_private, int64_t now_s, struct credential *out,
    struct fetch_error *error);
/* key: base64 of the account, or NULL with cred. resource: "/account" and the
 * path of the container, as Shared Key signs it. */
int azure_make_container(const struct storage *s, const char *base,
    const char *account, const char *key, const struct credential *cred,
    bool allow_private, int64_t now_s, struct fetch_error *error);

#endif
