/*
 * duration.h - ISO 8601 durations: "PT15M", "P7D", "PT1H30M", "P1DT12H"
 */
#ifndef DURATION_H
#define DURATION_H

#include <stdint.h>

/*
 * Whole seconds of weeks, days, hours, minutes, seconds in that order. -EINVAL:
 * not a duration, or with years, months or fractions, whose length is unclear.
 * -ERANGE: over 100 years.
 */
int duration_parse(const char *s, int64_t *seconds_out);
/* The shortest text, malloc'd. */
char *duration_format(int64_t seconds);

#endif
