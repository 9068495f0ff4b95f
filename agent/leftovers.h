/*
 * leftovers.h - parts that were sent of uploads that will not be finished
 */
#ifndef LEFTOVERS_H
#define LEFTOVERS_H

struct agent;
struct leftovers;

/* The spool is open. */
struct leftovers *leftovers_new(struct agent *a);
/* No more calls; the spool may call back until it is closed. */
void leftovers_stop(struct leftovers *l);
/* After the spool is closed. NULL is accepted. */
void leftovers_free(struct leftovers *l);

#endif
