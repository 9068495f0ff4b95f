/*
 * expect.c - what a request says of its body and its name
 */
#include "expect.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <openssl/evp.h>

#include "http_server.h"
#include "spool.h"

/* Exactly `size` octets in base64 at s[0..n). */
static int
decode(const char *s, size_t n, uint8_t *out, size_t size)
{
	unsigned char buf[64];
	size_t pad = 0;

	if (n == 0 || n % 4 != 0 || n > 64)
		return -EINVAL;
	while (pad < 2 && s[n - 1 - pad] == '=')
		pad++;
	if (EVP_DecodeBlock(buf, (const unsigned char *)s, (int)n) < 0 ||
	    n / 4 * 3 - pad != size)
		return -EINVAL;
	memcpy(out, buf, size);
	return 0;
}

static int
digest(const char *name, size_t name_n, const char *s, size_t n,
    struct spool_expect *out)
{
	if (name_n == 7 && strncasecmp(name, "sha-256", 7) == 0) {
		out->has_sha256 = true;
		return decode(s, n, out->sha256, 32);
	}
	if (name_n == 3 && strncasecmp(name, "md5", 3) == 0) {
		out->has_md5 = true;
		return decode(s, n, out->md5, 16);
	}
	return 0;
}

/* "sha-256=...,md5=..."; with colons around the values in RFC 9530. */
static int
digest_list(const char *s, bool colons, struct spool_expect *out)
{
	while (*s != '\0') {
		const char *eq, *value;
		size_t n;
		int rc;

		s += strspn(s, ", \t");
		if (*s == '\0')
			break;
		eq = strchr(s, '=');
		if (eq == NULL || (colons && eq[1] != ':'))
			return -EINVAL;
		value = eq + 1 + colons;
		n = strcspn(value, colons ? ":" : ", \t");
		if (colons && value[n] != ':')
			return -EINVAL;
		rc = digest(s, (size_t)(eq - s), value, n, out);
		if (rc != 0)
			return rc;
		s = value + n + colons;
		s += strcspn(s, ",");
	}
	return 0;
}

int
expect_digests(struct http_request *rq, struct spool_expect *out)
{
	static const struct {
		const char *header;
		bool colons;
	} lists[] = { { "Digest", false }, { "Content-Digest", true },
		{ "Repr-Digest", true } };
	const char *s = http_request_header(rq, "Content-MD5");
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (s != NULL)
		rc = digest("md5", 3, s, strlen(s), out);
	for (int i = 0; rc == 0 && i < 3; i++) {
		s = http_request_header(rq, lists[i].header);
		if (s != NULL)
			rc = digest_list(s, lists[i].colons, out);
	}
	return rc;
}
