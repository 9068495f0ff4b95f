/*
 * expect.c - what a request says of its body
 *
 * What must stay true: a digest of a kind that we know is either compared with
 * the body or refused here; a spelling that we cannot read is no algorithm that
 * we do not know.
 */
#include "expect.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <openssl/evp.h>

#include "checksum.h"
#include "http_grammar.h"
#include "http_parser.h"
#include "http_server.h"

#define BASE64_MAX 88 /* of CHECKSUM_MAX octets */

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Exactly `size` octets in base64 at s[0..n), which may lack its padding. */
static int
decode(const char *s, size_t n, uint8_t *out, size_t size)
{
	unsigned char text[BASE64_MAX], buf[BASE64_MAX];
	size_t plain = strspn(s, alphabet), k = n;

	if (n == 0 || n > sizeof(text))
		return -EINVAL;
	if (plain > n)
		plain = n;
	if (plain * 3 / 4 != size || strspn(s + plain, "=") < n - plain)
		return -EINVAL;
	memcpy(text, s, n);
	while (k % 4 != 0)
		text[k++] = '=';
	if (k != (size + 2) / 3 * 4 || EVP_DecodeBlock(buf, text, (int)k) < 0)
		return -EINVAL;
	memcpy(out, buf, size);
	return 0;
}

/* Its kind by the name in Digest (upper or lower case) or RFC 9530; -1. */
static int
kind_of(const char *name, size_t n)
{
	static const struct {
		const char *name;
		enum checksum_kind kind;
	} names[] = {
		{ "sha-256", CHECKSUM_SHA256 },
		{ "sha-512", CHECKSUM_SHA512 },
		{ "sha", CHECKSUM_SHA1 },
		{ "md5", CHECKSUM_MD5 },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (n == strlen(names[i].name) &&
		    strncasecmp(name, names[i].name, n) == 0)
			return (int)names[i].kind;
	return -1;
}

static int
add(struct checksums *out, enum checksum_kind kind, const char *s, size_t n)
{
	uint8_t sum[CHECKSUM_MAX];
	int rc = decode(s, n, sum, checksum_size(kind));

	if (rc != 0 || checksum_differs(out, kind, sum))
		return -EINVAL;
	memcpy(out->sum[kind], sum, checksum_size(kind));
	out->has |= 1U << kind;
	return 0;
}

/* One "name=value"; in RFC 9530 a value of ours is :base64: and parameters may
 * follow. n octets, no blanks around. */
static int
member(const char *s, size_t n, bool colons, struct checksums *out)
{
	const char *eq = memchr(s, '=', n), *value, *end;
	size_t name_n = eq != NULL ? (size_t)(eq - s) : n;
	int kind = kind_of(s, name_n);

	if (name_n == 0 || (!colons && eq == NULL) ||
	    !http_all(s, name_n, HTTP_TOKEN))
		return -EINVAL;
	if (kind < 0)
		return 0;
	if (eq == NULL)
		return -EINVAL;
	value = eq + 1;
	n -= name_n + 1;
	if (!colons)
		return add(out, (enum checksum_kind)kind, value, n);
	end = n > 1 && value[0] == ':' ? memchr(value + 1, ':', n - 1) : NULL;
	if (end == NULL ||
	    (end + 1 != value + n && end[1] != ';' && end[1] != ' '))
		return -EINVAL;
	return add(out, (enum checksum_kind)kind, value + 1,
	    (size_t)(end - value) - 1);
}

/* The octets of a member up to its comma, which may stand in a quoted string.
 */
static size_t
span(const char *s)
{
	bool quoted = false;
	size_t n = 0;

	for (; s[n] != '\0' && (quoted || s[n] != ','); n++) {
		if (quoted && s[n] == '\\' && s[n + 1] != '\0')
			n++;
		else if (s[n] == '"')
			quoted = !quoted;
	}
	return n;
}

static int
list(const char *s, bool colons, struct checksums *out)
{
	int rc = 0;

	while (rc == 0 && *(s += strspn(s, ", \t")) != '\0') {
		size_t n = span(s), k = n;

		while (k > 0 && (s[k - 1] == ' ' || s[k - 1] == '\t'))
			k--;
		rc = member(s, k, colons, out);
		s += n;
	}
	return rc;
}

int
expect_header(const char *name, const char *value, struct checksums *out)
{
	if (strcasecmp(name, "Content-MD5") == 0)
		return add(out, CHECKSUM_MD5, value, strlen(value));
	if (strcasecmp(name, "Digest") == 0)
		return list(value, false, out);
	if (strcasecmp(name, "Content-Digest") == 0 ||
	    strcasecmp(name, "Repr-Digest") == 0)
		return list(value, true, out);
	return 0;
}

int
expect_digests(const struct http_request *rq, struct checksums *out)
{
	const struct http_head *h = http_request_head(rq);
	int rc = 0;

	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; rc == 0 && i < h->headers_n; i++)
		rc =
		    expect_header(h->headers[i].name, h->headers[i].value, out);
	return rc;
}
