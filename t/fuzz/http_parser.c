/*
 * http_parser.c - fuzz target: any octets as requests on one connection
 *
 * The octets are read in one piece and again in pieces whose sizes the first
 * octet seeds; both readings must see the same requests, bodies and refusal.
 * That no octet is read past its piece is for the sanitizer to see.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_parser.h"
#include "xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What a reading has seen, as text, so that two can be compared. */
struct seen {
	char *text;
	size_t n;
};

static void
add(struct seen *s, const void *p, size_t n)
{
	s->text = xrealloc(s->text, s->n + n + 1);
	memcpy(s->text + s->n, p, n);
	s->n += n;
	s->text[s->n] = '\0';
}

static void
add_head(struct seen *s, const struct http_head *h)
{
	char number[64];

	assert(h->headers_n <= HTTP_HEADERS_MAX && h->minor <= 1);
	assert(!(h->chunked && h->has_length));
	assert(h->method[0] != '\0' && h->target[0] != '\0');
	add(s, h->method, strlen(h->method) + 1);
	add(s, h->target, strlen(h->target) + 1);
	add(s, h->host, strlen(h->host) + 1);
	for (unsigned i = 0; i < h->headers_n; i++) {
		add(s, h->headers[i].name, strlen(h->headers[i].name) + 1);
		add(s, h->headers[i].value, strlen(h->headers[i].value) + 1);
		assert(strpbrk(h->headers[i].value, "\r\n") == NULL);
	}
	snprintf(number, sizeof(number), "%u%d%d%d%lu", h->minor, h->chunked,
	    h->keep_alive, h->expect_continue,
	    (unsigned long)(h->has_length ? h->length : 0));
	add(s, number, strlen(number));
}

struct connection {
	struct http_head_reader reader;
	struct http_body body;
	bool in_body;
	int status; /* of the refusal */
	struct seen seen;
};

/* One step in p[0..n); the octets used. */
static size_t
step(struct connection *c, const char *p, size_t n)
{
	const char *why = NULL, *run;
	struct http_head h;
	size_t used, k;
	int rc;

	if (c->in_body) {
		rc = http_body_read(&c->body, p, n, &used, &run, &k, &why);
		assert(k == 0 || (run >= p && run + k <= p + n));
		add(&c->seen, run, k);
		c->in_body = rc == 0;
	} else {
		rc = http_head_read(&c->reader, p, n, &used, &h, &why);
		if (rc == 1) {
			add_head(&c->seen, &h);
			http_body_init(&c->body,
			    h.chunked          ? HTTP_BODY_CHUNKED
				: h.has_length ? HTTP_BODY_LENGTH
					       : HTTP_BODY_NONE,
			    h.length);
			c->in_body = h.chunked || h.length > 0;
			http_head_fini(&h);
		}
	}
	assert(used <= n);
	if (rc < 0) {
		assert(why != NULL);
		c->status = rc;
	}
	return used;
}

/* Read all, in pieces of 1 to `most` octets; 0: in one. */
static void
read_all(struct connection *c, const char *p, size_t n, unsigned most)
{
	unsigned seed = most * 2654435761u + 1;

	memset(c, 0, sizeof(*c));
	http_head_reader_init(&c->reader, 2048);
	while (n > 0 && c->status == 0) {
		size_t k = n, at = 0;
		char *piece;

		if (most > 0) {
			seed = seed * 1103515245u + 12345u;
			k = 1 + (seed >> 16) % most;
			k = k < n ? k : n;
		}
		piece = xmalloc(k);
		memcpy(piece, p, k);
		while (at < k && c->status == 0)
			at += step(c, piece + at, k - at);
		free(piece);
		p += k;
		n -= k;
	}
	http_head_reader_fini(&c->reader);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct connection a, b;

	if (n == 0)
		return 0;
	read_all(&a, (const char *)data + 1, n - 1, 0);
	read_all(&b, (const char *)data + 1, n - 1, 1 + data[0] % 32);
	assert(a.status == b.status);
	assert(a.seen.n == b.seen.n);
	assert(
	    a.seen.n == 0 || memcmp(a.seen.text, b.seen.text, a.seen.n) == 0);
	free(a.seen.text);
	free(b.seen.text);
	return 0;
}
