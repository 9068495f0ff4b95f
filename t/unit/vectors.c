/*
 * vectors.c - golden vectors of the vendors' SDKs through the signing code
 *
 * Usage: vectors.t [FILE.json ...]; default: the copies in t/data/vectors. One
 * TAP line per vector. The order of query parameters is free; path and
 * authority must match byte for byte (Azure: the decoded path), and the set of
 * decoded parameters, the signature among them, must be equal.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cjson/cJSON.h>

#include "azure_sas.h"
#include "clock.h"
#include "digest.h"
#include "json.h"
#include "problem.h"
#include "provider.h"
#include "sigv4.h"
#include "storage.h"
#include "url.h"
#include "xalloc.h"

static unsigned tests, failed;

static bool
report(bool ok, const char *file, const char *name)
{
	printf("%s %u - %s %s\n", ok ? "ok" : "not ok", ++tests, file, name);
	failed += !ok;
	return ok;
}

static void
diag(const char *what, const char *s)
{
	printf("# %s: ", what);
	for (; s != NULL && *s != '\0'; s++)
		if (*s == '\n')
			printf("\\n");
		else
			putchar(*s);
	putchar('\n');
}

/* ---- comparing URLs ------------------------------------------------------ */

struct parts {
	char *base; /* scheme, authority, path */
	char *params[SIGV4_PAIRS_MAX];
	size_t n;
};

