/*
 * outgoing.c - requests that the signer itself makes
 *
 * The address is looked at when the socket is opened, after DNS, so that no
 * name that changes its mind between check and use leads elsewhere.
 */
#include "outgoing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <curl/curl.h>

#include "clock.h"
#include "xalloc.h"

#define BODY_MAX (256 * 1024)

struct call {
	const struct out_request *rq;
	struct out_answer *a;
	bool private;
	size_t sent;
	CURL *h;
	struct curl_slist *headers;
	char why[CURL_ERROR_SIZE];
};

struct outgoing {
	CURLM *multi; /* keeps connections from one run to the next */
	size_t parallel;
};

/* Set once, at the end of the program: nothing but ending depends on it. */
static atomic_bool stopped;

void
outgoing_stop(void)
{
	stopped = true;
}

static int
on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	return stopped; /* not 0: give up */
}

int
outgoing_init(void)
{
	return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : -EIO;
}

void
outgoing_fini(void)
{
	curl_global_cleanup();
}

static bool
is_private4(uint32_t a)
{
	static const struct {
		uint32_t net, mask;
	} nets[] = {
		{ 0x00000000, 0xff000000 },
		{ 0x0a000000, 0xff000000 },
		{ 0x64400000, 0xffc00000 },
		{ 0x7f000000, 0xff000000 },
		{ 0xa9fe0000, 0xffff0000 },
		{ 0xac100000, 0xfff00000 },
		{ 0xc0000000, 0xffffff00 },
		{ 0xc0a80000, 0xffff0000 },
		{ 0xc6120000, 0xfffe0000 },
		{ 0xe0000000, 0xe0000000 },
	};

	for (size_t i = 0; i < sizeof(nets) / sizeof(nets[0]); i++)
		if ((a & nets[i].mask) == nets[i].net)
			return true;
	return false;
}

static bool
is_private(const struct sockaddr *sa)
{
	const uint8_t *b;
	uint32_t v4;

	if (sa->sa_family == AF_INET)
		return is_private4(
		    ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr));
	if (sa->sa_family != AF_INET6)
		return true;
	b = ((const struct sockaddr_in6 *)sa)->sin6_addr.s6_addr;
	memcpy(&v4, b + 12, 4);
	if (memcmp(b, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0 ||
	    memcmp(b, "\0\x64\xff\x9b\0\0\0\0\0\0\0\0", 12) == 0)
		return is_private4(ntohl(v4)); /* mapped, and NAT64 */
	if (b[0] == 0x20 && b[1] == 0x02) {    /* 6to4 */
		memcpy(&v4, b + 2, 4);
		return is_private4(ntohl(v4));
	}
	return b[0] == 0 || (b[0] & 0xfe) == 0xfc ||
	    (b[0] == 0xfe && (b[1] & 0x80) == 0x80) || b[0] == 0xff;
}

static curl_socket_t
on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *addr)
{
	struct call *c = arg;

	if (!c->rq->allow_private && is_private(&addr->addr)) {
		c->private = true;
		return CURL_SOCKET_BAD;
	}
	return socket(
	    addr->family, addr->socktype | SOCK_CLOEXEC, addr->protocol);
}

static size_t
on_body(char *p, size_t size, size_t n, void *arg)
{
	struct call *c = arg;

	if (c->a->body.n + size * n > BODY_MAX)
		return 0;
	text_add(&c->a->body, p, size * n);
	return size * n;
}

/* The value of a header line of that name; what does not fit is left out. */
static void
take_header(
    const char *line, size_t len, const char *name, char *out, size_t size)
{
	size_t n = strlen(name);

	if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
		return;
	for (n++; n < len && line[n] == ' ';)
		n++;
	if (len - n >= size)
		return;
	snprintf(out, size, "%.*s", (int)(len - n), line + n);
	out[strcspn(out, "\r\n")] = '\0';
}

static size_t
on_header(char *p, size_t size, size_t n, void *arg)
{
	struct call *c = arg;
	size_t len = size * n;

	take_header(p, len, "Date", c->a->date, sizeof(c->a->date));
	if (c->rq->want_header != NULL)
		take_header(p, len, c->rq->want_header, c->a->wanted,
		    sizeof(c->a->wanted));
	return len;
}

