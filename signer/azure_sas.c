/*
 * azure_sas.c - shared access signatures of Azure Blob Storage
 *
 * The string to sign is a list of lines whose set grows with sv. `lines` below
 * is that list: each row says from which sv a line is there and for which kind
 * of signature, so a new version of the service is a row, not a branch.
 */
#include "azure_sas.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "json.h"
#include "xalloc.h"

enum kind { SERVICE = 1, DELEGATED = 2, BOTH = 3 };

/* Values that are made here, not taken from the struct. */
struct made {
	char *permissions, *resource, *headers, *header_names;
	char *query, *query_names;
	const char *type; /* sr */
	const char *snapshot;
};

#define AT(field) offsetof(struct azure_sas, field)
#define UDK(field) (0x1000 + offsetof(struct azure_udk, field))
#define MADE(field) (0x2000 + offsetof(struct made, field))
#define NOWHERE 0x3000

/* clang-format off */
static const struct {
	const char *since; /* the first sv with this line */
	enum kind kind;
	size_t at;
} lines[] = {
	{ "2015-04-05", BOTH,      MADE(permissions) },
	{ "2015-04-05", BOTH,      AT(start) },
	{ "2015-04-05", BOTH,      AT(expiry) },
	{ "2015-04-05", BOTH,      MADE(resource) },
	{ "2015-04-05", SERVICE,   AT(identifier) },
	{ "2018-11-09", DELEGATED, UDK(oid) },
	{ "2018-11-09", DELEGATED, UDK(tid) },
	{ "2018-11-09", DELEGATED, UDK(start) },
	{ "2018-11-09", DELEGATED, UDK(expiry) },
	{ "2018-11-09", DELEGATED, UDK(service) },
	{ "2018-11-09", DELEGATED, UDK(version) },
	{ "2020-02-10", DELEGATED, AT(agent_oid) },
	{ "2020-02-10", DELEGATED, AT(unauthorized_oid) },
	{ "2020-02-10", DELEGATED, AT(correlation_id) },
	{ "2025-07-05", DELEGATED, NOWHERE }, /* delegated user's tenant */
	{ "2025-07-05", DELEGATED, NOWHERE }, /* and object id */
	{ "2015-04-05", BOTH,      AT(ip) },
	{ "2015-04-05", BOTH,      AT(protocol) },
	{ "2015-04-05", BOTH,      AT(version) },
	{ "2018-11-09", BOTH,      MADE(type) },
	{ "2018-11-09", BOTH,      MADE(snapshot) },
	{ "2020-12-06", BOTH,      AT(encryption_scope) },
	{ "2026-04-06", DELEGATED, MADE(headers) },
	{ "2026-04-06", DELEGATED, MADE(query) },
	{ "2015-04-05", BOTH,      AT(cache_control) },
	{ "2015-04-05", BOTH,      AT(disposition) },
	{ "2015-04-05", BOTH,      AT(encoding) },
	{ "2015-04-05", BOTH,      AT(language) },
	{ "2015-04-05", BOTH,      AT(type) },
};

static const struct {
	const char *name;
	enum kind kind;
	size_t at;
} params[] = {
	{ "snapshot",  BOTH,      AT(snapshot) },
	{ "versionid", BOTH,      AT(version_id) },
	{ "sv",        BOTH,      AT(version) },
	{ "spr",       BOTH,      AT(protocol) },
	{ "st",        BOTH,      AT(start) },
	{ "se",        BOTH,      AT(expiry) },
	{ "sip",       BOTH,      AT(ip) },
	{ "si",        SERVICE,   AT(identifier) },
	{ "ses",       BOTH,      AT(encryption_scope) },
	{ "skoid",     DELEGATED, UDK(oid) },
	{ "sktid",     DELEGATED, UDK(tid) },
	{ "skt",       DELEGATED, UDK(start) },
	{ "ske",       DELEGATED, UDK(expiry) },
	{ "sks",       DELEGATED, UDK(service) },
	{ "skv",       DELEGATED, UDK(version) },
	{ "sr",        BOTH,      MADE(type) },
	{ "sp",        BOTH,      MADE(permissions) },
	{ "rscc",      BOTH,      AT(cache_control) },
	{ "rscd",      BOTH,      AT(disposition) },
	{ "rsce",      BOTH,      AT(encoding) },
	{ "rscl",      BOTH,      AT(language) },
	{ "rsct",      BOTH,      AT(type) },
	{ "saoid",     DELEGATED, AT(agent_oid) },
	{ "suoid",     DELEGATED, AT(unauthorized_oid) },
	{ "scid",      DELEGATED, AT(correlation_id) },
	{ "srh",       DELEGATED, MADE(header_names) },
	{ "srq",       DELEGATED, MADE(query_names) },
};
/* clang-format on */

static const char *
value_at(const struct azure_sas *s, const struct made *m, size_t at)
{
	const char *v = NULL;

	if (at >= NOWHERE)
		return "";
	if (at >= 0x2000)
		v = *(const char *const *)((const char *)m + (at - 0x2000));
	else if (at >= 0x1000)
		v = *(
		    const char *const *)((const char *)s->udk + (at - 0x1000));
	else
		v = *(const char *const *)((const char *)s + at);
	return v != NULL ? v : "";
}

