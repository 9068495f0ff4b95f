/*
 * blocks.h - blocked devices are refused at the door, and what
 * they fetch is cut
 */
#ifndef BLOCKS_H
#define BLOCKS_H

#include <stdbool.h>
#include <stddef.h>

struct blocks;

/* Reads what was blocked at the last stop, below state_dir. */
struct blocks *blocks_new(const char *state_dir);
void blocks_free(struct blocks *b);
/* The list as the agent told it by the doorbell, or its file if the text is no
 * list. true: it has changed, what runs is to be looked at. */
bool blocks_told(struct blocks *b, const char *text, size_t n);
/* Read the list again if its file has changed, now and then: a ring may be
 * lost. true: it has changed. */
bool blocks_refresh(struct blocks *b);
/*
 * May this device send from this address? The name in a path is only a claim,
 * so the addresses last seen under a blocked name are blocked as well, unless
 * a [camera] section says whose they are (known).
 */
bool blocks_refuse(
    struct blocks *b, const char *device, const char *address, bool known);
/* The same of what runs already: nothing is remembered of it. */
bool blocks_has(const struct blocks *b, const char *device, const char *address,
    bool known);

#endif
