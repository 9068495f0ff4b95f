/*
 * proxy.h - the LAN side of the gateway: what its files share
 */
#ifndef PROXY_H
#define PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "refusals.h"

struct access;
struct blocks;
struct devices;
struct doorbell;
struct event_base;
struct firmware;
struct gateway_conf;
struct http_request;
struct http_server;
struct spool;

struct proxy {
	struct event_base *base;
	const struct gateway_conf *conf;
	struct http_server *lan, *control;
	struct spool *spool;
	struct access *access;
	struct blocks *blocks;
	struct devices *devices;
	struct firmware *firmware;
	struct event *housework;
	struct doorbell *bell;
	char *agent_bell;      /* path of the agent's doorbell */
	char *agent_status;    /* its last JSON, checked; NULL: none yet */
	int64_t agent_seen_ms; /* clock_ms() of it */
	int64_t started_ms;
	struct {
		uint64_t uploads, refused, failed, bytes;
	} count;
	struct refusals refusals;
	TAILQ_HEAD(, ask) standing; /* answers of page.c on their way */
	size_t standing_n;          /* their octets */
	LIST_HEAD(, upload) claims; /* on names, see upload_name.c */
};

/* page.c */
void on_status_json(struct http_request *rq, void *proxy);
void on_metrics(struct http_request *rq, void *proxy);
void on_health(struct http_request *rq, void *proxy);
void on_upload_query(struct http_request *rq, void *proxy);
void on_queue(struct http_request *rq, void *proxy);
void on_check(struct http_request *rq, void *proxy);
void on_check_start(struct http_request *rq, void *proxy);
void on_reserved_path(struct http_request *rq, void *proxy);
void on_page_nothing(struct http_request *rq, void *proxy);
/* A datagram of the agent: "status {json}", or "images [json]", a page of
 * what was saved per camera. */
void page_agent_told(struct proxy *px, const char *msg, size_t n);

#endif
