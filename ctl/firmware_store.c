/*
 * firmware_store.c - doing what a recipe says
 *
 * The same recipes that gateways get, read by the same code. A URI is a
 * credential: it is never printed. Faults of the network and of the store's
 * side are tried again, what the store refuses is the caller's.
 */
#include "firmware.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#include <openssl/evp.h>

#include "agent/recipe.h"
#include "json.h"
#include "xalloc.h"

#define BODY_KEPT 65536 /* octets of an answer that are looked at */
#define TRIES 5

struct transfer {
	struct publisher *p;
	const struct recipe_request *rq;
	const struct sending *what;
	uint64_t sent;
	char *body; /* of the answer */
	size_t body_n;
	char values[RECIPE_KEEP_MAX][RECIPE_VALUE_MAX]; /* of rq->keep */
	EVP_MD_CTX *hash; /* NULL: the body is kept instead */
	uint64_t hashed;
};

static size_t
on_send(char *out, size_t one, size_t n, void *arg)
{
	struct transfer *t = arg;
	const struct recipe_request *rq = t->rq;
	uint64_t length = rq->body == BODY_TEXT ? strlen(rq->text) : rq->length;
	ssize_t got;

	if (n > length - t->sent)
		n = (size_t)(length - t->sent);
	if (n == 0)
		return 0;
	if (rq->body == BODY_TEXT) {
		memcpy(out, rq->text + t->sent, n);
	} else if (t->what->memory != NULL) {
		memcpy(out, t->what->memory + rq->offset + t->sent, n);
	} else {
		got = pread(t->what->fd, out, n, (off_t)(rq->offset + t->sent));
		if (got <= 0)
			return CURL_READFUNC_ABORT;
		n = (size_t)got;
	}
	t->sent += n;
	return n;
}

static int
on_seek(void *arg, curl_off_t at, int from)
{
	struct transfer *t = arg;

	if (from != SEEK_SET || at < 0)
		return CURL_SEEKFUNC_FAIL;
	t->sent = (uint64_t)at;
	return CURL_SEEKFUNC_OK;
}

static size_t
on_body(char *s, size_t one, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t keep = n;

	if (t->hash != NULL) {
		EVP_DigestUpdate(t->hash, s, n);
		t->hashed += n;
		return n;
	}
	if (t->body_n + keep > BODY_KEPT)
		keep = BODY_KEPT - t->body_n;
	memcpy(t->body + t->body_n, s, keep);
	t->body_n += keep;
	return n;
}

static size_t
on_header(char *s, size_t one, size_t n, void *arg)
{
	struct transfer *t = arg;

	for (size_t i = 0; i < t->rq->keep_n; i++) {
		const char *name = t->rq->keep[i].header;
		size_t len = name != NULL ? strlen(name) : 0, at = len + 1;
		char *out = t->values[i];

		if (name == NULL || n <= at || s[len] != ':' ||
		    strncasecmp(s, name, len) != 0 ||
		    n - at >= RECIPE_VALUE_MAX)
			continue;
		while (at < n && s[at] == ' ')
			at++;
		snprintf(out, RECIPE_VALUE_MAX, "%.*s", (int)(n - at), s + at);
		out[strcspn(out, "\r\n")] = '\0';
	}
	return n;
}

static void
set_body(CURL *h, struct transfer *t)
{
	const struct recipe_request *rq = t->rq;
	uint64_t length = rq->body == BODY_TEXT ? strlen(rq->text) : rq->length;

	if (strcmp(rq->method, "HEAD") == 0)
		curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
	if (rq->body == BODY_NONE && strcmp(rq->method, "POST") != 0)
		return;
	curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(h, CURLOPT_READFUNCTION, on_send);
	curl_easy_setopt(h, CURLOPT_READDATA, t);
	curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(h, CURLOPT_SEEKDATA, t);
	curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE,
	    (curl_off_t)(rq->body == BODY_NONE ? 0 : length));
}

static struct curl_slist *
make_headers(const struct recipe_request *rq)
{
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");

	for (size_t i = 0; i < rq->headers_n; i++) {
		char *line = xasprintf(
		    "%s: %s", rq->headers[i].name, rq->headers[i].value);

		list = curl_slist_append(list, line);
		free(line);
	}
	return list;
}

/* One request, once. */
static CURLcode
send_once(struct transfer *t, const char *ca_pem, long *status,
    char why[CURL_ERROR_SIZE])
{
	struct curl_slist *headers = make_headers(t->rq);
	struct curl_blob pem = { (void *)(uintptr_t)ca_pem, 0,
		CURL_BLOB_NOCOPY };
	CURL *h = curl_easy_init();
	CURLcode rc;

	t->sent = t->hashed = 0;
	t->body_n = 0;
	why[0] = '\0';
	memset(t->values, 0, sizeof(t->values));
	if (t->hash != NULL)
		EVP_DigestInit_ex(t->hash, EVP_sha256(), NULL);
	curl_easy_setopt(h, CURLOPT_URL, t->rq->uri);
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 20L);
	curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 64L);
	curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, 60L);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, t->rq->method);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, t);
	if (ca_pem != NULL) {
		pem.len = strlen(ca_pem);
		curl_easy_setopt(h, CURLOPT_CAINFO_BLOB, &pem);
	}
	set_body(h, t);
	rc = curl_easy_perform(h);
	curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, status);
	curl_slist_free_all(headers);
	curl_easy_cleanup(h);
	if (rc != CURLE_OK && why[0] == '\0')
		snprintf(why, CURL_ERROR_SIZE, "%s", curl_easy_strerror(rc));
	return rc;
}

