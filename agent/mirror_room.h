/*
 * mirror_room.h - the room that files of mirrors take
 *
 * What is kept and what is on its way count together, by blocks of the disk and
 * with a block for each .json. One thread uses it, as all of it may wait for
 * the disk.
 */
#ifndef MIRROR_ROOM_H
#define MIRROR_ROOM_H

#include <stdint.h>

struct mirror_room;

/* Of dir (cache/mirror), which need not be there. */
struct mirror_room *mirror_room_new(const char *dir);
void mirror_room_free(struct mirror_room *r); /* NULL is accepted */
/* Once, before anything is on its way: left-overs of a crash go, what is
 * complete is counted. */
void mirror_room_look(struct mirror_room *r);
/* What a file of size octets takes. */
uint64_t mirror_room_of(uint64_t size);
/* Take so much more for a file on its way. The longest unused go if it takes
 * more than limit; -ENOSPC: what is on its way alone does. */
int mirror_room_take(struct mirror_room *r, uint64_t limit, uint64_t octets);
/* A file that took so much is kept now; or it is not, and gone. */
void mirror_room_keep(struct mirror_room *r, uint64_t octets);
void mirror_room_give(struct mirror_room *r, uint64_t octets);
/* Octets of all of it. */
uint64_t mirror_room_sum(const struct mirror_room *r);

#endif
