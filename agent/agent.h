/*
 * agent.h - what the parts of edgehaul-agent share
 *
 * main() makes the one struct agent and hands it down.
 */
#ifndef AGENT_H
#define AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway_conf.h"
#include "storage.h"
#include "uplink.h"

struct agent {
	struct event_base *base;
	const struct gateway_conf *conf;
	struct spool *spool;
	struct signer *signer;
	struct xfers *stores; /* connections to stores */
	struct body_pool *bodies;
	struct images *images;
	struct uplink uplink;
	struct storages storages;
	struct certificates *certificates;
	struct updates *updates;
	struct reports *reports;
	struct leftovers *leftovers;
	struct scheduler *scheduler;
	struct firmware *firmware; /* NULL: not set up */
	struct doorbell *bell;
	char *proxy_bell;
	struct http_server *control;
	struct event *open_timer; /* until the proxy has made the spool */
	struct event *status_timer;
	char *status_told;
	int64_t status_told_ms;
	int images_at; /* of the list of cameras that status.c tells */
	int told_rc;   /* of opening the spool, so that it is logged once */
	/* since the start */
	uint64_t delivered, delivered_bytes, deferred, quarantined;
	int64_t begun_ms;
};

#endif
