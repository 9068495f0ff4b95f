/*
 * probe.c - does a storage work? Puts, reads and deletes a small object
 *
 * The upload goes by the very recipe that a gateway would get, so what it
 * proves is what will happen. Each failure is told in words: a table of the
 * provider first, then what any HTTP service could mean.
 */
#include "probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "credential.h"
#include "json.h"
#include "outgoing.h"
#include "provider.h"
#include "recipe.h"
#include "storage.h"
#include "url.h"
#include "xalloc.h"

#define BODY "This object was put here to test the storage.\n"
#define SKEW_MAX_S 300

struct probe {
	const struct storage *s;
	const struct credential *cred;
	bool allow_private;
	int64_t now_s;
	struct probe_result *r;
	char key[64], sha256[65];
};

static void
fail(struct probe *p, const char *what, const char *error, const char *hint)
{
	p->r->ok = false;
	snprintf(p->r->error, sizeof(p->r->error), "%s: %s", what, error);
	p->r->hint = hint;
}

static void
explain_fault(struct probe *p, const char *what, const struct out_answer *a)
{
	static const char *const hints[] = {
		[OUT_DNS] = "The host of the endpoint has no address: check "
			    "its spelling and the resolver of this machine.",
		[OUT_PRIVATE] = "The endpoint leads to a private or loopback "
				"address: set [signer] allow_private if that "
				"is meant.",
		[OUT_CONNECT] = "Nothing answers there: check host and port, "
				"and firewalls.",
		[OUT_TLS] = "The store's certificate is not trusted: set "
			    "certificate to the CA that signed it, or use "
			    "the host it is made for.",
		[OUT_NO_TLS] = "No TLS is spoken there: check the port; a "
			       "store that has none needs http:// and "
			       "\"allowHttp\": true.",
		[OUT_TIMEOUT] = "It does not answer in time: check firewalls "
				"and proxies.",
		[OUT_OTHER] = "Check the endpoint.",
	};

	fail(p, what, a->error, hints[a->fault]);
}

/* Is our clock far from the store's? */
static bool
clock_is_wrong(const struct probe *p, const struct out_answer *a)
{
	struct tm tm = { 0 };
	int64_t there;

	if (strptime(a->date, "%a, %d %b %Y %H:%M:%S GMT", &tm) == NULL)
		return false;
	there = timegm(&tm);
	return there > p->now_s + SKEW_MAX_S || there < p->now_s - SKEW_MAX_S;
}

static void
explain_status(struct probe *p, const char *what, const struct out_answer *a)
{
	const char *hint = a->status == 403 ? "The credentials may not do this."
	    : a->status == 404              ? "Check the bucket or container."
	    : a->status >= 500 ? "The store has trouble: try again."
			       : "See what the provider says of it.";
	char *code = xml_tag(a->body.s, "Code");
	char *message = xml_tag(a->body.s, "Message");
	bool says = code != NULL && message != NULL && message[0] != '\0';
	char *text = xasprintf("the store answers %d%s%.80s%s%.120s", a->status,
	    code != NULL ? " " : "", code != NULL ? code : "", says ? ": " : "",
	    says ? message : "");
	const struct explanation *e =
	    provider_explain(p->s->provider, a->status, code);

	text[strcspn(text, "\r\n")] = '\0';
	if (clock_is_wrong(p, a))
		fail(p, what, "the clock of this machine is wrong",
		    "Set it by NTP.");
	else if (e != NULL)
		fail(p, what, e->error, e->hint);
	else if (a->status == 400 && code == NULL)
		fail(p, what, text,
		    "It does not answer as a store of this type: check type "
		    "and endpoint, and that http or https fits the port.");
	else
		fail(p, what, text, hint);
	free(code);
	free(message);
	free(text);
}

static bool
in_list(const cJSON *ok, int status)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, ok)
	{
		if ((int)e->valuedouble == status)
			return true;
	}
	return false;
}

