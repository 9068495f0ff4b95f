/*
 * signer_client.c - talk with the signer
 *
 * A call tries each address at most once, beginning with the one that answered
 * last, and once more with a token that has changed on disk when the old one
 * is refused. The token never reaches a log line. The signer's own address may
 * be private and plain http (DESIGN 6): it was chosen by the operator.
 */
#include "signer_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/queue.h>
#include <curl/curl.h>

#include "clock.h"
#include "json.h"
#include "log.h"
#include "transfer.h"
#include "xalloc.h"

#define TOKEN_MAX 4096

struct signer_call {
	TAILQ_ENTRY(signer_call) link;
	struct signer *s;
	struct xfer *xfer;
	char *path, *text;
	int64_t timeout_ms, asked_ms;
	bool judge, probe, token_tried;
	unsigned url, urls_tried;
	char id[17]; /* of the request, in both logs */
	signer_fn fn;
	void *arg;
};

struct signer {
	struct xfers *xfers;
	char *urls[SIGNER_URLS_MAX];
	struct origin origins[SIGNER_URLS_MAX];
	size_t urls_n;
	unsigned current;
	char *token, *token_file, *ca_file, *proxy;
	struct circuit circuit;
	char error[320];
	int64_t ok_ms; /* clock_ms() of the last success, -1: never */
	int64_t offset_ms;
	void (*on_back)(void *arg);
	void *arg;
	TAILQ_HEAD(, signer_call) calls;
};

static void try_call(struct signer_call *c);

/* ---- token --------------------------------------------------------------- */

static int
token_read(const char *path, char out[TOKEN_MAX + 1], char *why, size_t why_n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, out, TOKEN_MAX);
	int rc = n < 0 ? -errno : 0;
	char *p = out;

	if (fd >= 0)
		close(fd);
	if (rc != 0) {
		snprintf(why, why_n, "token_file %s: %s", path, strerror(-rc));
		return rc;
	}
	out[n] = '\0';
	p += strspn(p, " \t\r\n");
	p[strcspn(p, " \t\r\n")] = '\0';
	memmove(out, p, strlen(p) + 1);
	for (p = out; *p != '\0'; p++)
		if ((unsigned char)*p < 0x21 || (unsigned char)*p > 0x7e)
			out[0] = '\0';
	if (out[0] != '\0')
		return 0;
	snprintf(why, why_n, "token_file %s: no token in it", path);
	return -EINVAL;
}

static void
token_forget(struct signer *s)
{
	if (s->token != NULL)
		explicit_bzero(s->token, strlen(s->token));
	free(s->token);
	s->token = NULL;
}

/* Read it again. True: there is one and it is another than before. */
static bool
token_refresh(struct signer *s, char *why, size_t n)
{
	char token[TOKEN_MAX + 1];
	bool changed = false;

	if (token_read(s->token_file, token, why, n) != 0) {
		token_forget(s);
	} else if (s->token == NULL || strcmp(s->token, token) != 0) {
		token_forget(s);
		s->token = xstrdup(token);
		changed = true;
	}
	explicit_bzero(token, sizeof(token));
	return changed;
}

/* ---- judging ------------------------------------------------------------- */

static void
set_error(struct signer *s, const char *error, const char *id)
{
	if (strcmp(s->error, error) == 0)
		return;
	snprintf(s->error, sizeof(s->error), "%s", error);
	if (*error != '\0')
		log_error("signer request=%s: %s; files are kept and "
			  "tried again",
		    id, error);
}

static void
judge_ok(struct signer *s, struct signer_call *c)
{
	bool had_error = s->error[0] != '\0';

	s->ok_ms = clock_ms();
	if (c->judge && had_error) {
		s->error[0] = '\0';
		log_info("signer url=%s works again", s->urls[s->current]);
	}
	if (c->judge && (circuit_ok(&s->circuit) || had_error))
		s->on_back(s->arg);
}

static void
judge_fail(struct signer *s, struct signer_call *c, const char *error,
    int64_t retry_after_ms)
{
	if (!c->judge)
		return;
	set_error(s, error, c->id);
	if (circuit_fail(&s->circuit, c->probe, clock_ms(),
		retry_after_ms > 0 ? retry_after_ms : 0, arc4random_uniform))
		log_warn("signer failed %u times in a row: one try at a time",
		    s->circuit.failures);
}

/* ---- one call ------------------------------------------------------------ */

static void
call_free(struct signer_call *c)
{
	TAILQ_REMOVE(&c->s->calls, c, link);
	free(c->path);
	free(c->text);
	free(c);
}

