/*
 * transfer.c - one HTTP exchange by libcurl: its options, bodies and end
 *
 * Every address is looked at before it is connected to (open_socket), so that
 * no name leads into the site unless that is allowed. A handle may have served
 * another exchange before (transfer_loop.c): what is not set here is as libcurl
 * has it.
 */
#include "transfer_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <curl/curl.h>
#include <event2/event.h>

#include "origin.h"
#include "xalloc.h"

#define CONNECT_MS 15000L
#define STALL_RATE 10L /* octets per second */
#define STALL_S 60L
#define LEAST_RATE 50 /* octets per second of a whole body */
#define UPLOAD_BUFFER_MIN (16L * 1024)
#define UPLOAD_BUFFER_MAX (128L * 1024)
#define ANSWER_BUFFER (16L * 1024)

/* ---- callbacks of one transfer ------------------------------------------- */

/* CURLOPT_OPENSOCKETFUNCTION */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct xfer *t = arg;
	char text[64];

	if (!t->allow_private && address_is_private(&a->addr)) {
		if (t->refused == NULL) {
			evutil_inet_ntop(a->family,
			    a->family == AF_INET6
				? (void *)&((struct sockaddr_in6 *)&a->addr)
				      ->sin6_addr
				: (void *)&((struct sockaddr_in *)&a->addr)
				      ->sin_addr,
			    text, sizeof(text));
			t->refused = xstrdup(text);
		}
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* CURLOPT_READFUNCTION */
static size_t
on_read(char *buf, size_t size, size_t n, void *arg)
{
	struct xfer *t = arg;
	ssize_t got;

	n *= size;
	if (t->source.read != NULL) {
		got = t->source.read(t->source.arg, buf, n);
		if (got >= 0)
			return (size_t)got;
		t->paused = got == -EAGAIN;
		return t->paused ? CURL_READFUNC_PAUSE : CURL_READFUNC_ABORT;
	}
	if (n > t->text_n - t->text_at)
		n = t->text_n - t->text_at;
	if (n > 0)
		memcpy(buf, t->text + t->text_at, n);
	t->text_at += n;
	return n;
}

/* CURLOPT_SEEKFUNCTION: a kept connection was dead, the body begins again. */
static int
on_seek(void *arg, curl_off_t offset, int origin)
{
	struct xfer *t = arg;

	if (origin != SEEK_SET || offset != 0)
		return CURL_SEEKFUNC_CANTSEEK;
	t->text_at = 0;
	if (t->source.read != NULL && t->source.rewind(t->source.arg) != 0)
		return CURL_SEEKFUNC_FAIL;
	return CURL_SEEKFUNC_OK;
}

static size_t
to_sink(struct xfer *t, const char *p, size_t n)
{
	long status = 0;
	int rc;

	if (!t->headed) {
		t->headed = true;
		curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
		if (t->sink.head(t->sink.arg, t, (int)status) != 0)
			return 0;
	}
	rc = t->sink.write(t->sink.arg, p, n);
	t->paused = rc == -EAGAIN;
	if (t->paused)
		return CURL_WRITEFUNC_PAUSE;
	return rc == 0 ? n : 0;
}

/* CURLOPT_WRITEFUNCTION: the answer, up to its limit. */
static size_t
on_write(char *p, size_t size, size_t n, void *arg)
{
	struct xfer *t = arg;

	n *= size;
	if (t->sink.write != NULL)
		return to_sink(t, p, n);
	if (n > t->body_max - t->body_n) {
		t->too_long = true;
		return 0;
	}
	if (t->body_n + n + 1 > t->body_size) {
		t->body_size = (t->body_n + n + 1) * 2;
		t->body = xrealloc(t->body, t->body_size);
	}
	memcpy(t->body + t->body_n, p, n);
	t->body_n += n;
	t->body[t->body_n] = '\0';
	return n;
}

/* ---- the end of a transfer ----------------------------------------------- */

static void
xfer_free(struct xfer *t)
{
	xfers_handle_back(t->x, t->easy);
	if (t->broken != NULL)
		event_free(t->broken);
	curl_slist_free_all(t->headers);
	free(t->refused);
	free(t->text);
	free(t->body);
	free(t);
}

const char *
xfer_header(const struct xfer *t, const char *name)
{
	struct curl_header *h;

	if (curl_easy_header(t->easy, name, 0, CURLH_HEADER, -1, &h) !=
	    CURLHE_OK)
		return NULL;
	return h->value;
}

/* Seconds, or a date: then the time since the answer's own Date. */
static int64_t
retry_after_ms(const struct xfer *t)
{
	const char *s = xfer_header(t, "Retry-After");
	const char *date = xfer_header(t, "Date");
	time_t then, now;
	char *end;
	long long v;

	if (s == NULL)
		return -1;
	errno = 0;
	v = strtoll(s, &end, 10);
	if (end != s && *end == '\0' && errno == 0)
		return v < 0 ? -1 : v > 86400 ? 86400000 : v * 1000;
	then = curl_getdate(s, NULL);
	now = date != NULL ? curl_getdate(date, NULL) : -1;
	if (then < 0 || now < 0 || then < now)
		return -1;
	return then - now > 86400 ? 86400000 : (int64_t)(then - now) * 1000;
}

static bool
is_tls_error(CURLcode code)
{
	return code == CURLE_PEER_FAILED_VERIFICATION ||
	    code == CURLE_SSL_CONNECT_ERROR ||
	    code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_CERTPROBLEM ||
	    code == CURLE_SSL_ISSUER_ERROR;
}

static int
to_errno(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		return -ECONNREFUSED;
	case CURLE_ABORTED_BY_CALLBACK:
	case CURLE_READ_ERROR:
		return -ECANCELED;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return is_tls_error(code) ? -EKEYREJECTED : -EIO;
	}
}

