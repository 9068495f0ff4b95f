/*
 * http_parser.c - tests of lib/http_parser.c and lib/http_body.c
 *
 * Each row is read whole, octet by octet and cut in two at each position; the
 * outcome must be the same.
 */
#include "http_parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "xalloc.h"

#define HEAD_MAX 16384

/* A literal that may hold NULs. */
struct text {
	const char *p;
	size_t n;
};
#define T(s)                                                                   \
	{                                                                      \
		s, sizeof(s) - 1                                               \
	}

#define HOST "Host: gateway.lan\r\n"
#define END "\r\n"
/* A request with one field line more, and its ends. */
#define WITH(field) "PUT /a HTTP/1.1\r\n" HOST field "\r\n" END
#define TARGET(t) "PUT " t " HTTP/1.1\r\n" HOST END

struct head_row {
	const char *name;
	struct text in;
	int want;                           /* 1: a head, or minus the status */
	const char *method, *target, *host; /* NULL: not looked at */
	const char *framing;                /* "-", "chunked", or the length */
	int keep;                           /* 0, 1, -1: not looked at */
};

#define OK(m, t, h, f, k) 1, m, t, h, f, k
#define NO(status) -(status), NULL, NULL, NULL, NULL, -1
// clang-format off
static const struct head_row heads[] = {
	/* what must be taken */
	{ "plain", T(WITH("Content-Length: 5")), OK("PUT", "/a", "gateway.lan", "5", 1) },
	{ "get", T("GET / HTTP/1.1\r\n" HOST END), OK("GET", "/", "gateway.lan", "-", 1) },
	{ "1.0 without host", T("PUT /a HTTP/1.0\r\nContent-Length: 1\r\n" END), OK("PUT", "/a", "", "1", 0) },
	{ "1.0 keep-alive", T("PUT /a HTTP/1.0\r\nConnection: Keep-Alive\r\n" END), OK("PUT", "/a", "", "-", 1) },
	{ "1.0 close and keep-alive", T("PUT /a HTTP/1.0\r\nConnection: keep-alive, close\r\n" END), OK("PUT", "/a", "", "-", 0) },
	{ "1.2 is 1.1", T("PUT /a HTTP/1.2\r\n" HOST END), OK("PUT", "/a", "gateway.lan", "-", 1) },
	{ "odd case of names", T("PUT /a HTTP/1.1\r\nhOsT: x\r\ncONTENT-lENGTH:7\r\n" END), OK("PUT", "/a", "x", "7", 1) },
	{ "blanks and tabs around a value", T("PUT /a HTTP/1.1\r\nHost:\t x \t\r\nContent-Length:  9\t \r\n" END), OK("PUT", "/a", "x", "9", 1) },
	{ "empty value", T(WITH("X-Empty:")), OK("PUT", "/a", NULL, "-", 1) },
	{ "obs-text value", T(WITH("X-Name: K\xc3\xa4m\xff")), OK("PUT", "/a", NULL, "-", 1) },
	{ "every tchar in a name", T(WITH("!#$%&'*+-.^_`|~09azAZ: x")), OK("PUT", "/a", NULL, "-", 1) },
	{ "chunked", T(WITH("Transfer-Encoding: chunked")), OK("PUT", "/a", NULL, "chunked", 1) },
	{ "Chunked", T(WITH("transfer-encoding: ChunKed")), OK("PUT", "/a", NULL, "chunked", 1) },
	{ "leading zeros", T(WITH("Content-Length: 000000000000000000000000012")), OK("PUT", "/a", NULL, "12", 1) },
	{ "the largest length", T(WITH("Content-Length: 1099511627776")), OK("PUT", "/a", NULL, "1099511627776", 1) },
	{ "close", T(WITH("Connection: close")), OK("PUT", "/a", NULL, "-", 0) },
	{ "close in a list", T(WITH("Connection: x , CLOSE\t, y")), OK("PUT", "/a", NULL, "-", 0) },
	{ "closed is not close", T(WITH("Connection: closed, xclose")), OK("PUT", "/a", NULL, "-", 1) },
	{ "upgrade", T(WITH("Upgrade: h2c")), OK("PUT", "/a", NULL, "-", 1) },
	{ "absolute-form", T(TARGET("http://other.lan:80/a/b?c")), OK("PUT", "/a/b?c", "other.lan:80", "-", 1) },
	{ "absolute-form, scheme in capitals", T(TARGET("HTTPS://o/a")), OK("PUT", "/a", "o", "-", 1) },
	{ "absolute-form without a path", T(TARGET("http://o")), OK("PUT", "/", "o", "-", 1) },
	{ "absolute-form, query only", T(TARGET("http://o?x=/")), OK("PUT", "/?x=/", "o", "-", 1) },
	{ "options asterisk", T("OPTIONS * HTTP/1.1\r\n" HOST END), OK("OPTIONS", "*", NULL, "-", 1) },
	{ "blank in the target", T(TARGET("/a b  c.jpg")), OK("PUT", "/a b  c.jpg", NULL, "-", 1) },
	{ "a version in the target", T(TARGET("/a HTTP/1.0")), OK("PUT", "/a HTTP/1.0", NULL, "-", 1) },
	{ "raw UTF-8 in the target", T(TARGET("/K\xc3\xa4m.jpg")), OK("PUT", "/K\xc3\xa4m.jpg", NULL, "-", 1) },
	{ "encoded target stays", T(TARGET("/%C3%A4%20?q=%26")), OK("PUT", "/%C3%A4%20?q=%26", NULL, "-", 1) },
	{ "an empty line before", T(END "GET / HTTP/1.1\r\n" HOST END), OK("GET", "/", NULL, "-", 1) },
	{ "8 empty lines before", T("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n" HOST END), OK("GET", "/", NULL, "-", 1) },
	{ "host with port", T("GET / HTTP/1.1\r\nHost: a_b-c.d:65535\r\n" END), OK("GET", NULL, "a_b-c.d:65535", "-", 1) },
	{ "host with empty port", T("GET / HTTP/1.1\r\nHost: a:\r\n" END), OK("GET", NULL, "a:", "-", 1) },
	{ "empty host", T("GET / HTTP/1.1\r\nHost:\r\n" END), OK("GET", NULL, "", "-", 1) },
	{ "IPv6 host", T("GET / HTTP/1.1\r\nHost: [fe80::1]:8080\r\n" END), OK("GET", NULL, "[fe80::1]:8080", "-", 1) },
	{ "method in lower case is a token", T("put / HTTP/1.1\r\n" HOST END), OK("put", NULL, NULL, "-", 1) },
	{ "expect", T(WITH("Expect: 100-Continue")), OK("PUT", NULL, NULL, "-", 1) },
	{ "expect in 1.0", T("PUT /a HTTP/1.0\r\nExpect: 200-maybe\r\n" END), OK("PUT", NULL, NULL, "-", 0) },
	/* lines */
	{ "lone LF", T("GET / HTTP/1.1\n" HOST END), NO(400) },
	{ "lone LF in fields", T("GET / HTTP/1.1\r\nHost: x\n\r\n"), NO(400) },
	{ "lone LF at the end", T("GET / HTTP/1.1\r\nHost: x\r\n\n"), NO(400) },
	{ "lone LF before", T("\nGET / HTTP/1.1\r\n" HOST END), NO(400) },
	{ "CR CR LF", T("GET / HTTP/1.1\r\r\n" HOST END), NO(400) },
	{ "CR in a value", T(WITH("X: a\rb")), NO(400) },
	{ "CR in the request line", T("GET /\ra HTTP/1.1\r\n" HOST END), NO(400) },
	{ "CR as line end", T("GET / HTTP/1.1\rHost: x\r\r"), NO(400) },
	{ "9 empty lines before", T("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n" HOST END), NO(400) },
	{ "CR before", T("\rGET / HTTP/1.1\r\n" HOST END), NO(400) },
	{ "fold", T(WITH("X: one\r\n two")), NO(400) },
	{ "fold by tab", T(WITH("X: one\r\n\ttwo")), NO(400) },
	{ "fold in transfer-encoding", T(WITH("Transfer-Encoding:\r\n chunked")), NO(400) },
	{ "blank before the first field", T("GET / HTTP/1.1\r\n Host: x\r\n" END), NO(400) },
	{ "line of blanks", T(WITH("   ")), NO(400) },
	/* request lines */
	{ "0.9", T("GET /\r\n"), NO(400) },
	{ "HTTP/0.9", T("GET / HTTP/0.9\r\n"), NO(505) },
	{ "2.0", T("GET / HTTP/2.0\r\n"), NO(505) },
	{ "HTTP/2 preface", T("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), NO(505) },
	{ "http/1.1", T("GET / http/1.1\r\n"), NO(400) },
	{ "1.10", T("GET / HTTP/1.10\r\n"), NO(400) },
	{ "HTTP/1", T("GET / HTTP/1\r\n"), NO(400) },
	{ "HTTP/1.", T("GET / HTTP/1.\r\n"), NO(400) },
	{ "HTTP/+1.1", T("GET / HTTP/+1.1\r\n"), NO(400) },
	{ "HTTP/1,1", T("GET / HTTP/1,1\r\n"), NO(400) },
	{ "HTTP/01.1", T("GET / HTTP/01.1\r\n"), NO(400) },
	{ "tab after the method", T("GET\t/ HTTP/1.1\r\n"), NO(400) },
	{ "tab before the version", T("GET /\tHTTP/1.1\r\n"), NO(400) },
	{ "two blanks after the method", T("GET  / HTTP/1.1\r\n"), NO(400) },
	{ "two blanks before the version", T("GET /  HTTP/1.1\r\n"), NO(400) },
	{ "blank at the end", T("GET / HTTP/1.1 \r\n"), NO(400) },
	{ "blank before the method", T(" GET / HTTP/1.1\r\n"), NO(400) },
	{ "no target", T("GET HTTP/1.1\r\n"), NO(400) },
	{ "empty target", T("GET  HTTP/1.1\r\n"), NO(400) },
	{ "method with a control octet", T("GE\001T / HTTP/1.1\r\n"), NO(400) },
	{ "method with a colon", T("GET: / HTTP/1.1\r\n"), NO(400) },
	{ "method of 33 letters", T("GETGETGETGETGETGETGETGETGETGETGET / HTTP/1.1\r\n"), NO(501) },
	{ "asterisk with PUT", T(TARGET("*")), NO(400) },
	{ "authority-form with PUT", T(TARGET("gateway.lan:80")), NO(400) },
	{ "connect", T("CONNECT gateway.lan:80 HTTP/1.1\r\n" HOST END), NO(400) },
	{ "relative target", T(TARGET("a/b")), NO(400) },
	{ "other scheme", T(TARGET("ftp://x/a")), NO(400) },
	{ "absolute-form, empty authority", T(TARGET("http:///a")), NO(400) },
	{ "absolute-form, userinfo", T(TARGET("http://u:p@x/a")), NO(400) },
	{ "absolute-form, bad port", T(TARGET("http://x:65536/a")), NO(400) },
	{ "absolute-form does not spare Host", T("GET http://x/ HTTP/1.1\r\n" END), NO(400) },
	{ "NUL in the target", T(TARGET("/a\0b")), NO(400) },
	{ "DEL in the target", T(TARGET("/a\x7f" "b")), NO(400) },
	{ "tab in the target", T(TARGET("/a\tb")), NO(400) },
	{ "backslash in the target", T(TARGET("/a\\b")), NO(400) },
	{ "angle bracket in the target", T(TARGET("/a<b")), NO(400) },
	{ "number sign in the target", T(TARGET("/a#b")), NO(400) },
	{ "TLS hello", T("\x16\x03\x01\x02\0\x01"), NO(400) },
	{ "PROXY v1", T("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), NO(400) },
	{ "PROXY v2", T("\r\n\r\n\0\r\nQUIT\n"), NO(400) },
	{ "SSH", T("SSH-2.0-OpenSSH_9.2p1\r\n"), NO(400) },
	/* field lines */
	{ "no colon", T(WITH("Bogus line")), NO(400) },
	{ "no colon, token", T(WITH("Bogus")), NO(400) },
	{ "blank before the colon", T(WITH("Content-Length : 5")), NO(400) },
	{ "tab before the colon", T(WITH("Content-Length\t: 5")), NO(400) },
	{ "blank in a name", T(WITH("Content Length: 5")), NO(400) },
	{ "empty name", T(WITH(": 5")), NO(400) },
	{ "control octet in a name", T(WITH("X\001: 5")), NO(400) },
	{ "obs-text in a name", T(WITH("X\xc3\xa4: 5")), NO(400) },
	{ "vertical tab before a value", T(WITH("Transfer-Encoding: \x0b" "chunked")), NO(400) },
	{ "NUL in a value", T(WITH("X: a\0b")), NO(400) },
	{ "control octet in a value", T(WITH("X: a\x1b" "b")), NO(400) },
	{ "DEL in a value", T(WITH("X: a\x7f" "b")), NO(400) },
	/* framing */
	{ "length -5", T(WITH("Content-Length: -5")), NO(400) },
	{ "length +5", T(WITH("Content-Length: +5")), NO(400) },
	{ "length 5abc", T(WITH("Content-Length: 5abc")), NO(400) },
	{ "length empty", T(WITH("Content-Length: ")), NO(400) },
	{ "length 0x5", T(WITH("Content-Length: 0x5")), NO(400) },
	{ "length 5 5", T(WITH("Content-Length: 5 5")), NO(400) },
	{ "length 5.0", T(WITH("Content-Length: 5.0")), NO(400) },
	{ "length 5_0", T(WITH("Content-Length: 5_0")), NO(400) },
	{ "length in Arabic digits", T(WITH("Content-Length: \xd9\xa5")), NO(400) },
	{ "length 2^63", T(WITH("Content-Length: 9223372036854775808")), NO(400) },
	{ "length 2^64+5", T(WITH("Content-Length: 18446744073709551621")), NO(400) },
	{ "length 10^30", T(WITH("Content-Length: 1000000000000000000000000000000")), NO(400) },
	{ "length twice, same", T(WITH("Content-Length: 5\r\nContent-Length: 5")), NO(400) },
	{ "length twice, differs", T(WITH("Content-Length: 5\r\nContent-Length: 6")), NO(400) },
	{ "length list, same", T(WITH("Content-Length: 5, 5")), NO(400) },
	{ "length list, differs", T(WITH("Content-Length: 5, 6")), NO(400) },
	{ "length, chunked", T(WITH("Content-Length: 5\r\nTransfer-Encoding: chunked")), NO(400) },
	{ "chunked, length", T(WITH("Transfer-Encoding: chunked\r\nContent-Length: 5")), NO(400) },
	{ "xchunked", T(WITH("Transfer-Encoding: xchunked")), NO(400) },
	{ "identity", T(WITH("Transfer-Encoding: identity")), NO(400) },
	{ "gzip", T(WITH("Transfer-Encoding: gzip")), NO(400) },
	{ "chunked, gzip", T(WITH("Transfer-Encoding: chunked, gzip")), NO(400) },
	{ "chunked, chunked", T(WITH("Transfer-Encoding: chunked, chunked")), NO(400) },
	{ "chunked with a parameter", T(WITH("Transfer-Encoding: chunked;q=1")), NO(400) },
	{ "empty coding", T(WITH("Transfer-Encoding:")), NO(400) },
	{ "empty list element", T(WITH("Transfer-Encoding: ,chunked")), NO(400) },
	{ "two lines of coding", T(WITH("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")), NO(400) },
	{ "gzip in a line before", T(WITH("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked")), NO(400) },
	{ "gzip, chunked", T(WITH("Transfer-Encoding: gzip, chunked")), NO(501) },
	{ "gzip , chunked", T(WITH("Transfer-Encoding: gzip ,\tchunked")), NO(400) },
	{ "chunked in 1.0", T("PUT /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" END), NO(400) },
	{ "expect something else", T(WITH("Expect: 200-maybe")), NO(417) },
	/* Host */
	{ "no host", T("GET / HTTP/1.1\r\n" END), NO(400) },
	{ "two hosts", T("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n" END), NO(400) },
	{ "two equal hosts", T("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n" END), NO(400) },
	{ "host with path", T("GET / HTTP/1.1\r\nHost: a/b\r\n" END), NO(400) },
	{ "host with userinfo", T("GET / HTTP/1.1\r\nHost: u@a\r\n" END), NO(400) },
	{ "host with a blank", T("GET / HTTP/1.1\r\nHost: a b\r\n" END), NO(400) },
	{ "host with NUL", T("GET / HTTP/1.1\r\nHost: a\0\r\n" END), NO(400) },
	{ "host with port 99999", T("GET / HTTP/1.1\r\nHost: a:99999\r\n" END), NO(400) },
	{ "host with port -1", T("GET / HTTP/1.1\r\nHost: a:-1\r\n" END), NO(400) },
	{ "host with two ports", T("GET / HTTP/1.1\r\nHost: a:1:2\r\n" END), NO(400) },
	{ "host with an open bracket", T("GET / HTTP/1.1\r\nHost: [::1\r\n" END), NO(400) },
	{ "host with text after the bracket", T("GET / HTTP/1.1\r\nHost: [::1]a\r\n" END), NO(400) },
	{ "host in UTF-8", T("GET / HTTP/1.1\r\nHost: K\xc3\xa4m\r\n" END), NO(400) },
	{ "host list", T("GET / HTTP/1.1\r\nHost: a, b:80\r\n" END), NO(400) },
};
// clang-format on

/* Feed p[0..n) in pieces: at `cut`, or of one octet if it is 0. */
static int
feed(struct http_head_reader *r, const char *p, size_t n, size_t cut,
    size_t *used_out, struct http_head *h, const char **why)
{
	size_t at = 0, used;
	int rc = 0;

	while (at < n && rc == 0) {
		size_t k = cut == 0 ? 1 : at < cut ? cut - at : n - at;
		char *piece = xmalloc(k); /* so that ASan sees its end */

		memcpy(piece, p + at, k);
		rc = http_head_read(r, piece, k, &used, h, why);
		free(piece);
		assert_true(used <= k);
		assert_true(used == k || rc != 0);
		at += used;
	}
	*used_out = at;
	return rc;
}

static void
check_head(const struct head_row *w, const struct http_head *h)
{
	char framing[24] = "-";

	if (h->has_length)
		snprintf(framing, sizeof(framing), "%lu", h->length);
	if (h->chunked)
		snprintf(framing, sizeof(framing), "chunked");
	if (w->method != NULL)
		assert_string_equal(h->method, w->method);
	if (w->target != NULL)
		assert_string_equal(h->target, w->target);
	if (w->host != NULL)
		assert_string_equal(h->host, w->host);
	if (w->framing != NULL)
		assert_string_equal(framing, w->framing);
	if (w->keep >= 0)
		assert_int_equal(h->keep_alive, w->keep);
}

static void
try_head(const struct head_row *w, size_t cut)
{
	struct http_head_reader r;
	struct http_head h;
	const char *why = NULL;
	size_t used;
	int rc;

	http_head_reader_init(&r, HEAD_MAX);
	rc = feed(&r, w->in.p, w->in.n, cut, &used, &h, &why);
	if (rc != w->want)
		fail_msg("%s, cut %zu: %d (%s), not %d", w->name, cut, rc,
		    why != NULL ? why : "", w->want);
	if (rc == 1) {
		assert_int_equal(used, w->in.n);
		check_head(w, &h);
		assert_null(r.buf); /* nothing is kept for the next */
		http_head_fini(&h);
	} else {
		assert_non_null(why);
		/* the refusal stays */
		assert_int_equal(
		    http_head_read(&r, "GET", 3, &used, &h, &why), rc);
		assert_int_equal(used, 0);
	}
	http_head_reader_fini(&r);
}

static void
test_heads(void **state)
{
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		for (size_t cut = 0; cut <= heads[i].in.n; cut++)
			try_head(&heads[i], cut);
}

static void
test_fields(void **state)
{
	static const char in[] = "GET /x HTTP/1.1\r\nHost: h\r\nA: 1\r\n"
				 "b:\t2 3 \r\nA: 4\r\nE:\r\n\r\nrest";
	struct http_head_reader r;
	struct http_head h;
	const char *why;
	size_t used;

	http_head_reader_init(&r, HEAD_MAX);
	assert_int_equal(
	    http_head_read(&r, in, sizeof(in) - 1, &used, &h, &why), 1);
	assert_string_equal(in + used, "rest");
	assert_int_equal(h.headers_n, 5);
	assert_string_equal(http_head_get(&h, "a"), "1");
	assert_string_equal(http_head_get(&h, "B"), "2 3");
	assert_string_equal(http_head_get(&h, "e"), "");
	assert_null(http_head_get(&h, "c"));
	assert_string_equal(h.headers[3].value, "4");
	assert_false(h.expect_continue);
	http_head_fini(&h);
	http_head_reader_fini(&r);
}

/* Octets of the second head must not be taken for the first. */
static void
test_pipelined(void **state)
{
	static const char in[] = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n"
				 "GET /2 HTTP/1.0\r\n\r\n";
	struct http_head_reader r;
	struct http_head h;
	const char *why;
	size_t used, at;

	http_head_reader_init(&r, HEAD_MAX);
	for (size_t cut = 1; cut < sizeof(in) - 1; cut++) {
		assert_int_equal(
		    feed(&r, in, sizeof(in) - 1, cut, &at, &h, &why), 1);
		assert_string_equal(h.target, "/1");
		http_head_fini(&h);
		assert_int_equal(http_head_read(&r, in + at,
				     sizeof(in) - 1 - at, &used, &h, &why),
		    1);
		assert_string_equal(h.target, "/2");
		assert_int_equal(h.minor, 0);
		http_head_fini(&h);
	}
	http_head_reader_fini(&r);
}

/* A head of `lines` fields of `size` octets and a target of `target`. */
static int
large(size_t target, unsigned lines, size_t size, size_t *used)
{
	size_t n = 0, room = target + lines * (size + 16) + 100;
	char *p = xmalloc(room);
	struct http_head_reader r;
	struct http_head h;
	const char *why;
	int rc;

	n += (size_t)sprintf(p, "GET /");
	memset(p + n, 'a', target);
	n += target;
	n += (size_t)sprintf(p + n, " HTTP/1.1\r\nHost: h\r\n");
	for (unsigned i = 0; i < lines; i++) {
		n += (size_t)sprintf(p + n, "X: ");
		memset(p + n, 'b', size);
		n += size;
		n += (size_t)sprintf(p + n, "\r\n");
	}
	n += (size_t)sprintf(p + n, "\r\n");
	http_head_reader_init(&r, HEAD_MAX);
	rc = feed(&r, p, n, 1000, used, &h, &why);
	if (rc == 1)
		http_head_fini(&h);
	http_head_reader_fini(&r);
	free(p);
	return rc;
}

static void
test_limits(void **state)
{
	size_t used;

	assert_int_equal(large(100, 60, 20, &used), 1);
	assert_int_equal(large(100, 99, 20, &used), 1);
	assert_int_equal(large(100, 100, 20, &used), -431);
	assert_int_equal(large(100, 10000, 20, &used), -431);
	assert_true(used <= HEAD_MAX);
	assert_int_equal(large(8000, 1, 20, &used), 1);
	assert_int_equal(large(70000, 1, 20, &used), -414);
	assert_true(used <= HEAD_MAX);
	assert_int_equal(large(100, 1, 200000, &used), -431);
	assert_int_equal(large(8000, 2, 4000, &used), 1);
	assert_int_equal(large(8000, 2, 4500, &used), -431);
}

/* A refusal comes with the octet that calls for it. */
static void
test_early(void **state)
{
	static const struct {
		const char *in;
		size_t at; /* octets that are needed */
	} rows[] = {
		{ "\x16\x03\x01", 1 },
		{ "GET\t", 4 },
		{ "GET /\001", 6 },
		{ "GET / HTTP/2.0\r\n", 16 },
		{ "GET / HTTP/1.1\r\nHost : x\r\n", 26 },
		{ "GET / HTTP/1.1\r\n ", 17 },
		{ "GET / HTTP/1.1\r\nX: \001", 20 },
		{ "GETGETGETGETGETGETGETGETGETGETGETGET", 33 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct http_head_reader r;
		struct http_head h;
		const char *why;
		size_t used, n = 0;

		http_head_reader_init(&r, HEAD_MAX);
		while (rows[i].in[n] != '\0' &&
		    http_head_read(&r, rows[i].in + n, 1, &used, &h, &why) == 0)
			n++;
		assert_int_equal(n + 1, rows[i].at);
		http_head_reader_fini(&r);
	}
}

/* ---- bodies -------------------------------------------------------------- */

struct body_row {
	const char *name;
	struct text in;
	int want;         /* 1: ended, 0: more is needed, < 0: refused */
	const char *body; /* if it has ended */
	size_t rest;      /* octets after its end */
};

#define X100                                                                   \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"                   \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X1000 X100 X100 X100 X100 X100 X100 X100 X100 X100 X100
// clang-format off
static const struct body_row bodies[] = {
	{ "simple", T("5\r\nhello\r\n0\r\n\r\n"), 1, "hello", 0 },
	{ "what follows is not ours", T("1\r\nh\r\n0\r\n\r\nGET"), 1, "h", 3 },
	{ "two chunks", T("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), 1, "hello world", 0 },
	{ "one-octet chunks", T("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"), 1, "abc", 0 },
	{ "empty", T("0\r\n\r\n"), 1, "", 0 },
	{ "upper-case hex", T("A\r\n0123456789\r\n0\r\n\r\n"), 1, "0123456789", 0 },
	{ "leading zeros", T("000a\r\n0123456789\r\n0\r\n\r\n"), 1, "0123456789", 0 },
	{ "last chunk 00", T("1\r\na\r\n00\r\n\r\n"), 1, "a", 0 },
	{ "extensions", T("1;a;b=c;d=\"e;\\\"\r\"\r\na\r\n"), -400, NULL, 0 },
	{ "extension, token", T("1;a\r\na\r\n0;last=1\r\n\r\n"), 1, "a", 0 },
	{ "extension, quoted", T("1;q=\"x; y\\\"z\\\\ \"\r\na\r\n0\r\n\r\n"), 1, "a", 0 },
	{ "extension, bad blanks", T("1 \t; a = b\r\na\r\n0\r\n\r\n"), 1, "a", 0 },
	{ "trailers", T("1\r\na\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n"), 1, "a", 0 },
	{ "trailers that would frame", T("0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nHost: y\r\n\r\n"), 1, "", 0 },
	{ "CRLF in data", T("4\r\n\r\n\r\n\r\n0\r\n\r\n"), 1, "\r\n\r\n", 0 },
	{ "incomplete size", T("1"), 0, NULL, 0 },
	{ "incomplete data", T("5\r\nhell"), 0, NULL, 0 },
	{ "no last chunk", T("5\r\nhello\r\n"), 0, NULL, 0 },
	{ "no final CRLF", T("0\r\n"), 0, NULL, 0 },
	{ "size -5", T("-5\r\n"), -400, NULL, 0 },
	{ "size +5", T("+5\r\n"), -400, NULL, 0 },
	{ "size 0x5", T("0x5\r\n"), -400, NULL, 0 },
	{ "size g", T("g\r\n"), -400, NULL, 0 },
	{ "size empty", T("\r\n"), -400, NULL, 0 },
	{ "blank before the size", T(" 5\r\n"), -400, NULL, 0 },
	{ "blank after the size", T("5 \r\n"), -400, NULL, 0 },
	{ "blank after the last size", T("0 \r\n"), -400, NULL, 0 },
	{ "size 5_0", T("5_0\r\n"), -400, NULL, 0 },
	{ "size of 17 digits", T("00000000000000005\r\n"), -400, NULL, 0 },
	{ "size of 2^64+5", T("10000000000000005\r\n"), -400, NULL, 0 },
	{ "size of 2^63", T("8000000000000000\r\n"), -400, NULL, 0 },
	{ "size of 2^64-1", T("ffffffffffffffff\r\n"), -400, NULL, 0 },
	{ "sum over 2^63", T("1\r\na\r\n7fffffffffffffff\r\n"), -400, NULL, 0 },
	{ "size, LF alone", T("5\nhello"), -400, NULL, 0 },
	{ "size, CR alone", T("5\rhello"), -400, NULL, 0 },
	{ "extension, LF alone", T("5;a\n"), -400, NULL, 0 },
	{ "extension, CRLF in quotes", T("5;a=\"\r\n\"\r\n"), -400, NULL, 0 },
	{ "extension, escaped CR", T("5;a=\"\\\r\n\"\r\n"), -400, NULL, 0 },
	{ "extension, control octet", T("5;a\001\r\n"), -400, NULL, 0 },
	{ "extension, NUL", T("5;a=\"\0\"\r\n"), -400, NULL, 0 },
	{ "extension of 1 KB and more", T("5;a=" X1000 X100 "\r\n"), -400, NULL, 0 },
	{ "data too long", T("5\r\nhelloXX\r\n"), -400, NULL, 0 },
	{ "data too short", T("5\r\nhel\r\n0\r\n\r\n"), -400, NULL, 0 },
	{ "data, LF alone", T("5\r\nhello\n0\r\n\r\n"), -400, NULL, 0 },
	{ "data, other octets", T("5\r\nhelloab0\r\n\r\n"), -400, NULL, 0 },
	{ "data, CR and another", T("5\r\nhello\ra"), -400, NULL, 0 },
	{ "no final CRLF, more octets", T("0\r\nGET / HTTP/1.1\r\n"), -400, NULL, 0 },
	{ "trailer folded", T("0\r\nA: b\r\n c\r\n\r\n"), -400, NULL, 0 },
	{ "trailer, LF alone", T("0\r\nA: b\n\r\n"), -400, NULL, 0 },
	{ "trailer, blank before the colon", T("0\r\nA : b\r\n\r\n"), -400, NULL, 0 },
	{ "trailer, NUL", T("0\r\nA: \0\r\n\r\n"), -400, NULL, 0 },
	{ "trailers of 9 KB", T("0\r\nA: " X1000 X1000 X1000 X1000 X1000 X1000 X1000 X1000 X1000), -431, NULL, 0 },
};
// clang-format on

/* Read in pieces (see feed()); gather the data in out. */
static int
feed_body(struct http_body *b, const struct text *in, size_t cut, char *out,
    size_t *used_out)
{
	const char *why = NULL, *data;
	size_t at = 0, used, n, got = 0;
	int rc = 0;

	while (at < in->n && rc == 0) {
		size_t k = cut == 0 ? 1 : at < cut ? cut - at : in->n - at;
		char *piece = xmalloc(k);

		memcpy(piece, in->p + at, k);
		rc = http_body_read(b, piece, k, &used, &data, &n, &why);
		assert_true(used <= k);
		assert_true(n == 0 || (data >= piece && data + n <= piece + k));
		memcpy(out + got, data, n);
		got += n;
		at += used;
		assert_true(used > 0 || rc != 0);
		assert_int_equal(b->total, got);
		free(piece);
	}
	out[got] = '\0';
	assert_true(rc >= 0 || why != NULL);
	*used_out = at;
	return rc;
}

static void
test_chunked(void **state)
{
	char out[16384];
	size_t used;

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		const struct body_row *w = &bodies[i];

		for (size_t cut = 0; cut <= w->in.n; cut++) {
			struct http_body b;
			int rc;

			http_body_init(&b, HTTP_BODY_CHUNKED, 0);
			rc = feed_body(&b, &w->in, cut, out, &used);
			if (rc != w->want)
				fail_msg("%s, cut %zu: %d, not %d", w->name,
				    cut, rc, w->want);
			if (rc == 1) {
				assert_string_equal(out, w->body);
				assert_int_equal(used, w->in.n - w->rest);
			}
		}
	}
}

/* Octets that carry no data are bounded, however many chunks they come in. */
static void
test_extensions_bounded(void **state)
{
	static const char small[] = "1;" X100 "\r\na\r\n";
	struct http_body b;
	const char *why, *data, *p;
	size_t n, used, fed = 0;
	char line[128], *chunk = xcalloc(1, 65536 + 2);
	int rc = 0;

	http_body_init(&b, HTTP_BODY_CHUNKED, 0);
	for (int i = 0; i < 1000 && rc == 0; i++)
		for (p = small; *p != '\0' && rc == 0; p += used, fed += used)
			rc = http_body_read(
			    &b, p, strlen(p), &used, &data, &n, &why);
	assert_int_equal(rc, -400);
	assert_true(fed < 20000);

	/* while signed chunks of a usual size go on for ever */
	http_body_init(&b, HTTP_BODY_CHUNKED, 0);
	memcpy(chunk + 65536, "\r\n", 2);
	for (int i = 0; i < 2000; i++) {
		snprintf(line, sizeof(line), "10000;s=%.64s\r\n", X100);
		for (p = line; *p != '\0'; p += used)
			assert_int_equal(http_body_read(&b, p, strlen(p), &used,
					     &data, &n, &why),
			    0);
		for (fed = 0; fed < 65538; fed += used)
			assert_int_equal(
			    http_body_read(&b, chunk + fed, 65538 - fed, &used,
				&data, &n, &why),
			    0);
	}
	free(chunk);
}

static void
test_length(void **state)
{
	static const struct text in = T("hello, next");
	struct http_body b;
	char out[32];
	size_t used;

	for (size_t cut = 0; cut <= in.n; cut++) {
		http_body_init(&b, HTTP_BODY_LENGTH, 5);
		assert_int_equal(feed_body(&b, &in, cut, out, &used), 1);
		assert_int_equal(used, 5);
		assert_string_equal(out, "hello");
		http_body_init(&b, HTTP_BODY_LENGTH, 12);
		assert_int_equal(feed_body(&b, &in, cut, out, &used), 0);
		http_body_init(&b, HTTP_BODY_CLOSE, 0);
		assert_int_equal(feed_body(&b, &in, cut, out, &used), 0);
		assert_string_equal(out, in.p);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heads),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_pipelined),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_early),
		cmocka_unit_test(test_chunked),
		cmocka_unit_test(test_extensions_bounded),
		cmocka_unit_test(test_length),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
