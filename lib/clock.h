/*
 * clock.h - the two clocks: one for waiting, one for names
 *
 * Deadlines, back-off and ages use clock_ms(), which no clock step moves; the
 * wall clock only labels things (DESIGN 3.6). Functions that decide take the
 * time as an argument, so that tests need not sleep.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

/* Milliseconds of CLOCK_BOOTTIME: goes on in suspend, starts at 0 with boot. */
int64_t clock_ms(void);
/* Milliseconds since 1970 by the wall clock, which may be wrong. */
int64_t clock_wall_ms(void);
/* Unix seconds as "20260102T030405Z" (17 octets with NUL) and RFC 3339. */
void clock_basic(int64_t unix_s, char out[17]);
void clock_rfc3339(int64_t unix_s, char out[21]);
/* "20260102T030405Z" to Unix seconds; -EINVAL if it is not that. */
int clock_parse_basic(const char *s, int64_t *unix_s_out);
/* The same of "2026-01-02T03:04:05Z" (RFC 3339 in UTC, whole seconds). */
int clock_parse_rfc3339(const char *s, int64_t *unix_s_out);

/* "01:00-05:00" to minutes of the day, which differ; -EINVAL. */
int clock_parse_window(const char *s, int *from_out, int *to_out);

#endif
