/*
 * repeat.h - uploads of late, to recognise one that is sent again
 *
 * A camera that did not hear the 201 sends the file again. Kept in memory and
 * bounded: best effort, a miss only means a second copy. Any thread.
 */
#ifndef REPEAT_H
#define REPEAT_H

#include <stdbool.h>
#include <stdint.h>

struct repeat;

struct repeat *repeat_new(void);
void repeat_free(struct repeat *r);
/* Was this device, name and content made durable since then? */
bool repeat_find(struct repeat *r, const char *device, const char *name,
    const uint8_t sha256[32], int64_t since_ms, uint64_t *seq_out);
/* That one is neither waiting nor delivered any more: what is sent again is
 * new. */
void repeat_forget(struct repeat *r, uint64_t seq);
void repeat_add(struct repeat *r, const char *device, const char *name,
    const uint8_t sha256[32], int64_t now_ms, uint64_t seq);

#endif
