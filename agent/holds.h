/*
 * holds.h - uploads of blocked devices are held, and let go when unblocked
 */
#ifndef HOLDS_H
#define HOLDS_H

#include <cjson/cJSON.h>

struct agent;
struct holds;

struct holds *holds_new(struct agent *a);
/* The spool may still call back until it is closed; after that only. */
void holds_free(struct holds *h);
/* The devices that are blocked now: [{"device", "blocked"}]. */
void holds_update(struct holds *h, const cJSON *devices);

#endif