/* Words of a problem (RFC 9457) or of {"error": ...}. */
static void
problem_words(const struct signer_call *c, int status, const cJSON *json,
    char *out, size_t n)
{
	const char *detail = json_string(json, "detail");
	struct log_text t;

	if (detail == NULL)
		detail = json_string(json, "title");
	if (detail == NULL)
		detail = json_string(json, "error");
	if (status == 401) {
		snprintf(out, n,
		    "the signer refuses the token of %s (401): put the right "
		    "one there, it is read again by itself",
		    c->s->token_file);
		return;
	}
	if (detail == NULL) {
		snprintf(out, n, "the signer answered %d", status);
		return;
	}
	log_text(&t, detail, strlen(detail));
	for (char *p = t.s; (p = strstr(p, "\\x20")) != NULL;) {
		*p = ' '; /* blanks are fine in a message */
		memmove(p + 1, p + 4, strlen(p + 4) + 1);
	}
	snprintf(out, n, "the signer answered %d: %s", status, t.s);
}

static void
note_time(struct signer *s, const struct xfer_result *r)
{
	const char *date = xfer_header(r->xfer, "Date");
	time_t t = date != NULL ? curl_getdate(date, NULL) : -1;

	if (t > 0)
		s->offset_ms = (int64_t)t * 1000 + 500 - clock_wall_ms();
}

/* The call is over: judge and tell. */
static void
finish(struct signer_call *c, const struct xfer_result *r, const char *error)
{
	struct signer_answer a = { .rc = r->rc,
		.status = r->status,
		.text = r->body,
		.text_n = r->body_n,
		.asked_ms = c->asked_ms };
	struct signer *s = c->s;
	const char *why = NULL;
	char words[320] = "";
	cJSON *json = NULL;

	if (r->rc == 0 && r->body_n > 0)
		json = json_parse(r->body, r->body_n, SIGNER_ANSWER_MAX, &why);
	a.json = json;
	if (error != NULL)
		snprintf(words, sizeof(words), "%s", error);
	else if (r->status >= 300)
		problem_words(c, r->status, json, words, sizeof(words));
	else if (c->judge && json == NULL)
		snprintf(words, sizeof(words),
		    "the signer's answer is no JSON: %s",
		    why != NULL ? why : "it is empty");
	if (words[0] != '\0' && c->judge && a.rc == 0 && r->status < 300)
		a.rc = -EPROTO;
	if (words[0] != '\0')
		a.error = words;
	/* It works, if it says that a request is not right. */
	if (words[0] == '\0' ||
	    (a.rc == 0 &&
		(r->status == 400 || r->status == 413 || r->status == 422)))
		judge_ok(s, c);
	else
		judge_fail(s, c, words, r->retry_after_ms);
	c->fn(&a, c->arg);
	cJSON_Delete(json);
	call_free(c);
}

/* Is another address worth a try? */
static bool
next_url(struct signer_call *c, const struct xfer_result *r)
{
	if (++c->urls_tried >= c->s->urls_n)
		return false;
	if (r->rc == 0 && r->status != 502 && r->status != 503 &&
	    r->status != 504)
		return false;
	c->url = (c->url + 1) % c->s->urls_n;
	return true;
}

static void
on_answer(const struct xfer_result *r, void *arg)
{
	struct signer_call *c = arg;
	struct signer *s = c->s;
	char words[320], ignored[320];
	struct log_text t;

	c->xfer = NULL;
	if (next_url(c, r)) {
		try_call(c);
		return;
	}
	if (r->rc != 0) {
		snprintf(words, sizeof(words), "cannot ask %s: %s",
		    log_uri(&t, s->urls[c->url]), r->error);
		finish(c, r, words);
		return;
	}
	note_time(s, r);
	if (r->status == 401 && !c->token_tried) {
		c->token_tried = true;
		if (token_refresh(s, ignored, sizeof(ignored))) {
			c->urls_tried = 0;
			try_call(c);
			return;
		}
	}
	s->current = c->url;
	finish(c, r, NULL);
}

static void
try_call(struct signer_call *c)
{
	static const struct recipe_header type = { "Content-Type",
		"application/json" };
	struct signer *s = c->s;
	struct recipe_header headers[2] = { { "X-Request-Id", c->id }, type };
	char *uri = xasprintf("%s%s", s->urls[c->url], c->path);
	struct xfer_request rq = {
		.method = c->text != NULL ? "POST" : "GET",
		.uri = uri,
		.headers = headers,
		.headers_n = c->text != NULL ? 2 : 1,
		.bearer = s->token,
		.text = c->text,
		.answer_max = SIGNER_ANSWER_MAX,
		.timeout_ms = c->timeout_ms,
		.ca_file = s->ca_file,
		.proxy =
		    host_is_private(s->origins[c->url].host) ? NULL : s->proxy,
		.allow_http = true,
		.allow_private = true,
	};

	c->asked_ms = clock_ms();
	c->xfer = xfer_start(s->xfers, &rq, on_answer, c);
	free(uri);
}

struct signer_call *
signer_call(struct signer *s, const char *path, const char *text,
    int64_t timeout_ms, bool judge, signer_fn fn, void *arg)
{
	struct signer_call *c = xcalloc(1, sizeof(*c));
	char why[320];
	uint32_t id[2] = { arc4random(), arc4random() };

	c->s = s;
	c->path = xstrdup(path);
	c->text = text != NULL ? xstrdup(text) : NULL;
	c->timeout_ms = timeout_ms;
	c->judge = judge;
	c->probe = judge && circuit_begin(&s->circuit);
	c->url = s->current;
	c->fn = fn;
	c->arg = arg;
	snprintf(c->id, sizeof(c->id), "%08x%08x", id[0], id[1]);
	TAILQ_INSERT_TAIL(&s->calls, c, link);
	if (s->token == NULL) {
		token_refresh(s, why, sizeof(why));
		if (s->token == NULL && judge)
			set_error(s, why, c->id);
	}
	try_call(c); /* without a token the signer says 401 */
	return c;
}