/* The order that the service wants; -EINVAL for a letter that it lacks. */
static int
order_permissions(const char *in, char **out)
{
	static const char letters[] = "racwdxyltfmeopi";
	char *o = xmalloc(sizeof(letters)), *p = o;

	for (const char *c = in; *c != '\0'; c++)
		if (strchr(letters, *c) == NULL) {
			free(o);
			return -EINVAL;
		}
	for (const char *l = letters; *l != '\0'; l++)
		if (strchr(in, *l) != NULL)
			*p++ = *l;
	*p = '\0';
	*out = o;
	return 0;
}

/* "name:value\n" of each, and the names with commas (srh, srq). */
static void
join(const struct pair *p, size_t n, bool query, char **text, char **names)
{
	struct text t = { 0 }, l = { 0 };

	for (size_t i = 0; i < n; i++) {
		if (query)
			text_char(&t, '\n');
		text_str(&t, p[i].name);
		text_char(&t, ':');
		text_str(&t, p[i].value);
		if (!query)
			text_char(&t, '\n');
		if (i != 0)
			text_char(&l, ',');
		text_str(&l, p[i].name);
	}
	*text = text_steal(&t);
	*names = text_steal(&l);
}

static bool
is_version(const char *v)
{
	static const char shape[] = "dddd-dd-dd";

	if (v == NULL || strlen(v) != sizeof(shape) - 1)
		return false;
	for (size_t i = 0; shape[i] != '\0'; i++)
		if (shape[i] == 'd' ? v[i] < '0' || v[i] > '9' : v[i] != '-')
			return false;
	return true;
}

static bool
clean(const char *s)
{
	if (!json_utf8(s, strlen(s)))
		return false;
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

static int
check(const struct azure_sas *s, const struct made *m, enum kind kind)
{
	bool timed = s->expiry != NULL && s->expiry[0] != '\0';
	bool named = s->identifier != NULL && s->identifier[0] != '\0';

	if (!is_version(s->version) ||
	    strcmp(s->version, kind == SERVICE ? "2015-04-05" : "2018-11-09") <
		0 ||
	    (!timed && !(named && kind == SERVICE)))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++)
		if ((params[i].kind & kind) != 0 &&
		    !clean(value_at(s, m, params[i].at)))
			return -EINVAL;
	return clean(m->resource) ? 0 : -EINVAL;
}

static void
write_lines(const struct azure_sas *s, const struct made *m, enum kind kind,
    struct text *out)
{
	bool first = true;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if ((lines[i].kind & kind) == 0 ||
		    strcmp(s->version, lines[i].since) < 0)
			continue;
		if (!first)
			text_char(out, '\n');
		first = false;
		text_str(out, value_at(s, m, lines[i].at));
	}
}

static void
write_params(const struct azure_sas *s, const struct made *m, enum kind kind,
    const char *signature, struct text *out)
{
	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
		const char *v;

		if ((params[i].kind & kind) == 0)
			continue;
		v = value_at(s, m, params[i].at);
		if (v[0] == '\0')
			continue;
		text_str(out, params[i].name);
		text_char(out, '=');
		text_encode(out, v, strlen(v), false);
		text_char(out, '&');
	}
	text_str(out, "sig=");
	text_encode(out, signature, strlen(signature), false);
}

static int
sign(const struct azure_sas *s, const struct text *to_sign, char **out)
{
	const char *key = s->udk != NULL ? s->udk->value : s->key;
	struct hmac_key hk;
	uint8_t md[DIGEST_LEN], *raw;
	size_t n;
	int rc = key != NULL ? base64_decode(key, &raw, &n) : -EINVAL;

	if (rc != 0)
		return rc;
	hmac_key_init(&hk, raw, n);
	OPENSSL_cleanse(raw, n);
	free(raw);
	hmac_sha256(&hk, to_sign->s, to_sign->n, md);
	OPENSSL_cleanse(&hk, sizeof(hk));
	*out = base64_encode(md, sizeof(md));
	return 0;
}

static void
made_fini(struct made *m)
{
	free(m->permissions);
	free(m->resource);
	free(m->headers);
	free(m->header_names);
	free(m->query);
	free(m->query_names);
}

int
azure_sas_query(const struct azure_sas *s, struct text *out, char **why_out)
{
	enum kind kind = s->udk != NULL ? DELEGATED : SERVICE;
	bool snapshot = s->snapshot != NULL && s->snapshot[0] != '\0';
	bool version_id = s->version_id != NULL && s->version_id[0] != '\0';
	struct made m = { 0 };
	struct text to_sign = { 0 };
	char *signature = NULL;
	int rc;

	rc = order_permissions(
	    s->permissions != NULL ? s->permissions : "", &m.permissions);
	if (rc != 0)
		return rc;
	m.type = s->blob == NULL ? "c"
	    : snapshot           ? "bs"
	    : version_id         ? "bv"
				 : "b";
	m.snapshot = snapshot ? s->snapshot : s->version_id;
	m.resource = xasprintf("/blob/%s/%s%s%s", s->account, s->container,
	    s->blob != NULL ? "/" : "", s->blob != NULL ? s->blob : "");
	join(s->signed_headers, s->signed_headers_n, false, &m.headers,
	    &m.header_names);
	join(
	    s->signed_query, s->signed_query_n, true, &m.query, &m.query_names);
	rc = check(s, &m, kind);
	if (rc == 0) {
		write_lines(s, &m, kind, &to_sign);
		rc = sign(s, &to_sign, &signature);
	}
	if (rc == 0)
		write_params(s, &m, kind, signature, out);
	if (rc == 0 && why_out != NULL)
		*why_out = text_steal(&to_sign);
	text_fini(&to_sign);
	free(signature);
	made_fini(&m);
	return rc;
}
