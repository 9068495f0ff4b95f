/*
 * control.h - questions about the queue, answered alike by proxy and agent
 *
 * The operator's tool never opens the index; it asks a daemon over HTTP on a
 * Unix socket, page by page.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <stdbool.h>
#include <cjson/cJSON.h>

struct http_request;
struct spool;
struct spool_item;
struct spool_status;

/* GET /queue?after=SEQ&limit=N: {"uploads": [...], "next": SEQ or null}. */
void control_queue(struct http_request *rq, struct spool *sp);
/* One upload, its id in the route's parameter "id": an object with all that is
 * known, or 404. */
void control_upload(struct http_request *rq, struct spool *sp);
/* {id, device, name, size, sha256, state, attempts, next_try_in, last_error};
 * whole: and type, address, received, age, storage, key ... Seconds. */
cJSON *control_item_json(const struct spool_item *it, bool whole);
/* {accepted, delivered, expired, evicted, dropped, quarantined, waiting} */
cJSON *control_ledger_json(const struct spool_status *st);
/* What else is known of the spool: bytes, room, ages, states. */
cJSON *control_spool_json(const struct spool_status *st);

#endif
