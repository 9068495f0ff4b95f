/*
 * origin.c - scheme, host and port of a URI, and what may be connected to
 */
#include "origin.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static int
parse_port(const char *s, size_t n, unsigned *out)
{
	unsigned v = 0;

	if (n == 0 || n > 5)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -EINVAL;
		v = v * 10 + (unsigned)(s[i] - '0');
	}
	if (v == 0 || v > 65535)
		return -EINVAL;
	*out = v;
	return 0;
}

static int
parse_host(const char *s, size_t n, bool v6, char out[254])
{
	if (n == 0 || n > 253)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (v6 ? !isxdigit(c) && c != ':' && c != '.'
		       : !isalnum(c) && c != '-' && c != '.' && c != '_')
			return -EINVAL;
		out[i] = (char)tolower(c);
	}
	out[n] = '\0';
	return 0;
}

/* "host", "host:port", "[v6]", "[v6]:port" of n octets. */
static int
parse_authority(const char *s, size_t n, struct origin *o)
{
	const char *colon;
	size_t host_n, used;

	if (n > 0 && s[0] == '[') {
		const char *end = memchr(s, ']', n);

		if (end == NULL)
			return -EINVAL;
		host_n = (size_t)(end - s) - 1;
		if (parse_host(s + 1, host_n, true, o->host) != 0)
			return -EINVAL;
		used = host_n + 2;
	} else {
		colon = memchr(s, ':', n);
		host_n = colon != NULL ? (size_t)(colon - s) : n;
		if (parse_host(s, host_n, false, o->host) != 0)
			return -EINVAL;
		used = host_n;
	}
	if (used == n)
		return 0;
	if (s[used] != ':')
		return -EINVAL;
	return parse_port(s + used + 1, n - used - 1, &o->port);
}

int
origin_parse(const char *uri, struct origin *out)
{
	struct origin o = { 0 };

	if (strncasecmp(uri, "https://", 8) == 0) {
		o.tls = true;
		o.port = 443;
		uri += 8;
	} else if (strncasecmp(uri, "http://", 7) == 0) {
		o.port = 80;
		uri += 7;
	} else {
		return -EINVAL;
	}
	if (parse_authority(uri, strcspn(uri, "/?#"), &o) != 0)
		return -EINVAL;
	*out = o;
	return 0;
}

bool
origin_equal(const struct origin *a, const struct origin *b)
{
	return a->tls == b->tls && a->port == b->port &&
	    strcmp(a->host, b->host) == 0;
}

bool
origin_matches(const struct origin *o, const char *entry)
{
	struct origin e = { .port = 0 };

	if (parse_authority(entry, strlen(entry), &e) != 0)
		return false;
	if (e.port == 0)
		e.port = o->tls ? 443 : 80;
	return strcmp(o->host, e.host) == 0 && e.port == o->port;
}

const char *
origin_text(const struct origin *o, char *out, size_t n)
{
	bool v6 = strchr(o->host, ':') != NULL;
	int len =
	    snprintf(out, n, "%s%s%s", v6 ? "[" : "", o->host, v6 ? "]" : "");

	if (o->port != (o->tls ? 443U : 80U) && len > 0 && (size_t)len < n)
		snprintf(out + len, n - (size_t)len, ":%u", o->port);
	return out;
}

static bool
v4_is_private(uint32_t a)
{
	static const struct {
		uint32_t net;
		unsigned bits;
	} nets[] = {
		{ 0x00000000, 8 },  /* this network */
		{ 0x0a000000, 8 },  /* private */
		{ 0x64400000, 10 }, /* shared with the provider */
		{ 0x7f000000, 8 },  /* loopback */
		{ 0xa9fe0000, 16 }, /* link-local */
		{ 0xac100000, 12 }, /* private */
		{ 0xc0000000, 24 }, /* protocol assignments */
		{ 0xc0a80000, 16 }, /* private */
		{ 0xc6120000, 15 }, /* benchmarks */
		{ 0xe0000000, 4 },  /* multicast */
		{ 0xf0000000, 4 },  /* reserved, broadcast */
	};

	for (size_t i = 0; i < sizeof(nets) / sizeof(nets[0]); i++)
		if ((a ^ nets[i].net) >> (32 - nets[i].bits) == 0)
			return true;
	return false;
}

static uint32_t
be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	    (uint32_t)p[2] << 8 | p[3];
}

static bool
v6_is_private(const uint8_t a[16])
{
	static const uint8_t zero[16], nat64[12] = { 0, 0x64, 0xff, 0x9b };

	if (memcmp(a, zero, 10) == 0 && a[10] == 0xff && a[11] == 0xff)
		return v4_is_private(be32(a + 12)); /* mapped */
	if (memcmp(a, zero, 12) == 0)
		return true; /* ::, ::1 and the old compatible form */
	if (memcmp(a, nat64, 12) == 0)
		return v4_is_private(be32(a + 12));
	if (a[0] == 0x20 && a[1] == 0x02)
		return v4_is_private(be32(a + 2)); /* 6to4 */
	return (a[0] & 0xfe) == 0xfc ||            /* unique local */
	    (a[0] == 0xfe && a[1] >= 0x80) ||      /* link- and site-local */
	    a[0] == 0xff ||                        /* multicast */
	    (a[0] == 0 && a[1] == 0x64) ||         /* local NAT64 */
	    (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0 &&
		a[3] == 0); /* Teredo */
}

bool
address_is_private(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)sa;

		return v4_is_private(ntohl(in->sin_addr.s_addr));
	}
	if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)sa;

		return v6_is_private(in6->sin6_addr.s6_addr);
	}
	return true; /* no other family leads to a store */
}

bool
host_is_private(const char *host)
{
	struct in6_addr a6;
	struct in_addr a4;

	if (inet_pton(AF_INET6, host, &a6) == 1)
		return v6_is_private(a6.s6_addr);
	if (inet_aton(host, &a4) != 0)
		return v4_is_private(ntohl(a4.s_addr));
	return strcmp(host, "localhost") == 0;
}
