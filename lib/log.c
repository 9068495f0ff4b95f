/*
 * log.c - log lines on stderr
 *
 * A line is built in a buffer of its own and goes out by one write(2), so
 * lines of threads do not mix. stderr is never waited for: a pipe that nobody
 * reads would stop the daemon, so what does not fit is counted and told when
 * there is room again.
 */
#include "log.h"

#include <poll.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum log_level log_level = LOG_INFO;

static const struct {
	const char *name;
	int priority; /* of syslog(3) */
} levels[] = {
	[LOG_ERROR] = { "error", 3 },
	[LOG_WARN] = { "warn", 4 },
	[LOG_INFO] = { "info", 6 },
	[LOG_DEBUG] = { "debug", 7 },
};

static atomic_ulong dropped;

/* systemd says by this variable that stderr is its journal. */
static bool
to_journal(void)
{
	static atomic_int known; /* 0: not asked yet, 1: no, 2: yes */

	if (known == 0)
		known = getenv("JOURNAL_STREAM") != NULL ? 2 : 1;
	return known == 2;
}

static bool
put(const char *s, size_t n)
{
	struct pollfd p = { STDERR_FILENO, POLLOUT, 0 };

	if (poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0)
		return false;
	return write(STDERR_FILENO, s, n) == (ssize_t)n;
}

static size_t
prefix(char *buf, size_t size, enum log_level level)
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	if (to_journal())
		return (size_t)snprintf(buf, size, "<%d>%-5s ",
		    levels[level].priority, levels[level].name);
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(buf + n, size - n, ".%03ldZ %-5s ",
	    ts.tv_nsec / 1000000, levels[level].name);
	return n;
}

void
log_at(enum log_level level, const char *fmt, ...)
{
	char line[2048];
	unsigned long lost;
	size_t n, room;
	va_list ap;
	int len;

	if (level > log_level)
		return;
	n = prefix(line, sizeof(line), level);
	room = sizeof(line) - n - 1; /* for the newline */
	va_start(ap, fmt);
	len = vsnprintf(line + n, room, fmt, ap);
	va_end(ap);
	if (len > 0)
		n += (size_t)len < room ? (size_t)len : room - 1;
	line[n++] = '\n';
	lost = atomic_exchange(&dropped, 0);
	if (lost != 0) {
		char told[96];
		size_t m = prefix(told, sizeof(told), LOG_WARN);

		m += (size_t)snprintf(told + m, sizeof(told) - m,
		    "log blocked lines_lost=%lu\n", lost);
		if (!put(told, m))
			atomic_fetch_add(&dropped, lost);
	}
	if (!put(line, n))
		atomic_fetch_add(&dropped, 1);
}

/* Octets of the valid UTF-8 sequence at s, 0 if there is none. */
static size_t
utf8_len(const unsigned char *s, size_t n)
{
	size_t len = s[0] < 0x80 ? 1
	    : s[0] < 0xc2        ? 0
	    : s[0] < 0xe0        ? 2
	    : s[0] < 0xf0        ? 3
	    : s[0] < 0xf5        ? 4
				 : 0;

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

const char *
log_text(struct log_text *t, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + n;
	char *o = t->s, *last = t->s + sizeof(t->s) - 8;

	while (p < end && o < last) {
		size_t len = utf8_len(p, (size_t)(end - p));

		if (len > 1) {
			memcpy(o, p, len);
			o += len;
			p += len;
		} else if (len == 1 && *p > 0x20 && *p != 0x7f && *p != '"' &&
		    *p != '\\') {
			*o++ = (char)*p++;
		} else {
			o += sprintf(o, "\\x%02x", *p++);
		}
	}
	strcpy(o, p < end ? "..." : "");
	return t->s;
}

const char *
log_uri(struct log_text *t, const char *uri)
{
	size_t n = strcspn(uri, "?#");

	log_text(t, uri, n);
	if (uri[n] == '?' && strlen(t->s) + 5 < sizeof(t->s))
		strcat(t->s, "?...");
	return t->s;
}

int
log_level_parse(const char *s)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcmp(s, levels[i].name) == 0)
			return (int)i;
	return -1;
}
