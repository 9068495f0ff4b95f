/*
 * http_parser.h - request heads and body framing of HTTP/1.0 and 1.1
 *
 * Strict in framing, lenient in the target (DESIGN 3.4, 5): what could make two
 * parsers disagree on where a message ends is refused with 400 and the
 * connection must be closed (RFC 9112 sections 2, 3, 5, 6, 7, 11.2); raw
 * blanks and octets from 0x80 in the target are taken, because cameras send
 * them. Knows nothing of sockets; holds no pointers of the caller.
 */
#ifndef HTTP_PARSER_H
#define HTTP_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEADERS_MAX 100

struct http_header {
	const char *name, *value; /* NUL-terminated, blanks around value cut */
};

/* A parsed head; all text lies in `text`, owned by the head. */
struct http_head {
	const char *method; /* as sent, case matters */
	const char *target; /* as sent; absolute-form cut to origin-form */
	const char *host;   /* Host or authority, "" if none (HTTP/1.0) */
	const struct http_header *headers;
	unsigned headers_n; /* at most HTTP_HEADERS_MAX */
	unsigned minor;     /* HTTP/1.minor: 0 or 1 */
	bool chunked;       /* Transfer-Encoding: chunked */
	bool has_length;
	uint64_t length;      /* Content-Length, if has_length */
	bool expect_continue; /* and HTTP/1.1 */
	bool keep_alive;      /* what the client asks for */
	char *text;           /* one block: the array, then the text */
};

/* Reads a head from pieces of any size. */
struct http_head_reader {
	char *buf; /* only while a head is incomplete */
	size_t n, size, scanned, max;
	size_t line; /* where the line begins that is not complete */
	const char *why;
	unsigned short lines; /* complete ones */
	unsigned char blanks; /* empty lines before the request line */
	bool cr;              /* half of one */
	short status;         /* 0, or the refusal that stays */
};

void http_head_reader_init(struct http_head_reader *r, size_t max);
void http_head_reader_fini(struct http_head_reader *r);
/*
 * Lines end in CRLF; a lone LF is refused, since what stands before us might
 * not take it for an end (RFC 9112 2.2 leaves the choice). So are folded lines.
 * Up to 8 empty lines before the request line are passed over.
 *
 * Take octets of a head. *used_out: how many belonged to it. 0: more is needed.
 * 1: *head_out is complete, the caller frees it by http_head_fini(); the reader
 * is ready for the next. < 0: minus the HTTP status to refuse with (400, 411 is
 * not among them, 414, 417, 431, 501, 505); *why_out is a static text for
 * people. Refuses as soon as it can be known (a TLS hello at its first octet).
 */
int http_head_read(struct http_head_reader *r, const char *p, size_t n,
    size_t *used_out, struct http_head *head_out, const char **why_out);
void http_head_fini(struct http_head *h);
/* The value of the first header of that name (any case), or NULL. */
const char *http_head_get(const struct http_head *h, const char *name);

/* Where a body ends. */
enum http_framing {
	HTTP_BODY_NONE,
	HTTP_BODY_LENGTH,
	HTTP_BODY_CHUNKED,
	HTTP_BODY_CLOSE
};

struct http_body {
	enum http_framing framing;
	uint64_t left;                 /* of the body or of the chunk */
	uint64_t total;                /* body octets given out so far */
	uint64_t extra;                /* octets of chunk extensions so far */
	unsigned state, line, trailer; /* of the chunk decoder */
};

void http_body_init(struct http_body *b, enum http_framing f, uint64_t length);
/*
 * Take octets; *used_out of them were consumed, and *data_out, *data_n_out is
 * the one run of body data among them (maybe 0 octets), inside p. 0: go on.
 * 1: the body has ended. -400, -431: broken framing, *why_out tells.
 */
int http_body_read(struct http_body *b, const char *p, size_t n,
    size_t *used_out, const char **data_out, size_t *data_n_out,
    const char **why_out);

#endif
