/*
 * fill.h - brings uploads from the spool into the window
 */
#ifndef FILL_H
#define FILL_H

struct agent;
struct delivery;
struct scheduler;
struct storage;

/* Ask the spool for more if there is room. */
void fill_look(struct scheduler *s);
/* Begin with the oldest again. */
void fill_again(struct scheduler *s);
/* Drop from the window what is ready of a storage that does not work, but for
 * one. NULL: nothing. */
void fill_drop(struct scheduler *s, struct storage *st);
/* Set what is offered to the store, if it is not yet. */
void fill_offer(struct agent *a, struct delivery *d);

#endif
