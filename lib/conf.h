/*
 * conf.h - INI files checked against one typed table
 *
 * One row of a table per setting gives the parser, --check, show-config, the
 * man page and the sample file (DESIGN 11). All problems of all files are
 * reported in one run with file:line; nothing is taken from a file that has
 * one. Tokens come from libinih through a line reader of ours that counts
 * lines, takes BOM, CRLF and leading blanks, and refuses over-long lines.
 */
#ifndef CONF_H
#define CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cjson/cJSON.h>

enum conf_type {
	CONF_TEXT,  /* char * */
	CONF_PATH,  /* char *, made absolute by the file's folder */
	CONF_ADDR,  /* char *, HOST:PORT checked ("[::]:8080", port 0 is any) */
	CONF_URL,   /* char *, http:// or https:// */
	CONF_URLS,  /* char *, several, blank separated */
	CONF_ADDRS, /* char *, IP addresses or CIDR, blank or comma separated */
	CONF_KEYS,  /* char *, minisign public keys or files with one (made
		       absolute), blank separated */
	CONF_BOOL,  /* bool: yes no on off true false */
	CONF_INT,   /* int64_t */
	CONF_BYTES, /* int64_t: B KB MB GB TB of 1024, unit required */
	CONF_MSEC,  /* int64_t: ms s min h d, unit required */
	CONF_RATE,  /* int64_t octets/s: "5 Mbit/s", "500 KB/s", "500 B" */
	CONF_PERCENT, /* double 0..100: "5 %" */
	CONF_SHARE,   /* struct conf_share: "5 %" or a size */
	CONF_ENUM,    /* int: index in `words` */
};
#define CONF_NONE INT64_MIN /* "none" where the row's flag allows it */

struct conf_share {
	bool is_percent;
	double percent;
	int64_t bytes;
};

#define CONF_F_RELOAD 1 /* taken over by SIGHUP; else a restart is needed */
#define CONF_F_NONE 2   /* the word "none" is a value: CONF_NONE or NULL */
#define CONF_F_SECRET 4 /* never shown */
#define CONF_F_REQUIRED 8

struct conf_key {
	const char *section, *name;
	enum conf_type type;
	size_t at;                /* offsetof in the program's struct */
	const char *dflt;         /* as text, NULL: absent (NULL or 0) */
	const char *min, *max;    /* as text, NULL: no bound */
	const char *const *words; /* CONF_ENUM: NULL-terminated */
	unsigned flags;
	const char *help; /* one line for people */
};

/*
 * A titled section, "[camera NAME]": each one makes an element of `size`
 * octets with its own keys (offsets in the element; section = the title's
 * first word). Elements form an array; name is a char * at offset 0.
 */
struct conf_titled {
	const char *section;
	size_t at_array, at_count, size; /* of `void *` and `size_t` fields */
	const struct conf_key *keys;
	size_t keys_n;
	const char *help;
};

struct conf_problems;

struct conf_table {
	const char *program;
	size_t size; /* of the struct that is filled */
	const struct conf_key *keys;
	size_t keys_n;
	const struct conf_titled *titled;
	size_t titled_n;
	/* Checks across settings; reports by conf_problem(). May be NULL. */
	void (*cross)(void *conf, struct conf_problems *problems);
};

/* Collected problems, each "file:line: text" with what to do. */
struct conf_problems;
struct conf_problems *conf_problems_new(void);
void conf_problems_free(struct conf_problems *p);
size_t conf_problems_count(const struct conf_problems *p);
const char *conf_problems_get(const struct conf_problems *p, size_t i);
/* Names a setting already read (its file:line is found), or NULL for none. */
void conf_problem(struct conf_problems *p, const char *section,
    const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/*
 * Read path and then its folder's conf.d/ *.conf in lexical order (later wins)
 * into a new struct. 0: *conf_out is the caller's, free by conf_free().
 * -EINVAL: problems is filled, all of them. -errno of open: filled as well.
 */
int conf_load(const struct conf_table *t, const char *path,
    struct conf_problems *problems, void **conf_out);
/* The same from n octets of text, named `path` in problems; no conf.d. */
int conf_load_text(const struct conf_table *t, const char *path,
    const char *text, size_t n, struct conf_problems *problems,
    void **conf_out);
void conf_free(const struct conf_table *t, void *conf);

/* One setting of a loaded configuration; texts live as long as that does. */
struct conf_row {
	const char *section; /* with its title: "camera dock-left" */
	const struct conf_key *key;
	const char *value; /* "none" if absent; never a secret */
	const char *file;  /* NULL: the default */
	unsigned line;
};
void conf_each(const struct conf_table *t, const void *conf,
    void (*fn)(const struct conf_row *row, void *arg), void *arg);
/* Which settings differ but need a restart: names to f, one a line. */
size_t conf_needs_restart(const struct conf_table *t, const void *old,
    const void *new, void (*tell)(const char *name, void *arg), void *arg);
/* Effective values as "[section] name = value" lines with their origin. */
void conf_show(const struct conf_table *t, const void *conf, FILE *f);
/* {"problems": [{"file","line","text"}]} for --json. */
cJSON *conf_problems_json(const struct conf_problems *p);
/* Parse one value the way a file's is parsed (for tests and options). */
int conf_parse_value(const struct conf_key *k, const char *text, void *field,
    char *why, size_t why_n);

#endif
