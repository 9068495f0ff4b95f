/*
 * status.h - what the agent tells of itself
 */
#ifndef STATUS_H
#define STATUS_H

#include <cjson/cJSON.h>

struct agent;
struct http_request;

/* {"version", "signer", "storages", "uploads", ...}; the caller's. */
cJSON *status_json(struct agent *a);
/* GET /status of the control socket. */
void on_status(struct http_request *rq, void *arg);
/* Tell the proxy once a second when something changed. */
void status_begin(struct agent *a);
void status_end(struct agent *a);

#endif