void
xfer_end(struct xfer *t, CURLcode code)
{
	struct xfer_result r = { .rc = to_errno(code), .xfer = t };
	curl_off_t sent = 0;
	long status = 0;
	char words[160];

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
	r.status = (int)status;
	r.sent = (uint64_t)sent;
	r.body = t->body != NULL ? t->body : "";
	r.body_n = t->body_n;
	r.tls = is_tls_error(code);
	r.retry_after_ms = retry_after_ms(t);
	if (t->refused != NULL && code != CURLE_OK) {
		snprintf(words, sizeof(words),
		    "its address %s is private: it needs [upload] "
		    "allow_private",
		    t->refused);
		r.error = words;
		r.rc = -EACCES;
	} else if (t->too_long) {
		r.error = "its answer is too long";
		r.rc = -EMSGSIZE;
	} else if (code != CURLE_OK) {
		r.error =
		    t->error[0] != '\0' ? t->error : curl_easy_strerror(code);
	}
	/* Nothing more may be read from the source: its owner may free it. */
	t->source.read = NULL;
	t->fn(&r, t->arg);
	xfer_free(t);
}

/* ---- the start ----------------------------------------------------------- */

static void
add_header(struct xfer *t, const char *name, const char *value)
{
	/* libcurl takes "Name;" for an empty value; "Name:" removes one. */
	char *line = *value != '\0' ? xasprintf("%s: %s", name, value)
				    : xasprintf("%s;", name);
	struct curl_slist *list = curl_slist_append(t->headers, line);

	free(line);
	if (list == NULL)
		abort(); /* out of memory, as in xalloc.c */
	t->headers = list;
}

static void
set_headers(struct xfer *t, const struct xfer_request *rq)
{
	static const char *const off[] = {
		"Expect:", "Accept:", "Content-Type:"
	};
	bool has_type = false;

	for (size_t i = 0; i < rq->headers_n; i++) {
		add_header(t, rq->headers[i].name, rq->headers[i].value);
		has_type |= evutil_ascii_strcasecmp(
				rq->headers[i].name, "Content-Type") == 0;
	}
	for (size_t i = 0; i < (has_type ? 2 : 3); i++)
		t->headers = curl_slist_append(t->headers, off[i]);
	if (rq->bearer != NULL) {
		char *value = xasprintf("Bearer %s", rq->bearer);

		add_header(t, "Authorization", value);
		explicit_bzero(value, strlen(value));
		free(value);
	}
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
}

/* A small body goes to the kernel at one go. */
static long
upload_buffer(uint64_t length)
{
	return length <= UPLOAD_BUFFER_MIN ? UPLOAD_BUFFER_MIN
	    : length <= UPLOAD_BUFFER_MAX  ? (long)length
					   : UPLOAD_BUFFER_MIN * 2;
}

