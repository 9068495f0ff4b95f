/*
 * firmware_rest.c - calls to the signer's /v1/firmware
 *
 * The token goes to the origin of `url` only: no redirects, no proxies of the
 * environment that http would show it to, https but on this machine.
 */
#include "firmware.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "format.h"
#include "json.h"
#include "xalloc.h"

#define ANSWER_MAX (16 << 20)
#define TRIES 5

void
complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("edgehaul: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

static size_t
on_body(char *s, size_t one, size_t n, void *arg)
{
	struct rest_answer *a = arg;

	if (a->n + n > ANSWER_MAX)
		return 0;
	a->body = xrealloc(a->body, a->n + n + 1);
	memcpy(a->body + a->n, s, n);
	a->n += n;
	a->body[a->n] = '\0';
	return n;
}

static void
set_tls(const struct publisher *p, CURL *h)
{
	const struct publisher_conf *c = p->conf;

	if (c->ca_file != NULL)
		curl_easy_setopt(h, CURLOPT_CAINFO, c->ca_file);
	if (c->client_cert_file != NULL) {
		curl_easy_setopt(h, CURLOPT_SSLCERT, c->client_cert_file);
		curl_easy_setopt(h, CURLOPT_SSLKEY, c->client_key_file);
	}
}

static struct curl_slist *
make_headers(const struct publisher *p, bool body, const char *header)
{
	char *bearer = xasprintf("Authorization: Bearer %s", p->token);
	struct curl_slist *list = curl_slist_append(NULL, bearer);

	explicit_bzero(bearer, strlen(bearer));
	free(bearer);
	list = curl_slist_append(list, "Expect:");
	if (body)
		list =
		    curl_slist_append(list, "Content-Type: application/json");
	if (header != NULL)
		list = curl_slist_append(list, header);
	return list;
}

/* One try. 0 or a libcurl code, told in why. */
static CURLcode
call_once(struct publisher *p, const char *method, const char *url,
    const char *body, const char *header, struct rest_answer *a,
    curl_off_t *after, char why[CURL_ERROR_SIZE])
{
	CURL *h = curl_easy_init();
	struct curl_slist *headers = make_headers(p, body != NULL, header);
	CURLcode rc;

	memset(a, 0, sizeof(*a));
	why[0] = '\0';
	curl_easy_setopt(h, CURLOPT_URL, url);
	curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	if (strncmp(url, "http:", 5) == 0)
		curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 20L);
	curl_easy_setopt(h, CURLOPT_TIMEOUT, 120L);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, a);
	if (body != NULL)
		curl_easy_setopt(h, CURLOPT_POSTFIELDS, body);
	set_tls(p, h);
	rc = curl_easy_perform(h);
	if (rc != CURLE_OK && why[0] == '\0')
		snprintf(why, CURL_ERROR_SIZE, "%s", curl_easy_strerror(rc));
	curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &a->status);
	curl_easy_getinfo(h, CURLINFO_RETRY_AFTER, after);
	curl_slist_free_all(headers);
	curl_easy_cleanup(h);
	return rc;
}

static int
cannot_reach(const struct publisher *p, CURLcode rc, const char *why)
{
	const char *hint = "Check [publisher] url, and that this machine "
			   "reaches it.";

	if (rc == CURLE_PEER_FAILED_VERIFICATION ||
	    rc == CURLE_SSL_CACERT_BADFILE)
		hint = "Set [publisher] ca_file to the authority that signed "
		       "the signer's certificate.";
	else if (rc == CURLE_SSL_CERTPROBLEM || rc == CURLE_SSL_CONNECT_ERROR)
		hint = "Check [publisher] client_cert_file and "
		       "client_key_file.";
	complain(
	    "the signer %s cannot be reached: %s. %s", p->conf->url, why, hint);
	return EXIT_DOWN;
}

int
rest_call(struct publisher *p, const char *method, const char *path,
    const cJSON *body, const char *header, struct rest_answer *a)
{
	size_t n = strlen(p->conf->url);
	char *line = body != NULL ? json_line(body) : NULL, *url;
	char why[CURL_ERROR_SIZE];
	curl_off_t after = 0;
	CURLcode rc = CURLE_OK;

	while (n > 0 && p->conf->url[n - 1] == '/')
		n--;
	url = xasprintf("%.*s%s", (int)n, p->conf->url, path);
	for (int i = 1; i <= TRIES; i++) {
		rc = call_once(p, method, url, line, header, a, &after, why);
		if (i == TRIES ||
		    (rc == CURLE_OK && a->status != 503 && a->status != 429) ||
		    rc == CURLE_PEER_FAILED_VERIFICATION ||
		    rc == CURLE_SSL_CERTPROBLEM || rc == CURLE_COULDNT_CONNECT)
			break;
		rest_fini(a);
		nanosleep(
		    &(struct timespec){
			after > 0 && after < 30 ? (time_t)after : i, 0 },
		    NULL);
	}
	free(url);
	free(line);
	if (rc != CURLE_OK)
		return cannot_reach(p, rc, why);
	if (a->n > 0)
		a->json = json_parse(a->body, a->n, ANSWER_MAX, NULL);
	return 0;
}

void
rest_fini(struct rest_answer *a)
{
	free(a->body);
	cJSON_Delete(a->json);
	memset(a, 0, sizeof(*a));
}

/* Text of the signer, fit for a terminal. */
static void
tell(const char *before, const char *s)
{
	char *t;

	if (s == NULL || *s == '\0')
		return;
	t = format_text(s, 400);
	fprintf(stderr, "%s%s\n", before, t);
	free(t);
}

static void
tell_problem(const char *what, const struct rest_answer *a)
{
	const cJSON *errors =
			cJSON_GetObjectItemCaseSensitive(a->json, "errors"),
		    *e;
	const char *title = json_string(a->json, "title");
	const char *hint = json_string(a->json, "hint"), *more;

	complain("%s: refused by the signer (%ld)", what, a->status);
	tell("  ", title != NULL ? title : a->body);
	cJSON_ArrayForEach(e, errors)
	{
		tell("  - ", json_string(e, "detail"));
		more = json_string(e, "hint");
		if (more != NULL && (hint == NULL || strcmp(more, hint) != 0))
			tell("    ", more);
	}
	tell("  ", hint);
}

int
rest_refused(const char *what, const struct rest_answer *a)
{
	tell_problem(what, a);
	switch (a->status) {
	case 401:
	case 403:
		return EXIT_DENIED;
	case 404:
		return EXIT_DOWN;
	case 429:
	case 502:
	case 503:
		return EXIT_LATER;
	default:
		return a->status >= 500 ? EXIT_IO : EXIT_REFUSED;
	}
}

int
rest_json(struct publisher *p, const char *method, const char *path,
    const cJSON *body, const char *what, cJSON **v_out)
{
	struct rest_answer a;
	int rc = rest_call(p, method, path, body, NULL, &a);

	if (rc == 0 && a.status != 200 && a.status != 201)
		rc = rest_refused(what, &a);
	else if (rc == 0 && a.json == NULL) {
		complain("%s: the signer's answer makes no sense", what);
		rc = EXIT_IO;
	}
	if (rc == 0) {
		*v_out = a.json;
		a.json = NULL;
	}
	rest_fini(&a);
	return rc;
}

char *
channel_path(const struct publisher *p, const char *rest)
{
	return xasprintf("/v1/firmware/%s/%s%s", p->o.product,
	    p->o.channel != NULL ? p->o.channel : p->conf->channel, rest);
}
