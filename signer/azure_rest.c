/*
 * azure_rest.c - calls of the signer itself to Azure
 */
#include "azure_rest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "credential.h"
#include "endpoint.h"
#include "json.h"
#include "outgoing.h"
#include "provider.h"
#include "storage.h"
#include "text.h"
#include "url.h"
#include "xalloc.h"

#define AUTHORITY "https://login.microsoftonline.com"
#define SCOPE "https://storage.azure.com/.default"
#define API_VERSION "2022-11-02"
#define KEY_LIFE_S 86400
#define SKEW_S 300
#define TIMEOUT_MS 10000

/* The bearer token of an application; malloc'd, or NULL with error filled. */
static char *
fetch_bearer(
    const struct storage *s, bool allow_private, struct fetch_error *error)
{
	const char *authority =
	    s->text[ST_AUTHORITY] != NULL ? s->text[ST_AUTHORITY] : AUTHORITY;
	char *uri = xasprintf(
	    "%s/%s/oauth2/v2.0/token", authority, s->text[ST_TENANT_ID]);
	struct pair header = { "Content-Type",
		"application/x-www-form-urlencoded" };
	struct text form = { 0 };
	struct out_request rq = { .method = "POST",
		.uri = uri,
		.headers = &header,
		.headers_n = 1,
		.ca_pem = s->text[ST_AUTHORITY] != NULL
		    ? s->text[ST_CERTIFICATE]
		    : NULL,
		.allow_private = allow_private,
		.timeout_ms = TIMEOUT_MS };
	struct out_answer a;
	const char *token, *why;
	char *out = NULL;
	cJSON *v;

	text_form(&form, "grant_type", "client_credentials");
	text_form(&form, "client_id", s->text[ST_CLIENT_ID]);
	text_form(&form, "client_secret", s->text[ST_CLIENT_SECRET]);
	text_form(&form, "scope", SCOPE);
	rq.body = form.s;
	rq.body_n = form.n;
	outgoing_call(&rq, &a);
	v = json_parse(a.body.s, a.body.n, 1 << 20, NULL);
	token = json_string(v, "access_token");
	why = json_string(v, "error");
	if (a.fault == OUT_OK && a.status == 200 && token != NULL &&
	    strpbrk(token, "\r\n") == NULL) {
		out = xstrdup(token);
	} else {
		error->unreachable = out_unreachable(&a);
		snprintf(error->error, sizeof(error->error),
		    "the token service: %s%.80s",
		    a.fault != OUT_OK ? a.error : "refused ",
		    a.fault == OUT_OK && why != NULL ? why : "");
		error->hint = a.fault != OUT_OK
		    ? "Check that this machine reaches the token service."
		    : "Check tenantId, clientId and clientSecret, and that "
		      "the secret has not expired.";
	}
	cJSON_Delete(v);
	explicit_bzero(form.s, form.n);
	text_fini(&form);
	out_answer_fini(&a);
	free(uri);
	return out;
}

/* expires_s: until when it was asked for. */
static int
take_key(const char *xml, int64_t expires_s, struct credential *out)
{
	static const struct {
		int at;
		const char *tag;
	} tags[] = { { UDK_OID, "SignedOid" }, { UDK_TID, "SignedTid" },
		{ UDK_START, "SignedStart" }, { UDK_EXPIRY, "SignedExpiry" },
		{ UDK_SERVICE, "SignedService" },
		{ UDK_VERSION, "SignedVersion" }, { UDK_VALUE, "Value" } };

	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
		out->text[tags[i].at] = xml_tag(xml, tags[i].tag);
		if (out->text[tags[i].at] == NULL)
			return -EBADMSG;
	}
	out->expires_s =
	    credential_ends(out->text[UDK_EXPIRY], expires_s) - SKEW_S;
	return 0;
}