static void
call(struct probe *p, const char *method, const char *uri, const cJSON *headers,
    const char *body, struct out_answer *a)
{
	struct pair list[SIGV4_PAIRS_MAX];
	const char *own = p->s->env->public_url;
	struct out_request rq = { .method = method,
		.uri = uri,
		.headers = list,
		.body = body,
		.body_n = body != NULL ? strlen(body) : 0,
		.ca_pem = p->s->text[ST_CERTIFICATE],
		.allow_private = p->allow_private,
		.timeout_ms = 10000 };
	const cJSON *e;

	if (strncmp(uri, own, strlen(own)) == 0 && uri[strlen(own)] == '/')
		rq.allow_private = true;
	cJSON_ArrayForEach(e, headers)
	{
		if (rq.headers_n < SIGV4_PAIRS_MAX)
			list[rq.headers_n++] =
			    (struct pair){ e->string, e->valuestring };
	}
	outgoing_call(&rq, a);
}

static bool
put(struct probe *p, bool *place_missing)
{
	struct upload u = { .method = "PUT",
		.key = p->key,
		.size = strlen(BODY),
		.sha256 = p->sha256,
		.type = "text/plain",
		.at = p->now_s,
		.expires = p->s->expires_s,
		.cred = p->cred };
	struct recipe r = { cJSON_CreateObject() };
	struct out_answer a;
	const cJSON *rq;
	bool ok = false;

	*place_missing = false;
	if (p->s->provider->recipe(p->s, &u, &r) != 0) {
		fail(p, "put", "it cannot be signed", NULL);
		cJSON_Delete(r.json);
		return false;
	}
	rq = cJSON_GetArrayItem(
	    cJSON_GetObjectItemCaseSensitive(r.json, "requests"), 0);
	call(p, "PUT", json_string(rq, "uri"),
	    cJSON_GetObjectItemCaseSensitive(rq, "headers"), BODY, &a);
	if (a.fault != OUT_OK)
		explain_fault(p, "put", &a);
	else if (!in_list(
		     cJSON_GetObjectItemCaseSensitive(rq, "ok"), a.status)) {
		explain_status(p, "put", &a);
		*place_missing = a.status == 404;
	} else
		ok = true;
	out_answer_fini(&a);
	cJSON_Delete(r.json);
	return ok;
}

/* GET or DELETE of the probe. */
static bool
other(struct probe *p, const char *method, const char *what)
{
	struct sign_request sr = { .method = method,
		.key = p->key,
		.at = p->now_s,
		.expires = p->s->expires_s,
		.cred = p->cred };
	struct text uri = { 0 };
	struct out_answer a;
	bool ok = false;

	if (p->s->provider->sign(p->s, &sr, &uri) != 0) {
		fail(p, what, "it cannot be signed", NULL);
		text_fini(&uri);
		return false;
	}
	call(p, method, uri.s, NULL, NULL, &a);
	if (a.fault != OUT_OK)
		explain_fault(p, what, &a);
	else if (a.status < 200 || a.status > 299)
		explain_status(p, what, &a);
	else if (method[0] == 'G' && strcmp(a.body.s, BODY) != 0)
		fail(p, what, "what comes back is not what was put",
		    "Something between changes it: check proxies.");
	else
		ok = true;
	out_answer_fini(&a);
	text_fini(&uri);
	return ok;
}

void
probe_storage(const struct storage *s, const struct credential *cred,
    bool allow_private, int64_t now_s, struct probe_result *r)
{
	struct probe p = { .s = s,
		.cred = cred,
		.allow_private = allow_private,
		.now_s = now_s,
		.r = r };
	struct fetch_error error = { 0 };
	uint8_t raw[8];
	char hex[17];
	bool missing;

	memset(r, 0, sizeof(*r));
	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		abort();
	hex_encode(raw, sizeof(raw), hex);
	snprintf(p.key, sizeof(p.key), PROBE_SCOPE "%s.txt", hex);
	digest_sha256_hex(BODY, strlen(BODY), p.sha256);
	if (!put(&p, &missing)) {
		if (!missing || s->provider->make_place == NULL)
			return;
		if (s->provider->make_place(
			s, cred, allow_private, now_s, &error) != 0) {
			fail(&p, "put", error.error, error.hint);
			return;
		}
		if (!put(&p, &missing))
			return;
	}
	if (!other(&p, "GET", "get") || !other(&p, "DELETE", "delete"))
		return;
	r->ok = true;
	r->error[0] = '\0';
	r->hint = NULL;
}
