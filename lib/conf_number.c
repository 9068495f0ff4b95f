/*
 * conf_number.c - numbers with units
 *
 * A bare number where a unit belongs is an error: 30 is somebody's minutes.
 * Sizes count by 1024, rates in bits by 1000 as links are sold. Everything is
 * integer arithmetic: what does not fit 63 bits is refused, not rounded.
 */
#include "conf_private.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *name;
	int64_t times, divided_by;
};

static const struct unit sizes[] = {
	{ "B", 1, 1 },
	{ "KB", 1LL << 10, 1 },
	{ "MB", 1LL << 20, 1 },
	{ "GB", 1LL << 30, 1 },
	{ "TB", 1LL << 40, 1 },
	{ NULL },
};
static const struct unit times[] = {
	{ "ms", 1, 1 },
	{ "s", 1000, 1 },
	{ "min", 60 * 1000, 1 },
	{ "h", 3600 * 1000, 1 },
	{ "d", 86400 * 1000, 1 },
	{ NULL },
};
static const struct unit rates[] = {
	{ "bit/s", 1, 8 },
	{ "kbit/s", 1000, 8 },
	{ "Mbit/s", 1000 * 1000, 8 },
	{ "Gbit/s", 1000 * 1000 * 1000, 8 },
	{ "B/s", 1, 1 },
	{ "KB/s", 1LL << 10, 1 },
	{ "MB/s", 1LL << 20, 1 },
	{ "GB/s", 1LL << 30, 1 },
	{ "B", 1, 1 },
	{ "KB", 1LL << 10, 1 },
	{ "MB", 1LL << 20, 1 },
	{ "GB", 1LL << 30, 1 },
	{ NULL },
};

static const struct {
	const struct unit *units;
	const char *example, *all;
} kinds[] = {
	[CONF_BYTES] = { sizes, "MB", "B, KB, MB, GB or TB" },
	[CONF_MSEC] = { times, "s", "ms, s, min, h or d" },
	[CONF_RATE] = { rates, "KB/s",
	    "bit/s, kbit/s, Mbit/s, B/s, KB/s or MB/s" },
};

/* "12", "1.5": the digits as one number and how many stand behind the point.
 * Returns what follows, NULL: no number. */
static const char *
take_number(const char *s, int64_t *digits_out, int *places_out)
{
	int64_t v = 0;
	int places = -1;

	if (!isdigit((unsigned char)*s))
		return NULL;
	for (; isdigit((unsigned char)*s) || (*s == '.' && places < 0); s++) {
		if (*s == '.') {
			places = 0;
			if (!isdigit((unsigned char)s[1]))
				return NULL;
			continue;
		}
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, *s - '0', &v))
			return NULL;
		if (places >= 0 && ++places > 6)
			return NULL;
	}
	*digits_out = v;
	*places_out = places > 0 ? places : 0;
	return s;
}

static int
int_parse(const char *text, int64_t *out, char *why, size_t why_n)
{
	char *end, ex[68];
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || *text == '+') {
		snprintf(why, why_n, "\"%s\" is no whole number",
		    conf_excerpt(ex, text));
		return -EINVAL;
	}
	*out = v;
	return 0;
}

int
conf_number_parse(enum conf_type type, const char *text, int64_t *out,
    char *why, size_t why_n)
{
	const struct unit *u;
	const char *rest;
	int64_t v, scaled;
	int places;
	char ex[68];

	if (type == CONF_INT)
		return int_parse(text, out, why, why_n);
	rest = take_number(text, &v, &places);
	if (rest == NULL) {
		snprintf(why, why_n, "\"%s\" is no number with a unit (%s)",
		    conf_excerpt(ex, text), kinds[type].all);
		return -EINVAL;
	}
	rest += strspn(rest, " \t");
	if (*rest == '\0') {
		snprintf(why, why_n,
		    "\"%s\" needs a unit; write \"%s %s\" (units: %s)",
		    conf_excerpt(ex, text), ex, kinds[type].example,
		    kinds[type].all);
		return -EINVAL;
	}
	for (u = kinds[type].units; u->name != NULL; u++)
		if (strcasecmp(u->name, rest) == 0)
			break;
	if (u->name == NULL) {
		snprintf(why, why_n, "unit \"%s\" is not known; use %s",
		    conf_excerpt(ex, rest), kinds[type].all);
		return -EINVAL;
	}
	if (__builtin_mul_overflow(v, u->times, &scaled)) {
		snprintf(
		    why, why_n, "\"%s\" is too large", conf_excerpt(ex, text));
		return -EINVAL;
	}
	for (; places > 0; places--)
		scaled /= 10;
	*out = scaled / u->divided_by;
	return 0;
}

int
conf_percent_parse(const char *text, double *out, char *why, size_t why_n)
{
	int64_t v;
	int places;
	const char *rest = take_number(text, &v, &places);
	double d = (double)v;
	char ex[68];

	if (rest == NULL) {
		snprintf(why, why_n, "\"%s\" is no percentage; write \"5 %%\"",
		    conf_excerpt(ex, text));
		return -EINVAL;
	}
	rest += strspn(rest, " \t");
	conf_excerpt(ex, text);
	if (*rest == '\0') {
		snprintf(
		    why, why_n, "\"%s\" needs a unit; write \"%s %%\"", ex, ex);
		return -EINVAL;
	}
	if (strcmp(rest, "%") != 0) {
		snprintf(why, why_n, "\"%s\" is no percentage", ex);
		return -EINVAL;
	}
	for (; places > 0; places--)
		d /= 10;
	if (d > 100) {
		snprintf(why, why_n, "\"%s\" is more than 100 %%",
		    conf_excerpt(ex, text));
		return -EINVAL;
	}
	*out = d;
	return 0;
}
