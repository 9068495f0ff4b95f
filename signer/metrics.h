/*
 * metrics.h - counters of the signer, and /metrics for Prometheus
 */
#ifndef METRICS_H
#define METRICS_H

#include <stdatomic.h>

struct http_request;

struct metrics {
	atomic_ulong answers[6];        /* by first digit of the status */
	atomic_ulong recipes, refusals; /* results of signing */
	atomic_ulong limited;
};

/* Handlers; arg is the signer. */
void metrics_on_request(struct http_request *rq, void *arg);
/* 200 if the store answers. */
void metrics_on_ready(struct http_request *rq, void *arg);

#endif
