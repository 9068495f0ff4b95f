/*
 * shrink.h - what image workers make of an upload before it is offered
 */
#ifndef SHRINK_H
#define SHRINK_H

#include <stdbool.h>
#include <stdint.h>

struct delivery;
struct scheduler;

/* An old upload was seen: for `when = pressure`. */
void shrink_note_age(struct scheduler *s, int64_t age_ms);
/*
 * May a smaller copy be made of it, or must one that was offered be made
 * again? True: it is with the workers (call scheduler_go(DELIVERY_SHRINK)
 * before), and goes to DELIVERY_SHRUNK when that is over.
 */
bool shrink_wanted(struct scheduler *s, struct delivery *d);
void shrink_start(struct scheduler *s, struct delivery *d);
/* What is offered of it: the copy that was made, if it is its first offer. */
void shrink_offer(struct delivery *d);
/*
 * The uplink must never wait for the workers: lets uploads go as they are
 * while it could send more. ms until it should be asked again, 0: no need.
 */
int64_t shrink_balance(struct scheduler *s);

#endif
