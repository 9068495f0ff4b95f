/*
 * look_cloud.c - check --live: the way to the cloud
 *
 * Asks each signer what the agent would ask: a recipe, here for a HEAD of a
 * name that no upload has, and sends that to the store. So names, routes,
 * certificates, token and storage are all tried, and nothing is written.
 */
#include "check.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "ctl.h"
#include "format.h"
#include "gateway_conf.h"
#include "json.h"
#include "xalloc.h"

#define REPLY_MAX (1 << 20)
#define SKEW_MAX 60 /* seconds */

struct reply {
	CURLcode code;
	long status;
	char *body;
	size_t n;
	time_t date; /* of the Date header, -1: none */
	time_t now;  /* by our clock, when it came */
	char error[CURL_ERROR_SIZE];
};

static size_t
on_body(char *p, size_t one, size_t n, void *arg)
{
	struct reply *r = arg;

	if (r->n + n > REPLY_MAX)
		return 0;
	r->body = xrealloc(r->body, r->n + n + 1);
	memcpy(r->body + r->n, p, n);
	r->n += n;
	r->body[r->n] = '\0';
	return n;
}

static size_t
on_header(char *p, size_t one, size_t n, void *arg)
{
	struct reply *r = arg;
	char value[64];

	if (n > 5 && n < sizeof(value) + 5 && strncasecmp(p, "Date:", 5) == 0) {
		memcpy(value, p + 5, n - 5);
		value[n - 5] = '\0';
		r->date = curl_getdate(value, NULL);
		r->now = time(NULL);
	}
	return n;
}

static CURL *
handle_new(const struct gateway_conf *c, struct reply *r)
{
	CURL *h = curl_easy_init();

	memset(r, 0, sizeof(*r));
	r->date = -1;
	if (h == NULL)
		abort(); /* no memory */
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 8L);
	curl_easy_setopt(h, CURLOPT_TIMEOUT, 20L);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, r->error);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, r);
	curl_easy_setopt(
	    h, CURLOPT_PROXY, c->upload_proxy != NULL ? c->upload_proxy : "");
	return h;
}

static void
handle_run(CURL *h, struct reply *r)
{
	r->code = curl_easy_perform(h);
	curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &r->status);
	if (r->body == NULL)
		r->body = xstrdup("");
	curl_easy_cleanup(h);
}

/* Which part of the way failed, and what to do. True: no answer came. */
static bool
add_failure(struct looks *l, const char *what, const struct reply *r)
{
	const char *error =
	    r->error[0] != '\0' ? r->error : curl_easy_strerror(r->code);

	switch (r->code) {
	case CURLE_OK:
		return false;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		looks_add(l, "dns", EXIT_DOWN,
		    "look at the name, at /etc/resolv.conf and the site's "
		    "router",
		    "%s: %s", what, error);
		return true;
	case CURLE_PEER_FAILED_VERIFICATION:
		looks_add(l, what, EXIT_DOWN,
		    "is this machine's clock right? Else set [signer] ca_file "
		    "to the certificate you were given",
		    "its certificate is not trusted: %s", error);
		return true;
	default:
		looks_add(l, what, EXIT_DOWN,
		    "is the cable in, does a firewall stand between, is it "
		    "up?",
		    "cannot be reached: %s", error);
		return true;
	}
}

static void
add_clock(struct looks *l, const struct reply *r)
{
	struct small b;
	long long skew = (long long)r->now - (long long)r->date;

	if (r->date == (time_t)-1)
		return;
	if (llabs(skew) <= SKEW_MAX)
		looks_add(l, "clock", 0, NULL, "right");
	else
		looks_add(l, "clock", EXIT_CONFIG,
		    "switch on time synchronisation: timedatectl set-ntp true",
		    "%s %s", format_time(&b, llabs(skew) * 1000),
		    skew > 0 ? "fast" : "slow");
}

/* Send one signing request, for a HEAD. */
static void
ask_signer(const struct gateway_conf *c, const char *url, const char *token,
    struct reply *r)
{
	size_t n = strlen(url);
	char *full = xasprintf(
	    "%.*s/v1/sign", (int)(n > 0 && url[n - 1] == '/' ? n - 1 : n), url);
	char *auth = xasprintf("Authorization: Bearer %s", token), *body;
	struct curl_slist *headers = curl_slist_append(NULL, auth);
	cJSON *o = cJSON_CreateObject(), *u = cJSON_CreateObject();
	CURL *h = handle_new(c, r);

	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	json_add_text(u, "id", "00000000000000000000000000000000");
	json_add_text(u, "storage", c->storage);
	json_add_text(u, "device", "edgehaul-check");
	json_add_text(u, "method", "HEAD");
	json_add_text(u, "key", "edgehaul-check/nothing");
	cJSON_AddItemToArray(cJSON_AddArrayToObject(o, "uploads"), u);
	body = json_line(o);
	curl_easy_setopt(h, CURLOPT_URL, full);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(h, CURLOPT_POSTFIELDS, body);
	if (c->ca_file != NULL)
		curl_easy_setopt(h, CURLOPT_CAINFO, c->ca_file);
	handle_run(h, r);
	curl_slist_free_all(headers);
	cJSON_Delete(o);
	free(body);
	free(auth);
	free(full);
}