static char *
decoded(const char *s, size_t n)
{
	char *out;
	size_t out_n;

	if (url_decode(s, n, true, &out, &out_n) != 0)
		abort();
	return out;
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
split(const char *url, bool decode_path, struct parts *p)
{
	const char *q = strchr(url, '?');

	memset(p, 0, sizeof(*p));
	p->base = q == NULL ? xstrdup(url)
	    : decode_path   ? decoded(url, (size_t)(q - url))
			    : xstrndup(url, (size_t)(q - url));
	while (q != NULL && p->n < SIGV4_PAIRS_MAX) {
		size_t n = strcspn(q + 1, "&");

		p->params[p->n++] = decoded(q + 1, n);
		q = q[1 + n] == '&' ? q + 1 + n : NULL;
	}
	qsort(p->params, p->n, sizeof(p->params[0]), by_text);
}

static void
parts_fini(struct parts *p)
{
	free(p->base);
	for (size_t i = 0; i < p->n; i++)
		free(p->params[i]);
}

static bool
same_url(const char *a, const char *b, bool decode_path)
{
	struct parts x, y;
	bool same;

	split(a, decode_path, &x);
	split(b, decode_path, &y);
	same = strcmp(x.base, y.base) == 0 && x.n == y.n;
	for (size_t i = 0; same && i < x.n; i++)
		same = strcmp(x.params[i], y.params[i]) == 0;
	parts_fini(&x);
	parts_fini(&y);
	return same;
}

/* ---- reading vectors ----------------------------------------------------- */

/* NULL for JSON null and for what is not there. */
static const char *
str(const cJSON *o, const char *name)
{
	return json_string(o, name);
}

static int64_t
num(const cJSON *o, const char *name)
{
	int64_t v = 0;

	json_int(o, name, INT64_MIN / 2048, INT64_MAX / 2048, &v);
	return v;
}

/* {"name": "value"} or [["name", "value"]]. */
static size_t
pairs(const cJSON *list, struct pair *out)
{
	const cJSON *e;
	size_t n = 0;

	cJSON_ArrayForEach(e, list)
	{
		if (cJSON_IsArray(e))
			out[n++] = (struct pair){
				cJSON_GetArrayItem(e, 0)->valuestring,
				cJSON_GetArrayItem(e, 1)->valuestring
			};
		else
			out[n++] = (struct pair){ e->string, e->valuestring };
	}
	return n;
}

static void
add_text(cJSON *o, const char *name, const char *value)
{
	if (value != NULL)
		cJSON_AddStringToObject(o, name, value);
}

/* The storage that an operator would configure for the vector. */
static struct storage *
storage_of(const cJSON *doc)
{
	static const struct sign_env env = { .public_url =
						 (char *)"https://signer" };
	struct problem p = { 0 };
	struct storage *s = NULL;

	if (storage_parse(&env, "t", "s", doc, &p, &s) != 0) {
		char *text = json_line(p.errors);

		diag("storage", text);
		free(text);
	}
	problem_fini(&p);
	return s;
}

/* ---- S3, GCS ------------------------------------------------------------- */

static char *
endpoint_of(const cJSON *in)
{
	const char *path = str(in, "endpoint_path");
	char port[16] = "";

	if (num(in, "endpoint_port") != 0)
		snprintf(
		    port, sizeof(port), ":%d", (int)num(in, "endpoint_port"));
	return xasprintf("%s://%s%s%s", str(in, "scheme"),
	    str(in, "endpoint_host"), port, path != NULL ? path : "");
}

static cJSON *
s3_doc(const cJSON *in)
{
	cJSON *doc = cJSON_CreateObject();
	char *endpoint = endpoint_of(in);

	add_text(doc, "type", "S3");
	add_text(doc, "endpoint", endpoint);
	add_text(doc, "bucket", str(in, "bucket"));
	add_text(doc, "region", str(in, "region"));
	add_text(doc, "addressing", str(in, "style"));
	add_text(doc, "accessKeyId", str(in, "access_key_id"));
	add_text(doc, "secretAccessKey", str(in, "secret_access_key"));
	add_text(doc, "sessionToken", str(in, "session_token"));
	cJSON_AddBoolToObject(doc, "allowHttp", true);
	free(endpoint);
	return doc;
}

/* Sign by the provider's own function and compare. */
static void
run_presign(const char *file, const cJSON *v, cJSON *doc, const char *key_name)
{
	const cJSON *in = cJSON_GetObjectItem(v, "input");
	const cJSON *want = cJSON_GetObjectItem(v, "expected");
	struct pair headers[SIGV4_PAIRS_MAX], query[SIGV4_PAIRS_MAX];
	struct sign_request r = {
		.method = str(in, "method"),
		.key = str(in, key_name),
		.headers = headers,
		.headers_n = pairs(cJSON_GetObjectItem(in, "headers"), headers),
		.query = query,
		.query_n = pairs(cJSON_GetObjectItem(in, "query"), query),
		.at = num(in, "unix_time"),
		.expires = num(in, "expires"),
	};
	struct storage *s = storage_of(doc);
	struct text uri = { 0 };
	int rc = s != NULL ? s->provider->sign(s, &r, &uri) : -1;

	if (!report(rc == 0 && same_url(uri.s, str(want, "url"), false), file,
		str(v, "name"))) {
		diag("got", uri.s);
		diag("want", str(want, "url"));
		diag("canonical request", str(want, "canonical_request"));
	}
	text_fini(&uri);
	storage_free(s);
	cJSON_Delete(doc);
}

static void
run_s3(const char *file, const cJSON *v, const cJSON *all)
{
	run_presign(file, v, s3_doc(cJSON_GetObjectItem(v, "input")), "key");
}

/* The key as a console hands it out: PEM in lines of 64. */
static char *
service_account(const cJSON *all)
{
	const cJSON *sa = cJSON_GetObjectItem(all, "service_account");
	const char *der = str(sa, "private_key_der_base64");
	cJSON *o = cJSON_CreateObject();
	struct text pem = { 0 };
	char *line;

	text_str(&pem, "-----BEGIN PRIVATE KEY-----\n");
	for (size_t n = strlen(der); n > 0;) {
		size_t len = n < 64 ? n : 64;

		text_add(&pem, der, len);
		text_char(&pem, '\n');
		der += len;
		n -= len;
	}
	text_str(&pem, "-----END PRIVATE KEY-----\n");
	add_text(o, "client_email", str(sa, "client_email"));
	add_text(o, "private_key", pem.s);
	line = json_line(o);
	text_fini(&pem);
	cJSON_Delete(o);
	return line;
}

static void
run_gcs(const char *file, const cJSON *v, const cJSON *all)
{
	const cJSON *in = cJSON_GetObjectItem(v, "input");
	cJSON *doc = cJSON_CreateObject();
	char *endpoint = endpoint_of(in), *account = service_account(all);

	add_text(doc, "type", "GCS");
	add_text(doc, "endpoint", endpoint);
	add_text(doc, "bucket", str(in, "bucket"));
	add_text(doc, "region", str(in, "location"));
	add_text(doc, "addressing", str(in, "style"));
	add_text(doc, "serviceAccount", account);
	cJSON_AddBoolToObject(doc, "allowHttp", true);
	free(endpoint);
	free(account);
	run_presign(file, v, doc, "object");
}

/* Requests that the signer itself sends, signed in a header. */
static void
run_header(const char *file, const cJSON *v)
{
	const cJSON *in = cJSON_GetObjectItem(v, "input");
	const cJSON *want = cJSON_GetObjectItem(
	    cJSON_GetObjectItem(v, "expected"), "send_headers");
	const char *canonical = str(in, "canonical_query");
	struct pair headers[SIGV4_PAIRS_MAX], query[SIGV4_PAIRS_MAX];
	struct sigv4_request r = {
		.method = str(in, "method"),
		.scheme = str(in, "scheme"),
		.host = str(in, "host"),
		.path = str(in, "path"),
		.headers = headers,
		.headers_n = pairs(cJSON_GetObjectItem(in, "headers"), headers),
		.query = query,
		.body = str(in, "body"),
		.body_n = strlen(str(in, "body")),
	};
	char *out[4], *owned[2 * SIGV4_PAIRS_MAX];
	struct sigv4_key key;
	size_t n = 0, owned_n = 0;
	bool ok;

	while (*canonical != '\0') {
		size_t len = strcspn(canonical, "&");
		size_t name = strcspn(canonical, "=");

		owned[owned_n] = decoded(canonical, name);
		owned[owned_n + 1] =
		    decoded(canonical + name + 1, len - name - 1);
		query[r.query_n++] =
		    (struct pair){ owned[owned_n], owned[owned_n + 1] };
		owned_n += 2;
		canonical += len + (canonical[len] == '&');
	}
	clock_parse_basic(str(in, "date"), &r.at);
	sigv4_key_init(&key, str(in, "access_key_id"),
	    str(in, "secret_access_key"), str(in, "session_token"),
	    str(in, "region"), str(in, "service"), r.at);
	ok = sigv4_authorize(&key, &r, out, &n) == 0;
	for (size_t i = 0; i < n; i++) {
		char *colon = strchr(out[i], ':');

		*colon = '\0';
		for (char *c = out[i]; *c != '\0'; c++)
			*c = (char)tolower((unsigned char)*c);
		if (str(want, out[i]) == NULL ||
		    strcmp(str(want, out[i]), colon + 2) != 0) {
			ok = false;
			diag(out[i], colon + 2);
			diag("want", str(want, out[i]));
		}
		free(out[i]);
	}
	report(ok && n + r.headers_n == (size_t)cJSON_GetArraySize(want), file,
	    str(v, "name"));
	sigv4_key_fini(&key);
	while (owned_n > 0)
		free(owned[--owned_n]);
}

/* ---- Azure --------------------------------------------------------------- */

static const char *
udk_of(const cJSON *in, struct azure_udk *k)
{
	const cJSON *u = cJSON_GetObjectItem(in, "user_delegation_key");

	if (!cJSON_IsObject(u))
		return NULL;
	*k = (struct azure_udk){
		.oid = str(u, "signed_oid"),
		.tid = str(u, "signed_tid"),
		.start = str(u, "signed_start"),
		.expiry = str(u, "signed_expiry"),
		.service = str(u, "signed_service"),
		.version = str(u, "signed_version"),
		.value = str(u, "value"),
	};
	return k->value;
}

static void
sas_of(const cJSON *in, struct azure_sas *s)
{
	*s = (struct azure_sas){
		.account = str(in, "account_name"),
		.key = str(in, "account_key"),
		.container = str(in, "container"),
		.blob = str(in, "blob"),
		.permissions = str(in, "permissions"),
		.start = str(in, "start"),
		.expiry = str(in, "expiry"),
		.ip = str(in, "ip"),
		.protocol = str(in, "protocol"),
		.version = str(in, "version"),
		.identifier = str(in, "identifier"),
		.encryption_scope = str(in, "encryption_scope"),
		.snapshot = str(in, "snapshot"),
		.version_id = str(in, "version_id"),
		.cache_control = str(in, "cache_control"),
		.disposition = str(in, "content_disposition"),
		.encoding = str(in, "content_encoding"),
		.language = str(in, "content_language"),
		.type = str(in, "content_type"),
		.agent_oid = str(in, "preauthorized_agent_oid"),
		.correlation_id = str(in, "correlation_id"),
	};
}

static void
run_azure_sas(const char *file, const cJSON *v)
{
	const cJSON *in = cJSON_GetObjectItem(v, "input");
	const cJSON *want = cJSON_GetObjectItem(v, "expected");
	struct pair headers[SIGV4_PAIRS_MAX], query[SIGV4_PAIRS_MAX];
	struct azure_udk udk;
	struct azure_sas s;
	struct text uri = { 0 };
	char *why = NULL;
	bool ok;

	sas_of(in, &s);
	if (udk_of(in, &udk) != NULL)
		s.udk = &udk;
	s.signed_headers = headers;
	s.signed_headers_n =
	    pairs(cJSON_GetObjectItem(in, "signed_request_headers"), headers);
	s.signed_query = query;
	s.signed_query_n =
	    pairs(cJSON_GetObjectItem(in, "signed_request_query"), query);
	text_str(&uri, str(in, "blob_endpoint"));
	text_char(&uri, '/');
	text_encode(&uri, s.container, strlen(s.container), false);
	if (s.blob != NULL) {
		text_char(&uri, '/');
		text_encode(&uri, s.blob, strlen(s.blob), true);
	}
	text_char(&uri, '?');
	ok = azure_sas_query(&s, &uri, &why) == 0 &&
	    strcmp(why, str(want, "string_to_sign")) == 0 &&
	    same_url(uri.s, str(want, "url"), true);
	if (!report(ok, file, str(v, "name"))) {
		diag("got", uri.s);
		diag("want", str(want, "url"));
		diag("got to sign", why);
		diag("want to sign", str(want, "string_to_sign"));
	}
	text_fini(&uri);
	free(why);
}

/* The same by a storage with the vector's connection string, where the fields
 * can be given as a query. */
static void
run_azure_storage(const char *file, const cJSON *v)
{
	const cJSON *in = cJSON_GetObjectItem(v, "input");
	const char *expiry = str(in, "expiry");
	struct azure_sas sas;
	struct pair q[16];
	struct sign_request r = {
		.method = str(cJSON_GetObjectItem(v, "expected"), "method"),
		.key = str(in, "blob"),
		.query = q,
		.at = 1767323045,
		.expires = 3600,
	};
	cJSON *doc = cJSON_CreateObject();
	struct storage *s;
	struct text uri = { 0 };
	char *name = xasprintf("%s (storage)", str(v, "name"));

	if (r.method == NULL) /* a container's */
		r.method = "PUT";
	sas_of(in, &sas);
	const struct pair fields[] = { { "sp", sas.permissions },
		{ "st", sas.start }, { "se", expiry }, { "sip", sas.ip },
		{ "spr", sas.protocol }, { "sv", sas.version },
		{ "si", sas.identifier }, { "ses", sas.encryption_scope },
		{ "snapshot", sas.snapshot }, { "versionid", sas.version_id },
		{ "rscc", sas.cache_control }, { "rscd", sas.disposition },
		{ "rsce", sas.encoding }, { "rscl", sas.language },
		{ "rsct", sas.type } };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		q[r.query_n++] = (struct pair){ fields[i].name,
			fields[i].value != NULL ? fields[i].value : "" };
	add_text(doc, "type", "AZURE");
	add_text(doc, "connectionString", str(in, "connection_string"));
	add_text(doc, "container", str(in, "container"));
	cJSON_AddBoolToObject(doc, "allowHttp", true);
	s = storage_of(doc);
	if (!report(s != NULL && s->provider->sign(s, &r, &uri) == 0 &&
		    same_url(uri.s,
			str(cJSON_GetObjectItem(v, "expected"), "url"), true),
		file, name))
		diag("got", uri.s);
	text_fini(&uri);
	storage_free(s);
	cJSON_Delete(doc);
	free(name);
}

static void
run_azure(const char *file, const cJSON *v, const cJSON *all)
{
	const cJSON *in = cJSON_GetObjectItem(v, "input");

	run_azure_sas(file, v);
	if (!cJSON_IsObject(cJSON_GetObjectItem(in, "user_delegation_key")))
		run_azure_storage(file, v);
}

/* ---- files --------------------------------------------------------------- */

static const struct {
	const char *provider;
	void (*run)(const char *file, const cJSON *v, const cJSON *all);
} kinds[] = {
	{ "s3", run_s3 },
	{ "azure", run_azure },
	{ "gcs", run_gcs },
};

static cJSON *
read_json(const char *path)
{
	FILE *f = fopen(path, "rb");
	char *buf = xmalloc(4 << 20);
	const char *why = "cannot be read";
	cJSON *v = NULL;
	size_t n;

	if (f != NULL) {
		n = fread(buf, 1, (4 << 20) - 1, f);
		fclose(f);
		v = json_parse(buf, n, 4 << 20, &why);
	}
	if (v == NULL)
		diag(path, why);
	free(buf);
	return v;
}

static void
run_file(const char *path)
{
	const char *base =
	    strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
	cJSON *all = read_json(path);
	const char *provider = all != NULL ? str(all, "provider") : NULL;
	const cJSON *v;
	bool known = false;

	for (size_t i = 0;
	     provider != NULL && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(provider, kinds[i].provider) != 0)
			continue;
		known = true;
		cJSON_ArrayForEach(v, cJSON_GetObjectItem(all, "vectors"))
		    kinds[i]
			.run(base, v, all);
		cJSON_ArrayForEach(
		    v, cJSON_GetObjectItem(all, "header_vectors"))
		    run_header(base, v);
	}
	if (!known)
		report(false, base, "is no file of vectors that is known");
	cJSON_Delete(all);
}

int
main(int argc, char **argv)
{
	static const char *const ours[] = { "s3.json", "azure.json",
		"gcs.json" };
	const char *top = getenv("TOP_SRCDIR");

	for (int i = 1; i < argc; i++)
		run_file(argv[i]);
	for (size_t i = 0; argc == 1 && i < sizeof(ours) / sizeof(ours[0]);
	     i++) {
		char *path = xasprintf(
		    "%s/t/data/vectors/%s", top != NULL ? top : ".", ours[i]);

		run_file(path);
		free(path);
	}
	printf("1..%u\n", tests);
	return failed != 0;
}
