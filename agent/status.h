/*
 * status.h - what the agent tells of itself
 */
#ifndef STATUS_H
#define STATUS_H

#include <cjson/cJSON.h>

struct agent;
struct http_request;

/* What was saved is told of so many cameras; a datagram holds no more. */
#define STATUS_CAMERAS 12

/* {"version", "signer", "storages", "uploads", ...}; the caller's. */
cJSON *status_json(struct agent *a, unsigned cameras);
/* GET /status of the control socket. */
void on_status(struct http_request *rq, void *arg);
/* Tell the proxy once a second when something changed. */
void status_begin(struct agent *a);
void status_end(struct agent *a);

#endif