int
azure_fetch_udk(const struct storage *s, const char *base, bool allow_private,
    int64_t now_s, struct credential *out, struct fetch_error *error)
{
	char *bearer = fetch_bearer(s, allow_private, error);
	char *uri, *body, *authorization, *code, start[21], expiry[21];
	struct out_answer a;
	int rc = -EACCES;

	if (bearer == NULL)
		return -EACCES;
	clock_rfc3339(now_s - SKEW_S, start);
	clock_rfc3339(now_s + KEY_LIFE_S, expiry);
	uri = xasprintf("%s/?restype=service&comp=userdelegationkey", base);
	body = xasprintf("<?xml version=\"1.0\" encoding=\"utf-8\"?><KeyInfo>"
			 "<Start>%s</Start><Expiry>%s</Expiry></KeyInfo>",
	    start, expiry);
	authorization = xasprintf("Bearer %s", bearer);
	struct pair headers[] = { { "Authorization", authorization },
		{ "x-ms-version", API_VERSION },
		{ "Content-Type", "application/xml" } };
	struct out_request rq = { .method = "POST",
		.uri = uri,
		.headers = headers,
		.headers_n = 3,
		.body = body,
		.body_n = strlen(body),
		.ca_pem = s->text[ST_CERTIFICATE],
		.allow_private = allow_private,
		.timeout_ms = TIMEOUT_MS };

	outgoing_call(&rq, &a);
	if (a.fault == OUT_OK && a.status == 200)
		rc = take_key(a.body.s, now_s + KEY_LIFE_S, out);
	if (rc == 0) {
		out->text[UDK_BEARER] = bearer;
		bearer = NULL;
	} else {
		error->unreachable = out_unreachable(&a);
		code = xml_tag(a.body.s, "Code");
		snprintf(error->error, sizeof(error->error),
		    "Get User Delegation Key: %s %.80s",
		    a.fault != OUT_OK ? a.error : "refused",
		    code != NULL ? code : "");
		error->hint = "Give the application the role Storage Blob "
			      "Delegator on the account and Storage Blob Data "
			      "Contributor on the container.";
		free(code);
		credential_drop(out);
	}
	explicit_bzero(authorization, strlen(authorization));
	free(authorization);
	if (bearer != NULL)
		explicit_bzero(bearer, strlen(bearer));
	free(bearer);
	free(body);
	free(uri);
	out_answer_fini(&a);
	return rc;
}

/* "Authorize with Shared Key": the canonicalized string of this request. */
static char *
shared_key(
    const char *account, const char *key, const char *path, const char *date)
{
	char *to_sign = xasprintf("PUT\n\n\n\n\n\n\n\n\n\n\n\n"
				  "x-ms-date:%s\nx-ms-version:" API_VERSION
				  "\n/%s%s\nrestype:container",
	    date, account, path);
	struct hmac_key hk;
	uint8_t md[DIGEST_LEN], *raw;
	char *sig, *out = NULL;
	size_t n;

	if (base64_decode(key, &raw, &n) == 0) {
		hmac_key_init(&hk, raw, n);
		explicit_bzero(raw, n);
		free(raw);
		hmac_sha256(&hk, to_sign, strlen(to_sign), md);
		sig = base64_encode(md, sizeof(md));
		out = xasprintf("SharedKey %s:%s", account, sig);
		free(sig);
	}
	free(to_sign);
	return out;
}

int
azure_make_container(const struct storage *s, const char *base,
    const char *account, const char *key, const struct credential *cred,
    bool allow_private, int64_t now_s, struct fetch_error *error)
{
	struct text c = { 0 };
	char *uri, *authorization, *path, date[40];
	const char *container = s->text[ST_CONTAINER], *host;
	time_t t = (time_t)now_s;
	struct out_answer a;
	struct tm tm;
	int rc;

	text_encode(&c, container, strlen(container), false);
	uri = xasprintf("%s/%s?restype=container", base, c.s);
	host = strstr(base, "://") + 3;
	path = xasprintf("%s/%s", host + strcspn(host, "/"), c.s);
	gmtime_r(&t, &tm);
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	authorization = cred != NULL
	    ? xasprintf("Bearer %s", cred->text[UDK_BEARER])
	    : shared_key(account, key, path, date);
	struct pair headers[] = {
		{ "x-ms-date", date }, { "x-ms-version", API_VERSION },
		{ "Authorization", authorization != NULL ? authorization : "" }
	};
	struct out_request rq = { .method = "PUT",
		.uri = uri,
		.headers = headers,
		.headers_n = 3,
		.ca_pem = s->text[ST_CERTIFICATE],
		.allow_private = allow_private,
		.timeout_ms = TIMEOUT_MS };

	outgoing_call(&rq, &a);
	rc = a.fault == OUT_OK && (a.status == 201 || a.status == 409)
	    ? 0
	    : -EACCES;
	if (rc != 0) {
		char *code = xml_tag(a.body.s, "Code");
		const struct explanation *e = a.fault == OUT_OK
		    ? provider_explain(s->provider, a.status, code)
		    : NULL;

		snprintf(error->error, sizeof(error->error),
		    "the container %s could not be made: %.180s%s%.80s",
		    container,
		    a.fault != OUT_OK ? a.error
			: e != NULL   ? e->error
				      : "the store refuses: ",
		    e != NULL && code != NULL ? ", " : "",
		    code != NULL ? code : "");
		error->hint = a.fault != OUT_OK
		    ? "Check the endpoint, and that this machine reaches it."
		    : e != NULL
		    ? e->hint
		    : "Check endpoint and key; make the container in the "
		      "portal, or allow the credentials to make it.";
		free(code);
	}
	out_answer_fini(&a);
	free(authorization);
	free(path);
	free(uri);
	text_fini(&c);
	return rc;
}