static size_t
on_send(char *p, size_t size, size_t n, void *arg)
{
	struct call *c = arg;
	size_t left = c->rq->body_n - c->sent, len = size * n;

	if (len > left)
		len = left;
	memcpy(p, c->rq->body + c->sent, len);
	c->sent += len;
	return len;
}

static struct curl_slist *
header_list(const struct out_request *rq)
{
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");

	for (size_t i = 0; i < rq->headers_n; i++) {
		char *line;

		if (strcasecmp(rq->headers[i].name, "content-length") == 0)
			continue;
		line = xasprintf(
		    "%s: %s", rq->headers[i].name, rq->headers[i].value);
		list = curl_slist_append(list, line);
		explicit_bzero(line, strlen(line));
		free(line);
	}
	return list;
}

static enum out_fault
fault_of(CURLcode rc, const struct call *c)
{
	if (c->private)
		return OUT_PRIVATE;
	switch (rc) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return OUT_DNS;
	case CURLE_COULDNT_CONNECT:
		return OUT_CONNECT;
	case CURLE_OPERATION_TIMEDOUT:
		return OUT_TIMEOUT;
	case CURLE_SSL_CONNECT_ERROR:
		return OUT_NO_TLS;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
		return OUT_TLS;
	default:
		return OUT_OTHER;
	}
}

static void
set_method(CURL *h, struct call *c)
{
	const struct out_request *rq = c->rq;

	curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, rq->method);
	if (strcmp(rq->method, "HEAD") == 0)
		curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
	if (rq->body == NULL && rq->method[0] != 'P')
		return;
	curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)rq->body_n);
	curl_easy_setopt(h, CURLOPT_READFUNCTION, on_send);
	curl_easy_setopt(h, CURLOPT_READDATA, c);
}

static void
set_callbacks(CURL *h, struct call *c)
{
	curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(h, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(h, CURLOPT_OPENSOCKETDATA, c);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(h, CURLOPT_PRIVATE, c);
}

static void
call_begin(struct call *c, const struct out_request *rq, struct out_answer *a)
{
	CURL *h = curl_easy_init();

	memset(a, 0, sizeof(*a));
	*c = (struct call){ .rq = rq, .a = a, .h = h };
	c->headers = header_list(rq);
	curl_easy_setopt(h, CURLOPT_URL, rq->uri);
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, rq->timeout_ms);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, c->why);
	curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, c->headers);
	set_callbacks(h, c);
	if (rq->ca_pem != NULL) {
		/* Copied: a connection that is kept outlives its request. */
		struct curl_blob pem = { (void *)(uintptr_t)rq->ca_pem,
			strlen(rq->ca_pem), CURL_BLOB_COPY };

		curl_easy_setopt(h, CURLOPT_CAINFO_BLOB, &pem);
	}
	set_method(h, c);
}

static void
trim(char *s)
{
	for (size_t n = strlen(s); n > 0 && s[n - 1] == ' '; n--)
		s[n - 1] = '\0';
}

