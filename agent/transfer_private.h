/*
 * transfer_private.h - what transfer.c (one exchange) and transfer_loop.c
 * (libcurl on the event loop) share
 */
#ifndef TRANSFER_PRIVATE_H
#define TRANSFER_PRIVATE_H

#include <curl/curl.h>

#include "transfer.h"

struct event;

#define SPARE 16

struct xfers {
	CURLM *multi;
	struct event_base *base;
	struct event *timer;
	CURL *spare[SPARE]; /* handles to use again; none while all rests */
	unsigned spare_n, live;
};

struct xfer {
	struct xfers *x;
	CURL *easy;
	struct curl_slist *headers;
	xfer_fn fn;
	void *arg;
	struct xfer_source source;
	struct xfer_sink sink;
	bool headed; /* sink.head() was called */
	char *text;
	size_t text_n, text_at;
	char *body;
	size_t body_n, body_size, body_max;
	char *refused; /* address that may not be connected to */
	bool too_long, allow_private, paused;
	struct event *broken; /* the sink refused within xfer_resume() */
	char error[CURL_ERROR_SIZE];
};

/* It is over: tells its owner, then frees it. */
void xfer_end(struct xfer *t, CURLcode code);
/* A handle to use, with nothing set; given back when it is no longer used. */
CURL *xfers_handle(struct xfers *x);
void xfers_handle_back(struct xfers *x, CURL *e);

#endif