/* Until there is an answer that is not a passing trouble. */
static int
send_request(struct transfer *t, const char *ca_pem, long *status)
{
	char why[CURL_ERROR_SIZE];
	CURLcode rc = CURLE_OK;

	for (int i = 1; i <= TRIES; i++) {
		rc = send_once(t, ca_pem, status, why);
		if (rc == CURLE_OK && *status < 500 && *status != 429)
			return 0;
		if (rc == CURLE_PEER_FAILED_VERIFICATION)
			break;
		if (i < TRIES)
			nanosleep(&(struct timespec){ 1 << (i - 1), 0 }, NULL);
	}
	if (rc != CURLE_OK)
		complain("the store %s cannot be reached: %s. Run the same "
			 "command again: it goes on where it stopped.",
		    t->rq->origin.host, why);
	else
		complain("the store %s answers %ld. Run the same command "
			 "again later: it goes on where it stopped.",
		    t->rq->origin.host, *status);
	return rc == CURLE_PEER_FAILED_VERIFICATION ? EXIT_CONFIG : EXIT_LATER;
}

static int
keep_values(struct transfer *t, cJSON *kept)
{
	for (size_t i = 0; i < t->rq->keep_n; i++) {
		const struct recipe_keep *k = &t->rq->keep[i];
		bool there = k->tag != NULL
		    ? answer_text(t->body, t->body_n, k->tag, t->values[i],
			  RECIPE_VALUE_MAX) == 0
		    : t->values[i][0] != '\0';

		/* An empty tag is there: radosgw's of a completed upload. */
		if (!there) {
			complain("the store's answer lacks %s", k->name);
			return EXIT_IO;
		}
		if (kept == NULL)
			continue;
		cJSON_DeleteItemFromObjectCaseSensitive(kept, k->name);
		json_add_text(kept, k->name, t->values[i]);
	}
	return 0;
}

/* The authorities of a store's certificate, from the signer. */
static int
get_ca(struct publisher *p, const char *id, char **pem_out)
{
	struct rest_answer a;
	char *path;
	int rc;

	*pem_out = NULL;
	if (id == NULL)
		return 0;
	path = xasprintf("/v1/certificates/%.64s", id);
	rc = rest_call(p, "GET", path, NULL, NULL, &a);
	if (rc == 0 && a.status != 200)
		rc = rest_refused("the store's certificate", &a);
	if (rc == 0)
		*pem_out = xstrdup(a.body != NULL ? a.body : "");
	rest_fini(&a);
	free(path);
	return rc;
}

static int
read_recipe(struct publisher *p, const cJSON *v, uint64_t size,
    struct recipe **r_out, char **pem_out)
{
	struct origin own;
	struct recipe_rules rules = { .size = size,
		.allow_http = p->conf->allow_http,
		.allow_private = true,
		.exempt = &own };
	char why[256] = "it is missing";
	int rc;

	rules.exempt_n = origin_parse(p->conf->url, &own) == 0;
	rc = v == NULL ? -EINVAL
		       : recipe_parse(v, &rules, r_out, why, sizeof(why));
	if (rc != 0) {
		complain("the signer's recipe cannot be used: %s", why);
		return EXIT_IO;
	}
	rc = get_ca(p, (*r_out)->certificate_id, pem_out);
	if (rc != 0)
		recipe_free(*r_out);
	return rc;
}

int
store_do(struct publisher *p, const cJSON *recipe, const struct sending *what,
    cJSON *kept, int *status_out, bool *refused_out)
{
	struct transfer *t = xcalloc(1, sizeof(*t));
	struct recipe *r;
	char *pem;
	long status = 0;
	int rc = read_recipe(p, recipe, what->size, &r, &pem);

	*refused_out = false;
	*status_out = 0;
	if (rc != 0) {
		free(t);
		return rc;
	}
	t->p = p;
	t->what = what;
	t->body = xmalloc(BODY_KEPT);
	for (size_t i = 0; rc == 0 && i < r->requests_n; i++) {
		t->rq = &r->requests[i];
		rc = send_request(t, pem, &status);
		if (rc == 0 && !recipe_request_ok(t->rq, (int)status)) {
			*refused_out = true;
			break;
		}
		if (rc == 0)
			rc = keep_values(t, kept);
	}
	*status_out = (int)status;
	recipe_free(r);
	free(pem);
	free(t->body);
	free(t);
	return rc;
}

int
store_hash(struct publisher *p, const cJSON *recipe, uint8_t sha256_out[32],
    uint64_t *size_out, int *status_out)
{
	struct sending nothing = { .fd = -1 };
	struct transfer *t;
	struct recipe *r;
	char *pem;
	long status = 0;
	int rc = read_recipe(p, recipe, 0, &r, &pem);

	if (rc != 0)
		return rc;
	t = xcalloc(1, sizeof(*t));
	t->p = p;
	t->what = &nothing;
	t->rq = &r->requests[0];
	t->hash = EVP_MD_CTX_new();
	rc = send_request(t, pem, &status);
	EVP_DigestFinal_ex(t->hash, sha256_out, NULL);
	*size_out = t->hashed;
	*status_out = (int)status;
	EVP_MD_CTX_free(t->hash);
	free(t);
	free(pem);
	recipe_free(r);
	return rc;
}