static void
call_end(struct call *c, CURLcode rc)
{
	struct out_answer *a = c->a;
	long status = 0;
	curl_off_t length = -1;

	curl_easy_getinfo(c->h, CURLINFO_RESPONSE_CODE, &status);
	a->status = (int)status;
	curl_easy_getinfo(c->h, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	a->length = (int64_t)length;
	if (rc != CURLE_OK) {
		a->fault = fault_of(rc, c);
		snprintf(a->error, sizeof(a->error), "%s",
		    c->private              ? "it leads to a private address"
			: c->why[0] != '\0' ? c->why
					    : curl_easy_strerror(rc));
		trim(a->error);
	}
	text_add(&a->body, "", 0); /* never NULL */
	curl_slist_free_all(c->headers);
	curl_easy_cleanup(c->h);
	c->h = NULL;
}

void
outgoing_call(const struct out_request *rq, struct out_answer *a)
{
	struct call c;

	call_begin(&c, rq, a);
	call_end(&c, curl_easy_perform(c.h));
}

/* ---- many at once -------------------------------------------------------- */

struct outgoing *
outgoing_open(size_t parallel)
{
	struct outgoing *o = xcalloc(1, sizeof(*o));

	o->parallel = parallel;
	o->multi = curl_multi_init();
	curl_multi_setopt(o->multi, CURLMOPT_MAXCONNECTS, (long)parallel);
	return o;
}

void
outgoing_close(struct outgoing *o)
{
	if (o == NULL)
		return;
	curl_multi_cleanup(o->multi);
	free(o);
}

/* Take those that are over; their number. */
static size_t
reap(struct outgoing *o, bool *fault_out)
{
	struct CURLMsg *m;
	struct call *c;
	CURLcode rc;
	size_t n = 0;
	int left;

	while ((m = curl_multi_info_read(o->multi, &left)) != NULL) {
		if (m->msg != CURLMSG_DONE)
			continue;
		rc = m->data.result; /* m goes with the handle */
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
		curl_multi_remove_handle(o->multi, c->h);
		call_end(c, rc);
		*fault_out = *fault_out || c->a->fault != OUT_OK;
		n++;
	}
	return n;
}

/* False: there is no time left for it. */
static bool
multi_begin(struct outgoing *o, struct call *c, const struct out_request *rq,
    struct out_answer *a, int64_t until_ms)
{
	int64_t left = until_ms - clock_ms();

	if (left <= 0)
		return false;
	call_begin(c, rq, a);
	if (left < rq->timeout_ms)
		curl_easy_setopt(c->h, CURLOPT_TIMEOUT_MS, (long)left);
	curl_multi_add_handle(o->multi, c->h);
	return true;
}

static void
give_up(struct out_answer *a)
{
	memset(a, 0, sizeof(*a));
	a->fault = OUT_TIMEOUT;
	snprintf(a->error, sizeof(a->error), "it takes too long");
	text_add(&a->body, "", 0);
}

void
outgoing_calls(struct outgoing *o, const struct out_request *rqs,
    struct out_answer *as, size_t n, int64_t until_ms)
{
	struct call *calls = xcalloc(n + 1, sizeof(*calls));
	size_t begun = 0, ended = 0;
	bool stop = false;
	int running;

	while (ended < begun || (!stop && begun < n)) {
		while (!stop && begun < n && begun - ended < o->parallel) {
			stop = !multi_begin(o, &calls[begun], &rqs[begun],
			    &as[begun], until_ms);
			begun += !stop;
		}
		if (curl_multi_perform(o->multi, &running) != CURLM_OK)
			abort(); /* of wrong use or no memory only */
		ended += reap(o, &stop);
		if (running > 0)
			curl_multi_poll(o->multi, NULL, 0, 1000, NULL);
	}
	for (; begun < n; begun++)
		give_up(&as[begun]);
	free(calls);
}

void
out_answer_fini(struct out_answer *a)
{
	if (a->body.s != NULL)
		explicit_bzero(a->body.s, a->body.n);
	text_fini(&a->body);
}

bool
out_unreachable(const struct out_answer *a)
{
	return a->fault != OUT_OK || a->status >= 500 || a->status == 429;
}

char *
xml_tag(const char *body, const char *tag)
{
	static const struct {
		const char *entity;
		char c;
	} entities[] = { { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' },
		{ "&quot;", '"' }, { "&apos;", '\'' } };
	char *open = xasprintf("<%s>", tag);
	const char *p = strstr(body, open), *end;
	struct text t = { 0 };

	free(open);
	if (p == NULL)
		return NULL;
	p += strlen(tag) + 2;
	end = strchr(p, '<');
	if (end == NULL)
		return NULL;
	while (p < end) {
		size_t i = 0;

		while (i < 5 &&
		    strncmp(
			p, entities[i].entity, strlen(entities[i].entity)) != 0)
			i++;
		text_char(&t, i < 5 ? entities[i].c : *p);
		p += i < 5 ? strlen(entities[i].entity) : 1;
	}
	return text_steal(&t);
}
