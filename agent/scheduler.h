/*
 * scheduler.h - which uploads go when
 */
#ifndef SCHEDULER_H
#define SCHEDULER_H

#include <stdbool.h>
#include <cjson/cJSON.h>

#include "delivery.h"

struct scheduler;

/* The most uploads known in memory at a time. */
#define WINDOW_MAX 1024

struct scheduler *scheduler_new(struct agent *a);
/* Stop all requests; what was under way is left for spool_requeue(). The spool
 * may call back until it is closed. */
void scheduler_stop(struct scheduler *s);
/* After the spool is closed. NULL is accepted. */
void scheduler_free(struct scheduler *s);
/* There may be something new in the spool. */
void scheduler_ring(struct scheduler *s);
/* Something changed: look what may go. */
void scheduler_kick(struct scheduler *s);
/* Signing works again: deferred uploads are called back. */
void scheduler_signer_back(struct scheduler *s);
/* The same for one storage. */
void scheduler_storage_back(struct scheduler *s, struct storage *st);

/* The delivery moves to another state (the only writer of d->state). */
void scheduler_go(
    struct scheduler *s, struct delivery *d, enum delivery_state to);
/* Its outcome is committed, or it is gone: frees it. */
void scheduler_over(struct scheduler *s, struct delivery *d);
/* Up to max of those to be signed, first first. */
size_t scheduler_to_sign(
    struct scheduler *s, struct delivery **out, size_t max);
/* Those to be signed or signed, of st or of all (NULL), go back to waiting. */
void scheduler_give_back(
    struct scheduler *s, struct storage *st, int64_t wait_ms, const char *why);
/* What is under way of these devices (array of names) stops and is held. */
void scheduler_block(struct scheduler *s, const cJSON *devices);
/* Ask the signer again only after ms. */
void scheduler_hold_signing(struct scheduler *s, int64_t ms);
/* {"running", "parallel", ...} into o. */
void scheduler_status(struct scheduler *s, cJSON *o);

#endif
