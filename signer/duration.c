/*
 * duration.c - ISO 8601 durations
 */
#include "duration.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "text.h"

#define MOST (100LL * 366 * 86400)

static const struct {
	char letter;
	bool time; /* after the T */
	int64_t seconds;
} units[] = {
	{ 'W', false, 604800 },
	{ 'D', false, 86400 },
	{ 'H', true, 3600 },
	{ 'M', true, 60 },
	{ 'S', true, 1 },
};
#define UNITS (sizeof(units) / sizeof(units[0]))

int
duration_parse(const char *s, int64_t *seconds_out)
{
	int64_t sum = 0;
	size_t next = 0, parts = 0, timed = 0;
	bool time = false;

	if (*s++ != 'P')
		return -EINVAL;
	while (*s != '\0') {
		int64_t v = 0;
		const char *digits;
		size_t u = next;

		if (*s == 'T' && !time) {
			time = true;
			s++;
		}
		for (digits = s; *s >= '0' && *s <= '9'; s++) {
			v = v * 10 + (*s - '0');
			if (v > MOST)
				return -ERANGE;
		}
		while (u < UNITS &&
		    (units[u].letter != *s || units[u].time != time))
			u++;
		if (s == digits || u == UNITS)
			return -EINVAL;
		s++;
		next = u + 1;
		sum += v * units[u].seconds;
		if (sum > MOST)
			return -ERANGE;
		parts++;
		timed += time;
	}
	if (parts == 0 || (time && timed == 0))
		return -EINVAL;
	*seconds_out = sum;
	return 0;
}

char *
duration_format(int64_t seconds)
{
	struct text t = { 0 };
	bool time = false;

	text_char(&t, 'P');
	if (seconds == 0)
		text_str(&t, "T0S");
	for (size_t i = 1; i < UNITS; i++) {
		int64_t n = seconds / units[i].seconds;

		if (n == 0)
			continue;
		if (units[i].time && !time) {
			text_char(&t, 'T');
			time = true;
		}
		text_u64(&t, (uint64_t)n);
		text_char(&t, units[i].letter);
		seconds -= n * units[i].seconds;
	}
	return text_steal(&t);
}
