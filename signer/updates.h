/*
 * updates.h - long polls that wait for a change of their tenant
 */
#ifndef UPDATES_H
#define UPDATES_H

struct api_call;
struct signer;
struct updates;

#define UPDATES_WAIT_S 50

struct updates *updates_new(struct signer *sg);
/* All that waits is answered. */
void updates_free(struct updates *u);
void updates_stop(struct updates *u);
/* Keep the call until its tenant changes or time is up; then api_again(). */
void updates_park(struct updates *u, struct api_call *c);
/* The call has run: another one may. Does nothing for one that never waited. */
void updates_ran(struct updates *u, struct api_call *c);
/* The request is gone. */
void updates_forget(struct updates *u, struct api_call *c);
void updates_wake(struct updates *u, const char *tenant);
/* Counts wakes: what looked before the last one may have seen what was. */
unsigned updates_generation(const struct updates *u);
unsigned updates_waiting(const struct updates *u);

#endif
