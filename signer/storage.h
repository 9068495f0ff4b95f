/*
 * storage.h - a storage service of a tenant
 *
 * Its document is what PUT /v1/storages/NAME takes: `type` names the provider,
 * which tells which of the fields below it needs (provider.h). In the store
 * the secret fields are sealed; to the outside they are never shown, only that
 * they are set and a fingerprint.
 */
#ifndef STORAGE_H
#define STORAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <cjson/cJSON.h>

#include "digest.h"
#include "sigv4.h"

struct problem;
struct provider;
struct seal;

/* The text fields of the document; storage.c has their names. */
enum storage_text {
	ST_ENDPOINT,
	ST_CONNECTION_STRING,
	ST_CONTAINER,
	ST_TENANT_ID,
	ST_CLIENT_ID,
	ST_CLIENT_SECRET,
	ST_AUTHORITY,
	ST_SAS_VERSION,
	ST_BUCKET,
	ST_REGION,
	ST_ADDRESSING,
	ST_ACCESS_KEY_ID,
	ST_SECRET_ACCESS_KEY,
	ST_SESSION_TOKEN,
	ST_ROLE_ARN,
	ST_EXTERNAL_ID,
	ST_STS_ENDPOINT,
	ST_SERVICE_ACCOUNT,
	ST_STORAGE_CLASS,
	ST_ACCESS_TIER,
	ST_CERTIFICATE,
	ST_FIRMWARE_ROOT,
	ST_TEXTS
};
#define ST_BIT(f) (1u << (f))

/* What signing needs besides the storage: one for the whole program. */
struct sign_env {
	char *public_url; /* of this signer, without a final slash */
	struct hmac_key file_key;
};

struct storage {
	char *tenant, *name;
	const struct provider *provider;
	const struct sign_env *env; /* borrowed */
	char *text[ST_TEXTS];       /* NULL: absent */
	struct pair *headers;       /* sent with each upload */
	size_t headers_n;
	bool allow_http;
	bool no_overwrite;    /* ask the store to refuse an existing key */
	int64_t expires_s;    /* of a URI */
	int64_t part_size;    /* octets; uploads over it go in parts */
	char row_id[33];      /* of the row it was made of; "" if of none */
	int64_t version;      /* of the row; 0 if of none */
	int64_t replaced_s;   /* when it was replaced; 0: it was not */
	char *certificate_id; /* NULL without a certificate */
	int64_t certificate_expires_s; /* the first to end; 0: none */
	cJSON *warnings;               /* array of texts */
	void *priv;                    /* the provider's */
};

#define STORAGE_NAME_MAX 64
/* So long one that was replaced is kept, in seconds. */
#define REPLACED_KEEP_S (7 * 86400)
/* So long before its end a certificate is warned of, in seconds. */
#define CERTIFICATE_WARN_S (30 * 86400)
#define FIRMWARE_ROOT "firmware/" /* unless ST_FIRMWARE_ROOT says otherwise */
/* Lower-case letters, digits, '-', '_', '.', not beginning with '.'. */
bool name_ok(const char *s);
/* Before a key: no '.' or '..' or empty segments, not absolute; it ends in a
 * slash and has 2 to 256 octets. */
bool prefix_ok(const char *p);

/*
 * Check a document (secrets in clear) and make it ready for signing. 0:
 * *s_out is the caller's. -EINVAL: p has all that is wrong.
 */
int storage_parse(const struct sign_env *env, const char *tenant,
    const char *name, const cJSON *doc, struct problem *p,
    struct storage **s_out);
void storage_free(struct storage *s);
/* The member headers of a document, for storage_parse(). */
void storage_take_headers(struct storage *s, const cJSON *v, struct problem *p);
void storage_warn(struct storage *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Replace secrets by {"sealed": ...}, bound to tenant and name, in place. */
void storage_seal(
    const struct seal *seal, const char *tenant, const char *name, cJSON *doc);
/* The other way. -EBADMSG: sealed with another key, or moved from elsewhere. */
int storage_unseal(
    const struct seal *seal, const char *tenant, const char *name, cJSON *doc);
/* A copy to be shown: secrets as {"set": true, "fingerprint": ...}. */
cJSON *storage_show(const struct seal *seal, const struct storage *s);
/*
 * A secret in a new document that stands as {"set": true} means "as it is":
 * take it over from the old (unsealed) document.
 */
void storage_keep_secrets(cJSON *doc, const cJSON *old);
/* The authorities ("host:port") that its URIs may have; an array. */
cJSON *storage_hosts(const struct storage *s);

#endif
