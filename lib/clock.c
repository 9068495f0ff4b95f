/*
 * clock.c - the two clocks: one for waiting, one for names
 */
#include "clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t
read_ms(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t
clock_ms(void)
{
	return read_ms(CLOCK_BOOTTIME);
}

int64_t
clock_wall_ms(void)
{
	return read_ms(CLOCK_REALTIME);
}

static void
format(int64_t unix_s, const char *fmt, char *out, size_t n)
{
	time_t t = (time_t)unix_s;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(out, n, fmt, &tm) == 0)
		out[0] = '\0';
}

void
clock_basic(int64_t unix_s, char out[17])
{
	format(unix_s, "%Y%m%dT%H%M%SZ", out, 17);
}

void
clock_rfc3339(int64_t unix_s, char out[21])
{
	format(unix_s, "%Y-%m-%dT%H:%M:%SZ", out, 21);
}

/* What is written of it must be s again: refuses the 31st of February. */
static int
parse(const char *s, const char *fmt, int64_t *unix_s_out)
{
	struct tm tm = { 0 };
	const char *end = strptime(s, fmt, &tm);
	char again[21];
	time_t t;

	if (end == NULL || *end != '\0')
		return -EINVAL;
	t = timegm(&tm);
	format(t, fmt, again, sizeof(again));
	if (strcmp(s, again) != 0)
		return -EINVAL;
	*unix_s_out = t;
	return 0;
}

int
clock_parse_basic(const char *s, int64_t *unix_s_out)
{
	return parse(s, "%Y%m%dT%H%M%SZ", unix_s_out);
}

int
clock_parse_rfc3339(const char *s, int64_t *unix_s_out)
{
	return parse(s, "%Y-%m-%dT%H:%M:%SZ", unix_s_out);
}
