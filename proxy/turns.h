/*
 * turns.h - which devices download now, and when the others should come back
 *
 * At most so many devices at a time; all connections of a device count as one.
 * A device keeps its turn between its requests for a while (many fetch a file
 * by ranges, one connection each), and what it was once admitted to it may
 * always go on with. Who was sent away and comes back in time goes before who
 * comes for the first time. Times by clock_ms().
 */
#ifndef TURNS_H
#define TURNS_H

#include <stdbool.h>
#include <stdint.h>

struct turns;
struct turn; /* a device's */

struct turns *turns_new(void);
void turns_free(struct turns *t); /* NULL is accepted */

/*
 * May the device (its address or id) begin a download of that blob? max: so
 * many at a time. goes_on: the request is for a later part of a file. true:
 * *turn_out is to be given back by turns_end(). false: *retry_out seconds.
 */
bool turns_begin(struct turns *t, const char *device, const uint8_t sha256[32],
    bool goes_on, unsigned max, int64_t now, struct turn **turn_out,
    int *retry_out);
/* octets were sent of a download, so many are left. */
void turns_moved(struct turn *v, uint64_t octets, uint64_t left, int64_t now);
/* A request is over; last: it reached the end of its file. */
void turns_end(struct turns *t, struct turn *v, bool last, int64_t now);
/* Would the device be let in now? Else the seconds to wait. */
int turns_wait(struct turns *t, const char *device, unsigned max, int64_t now);
/* Devices that have a turn now. */
unsigned turns_active(struct turns *t, int64_t now);
/* Devices that were sent away and are awaited. */
unsigned turns_waiting(struct turns *t, int64_t now);

#endif
