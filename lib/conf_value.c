/*
 * conf_value.c - one value: its text, its check, its field in the struct
 *
 * Files, defaults and bounds all go through the same parser, so a wrong
 * default fails at start and a bound reads as it is printed. A field is only
 * written when the text is good.
 */
#include "conf_private.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "minisign.h"
#include "xalloc.h"

static int no(char *why, size_t why_n, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int
no(char *why, size_t why_n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, why_n, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

bool
conf_value_is_text(const struct conf_key *k)
{
	switch (k->type) {
	case CONF_TEXT:
	case CONF_PATH:
	case CONF_ADDR:
	case CONF_URL:
	case CONF_URLS:
	case CONF_ADDRS:
	case CONF_KEYS:
		return true;
	default:
		return false;
	}
}

/* A decimal port at s, up to its end. */
static bool
is_port(const char *s, const char *end)
{
	long v = 0;

	if (s == end || end - s > 5)
		return false;
	for (; s < end; s++) {
		if (!isdigit((unsigned char)*s))
			return false;
		v = v * 10 + (*s - '0');
	}
	return v <= 65535;
}

/* HOST:PORT with an IP address as host: names would need a resolver at start,
 * often before the network is up. */
static int
check_addr(const char *s, char *why, size_t n)
{
	const char *colon = strrchr(s, ':');
	char host[64], ex[68];
	unsigned char ip[16];
	size_t len;

	if (is_port(s, s + strlen(s)))
		return no(
		    why, n, "\"%s\" has no address; write 0.0.0.0:%s", s, s);
	if (colon == NULL)
		return no(why, n, "\"%s\" has no port; write %s:8080",
		    conf_excerpt(ex, s), ex);
	len = (size_t)(colon - s);
	if (len == 0 || (len == 1 && *s == '*'))
		return no(why, n, "\"%s\" has no address; write 0.0.0.0%s",
		    conf_excerpt(ex, s), colon);
	if (len >= sizeof(host) || !is_port(colon + 1, colon + strlen(colon)))
		return no(why, n, "\"%s\" is not ADDRESS:PORT, port 0 to 65535",
		    conf_excerpt(ex, s));
	memcpy(host, s, len);
	host[len] = '\0';
	if (host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		if (inet_pton(AF_INET6, host + 1, ip) == 1)
			return 0;
		return no(why, n, "\"%s\" is no IPv6 address", host + 1);
	}
	if (inet_pton(AF_INET, host, ip) == 1)
		return 0;
	if (strchr(host, ':') != NULL)
		return no(why, n,
		    "an IPv6 address stands in brackets; write [%s]:%s", host,
		    colon + 1);
	return no(why, n,
	    "\"%s\" is no IP address; write one, or 0.0.0.0 for all",
	    conf_excerpt(ex, host));
}

/* scheme://host[:port][/path], the host a name or an address. */
static int
check_url(const char *s, char *why, size_t n)
{
	char ex[68];
	const char *host, *end, *port = NULL;

	conf_excerpt(ex, s);
	if (strncasecmp(s, "https://", 8) == 0)
		host = s + 8;
	else if (strncasecmp(s, "http://", 7) == 0)
		host = s + 7;
	else
		return no(
		    why, n, "\"%s\" must begin with https:// or http://", ex);
	for (const char *c = s; *c != '\0'; c++)
		if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f ||
		    strchr("\"<>\\^`{|}", *c) != NULL)
			return no(why, n,
			    "\"%s\" holds a character that no "
			    "URL has",
			    ex);
	end = host + strcspn(host, "/?#");
	for (const char *c = host; c < end; c++)
		if (*c == '@')
			host = c + 1;
	if (host < end && *host == '[') {
		const char *close = memchr(host, ']', (size_t)(end - host));
		char ip6[48];
		unsigned char ip[16];

		if (close == NULL || close - host - 1 >= (long)sizeof(ip6))
			return no(why, n, "\"%s\" has no good address", ex);
		snprintf(ip6, sizeof(ip6), "%.*s", (int)(close - host - 1),
		    host + 1);
		if (inet_pton(AF_INET6, ip6, ip) != 1)
			return no(why, n, "\"%s\" has no good address", ex);
		if (close + 1 < end && close[1] != ':')
			return no(why, n, "\"%s\" has no good address", ex);
		port = close + 1 < end ? close + 1 : NULL;
	} else {
		port = memchr(host, ':', (size_t)(end - host));
		if ((port != NULL ? port : end) == host)
			return no(why, n, "\"%s\" names no host", ex);
	}
	if (port != NULL && !is_port(port + 1, end))
		return no(why, n, "\"%s\" has no good port", ex);
	return 0;
}

/* An IP address, or a network with its prefix length. */
static int
check_network(const char *s, char *why, size_t n)
{
	char host[64], ex[68];
	const char *slash = strchr(s, '/');
	size_t len = slash != NULL ? (size_t)(slash - s) : strlen(s);
	unsigned char ip[16];
	long bits = 0, most;

	conf_excerpt(ex, s);
	if (len >= sizeof(host))
		return no(why, n, "\"%s\" is no IP address", ex);
	memcpy(host, s, len);
	host[len] = '\0';
	if (inet_pton(AF_INET, host, ip) == 1)
		most = 32;
	else if (inet_pton(AF_INET6, host, ip) == 1)
		most = 128;
	else
		return no(why, n,
		    "\"%s\" is no IP address or network (10.0.0.21, "
		    "10.0.0.0/24)",
		    ex);
	if (slash == NULL)
		return 0;
	if (!is_port(slash + 1, slash + strlen(slash)))
		return no(why, n, "\"%s\" has no good prefix length", ex);
	bits = strtol(slash + 1, NULL, 10);
	if (bits > most)
		return no(why, n, "\"%s\": at most /%ld", ex, most);
	return 0;
}

/* Each word of the list through `check`; words joined by one blank. */
static int
parse_list(const char *text, const char *apart,
    int (*check)(const char *s, char *why, size_t n), char **out, char *why,
    size_t n)
{
	char *copy = xstrdup(text), *joined = xmalloc(strlen(text) + 2);
	char *save = NULL, *w = joined;
	int rc = 0;

	for (char *s = strtok_r(copy, apart, &save); s != NULL && rc == 0;
	     s = strtok_r(NULL, apart, &save)) {
		rc = check(s, why, n);
		w += sprintf(w, w > joined ? " %s" : "%s", s);
	}
	if (rc == 0 && w == joined)
		rc = no(why, n, "the list is empty");
	free(copy);
	if (rc == 0)
		*out = joined;
	else
		free(joined);
	return rc;
}

/* Words that are no key are files, below folder if they do not start at /. */
static int
parse_keys(
    const char *text, const char *folder, char **out, char *why, size_t n)
{
	struct minisign_public p;
	char *copy = xstrdup(text), *all = NULL, *save = NULL;

	for (char *s = strtok_r(copy, " \t,", &save); s != NULL;
	     s = strtok_r(NULL, " \t,", &save)) {
		bool below = *s != '/' && folder != NULL &&
		    minisign_public_parse(s, &p) != 0;
		char *more = xasprintf("%s%s%s%s%s", all != NULL ? all : "",
		    all != NULL ? " " : "", below ? folder : "",
		    below ? "/" : "", s);

		free(all);
		all = more;
	}
	free(copy);
	if (all == NULL)
		return no(why, n, "the list is empty");
	*out = all;
	return 0;
}

static int
parse_text(const struct conf_key *k, const char *text, const char *folder,
    char **out, char *why, size_t n)
{
	int rc = 0;

	switch (k->type) {
	case CONF_PATH:
		if (*text != '/' && folder != NULL) {
			*out = xasprintf("%s/%s", folder, text);
			return 0;
		}
		break;
	case CONF_ADDR:
		rc = check_addr(text, why, n);
		break;
	case CONF_URL:
		rc = check_url(text, why, n);
		break;
	case CONF_URLS:
		return parse_list(text, " \t", check_url, out, why, n);
	case CONF_ADDRS:
		return parse_list(text, " \t,", check_network, out, why, n);
	case CONF_KEYS:
		return parse_keys(text, folder, out, why, n);
	default:
		break;
	}
	if (rc == 0)
		*out = xstrdup(text);
	return rc;
}

static int
parse_bool(const char *text, bool *out, char *why, size_t n)
{
	static const char *const words[] = { "no", "yes", "off", "on", "false",
		"true" };
	char ex[68];

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasecmp(text, words[i]) == 0) {
			*out = i % 2 == 1;
			return 0;
		}
	return no(
	    why, n, "\"%s\" is neither yes nor no", conf_excerpt(ex, text));
}

