/*
 * http_parser.c - request heads of HTTP/1.0 and 1.1
 *
 * What must stay true: a head is accepted only if every strict reader of
 * RFC 9112 sees the same end of the message in it. So there is one spelling
 * of each framing field, one line end, no folding, no second value, and the
 * first doubt is final: a refusal stays until the reader is made anew.
 * What may stand in a line is http_grammar.c's.
 *
 * A head that comes in one piece is copied once, into the block that the
 * caller keeps. Only an incomplete one is gathered in the reader's buffer.
 * Each octet is looked at once when it comes (so that refusals come early and
 * dripping octets cost nothing) and once when the head is split.
 */
#include "http_parser.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_grammar.h"
#include "xalloc.h"

#define BLANKS_MAX 8 /* empty lines before a request */

/* ---- what the fields say about the message ------------------------------- */

static int
content_length(struct http_head *h, const char *v, const char **why)
{
	size_t n = strlen(v);
	uint64_t length = 0;

	if (h->has_length)
		return http_no(400, "Content-Length stands twice", why);
	if (n == 0 || !http_all(v, n, HTTP_DIGIT))
		return http_no(400, "Content-Length is not a number", why);
	for (size_t i = 0; i < n; i++) {
		if (length > (INT64_MAX - 9) / 10)
			return http_no(400, "Content-Length is too large", why);
		length = length * 10 + (uint64_t)(v[i] - '0');
	}
	h->has_length = true;
	h->length = length;
	return 0;
}

/* "chunked" and nothing else; 501 where another coding stands before it. */
static int
transfer_encoding(struct http_head *h, const char *v, const char **why)
{
	static const char last[] = "chunked";
	size_t n = strlen(v), k = sizeof(last) - 1;

	if (h->chunked)
		return http_no(400, "Transfer-Encoding stands twice", why);
	if (h->minor == 0)
		return http_no(400, "Transfer-Encoding in HTTP/1.0", why);
	if (strcasecmp(v, last) == 0) {
		h->chunked = true;
		return 0;
	}
	if (n <= k || strcasecmp(v + n - k, last) != 0)
		return http_no(
		    400, "Transfer-Encoding does not end in chunked", why);
	n -= k;
	while (n > 0 && (v[n - 1] == ' ' || v[n - 1] == '\t'))
		n--;
	if (n < 2 || v[n - 1] != ',' || !http_all(v, n - 1, HTTP_TOKEN) ||
	    (n - 1 == k && strncasecmp(v, last, k) == 0))
		return http_no(400, "bad Transfer-Encoding", why);
	return http_no(501, "no transfer coding but chunked is known", why);
}

/* Is `token` in a comma-separated list? */
static bool
listed(const char *list, const char *token)
{
	size_t n = strlen(token);

	while (*list != '\0') {
		size_t k, end;

		list += strspn(list, ", \t");
		k = end = strcspn(list, ",");
		while (k > 0 && (list[k - 1] == ' ' || list[k - 1] == '\t'))
			k--;
		if (k == n && strncasecmp(list, token, n) == 0)
			return true;
		list += end;
	}
	return false;
}

struct connection {
	bool close, keep_alive;
	unsigned hosts;
};

static int
field(struct http_head *h, const struct http_header *f, struct connection *c,
    const char **why)
{
	if (strcasecmp(f->name, "content-length") == 0)
		return content_length(h, f->value, why);
	if (strcasecmp(f->name, "transfer-encoding") == 0)
		return transfer_encoding(h, f->value, why);
	if (strcasecmp(f->name, "host") == 0) {
		if (++c->hosts > 1)
			return http_no(400, "Host stands twice", why);
		if (!http_host_ok(f->value, strlen(f->value)))
			return http_no(400, "bad Host", why);
		if (h->host[0] == '\0') /* absolute-form goes before it */
			h->host = f->value;
	} else if (strcasecmp(f->name, "expect") == 0 && h->minor > 0) {
		if (strcasecmp(f->value, "100-continue") != 0)
			return http_no(
			    417, "only 100-continue is expected", why);
		h->expect_continue = true;
	} else if (strcasecmp(f->name, "connection") == 0) {
		c->close = c->close || listed(f->value, "close");
		c->keep_alive = c->keep_alive || listed(f->value, "keep-alive");
	}
	return 0;
}

static int
meaning(struct http_head *h, const char **why)
{
	struct connection c = { 0 };
	int rc;

	for (unsigned i = 0; i < h->headers_n; i++) {
		rc = field(h, &h->headers[i], &c, why);
		if (rc != 0)
			return rc;
	}
	if (h->minor > 0 && c.hosts == 0)
		return http_no(400, "HTTP/1.1 without Host", why);
	if (h->chunked && h->has_length)
		return http_no(
		    400, "both Content-Length and Transfer-Encoding", why);
	h->keep_alive = !c.close && (h->minor > 0 || c.keep_alive);
	return 0;
}

