/*
 * http_route.c - requests: routing, and what handlers ask of them
 *
 * The path is decoded once; routes are compared with the decoded octets, so
 * that no spelling of a path reaches another row of the table than the plain
 * one. A request is one block: itself, the path, a copy of the path that is
 * cut into parameters.
 */
#include "http_internal.h"

#include <assert.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "url.h"
#include "xalloc.h"

/* ---- life ---------------------------------------------------------------- */

struct http_request *
request_new(struct conn *c, struct http_head *head)
{
	size_t n = strcspn(head->target, "?");
	struct http_request *rq = xcalloc(1, sizeof(*rq) + 2 * (n + 1));

	rq->conn = c;
	rq->head = *head;
	memcpy(rq->path, head->target, n); /* still to be decoded */
	rq->query = head->target + n + (head->target[n] == '?');
	SLIST_INIT(&rq->queries);
	return rq;
}

static void
collect_drop(struct http_request *rq)
{
	struct http_collect *k = rq->collect;

	if (k == NULL)
		return;
	rq->conn->hs->collected -= k->size;
	free(k->buf);
	k->buf = NULL;
	k->n = k->size = 0;
}

void
request_free(struct http_request *rq)
{
	struct query_value *q;

	while ((q = SLIST_FIRST(&rq->queries)) != NULL) {
		SLIST_REMOVE_HEAD(&rq->queries, link);
		free(q->text);
		free(q);
	}
	collect_drop(rq);
	free(rq->collect);
	free(rq->reply.fields);
	http_head_fini(&rq->head);
	free(rq);
}

/* ---- routing ------------------------------------------------------------- */

/* Decode rq->path in place; -1 for what must not be in a path. */
static int
decode_path(struct http_request *rq)
{
	char *out;
	size_t n;

	if (strchr(rq->path, '%') == NULL)
		return 0;
	if (url_decode(rq->path, strlen(rq->path), false, &out, &n) != 0)
		return -1;
	if (memchr(out, '\0', n) != NULL) {
		free(out);
		return -1;
	}
	memcpy(rq->path, out, n + 1);
	free(out);
	return 0;
}

/* Does the path fit the route's? Its parameters go to out as offsets. */
static bool
fits(const char *route, const char *path, struct param *out, unsigned *n_out)
{
	const char *start = path;
	unsigned n = 0;

	while (*route != '\0') {
		if (strcmp(route, "*") == 0 || *route == ':') {
			size_t len =
			    *route == '*' ? strlen(path) : strcspn(path, "/");

			if (len == 0 && *route == ':')
				return false;
			assert(n < PARAMS_MAX);
			out[n].name = route + (*route == ':');
			out[n].at = (unsigned)(path - start);
			out[n++].n = (unsigned)len;
			path += len;
			route += strcspn(route, "/");
		} else if (*route++ != *path++) {
			return false;
		}
	}
	*n_out = n;
	return *path == '\0';
}

/* Is the method one of the words of list? */
static bool
has_method(const char *list, const char *method)
{
	size_t n = strlen(method);

	for (const char *p = list; (p = strstr(p, method)) != NULL; p += n)
		if ((p == list || p[-1] == ' ') &&
		    (p[n] == ' ' || p[n] == '\0'))
			return true;
	return false;
}

/* Cut the copy of the path, which follows it, into the parameters' values. */
static void
cut_params(struct http_request *rq)
{
	char *copy = rq->path + strlen(rq->path) + 1;

	memcpy(copy, rq->path, strlen(rq->path) + 1);
	for (unsigned i = 0; i < rq->params_n; i++)
		copy[rq->params[i].at + rq->params[i].n] = '\0';
}

/* "GET HEAD" and "HEAD PUT" to "GET, HEAD, PUT" */
static void
add_allow(char *allow, size_t size, const char *list)
{
	while (*list != '\0') {
		size_t n = strcspn(list, " "), have = strlen(allow);

		if (memmem(allow, have, list, n) == NULL &&
		    have + n + 3 <= size)
			snprintf(allow + have, size - have, "%s%.*s",
			    have > 0 ? ", " : "", (int)n, list);
		list += n + (list[n] == ' ');
	}
}

