/*
 * token.c - bearer tokens
 */
#include "token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <openssl/crypto.h>

#include "clock.h"
#include "digest.h"
#include "gateway.h"
#include "json.h"
#include "store.h"
#include "url.h"
#include "xalloc.h"

#define PREFIX "eh."
#define SECRET 32
#define ID 8
#define AT_ONCE 2

static const struct {
	const char *name;
	enum role role;
} roles[] = {
	{ "root", ROLE_ROOT },
	{ "admin", ROLE_ADMIN },
	{ "publisher", ROLE_PUBLISHER },
	{ "gateway", ROLE_GATEWAY },
};
#define ROLES (sizeof(roles) / sizeof(roles[0]))

enum role
role_parse(const char *s)
{
	for (size_t i = 0; i < ROLES; i++)
		if (strcmp(s, roles[i].name) == 0)
			return roles[i].role;
	return 0;
}

const char *
role_name(enum role r)
{
	for (size_t i = 0; i < ROLES; i++)
		if (roles[i].role == r)
			return roles[i].name;
	return "none";
}

bool
tenant_ok(const char *s)
{
	size_t n = strlen(s);

	return n >= 1 && n <= 63 && s[0] != '-' && s[n - 1] != '-' &&
	    strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

bool
gateway_ok(const char *s)
{
	size_t n = strlen(s);

	return n >= 1 && n <= 128 && s[0] != '.' &&
	    strspn(s,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789-_.") == n;
}

cJSON *
token_show(const cJSON *row)
{
	cJSON *o = cJSON_Duplicate(row, true);

	cJSON_DeleteItemFromObjectCaseSensitive(o, "hash");
	return o;
}

/* ---- making -------------------------------------------------------------- */

struct others {
	const char *gateway;
	int64_t now_s;
	unsigned n;
	char ids[64][33];
	char made[64][21];
};

static int
on_other(const char *id, const char *doc, size_t n, void *arg)
{
	struct others *o = arg;
	cJSON *row = json_parse(doc, n, n, NULL);
	const char *gateway = json_string(row, "gateway");
	const char *made = json_string(row, "createdAt");

	if (gateway != NULL && strcmp(gateway, o->gateway) == 0 &&
	    made != NULL && strlen(made) == 20 && strlen(id) <= 32 &&
	    o->n < 64) {
		strcpy(o->ids[o->n], id);
		strcpy(o->made[o->n++], made);
	}
	cJSON_Delete(row);
	return 0;
}

/* End the oldest tokens of the gateway, so that a new one makes two. */
static int
end_oldest(
    struct store_txn *t, const char *tenant, const char *gateway, int64_t now_s)
{
	struct others *o = xcalloc(1, sizeof(*o));
	int rc;

	o->gateway = gateway;
	o->now_s = now_s;
	rc = store_scan(t, KIND_TOKEN, tenant, NULL, on_other, o);
	while (rc == 0 && o->n >= AT_ONCE) {
		unsigned oldest = 0;

		for (unsigned i = 1; i < o->n; i++)
			if (strcmp(o->made[i], o->made[oldest]) < 0)
				oldest = i;
		rc = store_del(t, KIND_TOKEN, tenant, o->ids[oldest]);
		o->n--;
		memmove(o->ids[oldest], o->ids[o->n], sizeof(o->ids[0]));
		memmove(o->made[oldest], o->made[o->n], sizeof(o->made[0]));
	}
	free(o);
	return rc;
}

static int
ensure_tenant(struct store_txn *t, const char *tenant, int64_t now_s)
{
	cJSON *row;
	char when[21];
	int rc = store_get_json(t, KIND_TENANT, tenant, "", &row);

	if (rc == 0)
		cJSON_Delete(row);
	if (rc != -ENOENT)
		return rc;
	clock_rfc3339(now_s, when);
	row = cJSON_CreateObject();
	json_add_text(row, "name", tenant);
	json_add_text(row, "createdAt", when);
	rc = store_put_json(t, KIND_TENANT, tenant, "", row);
	cJSON_Delete(row);
	return rc;
}

static char *
make_text(const char *tenant, char id[2 * ID + 1])
{
	uint8_t raw[ID], secret[SECRET];
	char *s, *text;

	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw) ||
	    getrandom(secret, sizeof(secret), 0) != (ssize_t)sizeof(secret))
		abort(); /* without random numbers nothing is safe */
	hex_encode(raw, sizeof(raw), id);
	s = base64url_encode(secret, sizeof(secret));
	text = xasprintf(PREFIX "%s.%s.%s", tenant, id, s);
	OPENSSL_cleanse(secret, sizeof(secret));
	OPENSSL_cleanse(s, strlen(s));
	free(s);
	return text;
}

