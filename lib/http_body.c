/*
 * http_body.c - where a request body ends (RFC 9112 sections 6 and 7)
 *
 * The chunk decoder is one state for each place in the grammar, fed octet by
 * octet but for chunk data, which goes out in runs. What it must keep: no
 * number wraps, no line end but CRLF, and the octets that carry no data are
 * bounded: each chunk line by LINE_MAX_N, extensions all told by EXTRA_MAX
 * plus a sixteenth of the data (signed chunks need about a thousandth), and
 * trailers, which are checked and dropped, by TRAILER_MAX.
 */
#include "http_parser.h"

#include <assert.h>
#include <string.h>

#define LINE_MAX_N 1024
#define EXTRA_MAX 16384
#define TRAILER_MAX 8192

enum chunk_state {
	CHUNK_SIZE_FIRST,
	CHUNK_SIZE,
	CHUNK_BLANK, /* after the size: an extension must follow */
	CHUNK_EXT,
	CHUNK_QUOTED,
	CHUNK_ESCAPED,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	TRAILER_FIRST,
	TRAILER_NAME,
	TRAILER_VALUE,
	TRAILER_LF,
	TRAILER_LAST_LF,
	BODY_ENDED
};

static int
refuse(int status, const char *text, const char **why)
{
	*why = text;
	return -status;
}