static int
parse_enum(
    const struct conf_key *k, const char *text, int *out, char *why, size_t n)
{
	struct conf_guess g;
	char list[256] = "", ex[68];
	size_t len = 0;

	conf_guess_init(&g, text);
	for (int i = 0; k->words[i] != NULL; i++) {
		if (strcasecmp(text, k->words[i]) == 0) {
			*out = i;
			return 0;
		}
		conf_guess_try(&g, k->words[i]);
		if (len < sizeof(list))
			len += (size_t)snprintf(list + len, sizeof(list) - len,
			    "%s%s",
			    i == 0                        ? ""
				: k->words[i + 1] == NULL ? " or "
							  : ", ",
			    k->words[i]);
	}
	conf_excerpt(ex, text);
	if (g.match != NULL)
		return no(why, n,
		    "\"%s\" is not known; did you mean \"%s\"? "
		    "It can be %s",
		    ex, g.match, list);
	return no(why, n, "\"%s\" is not known; it can be %s", ex, list);
}

static int
parse_number(const struct conf_key *k, const char *text, int64_t *out,
    char *why, size_t n)
{
	int64_t v, bound;
	char unused[256], ex[68];
	int rc = conf_number_parse(k->type, text, &v, why, n);

	if (rc != 0)
		return rc;
	conf_excerpt(ex, text);
	if (k->min != NULL &&
	    conf_number_parse(
		k->type, k->min, &bound, unused, sizeof(unused)) == 0 &&
	    v < bound)
		return no(
		    why, n, "\"%s\" is too small; the least is %s", ex, k->min);
	if (k->max != NULL &&
	    conf_number_parse(
		k->type, k->max, &bound, unused, sizeof(unused)) == 0 &&
	    v > bound)
		return no(
		    why, n, "\"%s\" is too large; the most is %s", ex, k->max);
	*out = v;
	return 0;
}