void
request_route(struct http_request *rq)
{
	const struct http_server *hs = rq->conn->hs;
	char allow[128] = "";

	if (decode_path(rq) != 0) {
		http_reply_error(rq, 400, "bad percent-encoding in the path",
		    "write % as %25");
		return;
	}
	for (size_t i = 0; i < hs->routes_n; i++) {
		const struct http_route *r = &hs->routes[i];

		if (!fits(r->path, rq->path, rq->params, &rq->params_n))
			continue;
		if (has_method(r->method, rq->head.method)) {
			cut_params(rq);
			r->handler(rq, hs->arg);
			return;
		}
		add_allow(allow, sizeof(allow), r->method);
	}
	rq->params_n = 0;
	if (allow[0] == '\0') {
		http_reply_error(rq, 404, "nothing is here", NULL);
		return;
	}
	http_reply_header(rq, "Allow", allow);
	http_reply_error(rq, 405, "the method does not fit the path", NULL);
}

/* ---- what handlers ask --------------------------------------------------- */

const struct http_head *
http_request_head(const struct http_request *rq)
{
	return &rq->head;
}

const char *
http_request_method(const struct http_request *rq)
{
	return rq->head.method;
}

const char *
http_request_path(const struct http_request *rq)
{
	return rq->path;
}

const char *
http_request_param(const struct http_request *rq, const char *name)
{
	size_t n = strlen(name);

	for (unsigned i = 0; i < rq->params_n; i++)
		if (strcspn(rq->params[i].name, "/") == n &&
		    memcmp(rq->params[i].name, name, n) == 0)
			return rq->path + strlen(rq->path) + 1 +
			    rq->params[i].at;
	return NULL;
}

const char *
http_request_query(const struct http_request *rq)
{
	return rq->query;
}

/* Is the raw name p[0..n) the wanted one? */
static bool
same_name(const char *p, size_t n, const char *name)
{
	char *text;
	size_t k;
	bool same;

	if (memchr(p, '%', n) == NULL)
		return n == strlen(name) && memcmp(p, name, n) == 0;
	url_decode(p, n, true, &text, &k);
	same = k == strlen(name) && memcmp(text, name, k) == 0;
	free(text);
	return same;
}

const char *
http_request_query_get(struct http_request *rq, const char *name)
{
	const char *p = rq->query;

	while (*p != '\0') {
		size_t n = strcspn(p, "&"), k = strcspn(p, "=&");
		struct query_value *q;

		if (same_name(p, k, name)) {
			const char *v = p + k + (p[k] == '=');
			size_t len;

			q = xcalloc(1, sizeof(*q));
			url_decode(
			    v, (size_t)(p + n - v), true, &q->text, &len);
			SLIST_INSERT_HEAD(&rq->queries, q, link);
			return q->text;
		}
		p += n + (p[n] == '&');
	}
	return NULL;
}

const char *
http_request_header(const struct http_request *rq, const char *name)
{
	return http_head_get(&rq->head, name);
}

void
http_request_forget_head(struct http_request *rq)
{
	struct http_head *h = &rq->head;

	rq->query = h->target = h->host = "";
	h->method = strcmp(h->method, "HEAD") == 0 ? "HEAD" : "";
	h->headers_n = 0;
	free(h->text);
	h->text = NULL;
}

const char *
http_request_peer(const struct http_request *rq)
{
	return conn_peer(rq->conn);
}

bool
http_request_tls(const struct http_request *rq)
{
	return rq->conn->ssl != NULL;
}

