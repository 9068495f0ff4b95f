/*
 * http_grammar.c - what may stand in a line of a request's head
 *
 * Strict for all that frames a message; lenient for the target alone, whose
 * octets frame nothing: blanks and octets from 0x80 may stand in it raw, and
 * the last word of the line is the version.
 */
#include "http_grammar.h"

#include <string.h>
#include <strings.h>

/* Short, for the table. */
enum {
	TOKEN = HTTP_TOKEN,
	VALUE = HTTP_VALUE,
	TARGET = HTTP_TARGET,
	HOSTNAME = HTTP_HOSTNAME,
	DIGIT = HTTP_DIGIT
};
#define ALNUM (TOKEN | VALUE | TARGET | HOSTNAME)

/* What an octet may be part of. */
// clang-format off
const unsigned char http_classes[256] = {
	['\t'] = VALUE, [' '] = VALUE | TARGET,
	['!'] = ALNUM, ['"'] = VALUE, ['#'] = TOKEN | VALUE,
	['$'] = ALNUM, ['%'] = ALNUM, ['&'] = ALNUM, ['\''] = ALNUM,
	['('] = VALUE | TARGET | HOSTNAME, [')'] = VALUE | TARGET | HOSTNAME,
	['*'] = ALNUM, ['+'] = ALNUM, [','] = VALUE | TARGET | HOSTNAME,
	['-'] = ALNUM, ['.'] = ALNUM, ['/'] = VALUE | TARGET,
	['0' ... '9'] = ALNUM | DIGIT,
	[':'] = VALUE | TARGET, [';'] = VALUE | TARGET | HOSTNAME,
	['<'] = VALUE, ['='] = VALUE | TARGET | HOSTNAME, ['>'] = VALUE,
	['?'] = VALUE | TARGET, ['@'] = VALUE | TARGET,
	['A' ... 'Z'] = ALNUM, ['['] = VALUE | TARGET, ['\\'] = VALUE,
	[']'] = VALUE | TARGET, ['^'] = TOKEN | VALUE | TARGET,
	['_'] = ALNUM, ['`'] = TOKEN | VALUE | TARGET,
	['a' ... 'z'] = ALNUM, ['{'] = VALUE | TARGET,
	['|'] = TOKEN | VALUE | TARGET, ['}'] = VALUE | TARGET,
	['~'] = ALNUM, [0x80 ... 0xff] = VALUE | TARGET,
};
// clang-format on

bool
http_all(const char *p, size_t n, unsigned class)
{
	for (size_t i = 0; i < n; i++)
		if (!(http_classes[(unsigned char)p[i]] & class))
			return false;
	return true;
}

int
http_no(int status, const char *text, const char **why)
{
	*why = text;
	return -status;
}

static bool
port_ok(const char *p, size_t n)
{
	unsigned long port = 0;

	if (n > 5 || !http_all(p, n, HTTP_DIGIT))
		return false;
	for (size_t i = 0; i < n; i++)
		port = port * 10 + (unsigned)(p[i] - '0');
	return port <= 65535;
}

bool
http_host_ok(const char *p, size_t n)
{
	const char *colon;
	size_t host;

	if (n > 0 && p[0] == '[') {
		const char *end = memchr(p, ']', n);

		if (end == NULL || end == p + 1)
			return false;
		host = (size_t)(end - p) + 1;
		for (size_t i = 1; i < host - 1; i++)
			if (p[i] != ':' &&
			    !(http_classes[(unsigned char)p[i]] &
				HTTP_HOSTNAME))
				return false;
	} else {
		colon = memchr(p, ':', n);
		host = colon != NULL ? (size_t)(colon - p) : n;
		if (!http_all(p, host, HTTP_HOSTNAME))
			return false;
	}
	if (host == n)
		return true;
	return p[host] == ':' && port_ok(p + host + 1, n - host - 1);
}

/* "http://authority..." in the target: find the authority. */
static int
absolute_form(const char *line, struct request_line *rl, const char **why)
{
	const char *t = line + rl->target;
	size_t scheme = 0, end;

	if (rl->target_n > 7 && strncasecmp(t, "http://", 7) == 0)
		scheme = 7;
	else if (rl->target_n > 8 && strncasecmp(t, "https://", 8) == 0)
		scheme = 8;
	else
		return http_no(400, "the target must begin with a slash", why);
	for (end = scheme; end < rl->target_n; end++)
		if (t[end] == '/' || t[end] == '?')
			break;
	if (end == scheme || !http_host_ok(t + scheme, end - scheme))
		return http_no(400, "bad authority in the target", why);
	rl->host = rl->target + scheme;
	rl->host_n = end - scheme;
	rl->path = rl->target + end;
	return 0;
}

/* HTTP-version is the last word of the line; 1.2 and up are answered as 1.1. */
static int
version(const char *v, size_t n, unsigned *minor, const char **why)
{
	if (n != 8 || memcmp(v, "HTTP/", 5) != 0 ||
	    !http_all(v + 5, 1, HTTP_DIGIT) || v[6] != '.' ||
	    !http_all(v + 7, 1, HTTP_DIGIT))
		return http_no(400, "no HTTP version in the request line", why);
	if (v[5] != '1')
		return http_no(
		    505, "only HTTP/1.0 and HTTP/1.1 are spoken", why);
	*minor = v[7] == '0' ? 0 : 1;
	return 0;
}

int
http_request_line(
    const char *line, size_t n, struct request_line *rl, const char **why)
{
	const char *last = memrchr(line, ' ', n);
	size_t i = 0;
	int rc;

	memset(rl, 0, sizeof(*rl));
	while (i < n && (http_classes[(unsigned char)line[i]] & HTTP_TOKEN))
		i++;
	if (i == 0 || last == NULL || line[i] != ' ')
		return http_no(400, "not a request line", why);
	if (i > HTTP_METHOD_MAX)
		return http_no(501, "unknown method", why);
	rl->method_n = i;
	rc = version(last + 1, n - (size_t)(last + 1 - line), &rl->minor, why);
	if (rc != 0)
		return rc;
	if (last <= line + i + 1)
		return http_no(400, "no target in the request line", why);
	rl->target = i + 1;
	rl->target_n = (size_t)(last - line) - i - 1;
	if (!http_all(line + rl->target, rl->target_n, HTTP_TARGET) ||
	    last[-1] == ' ')
		return http_no(
		    400, "octet in the target that must be encoded", why);
	if (line[rl->target] == '/')
		return 0;
	if (rl->target_n == 1 && line[rl->target] == '*' && i == 7 &&
	    memcmp(line, "OPTIONS", 7) == 0)
		return 0;
	return absolute_form(line, rl, why);
}

int
http_field_line(const char *line, size_t n, const char **why)
{
	size_t i = 0;

	if (line[0] == ' ' || line[0] == '\t')
		return http_no(400, "folded header line", why);
	while (i < n && (http_classes[(unsigned char)line[i]] & HTTP_TOKEN))
		i++;
	if (i == n)
		return http_no(400, "header line without a colon", why);
	if (i == 0 || line[i] != ':')
		return http_no(400, "bad header name", why);
	if (!http_all(line + i + 1, n - i - 1, HTTP_VALUE))
		return http_no(400, "bad octet in a header value", why);
	return 0;
}
