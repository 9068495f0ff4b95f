/*
 * transfer.h - HTTP exchanges by libcurl on the event loop
 *
 * One struct xfers is one pool of connections; stores and signer have one
 * each, so that talk with the signer never waits behind bodies. Only http and
 * https, no redirects, no environment, bounded answers. All calls are made on
 * the loop's thread; callbacks run on it.
 */
#ifndef TRANSFER_H
#define TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "recipe.h"

struct event_base;
struct xfers;
struct xfer;

/* keep: idle connections to keep. */
struct xfers *xfers_new(struct event_base *base, unsigned keep);
/* All must be over or cancelled. NULL is accepted. */
void xfers_free(struct xfers *x);
/* Once in a process before and after all others. -errno: libcurl lacks what we
 * rely on; why is static. */
int xfers_global_init(const char **why);
void xfers_global_fini(void);

/* Where a body comes from. */
struct xfer_source {
	/* 1..n octets to buf; 0: the end; -EAGAIN: none now, xfer_resume()
	 * will be called; other -errno: abort. */
	ssize_t (*read)(void *arg, char *buf, size_t n);
	/* Begin again at the first octet. 0 or -errno. */
	int (*rewind)(void *arg);
	void *arg;
};

/* Where an answer's body goes, instead of gathering in memory. */
struct xfer_sink {
	/* Before the first octet of a body: look at status and headers. 0, or
	 * -errno: abort. */
	int (*head)(void *arg, struct xfer *t, int status);
	/* 0: all n octets are taken; -EAGAIN: none, they come again after
	 * xfer_resume(); other -errno: abort. */
	int (*write)(void *arg, const char *p, size_t n);
	void *arg;
};

struct xfer_request {
	const char *method, *uri;
	const struct recipe_header *headers; /* copied */
	size_t headers_n;
	const char *bearer; /* NULL: none */
	/* The body: a text (copied), or a source of length octets, or none. */
	const char *text;
	const struct xfer_source *source; /* copied */
	uint64_t length;
	size_t answer_max;            /* octets of an answer's body */
	const struct xfer_sink *sink; /* copied; NULL: none */
	int64_t timeout_ms;           /* for all of it; 0: by the length */
	/* Slower than so many octets a second for so long: it ends with
	 * -ETIMEDOUT. 0: by timeout_ms. Waiting for xfer_resume() is free. */
	unsigned least_rate, least_s;
	const char *ca_file, *ca_pem; /* both NULL: the system's */
	const char *proxy;            /* NULL: none */
	bool allow_http, allow_private;
};

struct xfer_result {
	int rc;            /* 0: an answer has arrived whole; else -errno */
	bool tls;          /* rc != 0: the peer's certificate is to blame */
	const char *error; /* rc != 0: for people */
	int status;
	const char *body; /* NUL-terminated, answer_max octets at most */
	size_t body_n;
	uint64_t sent;          /* octets of the request's body */
	int64_t retry_after_ms; /* -1: not said */
	struct xfer *xfer;      /* for xfer_header() */
};
/* Called once; r and what it points to live during the call only. */
typedef void (*xfer_fn)(const struct xfer_result *r, void *arg);

struct xfer *xfer_start(
    struct xfers *x, const struct xfer_request *rq, xfer_fn fn, void *arg);
/* The source has something again, or the sink room. */
void xfer_resume(struct xfer *t);
/* Stop; fn is not called. Not from within a source's or sink's callback. */
void xfer_cancel(struct xfer *t);
/* A header of the answer during fn, or NULL. */
const char *xfer_header(const struct xfer *t, const char *name);

#endif