const char *
http_request_peer_name(const struct http_request *rq)
{
	struct conn *c = rq->conn;
	unsigned char *text = NULL;
	X509_NAME *subject;
	X509 *cert;
	int at, n = -1;

	if (c->ssl == NULL || c->peer_name != NULL)
		return c->peer_name;
	cert = SSL_get1_peer_certificate(c->ssl);
	if (cert == NULL)
		return NULL;
	subject = X509_get_subject_name(cert);
	at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	if (SSL_get_verify_result(c->ssl) == X509_V_OK && at >= 0)
		n = ASN1_STRING_to_UTF8(&text,
		    X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	if (n > 0 && memchr(text, '\0', (size_t)n) == NULL)
		c->peer_name = xstrndup((char *)text, (size_t)n);
	OPENSSL_free(text);
	X509_free(cert);
	return c->peer_name;
}

bool
http_request_has_body(const struct http_request *rq)
{
	return rq->body.framing != HTTP_BODY_NONE;
}

uint64_t
http_request_length(const struct http_request *rq)
{
	switch (rq->body.framing) {
	case HTTP_BODY_NONE:
		return 0;
	case HTTP_BODY_LENGTH:
		return rq->head.length;
	default:
		return UINT64_MAX;
	}
}

void
http_request_set_user(struct http_request *rq, void *user)
{
	rq->user = user;
}

void *
http_request_user(const struct http_request *rq)
{
	return rq->user;
}

void
http_request_on_done(struct http_request *rq,
    void (*done)(struct http_request *rq, bool ok, void *arg), void *arg)
{
	rq->done = done;
	rq->done_arg = arg;
}

void
http_request_eof_ends(struct http_request *rq)
{
	rq->eof_ends = true;
	if (rq->conn->fin) {
		rq->conn->broken = true;
		server_turn(rq->conn);
	}
}

/* ---- bodies -------------------------------------------------------------- */

void
http_request_receive(
    struct http_request *rq, const struct http_sink *sink, void *arg)
{
	struct conn *c = rq->conn;

	assert(rq->sink == NULL && !rq->reply.begun);
	server_enter(c);
	rq->sink = sink;
	rq->sink_arg = arg;
	conn_go(c, CONN_BODY);
	/* not if the body is here already: then nobody waits for it */
	if (rq->head.expect_continue && !rq->body_done && c->in_n == 0)
		reply_100(c);
	server_turn(c);
}

void
http_request_resume(struct http_request *rq)
{
	struct conn *c = rq->conn;
	int64_t grace;

	if (!c->paused)
		return;
	server_enter(c);
	c->paused = false;
	grace = c->hs->now + c->hs->set.head_timeout_ms;
	if (c->deadline < grace)
		server_deadline(c, grace);
	server_turn(c);
}

static void
too_large(struct http_request *rq, size_t max)
{
	char hint[64];

	snprintf(hint, sizeof(hint), "at most %zu octets are taken here", max);
	http_reply_error(rq, 413, "the body is too large", hint);
}

/* Room for n more and a NUL; false: there are too many bodies. */
static bool
collect_grow(struct http_request *rq, struct http_collect *k, size_t n)
{
	struct http_server *hs = rq->conn->hs;
	size_t size = 2 * (k->n + n + 1), max = hs->set.collect_max;

	if (k->n + n + 1 <= k->size)
		return true;
	if (max != 0 && hs->collected - k->size + size > max)
		return false;
	hs->collected += size - k->size;
	k->size = size;
	k->buf = xrealloc(k->buf, size);
	return true;
}

static int
on_collect_data(struct http_request *rq, const char *p, size_t n, void *arg)
{
	struct http_collect *k = arg;

	if (n > k->max - k->n) {
		size_t max = k->max;

		collect_drop(rq); /* k is gone */
		too_large(rq, max);
		return 0;
	}
	if (!collect_grow(rq, k, n)) {
		collect_drop(rq);
		http_reply_header(rq, "Retry-After", "10");
		http_reply_error(
		    rq, 503, "too many bodies are on their way", NULL);
		return 0;
	}
	memcpy(k->buf + k->n, p, n);
	k->n += n;
	k->buf[k->n] = '\0';
	return 0;
}

static void
on_collect_end(struct http_request *rq, void *arg)
{
	struct http_collect *k = arg;

	k->fn(rq, k->n > 0 ? k->buf : "", k->n, k->arg);
}

static void
on_collect_lost(struct http_request *rq, void *arg)
{
}

void
http_request_collect(struct http_request *rq, size_t max,
    void (*fn)(struct http_request *rq, const char *body, size_t n, void *arg),
    void *arg)
{
	static const struct http_sink sink = {
		.data = on_collect_data,
		.end = on_collect_end,
		.lost = on_collect_lost,
	};
	struct http_collect *k;

	if (rq->body.framing == HTTP_BODY_LENGTH && rq->head.length > max) {
		too_large(rq, max);
		return;
	}
	k = xcalloc(1, sizeof(*k));
	k->max = max;
	k->fn = fn;
	k->arg = arg;
	rq->collect = k;
	http_request_receive(rq, &sink, k);
}
