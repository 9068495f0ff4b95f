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
#include <openssl/evp.h>

#include "json.h"
#include "xalloc.h"

enum kind { SERVICE = 1, DELEGATED = 2, BOTH = 3 };

/* Values that are made here, not taken from the struct. */
struct made {
	const char *permissions, *resource, *headers, *header_names;
	const char *query, *query_names;
	const char *type; /* sr */
	const char *snapshot;
	unsigned version; /* sv as a number */
	char letters[16];
	struct text texts[5];
};

#define AT(field) offsetof(struct azure_sas, field)
#define UDK(field) (0x1000 + offsetof(struct azure_udk, field))
#define MADE(field) (0x2000 + offsetof(struct made, field))
#define NOWHERE 0x3000

/* clang-format off */
static const struct {
	unsigned since; /* the first sv with this line */
	enum kind kind;
	size_t at;
} lines[] = {
	{ 20150405, BOTH,      MADE(permissions) },
	{ 20150405, BOTH,      AT(start) },
	{ 20150405, BOTH,      AT(expiry) },
	{ 20150405, BOTH,      MADE(resource) },
	{ 20150405, SERVICE,   AT(identifier) },
	{ 20181109, DELEGATED, UDK(oid) },
	{ 20181109, DELEGATED, UDK(tid) },
	{ 20181109, DELEGATED, UDK(start) },
	{ 20181109, DELEGATED, UDK(expiry) },
	{ 20181109, DELEGATED, UDK(service) },
	{ 20181109, DELEGATED, UDK(version) },
	{ 20200210, DELEGATED, AT(agent_oid) },
	{ 20200210, DELEGATED, AT(unauthorized_oid) },
	{ 20200210, DELEGATED, AT(correlation_id) },
	{ 20250705, DELEGATED, NOWHERE }, /* delegated user's tenant */
	{ 20250705, DELEGATED, NOWHERE }, /* and object id */
	{ 20150405, BOTH,      AT(ip) },
	{ 20150405, BOTH,      AT(protocol) },
	{ 20150405, BOTH,      AT(version) },
	{ 20181109, BOTH,      MADE(type) },
	{ 20181109, BOTH,      MADE(snapshot) },
	{ 20201206, BOTH,      AT(encryption_scope) },
	{ 20260406, DELEGATED, MADE(headers) },
	{ 20260406, DELEGATED, MADE(query) },
	{ 20150405, BOTH,      AT(cache_control) },
	{ 20150405, BOTH,      AT(disposition) },
	{ 20150405, BOTH,      AT(encoding) },
	{ 20150405, BOTH,      AT(language) },
	{ 20150405, BOTH,      AT(type) },
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
order_permissions(const char *in, char out[16])
{
	static const char letters[] = "racwdxyltfmeopi";
	unsigned found = 0;
	char *p = out;

	for (const char *c = in; *c != '\0'; c++) {
		const char *l = strchr(letters, *c);

		if (l == NULL)
			return -EINVAL;
		found |= 1u << (l - letters);
	}
	for (size_t i = 0; letters[i] != '\0'; i++)
		if ((found & 1u << i) != 0)
			*p++ = letters[i];
	*p = '\0';
	return 0;
}

/* "name:value\n" of each, and the names with commas (srh, srq). */
static void
join(const struct pair *p, size_t n, bool query, struct text *t,
    struct text *names)
{
	for (size_t i = 0; i < n; i++) {
		if (query)
			text_char(t, '\n');
		text_str(t, p[i].name);
		text_char(t, ':');
		text_str(t, p[i].value);
		if (!query)
			text_char(t, '\n');
		if (i != 0)
			text_char(names, ',');
		text_str(names, p[i].name);
	}
}

unsigned
azure_version_number(const char *v)
{
	static const char shape[] = "dddd-dd-dd";
	unsigned n = 0;

	for (size_t i = 0; v != NULL && i < sizeof(shape); i++) {
		if (shape[i] != 'd' ? v[i] != shape[i]
				    : v[i] < '0' || v[i] > '9')
			return 0;
		if (shape[i] == 'd')
			n = n * 10 + (unsigned)(v[i] - '0');
	}
	return n;
}

static bool
clean(const char *s)
{
	if (s[0] == '\0')
		return true;
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

	if (m->version < (kind == SERVICE ? 20150405 : 20181109) ||
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
		if ((lines[i].kind & kind) == 0 || m->version < lines[i].since)
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
digest(const struct azure_sas *s, const struct text *t, uint8_t *md)
{
	const char *key = s->udk != NULL ? s->udk->value : s->key;
	struct hmac_key hk;
	uint8_t *raw;
	size_t n;
	int rc;

	if (s->udk == NULL && s->prepared != NULL) {
		hmac_sha256(s->prepared, t->s, t->n, md);
		return 0;
	}
	rc = key != NULL ? base64_decode(key, &raw, &n) : -EINVAL;
	if (rc != 0)
		return rc;
	hmac_key_init(&hk, raw, n);
	OPENSSL_cleanse(raw, n);
	free(raw);
	hmac_sha256(&hk, t->s, t->n, md);
	OPENSSL_cleanse(&hk, sizeof(hk));
	return 0;
}

static const char *
text_of(const struct text *t)
{
	return t->s != NULL ? t->s : "";
}

static int
make(const struct azure_sas *s, struct made *m)
{
	bool snapshot = s->snapshot != NULL && s->snapshot[0] != '\0';
	bool version_id = s->version_id != NULL && s->version_id[0] != '\0';
	struct text *t = m->texts;

	m->permissions = m->letters;
	m->type = s->blob == NULL ? "c"
	    : snapshot            ? "bs"
	    : version_id          ? "bv"
				  : "b";
	m->snapshot = snapshot ? s->snapshot : s->version_id;
	m->version = azure_version_number(s->version);
	text_str(&t[0], "/blob/");
	text_str(&t[0], s->account);
	text_char(&t[0], '/');
	text_str(&t[0], s->container);
	if (s->blob != NULL) {
		text_char(&t[0], '/');
		text_str(&t[0], s->blob);
	}
	join(s->signed_headers, s->signed_headers_n, false, &t[1], &t[2]);
	join(s->signed_query, s->signed_query_n, true, &t[3], &t[4]);
	m->resource = t[0].s;
	m->headers = text_of(&t[1]);
	m->header_names = text_of(&t[2]);
	m->query = text_of(&t[3]);
	m->query_names = text_of(&t[4]);
	return order_permissions(
	    s->permissions != NULL ? s->permissions : "", m->letters);
}

int
azure_sas_query(const struct azure_sas *s, struct text *out, char **why_out)
{
	enum kind kind = s->udk != NULL ? DELEGATED : SERVICE;
	struct made m = { 0 };
	struct text to_sign = { 0 };
	uint8_t md[DIGEST_LEN];
	char signature[DIGEST_LEN * 2];
	int rc = make(s, &m);

	if (rc == 0)
		rc = check(s, &m, kind);
	if (rc == 0) {
		write_lines(s, &m, kind, &to_sign);
		rc = digest(s, &to_sign, md);
	}
	if (rc == 0) {
		EVP_EncodeBlock((unsigned char *)signature, md, sizeof(md));
		write_params(s, &m, kind, signature, out);
	}
	if (rc == 0 && why_out != NULL)
		*why_out = text_steal(&to_sign);
	text_fini(&to_sign);
	for (size_t i = 0; i < 5; i++)
		text_fini(&m.texts[i]);
	return rc;
}
