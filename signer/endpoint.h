/*
 * endpoint.h - the address of a service: scheme, host, port, path prefix
 */
#ifndef ENDPOINT_H
#define ENDPOINT_H

#include <stdbool.h>

struct endpoint {
	char *scheme; /* "http" or "https" */
	char *host;   /* lower case; an IPv6 address in brackets */
	int port;     /* 0: the scheme's own */
	char *path;   /* "" or "/prefix" without a final slash */
};

/*
 * Parse "https://host[:port][/prefix]"; without a scheme it is https. A
 * default port is dropped, and a dot that ends the host. -EINVAL: user, query,
 * fragment, blanks, bad port, "." and ".." in the path.
 */
int endpoint_parse(const char *s, struct endpoint *e_out);
void endpoint_fini(struct endpoint *e);
/* "scheme://host[:port][/prefix]", malloc'd. */
char *endpoint_uri(const struct endpoint *e);
/* "host" or "host:port", malloc'd; label (may be NULL) goes before the host. */
char *endpoint_authority(const struct endpoint *e, const char *label);
/* Is the host an IP address (no label can stand before it)? */
bool endpoint_is_address(const struct endpoint *e);

#endif
