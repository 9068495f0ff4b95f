/*
 * updates.h - one long poll that tells what changed at the signer
 */
#ifndef UPDATES_H
#define UPDATES_H

struct agent;
struct updates;

/* Keeps GET /v1/updates running; a signer without it is asked rarely. */
struct updates *updates_new(struct agent *a);
/* No more talk with the signer. NULL is accepted. */
void updates_stop(struct updates *u);
/* After the spool is closed. NULL is accepted. */
void updates_free(struct updates *u);
/* What we know may be old: ask for all of it at once. */
void updates_again(struct updates *u);

#endif