/* ---- splitting a whole head ---------------------------------------------- */

/* Origin-form of an absolute target, in place; its authority goes to spare. */
static void
cut_absolute(
    struct http_head *h, char *text, const struct request_line *rl, char *spare)
{
	size_t path = rl->path;

	memcpy(spare, text + rl->host, rl->host_n);
	spare[rl->host_n] = '\0';
	h->host = spare;
	if (text[path] != '/')
		text[--path] = '/'; /* over the authority's last octet */
	h->target = text + path;
}

static void
split_field(char *line, char *end, struct http_header *f)
{
	char *colon = memchr(line, ':', (size_t)(end - line)), *v;

	*colon = '\0';
	v = colon + 1;
	while (v < end && (*v == ' ' || *v == '\t'))
		v++;
	while (end > v && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*end = '\0';
	f->name = line;
	f->value = v;
}

/* Make a head of n octets that scan() has found whole and well-formed. */
static int
head_make(const struct http_head_reader *r, const char *p, size_t n,
    struct http_head *out, const char **why)
{
	struct http_head h = { 0 };
	struct request_line rl;
	struct http_header *fields;
	size_t array = (r->lines - 1u) * sizeof(*fields);
	const char *eol = memchr(p, '\n', n);
	char *text, *line, *end;
	int rc;

	rc = http_request_line(p, (size_t)(eol - p) - 1, &rl, why);
	assert(rc == 0); /* scan() has seen to that */
	h.text = xmalloc(array + n + rl.host_n + 1);
	fields = (struct http_header *)(void *)h.text;
	text = h.text + array;
	memcpy(text, p, n);
	text[rl.method_n] = '\0';
	text[rl.target + rl.target_n] = '\0';
	h.method = text;
	h.target = text + rl.target;
	h.host = "";
	h.minor = rl.minor;
	h.headers = fields;
	if (rl.host != 0)
		cut_absolute(&h, text, &rl, text + n);
	line = text + (eol - p) + 1;
	while (*line != '\r') {
		end = memchr(line, '\r', n - (size_t)(line - text));
		split_field(line, end, &fields[h.headers_n++]);
		line = end + 2;
	}
	rc = meaning(&h, why);
	if (rc != 0) {
		http_head_fini(&h);
		return rc;
	}
	*out = h;
	return 1;
}

/* ---- reading ------------------------------------------------------------- */

/* One octet of the request line, i octets into it, `method` while no blank has
 * come. */
static int
request_octet(
    unsigned char c, size_t i, bool method, size_t max, const char **why)
{
	if (method && i > 0 && c == ' ')
		return 0;
	if (i == 0 && c == 0x16) /* a handshake record */
		return http_no(400, "TLS came to a port for plain HTTP", why);
	if (method && !(http_classes[c] & HTTP_TOKEN))
		return http_no(400, "not a request line", why);
	if (method && i == HTTP_METHOD_MAX)
		return http_no(501, "unknown method", why);
	if (i > max / 2)
		return http_no(414, "the target is too long", why);
	return 0;
}

/*
 * The octets p[from..n) of a line that is not known to be good: the first bad
 * one decides, so that the answer does not depend on how the octets came.
 */
static int
check_part(const struct http_head_reader *r, const char *p, size_t from,
    size_t n, const char **why)
{
	const char *line = p + r->line;
	bool method =
	    r->lines == 0 && memchr(line, ' ', from - r->line) == NULL;
	int rc = 0;

	for (size_t i = from; i < n && rc == 0; i++) {
		unsigned char c = (unsigned char)p[i];

		if (i > r->line && p[i - 1] == '\r')
			return http_no(400, "CR inside a line", why);
		if (r->lines == 0)
			rc = request_octet(c, i - r->line, method, r->max, why);
		else if (i == r->line && (c == ' ' || c == '\t'))
			rc = http_no(400, "folded header line", why);
		if (rc == 0 && c != '\r' &&
		    !(http_classes[c] & (HTTP_VALUE | HTTP_TARGET)))
			rc = http_no(400, "control octet in the head", why);
		method = method && c != ' ';
	}
	return rc;
}

/* A whole line of k octets before its LF. 1: it was the empty one. */
static int
check_line(
    struct http_head_reader *r, const char *line, size_t k, const char **why)
{
	struct request_line rl;

	if (k == 0 || line[k - 1] != '\r')
		return http_no(400, "line ends in LF without CR", why);
	k--;
	if (memchr(line, '\r', k) != NULL)
		return http_no(400, "CR inside a line", why);
	if (r->lines == 0 && k > r->max / 2)
		return http_no(414, "the target is too long", why);
	if (r->lines == 0)
		return http_request_line(line, k, &rl, why);
	if (k == 0)
		return 1;
	if (r->lines > HTTP_HEADERS_MAX)
		return http_no(431, "too many headers", why);
	return http_field_line(line, k, why);
}

/*
 * Look at the octets of p[0..n) not seen before. 1: the head ends before
 * *end_out. 0: it is not complete. < 0: refused.
 */
static int
scan(struct http_head_reader *r, const char *p, size_t n, size_t *end_out,
    const char **why)
{
	while (r->scanned < n) {
		const char *lf = memchr(p + r->scanned, '\n', n - r->scanned);
		size_t end = lf != NULL ? (size_t)(lf - p) : n;
		int rc = 0;

		if (lf != NULL)
			rc = check_line(r, p + r->line, end - r->line, why);
		if (lf == NULL || rc < 0) {
			int bad = check_part(r, p, r->scanned, end, why);

			rc = bad != 0 ? bad : rc;
		}
		if (lf == NULL) {
			r->scanned = n;
			return rc;
		}
		if (rc < 0)
			return rc;
		r->line = r->scanned = end + 1;
		if (rc == 1) {
			*end_out = r->line;
			return 1;
		}
		r->lines++;
	}
	return 0;
}

/* Empty lines before the request line (RFC 9112 section 2.2). */
static int
skip_blanks(struct http_head_reader *r, const char *p, size_t n, size_t *used,
    const char **why)
{
	while (*used < n && (r->cr || p[*used] == '\r' || p[*used] == '\n')) {
		if (r->cr != (p[*used] == '\n'))
			return http_no(400, "not a request line", why);
		if (r->cr && ++r->blanks > BLANKS_MAX)
			return http_no(400, "too many empty lines", why);
		r->cr = !r->cr;
		++*used;
	}
	return 0;
}

static void
keep(struct http_head_reader *r, const char *p, size_t n)
{
	if (r->n + n > r->size) {
		size_t size = r->size > 0 ? 2 * r->size : 512;

		while (size < r->n + n)
			size *= 2;
		r->buf = xrealloc(r->buf, size);
		r->size = size;
	}
	memcpy(r->buf + r->n, p, n);
	r->n += n;
}

void
http_head_reader_init(struct http_head_reader *r, size_t max)
{
	memset(r, 0, sizeof(*r));
	r->max = max;
}

void
http_head_reader_fini(struct http_head_reader *r)
{
	size_t max = r->max;

	free(r->buf);
	http_head_reader_init(r, max);
}

static int
read_on(struct http_head_reader *r, const char *p, size_t n, size_t *used,
    struct http_head *head_out, const char **why)
{
	size_t skipped = 0, old, take, end = 0;
	int rc;

	if (r->n == 0) {
		rc = skip_blanks(r, p, n, used, why);
		if (rc != 0 || *used == n)
			return rc;
		skipped = *used;
		p += skipped;
		n -= skipped;
	}
	old = r->n;
	take = n < r->max - old ? n : r->max - old;
	if (old > 0)
		keep(r, p, take);
	*used = skipped + take;
	rc = scan(r, old > 0 ? r->buf : p, old + take, &end, why);
	if (rc < 0)
		return rc;
	if (rc == 0) {
		if (old + take == r->max)
			return http_no(r->lines == 0 ? 414 : 431,
			    "the head is too large", why);
		if (old == 0)
			keep(r, p, take);
		return 0;
	}
	rc = head_make(r, old > 0 ? r->buf : p, end, head_out, why);
	*used = skipped + end - old;
	if (rc == 1)
		http_head_reader_fini(r);
	return rc;
}

int
http_head_read(struct http_head_reader *r, const char *p, size_t n,
    size_t *used_out, struct http_head *head_out, const char **why_out)
{
	size_t used = 0;
	int rc = r->status;

	if (rc == 0) {
		rc = read_on(r, p, n, &used, head_out, &r->why);
		if (rc < 0) {
			r->status = (short)rc;
			free(r->buf);
			r->buf = NULL;
			r->n = r->size = 0;
		}
	}
	if (rc < 0)
		*why_out = r->why;
	*used_out = used;
	return rc;
}

void
http_head_fini(struct http_head *h)
{
	free(h->text);
	memset(h, 0, sizeof(*h));
}

const char *
http_head_get(const struct http_head *h, const char *name)
{
	for (unsigned i = 0; i < h->headers_n; i++)
		if (strcasecmp(h->headers[i].name, name) == 0)
			return h->headers[i].value;
	return NULL;
}
