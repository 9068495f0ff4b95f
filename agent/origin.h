/*
 * origin.h - scheme, host and port of a URI, and what may be connected to
 *
 * A strict reader of our own (RFC 3986 section 3.2, no userinfo, no escapes in
 * the host), so that the host that is checked is the host that is used.
 */
#ifndef ORIGIN_H
#define ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

struct sockaddr;

struct origin {
	bool tls;       /* https */
	char host[254]; /* lower case; IPv6 without brackets */
	unsigned port;
};

/* Read the start of an absolute http or https URI. -EINVAL. */
int origin_parse(const char *uri, struct origin *out);
bool origin_equal(const struct origin *a, const struct origin *b);
/* Does "host" (the scheme's own port) or "host:port" (IPv6 in brackets), as a
 * list has it, name o? */
bool origin_matches(const struct origin *o, const char *entry);
/* "host:port" for people, without the port where it is the scheme's. */
const char *origin_text(const struct origin *o, char *out, size_t n);

/* May the address only be reached inside a site or host: private, loopback,
 * link-local, multicast, unspecified, reserved (RFC 6890), also when wrapped
 * in IPv6? */
bool address_is_private(const struct sockaddr *sa);
/* The same for a host that is an address literal in any form inet_aton(3)
 * takes; false for names. */
bool host_is_private(const char *host);

#endif