static void
set_body(struct xfer *t, const struct xfer_request *rq)
{
	CURL *e = t->easy;
	uint64_t n = rq->length;

	if (rq->source != NULL) {
		t->source = *rq->source;
	} else if (rq->text != NULL) {
		t->text = xstrdup(rq->text);
		t->text_n = n = strlen(rq->text);
	}
	if (strcmp(rq->method, "HEAD") == 0) {
		curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
		return;
	}
	if (rq->source != NULL || rq->text != NULL || rq->method[0] == 'P') {
		curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)n);
		curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(e, CURLOPT_READDATA, t);
		curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(e, CURLOPT_SEEKDATA, t);
		curl_easy_setopt(
		    e, CURLOPT_UPLOAD_BUFFERSIZE, upload_buffer(n));
	}
	curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, rq->method);
}

static void
set_tls(CURL *e, const struct xfer_request *rq)
{
	struct curl_blob pem = { .flags = CURL_BLOB_COPY };

	curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (rq->ca_pem != NULL) {
		pem.data = (void *)(uintptr_t)rq->ca_pem;
		pem.len = strlen(rq->ca_pem);
		curl_easy_setopt(e, CURLOPT_CAINFO_BLOB, &pem);
		curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
	} else if (rq->ca_file != NULL) {
		curl_easy_setopt(e, CURLOPT_CAINFO, rq->ca_file);
		curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
		/* Sessions of a handle that is used again are taken up without
		 * looking at the file, which may have been replaced. */
		curl_easy_setopt(e, CURLOPT_SSL_SESSIONID_CACHE, 0L);
	}
}

static void
set_limits(CURL *e, const struct xfer_request *rq)
{
	uint64_t slow_ms = rq->length / LEAST_RATE * 1000;
	long total = rq->timeout_ms > 0 ? (long)rq->timeout_ms
					: (long)(slow_ms + 120000);

	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, total);
	if (rq->least_s > 0) {
		curl_easy_setopt(
		    e, CURLOPT_LOW_SPEED_LIMIT, (long)rq->least_rate);
		curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)rq->least_s);
	} else if (rq->timeout_ms == 0) {
		curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, STALL_RATE);
		curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, STALL_S);
	}
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, ANSWER_BUFFER);
	curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, 50L);
	curl_easy_setopt(e, CURLOPT_MAXLIFETIME_CONN, 600L);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
}

static void
set_manners(struct xfer *t, const struct xfer_request *rq)
{
	CURL *e = t->easy;

	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(
	    e, CURLOPT_PROTOCOLS_STR, rq->allow_http ? "http,https" : "https");
	curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, "https");
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_HTTP09_ALLOWED, 0L);
	curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(e, CURLOPT_PROXY, rq->proxy != NULL ? rq->proxy : "");
	curl_easy_setopt(e, CURLOPT_NOPROXY, "");
	curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	/* A proxy is the operator's choice; it connects in our place. */
	t->allow_private = rq->allow_private || rq->proxy != NULL;
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->error);
	curl_easy_setopt(e, CURLOPT_PRIVATE, t);
}

struct xfer *
xfer_start(
    struct xfers *x, const struct xfer_request *rq, xfer_fn fn, void *arg)
{
	struct xfer *t = xcalloc(1, sizeof(*t));

	t->x = x;
	t->fn = fn;
	t->arg = arg;
	t->body_max = rq->answer_max;
	if (rq->sink != NULL)
		t->sink = *rq->sink;
	t->easy = xfers_handle(x);
	curl_easy_setopt(t->easy, CURLOPT_URL, rq->uri);
	set_manners(t, rq);
	set_tls(t->easy, rq);
	set_limits(t->easy, rq);
	set_headers(t, rq);
	set_body(t, rq);
	/* Starts by the timer, not from within this call. */
	curl_multi_add_handle(x->multi, t->easy);
	return t;
}

static void
on_broken(evutil_socket_t fd, short what, void *arg)
{
	xfer_end(arg, CURLE_WRITE_ERROR);
}

/* libcurl calls the sink from within; what that refuses it tells us alone and
 * leaves the transfer without a socket and a timer. */
void
xfer_resume(struct xfer *t)
{
	struct timeval now = { 0, 0 };

	if (!t->paused || t->broken != NULL)
		return;
	t->paused = false;
	if (curl_easy_pause(t->easy, CURLPAUSE_CONT) == CURLE_OK)
		return;
	t->broken = evtimer_new(t->x->base, on_broken, t);
	event_add(t->broken, &now);
}

void
xfer_cancel(struct xfer *t)
{
	if (t != NULL)
		xfer_free(t);
}
