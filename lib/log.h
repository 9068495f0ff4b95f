/*
 * log.h - log lines on stderr: "level key=value ...", one event a line
 *
 * error: someone must act. warn: we cope. info: one line per upload, start,
 * stop, reload. debug: state changes. The upload's id comes first and is the
 * same in all daemons. No secret and no query of a URI is ever logged: pass
 * URIs through log_uri(), and text of a peer through log_text(), which escape
 * and cut. Under systemd ($JOURNAL_STREAM) lines carry "<n>" instead of a
 * time. Lines are written with one write(2); a blocked stderr drops lines
 * (counted and told later), it never stops a daemon. Threads may log.
 */
#ifndef LOG_H
#define LOG_H

#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

extern enum log_level log_level; /* lines above it are not made; default info */

/* One escaped, shortened text; lives as long as the struct does. */
struct log_text {
	char s[200];
};

void log_at(enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                         \
	do {                                                                   \
		if (log_level >= LOG_DEBUG)                                    \
			log_at(LOG_DEBUG, __VA_ARGS__);                        \
	} while (0)

/* Escape blanks, quotes, controls and invalid UTF-8 of n octets; at most 199.
 */
const char *log_text(struct log_text *t, const char *s, size_t n);
/* Scheme, host and path of a URI; "?..." stands for a query. */
const char *log_uri(struct log_text *t, const char *uri);
/* "error" "warn" "info" "debug" to the level; -1 if it is none of them. */
int log_level_parse(const char *s);

#endif
