/*
 * endpoint.c - the address of a service
 */
#include "endpoint.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "xalloc.h"

void
endpoint_fini(struct endpoint *e)
{
	free(e->scheme);
	free(e->host);
	free(e->path);
	memset(e, 0, sizeof(*e));
}

static bool
host_ok(const char *h, size_t n)
{
	char buf[INET6_ADDRSTRLEN + 1];
	struct in6_addr a;

	if (n == 0 || n > 253)
		return false;
	if (h[0] == '[') {
		if (n < 4 || h[n - 1] != ']' || n - 2 >= sizeof(buf))
			return false;
		memcpy(buf, h + 1, n - 2);
		buf[n - 2] = '\0';
		return inet_pton(AF_INET6, buf, &a) == 1;
	}
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)h[i]) &&
		    strchr("-._", h[i]) == NULL)
			return false;
	return h[0] != '.' && h[0] != '-' && h[n - 1] != '.' &&
	    memmem(h, n, "..", 2) == NULL;
}

static int
port_parse(const char *s, size_t n, int *port_out)
{
	int v = 0;

	if (n == 0 || n > 5)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -EINVAL;
		v = v * 10 + (s[i] - '0');
	}
	if (v < 1 || v > 65535)
		return -EINVAL;
	*port_out = v;
	return 0;
}

/* No "." and ".." segments either: who follows them ends elsewhere. */
static bool
path_ok(const char *p)
{
	while (*p != '\0') {
		size_t n = strcspn(++p, "/");

		if ((n == 1 && p[0] == '.') ||
		    (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		for (const char *end = p + n; p < end; p++)
			if (!isalnum((unsigned char)*p) &&
			    strchr("-._~", *p) == NULL)
				return false;
	}
	return true;
}

int
endpoint_parse(const char *s, struct endpoint *e_out)
{
	const char *scheme = "https", *colon;
	size_t n, host_n, path_n;
	int port = 0;

	if (strncasecmp(s, "https://", 8) == 0)
		s += 8;
	else if (strncasecmp(s, "http://", 7) == 0) {
		scheme = "http";
		s += 7;
	} else if (strstr(s, "://") != NULL)
		return -EINVAL;
	n = strcspn(s, "/");
	colon = s[0] == '[' ? memchr(s, ']', n) : s;
	if (colon != NULL)
		colon = memchr(colon, ':', n - (size_t)(colon - s));
	host_n = colon != NULL ? (size_t)(colon - s) : n;
	if (colon != NULL && port_parse(colon + 1, n - host_n - 1, &port) != 0)
		return -EINVAL;
	if (host_n > 1 && s[host_n - 1] == '.')
		host_n--; /* the root's dot is no part of the name */
	if (!host_ok(s, host_n) || !path_ok(s + n))
		return -EINVAL;
	if (port == (scheme[4] == 's' ? 443 : 80))
		port = 0;
	for (path_n = strlen(s + n); path_n > 0 && s[n + path_n - 1] == '/';)
		path_n--;
	e_out->scheme = xstrdup(scheme);
	e_out->host = xstrndup(s, host_n);
	for (char *c = e_out->host; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	e_out->port = port;
	e_out->path = xstrndup(s + n, path_n);
	return 0;
}

char *
endpoint_authority(const struct endpoint *e, const char *label)
{
	char port[8] = "";

	if (e->port != 0)
		snprintf(port, sizeof(port), ":%d", e->port);
	return xasprintf("%s%s%s%s", label != NULL ? label : "",
	    label != NULL ? "." : "", e->host, port);
}

char *
endpoint_uri(const struct endpoint *e)
{
	char *authority = endpoint_authority(e, NULL);
	char *uri = xasprintf("%s://%s%s", e->scheme, authority, e->path);

	free(authority);
	return uri;
}

bool
endpoint_is_address(const struct endpoint *e)
{
	struct in_addr a;

	return e->host[0] == '[' || inet_pton(AF_INET, e->host, &a) == 1;
}
