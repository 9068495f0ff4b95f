/*
 * azure_sas.h - shared access signatures of Azure Blob Storage
 *
 * Service SAS and user delegation SAS as Microsoft's REST reference describes
 * them ("Create a service SAS", "Create a user delegation SAS"). What is signed
 * depends on the version `sv`. Pure functions.
 */
#ifndef AZURE_SAS_H
#define AZURE_SAS_H

#include <stddef.h>

#include "sigv4.h"
#include "text.h"

/* A user delegation key, as the service gives it out; texts are borrowed. */
struct azure_udk {
	const char *oid, *tid, *start, *expiry, *service, *version;
	const char *value; /* base64 */
};

/* NULL or "": absent. Texts are borrowed. */
struct azure_sas {
	const char *account;
	const char *key;                 /* base64; not with udk */
	const struct hmac_key *prepared; /* of key; NULL: decode it */
	const struct azure_udk *udk;
	const char *container, *blob; /* blob NULL: the container */
	const char *permissions;      /* any order */
	const char *start, *expiry;   /* "2026-01-02T03:04:05Z" */
	const char *ip, *protocol, *version, *identifier;
	const char *encryption_scope, *snapshot, *version_id;
	const char *cache_control, *disposition, *encoding, *language, *type;
	const char *agent_oid, *unauthorized_oid, *correlation_id;
	const struct pair *signed_headers; /* sv 2026-04-06, with udk */
	size_t signed_headers_n;
	const struct pair *signed_query;
	size_t signed_query_n;
};

/* sv as a number: "2015-04-05" is 20150405. 0: it is no version. */
unsigned azure_version_number(const char *sv);
/*
 * Append the query without '?' to out; *why_out (may be NULL) is the string to
 * sign, malloc'd. -EINVAL: unknown permission letter, sv that is no date or too
 * old (2015-04-05 is the first, 2018-11-09 for user delegation), key that is no
 * base64, controls in a value, neither expiry nor identifier.
 */
int azure_sas_query(
    const struct azure_sas *s, struct text *out, char **why_out);

#endif