static int
parse_share(const struct conf_key *k, const char *text, struct conf_share *out,
    char *why, size_t n)
{
	struct conf_key size = {
		.type = CONF_BYTES, .min = k->min, .max = k->max
	};
	struct conf_share sh = { 0 };
	char ex[68];
	int rc;

	if (strchr(text, '%') != NULL) {
		sh.is_percent = true;
		rc = conf_percent_parse(text, &sh.percent, why, n);
	} else if (text[strspn(text, "0123456789. \t")] == '\0') {
		return no(why, n,
		    "\"%s\" needs a unit; write \"%s %%\" or \"%s GB\"",
		    conf_excerpt(ex, text), ex, ex);
	} else {
		rc = parse_number(&size, text, &sh.bytes, why, n);
	}
	if (rc == 0)
		*out = sh;
	return rc;
}

/* The word "none". */
static void
set_none(const struct conf_key *k, void *field)
{
	struct conf_share none = { .bytes = CONF_NONE };

	if (conf_value_is_text(k)) {
		free(*(char **)field);
		*(char **)field = NULL;
	} else if (k->type == CONF_SHARE) {
		*(struct conf_share *)field = none;
	} else {
		*(int64_t *)field = CONF_NONE;
	}
}

int
conf_value_parse(const struct conf_key *k, const char *text, const char *folder,
    void *field, char *why, size_t n)
{
	char *s = NULL;
	int rc;

	if ((k->flags & CONF_F_NONE) != 0 && strcasecmp(text, "none") == 0) {
		set_none(k, field);
		return 0;
	}
	switch (k->type) {
	case CONF_BOOL:
		return parse_bool(text, field, why, n);
	case CONF_ENUM:
		return parse_enum(k, text, field, why, n);
	case CONF_PERCENT:
		return conf_percent_parse(text, field, why, n);
	case CONF_SHARE:
		return parse_share(k, text, field, why, n);
	case CONF_INT:
	case CONF_BYTES:
	case CONF_MSEC:
	case CONF_RATE:
		return parse_number(k, text, field, why, n);
	default:
		rc = parse_text(k, text, folder, &s, why, n);
		if (rc != 0)
			return rc;
		free(*(char **)field);
		*(char **)field = s;
		return 0;
	}
}

int
conf_parse_value(const struct conf_key *k, const char *text, void *field,
    char *why, size_t why_n)
{
	return conf_value_parse(k, text, NULL, field, why, why_n);
}

void
conf_value_clear(const struct conf_key *k, void *field)
{
	if (!conf_value_is_text(k))
		return;
	free(*(char **)field);
	*(char **)field = NULL;
}

bool
conf_value_equal(const struct conf_key *k, const void *a, const void *b)
{
	const struct conf_share *x = a, *y = b;
	const char *s, *t;

	switch (k->type) {
	case CONF_BOOL:
		return *(const bool *)a == *(const bool *)b;
	case CONF_ENUM:
		return *(const int *)a == *(const int *)b;
	case CONF_PERCENT:
		return *(const double *)a == *(const double *)b;
	case CONF_SHARE:
		return x->is_percent == y->is_percent &&
		    x->percent == y->percent && x->bytes == y->bytes;
	case CONF_INT:
	case CONF_BYTES:
	case CONF_MSEC:
	case CONF_RATE:
		return *(const int64_t *)a == *(const int64_t *)b;
	default:
		s = *(const char *const *)a;
		t = *(const char *const *)b;
		return s == t || (s != NULL && t != NULL && strcmp(s, t) == 0);
	}
}

const char *
conf_value_text(const struct conf_key *k, const void *field)
{
	const char *s;

	if (!conf_value_is_text(k))
		return NULL;
	s = *(const char *const *)field;
	return s != NULL ? s : "none";
}