void
signer_cancel(struct signer_call *c)
{
	if (c == NULL)
		return;
	if (c->judge)
		circuit_cancel(&c->s->circuit, c->probe);
	xfer_cancel(c->xfer);
	call_free(c);
}

/* ---- the client ---------------------------------------------------------- */

static char *
copy(const char *s)
{
	return s != NULL && *s != '\0' ? xstrdup(s) : NULL;
}

static void
urls_set(struct signer *s, const char *list)
{
	char *text = xstrdup(list), *save = NULL;

	for (size_t i = 0; i < s->urls_n; i++)
		free(s->urls[i]);
	s->urls_n = 0;
	s->current = 0;
	for (char *p = strtok_r(text, " \t,", &save);
	     p != NULL && s->urls_n < SIGNER_URLS_MAX;
	     p = strtok_r(NULL, " \t,", &save)) {
		size_t n = strlen(p);

		while (n > 0 && p[n - 1] == '/')
			p[--n] = '\0';
		if (origin_parse(p, &s->origins[s->urls_n]) == 0)
			s->urls[s->urls_n++] = xstrdup(p);
	}
	free(text);
	if (s->urls_n == 0) { /* refused by the check of the configuration */
		s->urls[s->urls_n++] = xstrdup("https://signer.invalid");
		origin_parse(s->urls[0], &s->origins[0]);
	}
}

void
signer_settings(struct signer *s, const struct signer_settings *set)
{
	struct signer_call *c;
	char why[320] = "";

	/* What is under way keeps its index of an address. */
	TAILQ_FOREACH(c, &s->calls, link)
	{
		c->url = 0;
		c->urls_tried = 0;
	}
	free(s->token_file);
	free(s->ca_file);
	free(s->proxy);
	s->token_file = xstrdup(set->token_file);
	s->ca_file = copy(set->ca_file);
	s->proxy = copy(set->proxy);
	urls_set(s, set->urls);
	/* Whatever was wrong may be right now; if not, it is told again. */
	s->error[0] = '\0';
	token_refresh(s, why, sizeof(why));
	if (s->token == NULL)
		set_error(s, why, "-");
	s->circuit = (struct circuit){ .probing = s->circuit.probing };
	s->on_back(s->arg);
}

static void
no_one(void *arg)
{
}

struct signer *
signer_new(struct event_base *base, const struct signer_settings *set,
    void (*on_back)(void *arg), void *arg)
{
	struct signer *s = xcalloc(1, sizeof(*s));

	TAILQ_INIT(&s->calls);
	s->xfers = xfers_new(base, 8);
	s->ok_ms = -1;
	s->on_back = no_one;
	signer_settings(s, set);
	s->on_back = on_back;
	s->arg = arg;
	return s;
}

void
signer_free(struct signer *s)
{
	struct signer_call *c;

	if (s == NULL)
		return;
	while ((c = TAILQ_FIRST(&s->calls)) != NULL)
		signer_cancel(c);
	xfers_free(s->xfers);
	for (size_t i = 0; i < s->urls_n; i++)
		free(s->urls[i]);
	token_forget(s);
	free(s->token_file);
	free(s->ca_file);
	free(s->proxy);
	free(s);
}

bool
signer_may(const struct signer *s)
{
	return circuit_may(&s->circuit, clock_ms());
}

int64_t
signer_wait_ms(const struct signer *s)
{
	return circuit_wait_ms(&s->circuit, clock_ms());
}

void
signer_alive(struct signer *s)
{
	s->ok_ms = clock_ms();
	if (s->circuit.open && !s->circuit.probing &&
	    s->circuit.probe_ms > clock_ms() + 1000) {
		s->circuit.probe_ms = clock_ms();
		s->on_back(s->arg);
	}
}

const struct origin *
signer_origins(const struct signer *s, size_t *n_out)
{
	*n_out = s->urls_n;
	return s->origins;
}

const char *
signer_error(const struct signer *s)
{
	return s->error;
}

int64_t
signer_clock_offset_ms(const struct signer *s)
{
	return s->offset_ms;
}

cJSON *
signer_status(const struct signer *s)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddBoolToObject(o, "ok", s->error[0] == '\0');
	json_add_text(o, "url", s->urls_n > 0 ? s->urls[s->current] : "");
	json_add_text(o, "last_error", s->error);
	if (s->ok_ms >= 0)
		json_add_int(o, "last_ok_s", (clock_ms() - s->ok_ms) / 1000);
	else
		cJSON_AddNullToObject(o, "last_ok_s");
	return o;
}
