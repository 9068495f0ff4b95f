/*
 * outgoing.h - requests that the signer itself makes, to stores and for tokens
 *
 * Blocking, by libcurl: call them on a thread of the pool for it. No redirects,
 * no environment, bounded time and answers. Addresses that a tenant could use
 * to look around in the operator's network are refused unless allow_private.
 */
#ifndef OUTGOING_H
#define OUTGOING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sigv4.h"
#include "text.h"

enum out_fault {
	OUT_OK, /* there is an answer, of whatever status */
	OUT_DNS,
	OUT_PRIVATE, /* the address is not one to be called */
	OUT_CONNECT,
	OUT_TLS,    /* a certificate that is not trusted, or made for others */
	OUT_NO_TLS, /* no handshake */
	OUT_TIMEOUT,
	OUT_OTHER
};

struct out_request {
	const char *method, *uri;
	const struct pair *headers;
	size_t headers_n;
	const char *body; /* NULL: none */
	size_t body_n;
	const char *ca_pem;      /* NULL: the system's authorities */
	const char *want_header; /* its value is kept; NULL: none */
	bool allow_private;
	long timeout_ms;
};

struct out_answer {
	enum out_fault fault;
	char error[256]; /* of a fault, for people */
	int status;
	char date[64];    /* header Date, "" if there is none */
	char wanted[256]; /* of want_header, "" if there is none */
	int64_t length;   /* Content-Length, -1 if there is none */
	struct text body;
};

/* Once in a process. */
int outgoing_init(void);
void outgoing_fini(void);
/* From any thread: calls that run and those to come fail at once. */
void outgoing_stop(void);
/* out_answer_fini() afterwards, whatever came. */
void outgoing_call(const struct out_request *rq, struct out_answer *a);
void out_answer_fini(struct out_answer *a);

/*
 * Many of them, at most `parallel` at a time and on kept connections, until
 * until_ms by clock_ms(). For one thread; when it returns all have ended, and
 * as_out[i] is the answer of rqs[i]. After the first fault no more are begun:
 * those left are OUT_TIMEOUT.
 */
struct outgoing;
struct outgoing *outgoing_open(size_t parallel);
void outgoing_close(struct outgoing *o);
void outgoing_calls(struct outgoing *o, const struct out_request *rqs,
    struct out_answer *as_out, size_t n, int64_t until_ms);

/* No answer, or one of trouble of its own: it says nothing about the question.
 */
bool out_unreachable(const struct out_answer *a);

/* Text of the first <tag>...</tag>, entities decoded; malloc'd or NULL. */
char *xml_tag(const char *body, const char *tag);

#endif