static cJSON *
make_row(const char *text, const char *id, const char *tenant, enum role role,
    const char *gateway, int64_t now_s, int64_t expires_s)
{
	cJSON *row = cJSON_CreateObject();
	char hash[65], when[21];

	digest_sha256_hex(text, strlen(text), hash);
	json_add_text(row, "id", id);
	json_add_text(row, "tenant", tenant);
	json_add_text(row, "role", role_name(role));
	if (gateway != NULL)
		json_add_text(row, "gateway", gateway);
	clock_rfc3339(now_s, when);
	json_add_text(row, "createdAt", when);
	if (expires_s != 0) {
		clock_rfc3339(expires_s, when);
		json_add_text(row, "expiresAt", when);
		json_add_int(row, "expires", expires_s);
	}
	json_add_text(row, "hash", hash);
	return row;
}

int
token_create(struct store_txn *t, const char *tenant, enum role role,
    const char *gateway, int64_t now_s, int64_t expires_s, char **token_out,
    cJSON **row_out)
{
	char id[2 * ID + 1], *text;
	cJSON *row;
	int rc;

	if (!tenant_ok(tenant) || role == 0 ||
	    (role == ROLE_GATEWAY) != (gateway != NULL) ||
	    (gateway != NULL && !gateway_ok(gateway)))
		return -EINVAL;
	rc = ensure_tenant(t, tenant, now_s);
	if (rc == 0 && gateway != NULL)
		rc = gateway_ensure(t, tenant, gateway, now_s);
	if (rc == 0 && gateway != NULL)
		rc = end_oldest(t, tenant, gateway, now_s);
	if (rc != 0)
		return rc;
	text = make_text(tenant, id);
	row = make_row(text, id, tenant, role, gateway, now_s, expires_s);
	rc = store_put_json(t, KIND_TOKEN, tenant, id, row);
	if (rc == 0) {
		*token_out = text;
		if (row_out != NULL)
			*row_out = token_show(row);
	} else {
		free(text);
	}
	cJSON_Delete(row);
	return rc;
}

/* ---- checking ------------------------------------------------------------ */

/* Find tenant and id in the text; -EACCES if it is not of our making. */
static int
split(const char *token, char tenant[65], char id[33])
{
	const char *dot, *end;

	if (strncmp(token, PREFIX, strlen(PREFIX)) != 0)
		return -EACCES;
	token += strlen(PREFIX);
	dot = strchr(token, '.');
	end = dot != NULL ? strchr(dot + 1, '.') : NULL;
	if (end == NULL || dot - token > 63 || end - dot - 1 > 32 ||
	    strlen(end) > 128)
		return -EACCES;
	snprintf(tenant, 65, "%.*s", (int)(dot - token), token);
	snprintf(id, 33, "%.*s", (int)(end - dot - 1), dot + 1);
	return tenant_ok(tenant) ? 0 : -EACCES;
}

static int
fits(const cJSON *row, const char *token, int64_t now_s)
{
	const char *hash = json_string(row, "hash");
	uint8_t want[DIGEST_LEN], got[DIGEST_LEN];
	int64_t expires;

	if (hash == NULL || hex_decode(hash, want, sizeof(want)) != 0)
		return -EBADMSG;
	digest_sha256(token, strlen(token), got);
	if (CRYPTO_memcmp(want, got, sizeof(got)) != 0)
		return -EACCES;
	if (json_int(row, "expires", 0, INT64_MAX / 2048, &expires) == 0 &&
	    expires <= now_s)
		return -EACCES;
	return 0;
}

int
token_check(struct store_txn *t, const char *token, int64_t now_s,
    struct identity *who_out)
{
	struct identity who = { .role = 0 };
	const char *role, *gateway;
	cJSON *row;
	int rc = split(token, who.tenant, who.id);

	if (rc != 0)
		return rc;
	rc = store_get_json(t, KIND_TOKEN, who.tenant, who.id, &row);
	if (rc != 0)
		return rc == -ENOENT ? -EACCES : rc;
	rc = fits(row, token, now_s);
	role = json_string(row, "role");
	gateway = json_string(row, "gateway");
	if (rc == 0 && role != NULL)
		who.role = role_parse(role);
	if (rc == 0 &&
	    (who.role == 0 || (who.role == ROLE_GATEWAY) != (gateway != NULL)))
		rc = -EBADMSG;
	if (rc == 0 && gateway != NULL)
		snprintf(who.gateway, sizeof(who.gateway), "%s", gateway);
	cJSON_Delete(row);
	if (rc == 0)
		*who_out = who;
	return rc;
}
