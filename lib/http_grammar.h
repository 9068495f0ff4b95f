/*
 * http_grammar.h - what may stand in a line of a request's head
 *
 * RFC 9112 sections 3 and 5. For http_parser.c alone.
 */
#ifndef HTTP_GRAMMAR_H
#define HTTP_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_METHOD_MAX 32 /* octets */

/* What an octet may be part of. */
enum {
	HTTP_TOKEN = 1,
	HTTP_VALUE = 2,
	HTTP_TARGET = 4,
	HTTP_HOSTNAME = 8,
	HTTP_DIGIT = 16
};
extern const unsigned char http_classes[256];

/* The parts of a request line, as offsets into it. */
struct request_line {
	size_t method_n, target, target_n;
	size_t host, host_n; /* of absolute-form; host 0 if it is none */
	size_t path;         /* of absolute-form: what follows the authority */
	unsigned minor;
};

/* Are all octets of that class? */
bool http_all(const char *p, size_t n, unsigned class);
/* Refuse: *why gets the reason, the result is minus the status. */
int http_no(int status, const char *text, const char **why);
/* uri-host [":" port] (RFC 3986 section 3.2.2); no userinfo, may be empty. */
bool http_host_ok(const char *p, size_t n);
/* The request line, without its CRLF. 0, or minus the status. */
int http_request_line(
    const char *line, size_t n, struct request_line *rl, const char **why);
/* field-name ":" OWS field-value OWS, without its CRLF. */
int http_field_line(const char *line, size_t n, const char **why);

#endif