/* The words of a problem (RFC 9457). */
static const char *
detail_of(const cJSON *v)
{
	const char *detail = json_string(v, "detail");

	if (detail == NULL)
		detail = json_string(v, "title");
	return detail != NULL ? detail : "no reason given";
}

/* What the signer answered instead of a recipe. */
static void
add_refusal(struct looks *l, const struct reply *r, const cJSON *v)
{
	const char *detail = detail_of(v);

	if (r->status == 401)
		looks_add(l, "token", EXIT_DENIED,
		    "ask who runs the cloud side for a new token, and save it "
		    "in [signer] token_file",
		    "the signer refuses it (401): %s", detail);
	else if (r->status == 403)
		looks_add(l, "token", EXIT_DENIED,
		    "ask who runs the cloud side: is this gateway blocked?",
		    "the signer refuses this gateway (403): %s", detail);
	else
		looks_add(l, "signer", EXIT_DOWN,
		    "is [signer] url right? Its log tells more",
		    "answered %ld: %s", r->status, detail);
}

/* A recipe's HEAD to the store: any answer shows that the way is open. */
static void
ask_store(const struct gateway_conf *c, struct looks *l, const cJSON *recipe)
{
	const char *method = json_string(recipe, "method");
	const char *uri = json_string(recipe, "uri");
	struct curl_slist *headers = NULL;
	const cJSON *hd;
	struct reply r;
	CURL *h;

	if (uri == NULL || method == NULL || strcmp(method, "HEAD") != 0)
		return;
	h = handle_new(c, &r);
	cJSON_ArrayForEach(
	    hd, cJSON_GetObjectItemCaseSensitive(recipe, "headers"))
	{
		char *line;

		if (!cJSON_IsString(hd))
			continue;
		line = xasprintf("%s: %s", hd->string, hd->valuestring);
		if (strpbrk(line, "\r\n") == NULL)
			headers = curl_slist_append(headers, line);
		free(line);
	}
	curl_easy_setopt(h, CURLOPT_URL, uri);
	curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
	handle_run(h, &r);
	if (r.code == CURLE_PEER_FAILED_VERIFICATION &&
	    json_string(recipe, "certificateId") != NULL)
		looks_add(l, "store", 0, NULL,
		    "reached; it has a certificate of its own, which the "
		    "agent gets from the signer");
	else if (!add_failure(l, "store", &r))
		looks_add(l, "store", 0, NULL, "reached");
	curl_slist_free_all(headers);
	free(r.body);
}

static void
take_recipe(const struct gateway_conf *c, struct looks *l, const cJSON *v)
{
	const cJSON *results = cJSON_GetObjectItemCaseSensitive(v, "results");
	const cJSON *first = cJSON_GetArrayItem(results, 0);
	const cJSON *recipe = cJSON_GetObjectItemCaseSensitive(first, "recipe");
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(first, "error");

	if (cJSON_IsObject(recipe))
		ask_store(c, l, recipe);
	else
		looks_add(l, "storage", EXIT_CONFIG,
		    "is [upload] storage right? Else ask who runs the cloud "
		    "side",
		    "the signer has no recipe for \"%s\": %s", c->storage,
		    detail_of(error));
}

static void
look_at_signer(const struct gateway_conf *c, struct looks *l, const char *url,
    const char *token)
{
	struct reply r;
	cJSON *v;

	ask_signer(c, url, token, &r);
	if (add_failure(l, "signer", &r)) {
		free(r.body);
		return;
	}
	add_clock(l, &r);
	v = json_parse(r.body, r.n, REPLY_MAX, NULL);
	if (r.status == 200 && v != NULL) {
		looks_add(l, "signer", 0, NULL, "%s answers", url);
		looks_add(l, "token", 0, NULL, "accepted");
		take_recipe(c, l, v);
	} else {
		add_refusal(l, &r, v);
	}
	cJSON_Delete(v);
	free(r.body);
}

void
look_at_cloud(const struct gateway_conf *c, struct looks *l)
{
	char *urls = xstrdup(c->signer_url), *save = NULL, *why = NULL;
	char *token;
	bool mine;

	token = token_read(c->token_file, &why, &mine);
	if (token == NULL) {
		looks_add(l, "signer", mine ? EXIT_CONFIG : EXIT_DENIED,
		    mine ? NULL : "run it as the agent's user, or with sudo",
		    "not asked: %s", why);
		free(why);
		free(urls);
		return;
	}
	for (char *u = strtok_r(urls, " ", &save); u != NULL;
	     u = strtok_r(NULL, " ", &save))
		look_at_signer(c, l, u, token);
	free(token);
	free(urls);
}
