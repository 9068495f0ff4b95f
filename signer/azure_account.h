/*
 * azure_account.h - the storage account that a storage of type AZURE is in
 *
 * Named by a connection string with its key, or by an endpoint and the
 * credentials of an application, for user delegation keys.
 */
#ifndef AZURE_ACCOUNT_H
#define AZURE_ACCOUNT_H

#include "digest.h"
#include "endpoint.h"

struct problem;
struct storage;

struct azure_account {
	struct endpoint endpoint; /* of the blob service */
	char *account, *key;      /* key NULL: signed with a delegation key */
	struct hmac_key hmac;     /* of key, made ready */
	char *host;
	char *base; /* "https://host/path" */
};

/* Fill a zeroed one from the storage's fields; p has what is wrong. */
void azure_account_check(
    struct azure_account *x, struct storage *s, struct problem *p);
void azure_account_fini(struct azure_account *x);

#endif