static int
hex(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool
token(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	    (c >= 'A' && c <= 'Z') ||
	    (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* HTAB, SP, VCHAR, obs-text */
static bool
text(unsigned char c)
{
	return c == '\t' || (c >= ' ' && c != 0x7f);
}

static int
on_size(struct http_body *b, unsigned char c, const char **why)
{
	int d = hex(c);

	if (d >= 0) {
		if (b->line > 16 || b->left > (uint64_t)(INT64_MAX >> 4))
			return refuse(400, "chunk size is too large", why);
		b->left = b->left << 4 | (unsigned)d;
		b->state = CHUNK_SIZE;
	} else if (b->state == CHUNK_SIZE_FIRST) {
		return refuse(400, "chunk size is not a number", why);
	} else if (c == '\r') {
		b->state = CHUNK_SIZE_LF;
	} else if (c == ';') {
		b->state = CHUNK_EXT;
	} else if (c == ' ' || c == '\t') {
		b->state = CHUNK_BLANK;
	} else {
		return refuse(400, "chunk size is not a number", why);
	}
	return 0;
}

/* chunk-ext, of which nothing is kept (RFC 9112 section 7.1.1) */
static int
on_extension(struct http_body *b, unsigned char c, const char **why)
{
	bool ok;

	if (++b->extra > EXTRA_MAX + b->total / 16)
		return refuse(400, "too much in chunk extensions", why);
	switch (b->state) {
	case CHUNK_BLANK:
		ok = c == ' ' || c == '\t' || c == ';';
		if (c == ';')
			b->state = CHUNK_EXT;
		break;
	case CHUNK_EXT:
		ok = token(c) || c == '=' || c == ';' || c == ' ' ||
		    c == '\t' || c == '"' || c == '\r';
		if (c == '"')
			b->state = CHUNK_QUOTED;
		else if (c == '\r')
			b->state = CHUNK_SIZE_LF;
		break;
	case CHUNK_QUOTED:
		ok = text(c);
		if (c == '"')
			b->state = CHUNK_EXT;
		else if (c == '\\')
			b->state = CHUNK_ESCAPED;
		break;
	default: /* CHUNK_ESCAPED */
		ok = text(c);
		b->state = CHUNK_QUOTED;
		break;
	}
	return ok ? 0 : refuse(400, "bad chunk extension", why);
}

static int
on_line_end(struct http_body *b, unsigned char c, const char **why)
{
	if (b->state == CHUNK_DATA_CR) {
		if (c != '\r')
			return refuse(
			    400, "chunk is longer than its size", why);
		b->state = CHUNK_DATA_LF;
		return 0;
	}
	if (c != '\n')
		return refuse(400, "line of a chunk ends without CRLF", why);
	if (b->state == CHUNK_DATA_LF) {
		b->state = CHUNK_SIZE_FIRST;
		b->line = 0;
	} else if (b->left > 0) {
		if (b->left > INT64_MAX - b->total)
			return refuse(400, "body is too large", why);
		b->state = CHUNK_DATA;
	} else {
		b->state = TRAILER_FIRST;
	}
	return 0;
}

/* Trailer fields must be well-formed; they are dropped (section 7.1.2). */
static int
on_trailer(struct http_body *b, unsigned char c, const char **why)
{
	bool ok;

	if (++b->trailer > TRAILER_MAX)
		return refuse(431, "trailers are too large", why);
	switch (b->state) {
	case TRAILER_FIRST:
		ok = token(c) || c == '\r';
		b->state = c == '\r' ? TRAILER_LAST_LF : TRAILER_NAME;
		break;
	case TRAILER_NAME:
		ok = token(c) || c == ':';
		if (c == ':')
			b->state = TRAILER_VALUE;
		break;
	case TRAILER_VALUE:
		ok = text(c) || c == '\r';
		if (c == '\r')
			b->state = TRAILER_LF;
		break;
	default: /* TRAILER_LF, TRAILER_LAST_LF */
		ok = c == '\n';
		b->state = b->state == TRAILER_LF ? TRAILER_FIRST : BODY_ENDED;
		break;
	}
	return ok ? 0 : refuse(400, "bad trailer", why);
}

static int
on_octet(struct http_body *b, unsigned char c, const char **why)
{
	switch (b->state) {
	case CHUNK_SIZE_FIRST:
	case CHUNK_SIZE:
	case CHUNK_BLANK:
	case CHUNK_EXT:
	case CHUNK_QUOTED:
	case CHUNK_ESCAPED:
		if (++b->line > LINE_MAX_N)
			return refuse(400, "chunk line is too long", why);
		if (b->state <= CHUNK_SIZE)
			return on_size(b, c, why);
		return on_extension(b, c, why);
	case CHUNK_SIZE_LF:
	case CHUNK_DATA_CR:
	case CHUNK_DATA_LF:
		return on_line_end(b, c, why);
	default:
		return on_trailer(b, c, why);
	}
}

/* One run of data, at most b->left. */
static void
run(struct http_body *b, const char *p, size_t n, size_t *used,
    const char **data_out, size_t *data_n_out)
{
	size_t k = n < b->left ? n : (size_t)b->left;

	*data_out = p;
	*data_n_out = k;
	*used += k;
	b->left -= k;
	b->total += k;
}

static int
read_chunked(struct http_body *b, const char *p, size_t n, size_t *used,
    const char **data_out, size_t *data_n_out, const char **why)
{
	int rc = 0;

	while (*used < n && rc == 0 && b->state != BODY_ENDED) {
		if (b->state == CHUNK_DATA) {
			if (*data_n_out > 0)
				return 0; /* one run at a time */
			run(b, p + *used, n - *used, used, data_out,
			    data_n_out);
			if (b->left == 0)
				b->state = CHUNK_DATA_CR;
		} else {
			rc = on_octet(b, (unsigned char)p[*used], why);
			++*used;
		}
	}
	if (rc != 0)
		return rc;
	return b->state == BODY_ENDED ? 1 : 0;
}

void
http_body_init(struct http_body *b, enum http_framing f, uint64_t length)
{
	memset(b, 0, sizeof(*b));
	b->framing = f;
	if (f == HTTP_BODY_LENGTH)
		b->left = length;
	else if (f == HTTP_BODY_CLOSE)
		b->left = INT64_MAX;
}

int
http_body_read(struct http_body *b, const char *p, size_t n, size_t *used_out,
    const char **data_out, size_t *data_n_out, const char **why_out)
{
	size_t used = 0;
	int rc = 0;

	*data_out = p;
	*data_n_out = 0;
	switch (b->framing) {
	case HTTP_BODY_NONE:
		rc = 1;
		break;
	case HTTP_BODY_CHUNKED:
		rc =
		    read_chunked(b, p, n, &used, data_out, data_n_out, why_out);
		break;
	case HTTP_BODY_LENGTH:
	case HTTP_BODY_CLOSE:
		run(b, p, n, &used, data_out, data_n_out);
		rc = b->framing == HTTP_BODY_LENGTH && b->left == 0 ? 1 : 0;
		break;
	}
	*used_out = used;
	return rc;
}
