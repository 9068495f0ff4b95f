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

static char *
digits(char *o, unsigned v, int n)
{
	for (int i = n; i-- > 0; v /= 10)
		o[i] = (char)('0' + v % 10);
	return o + n;
}

/*
 * Without strftime(), whose gmtime_r() takes a lock of the whole process: each
 * URI has a date. Days to a date as in Richards' algorithm, years beginning in
 * March. date, clock: what stands between the numbers, or 0.
 */
static void
write_time(int64_t unix_s, char date, char clock, char *out)
{
	unsigned s = (unsigned)(unix_s % 86400);
	unsigned days = (unsigned)(unix_s / 86400) + 719468; /* of 0000-03-01 */
	unsigned era = days / 146097, of_era = days % 146097;
	unsigned year =
	    (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	unsigned of_year = of_era - (365 * year + year / 4 - year / 100);
	unsigned m = (5 * of_year + 2) / 153;
	unsigned month = m < 10 ? m + 3 : m - 9;

	out = digits(out, era * 400 + year + (month <= 2), 4);
	if (date != 0)
		*out++ = date;
	out = digits(out, month, 2);
	if (date != 0)
		*out++ = date;
	out = digits(out, of_year - (153 * m + 2) / 5 + 1, 2);
	*out++ = 'T';
	out = digits(out, s / 3600, 2);
	if (clock != 0)
		*out++ = clock;
	out = digits(out, s / 60 % 60, 2);
	if (clock != 0)
		*out++ = clock;
	out = digits(out, s % 60, 2);
	*out++ = 'Z';
	*out = '\0';
}

#define LAST_S 253402300799 /* of the year 9999 */

void
clock_basic(int64_t unix_s, char out[17])
{
	if (unix_s >= 0 && unix_s <= LAST_S)
		write_time(unix_s, 0, 0, out);
	else
		format(unix_s, "%Y%m%dT%H%M%SZ", out, 17);
}

void
clock_rfc3339(int64_t unix_s, char out[21])
{
	if (unix_s >= 0 && unix_s <= LAST_S)
		write_time(unix_s, '-', ':', out);
	else
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

static int
minute_of(const char *s)
{
	int h, m;

	if (strspn(s, "0123456789") != 2 || s[2] != ':' ||
	    strspn(s + 3, "0123456789") != 2)
		return -1;
	h = (s[0] - '0') * 10 + s[1] - '0';
	m = (s[3] - '0') * 10 + s[4] - '0';
	return h < 24 && m < 60 ? h * 60 + m : -1;
}

int
clock_parse_window(const char *s, int *from_out, int *to_out)
{
	int from, to;

	if (strlen(s) != 11 || s[5] != '-')
		return -EINVAL;
	from = minute_of(s);
	to = minute_of(s + 6);
	if (from < 0 || to < 0 || from == to)
		return -EINVAL;
	*from_out = from;
	*to_out = to;
	return 0;
}
