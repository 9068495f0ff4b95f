/*
 * conf_private.h - what the files of lib/conf share among themselves
 */
#ifndef CONF_PRIVATE_H
#define CONF_PRIVATE_H

#include "conf.h"

/* ---- conf_problems.c: problems, and where each setting was read ---------- */

struct conf_origin {
	char *section, *name; /* section with its title: "camera dock" */
	char *value;          /* as written */
	char *file;
	unsigned line;
};

/* All settings read, found by section and name; counted references. */
struct conf_origins;
struct conf_origins *conf_origins_new(void);
struct conf_origins *conf_origins_ref(struct conf_origins *o);
void conf_origins_unref(struct conf_origins *o);
const struct conf_origin *conf_origins_find(
    const struct conf_origins *o, const char *section, const char *name);
/* Add, or replace what stands under the same section and name. */
void conf_origins_put(struct conf_origins *o, const char *section,
    const char *name, const char *value, const char *file, unsigned line);

/* line 0: the file as a whole. */
void conf_problem_at(struct conf_problems *p, const char *file, unsigned line,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Takes a reference; conf_problem() looks settings up there. */
void conf_problems_set_origins(struct conf_problems *p, struct conf_origins *o);
/* Where a problem of no setting stands: the end of this file. */
void conf_problems_set_place(
    struct conf_problems *p, const char *file, unsigned line);
/* In the order of files as read, then lines. */
void conf_problems_sort(struct conf_problems *p);

/* ---- conf_held.c: a configuration in memory ------------------------------ */

/* With the defaults; conf_free(). */
void *conf_new(const struct conf_table *t);
/* Takes the reference. */
void conf_set_origins(void *conf, struct conf_origins *origins);
void conf_set_defaults(const struct conf_key *keys, size_t n, char *at);
/* The elements of titled sections of one kind: the array, their number, one. */
void **conf_array_at(const struct conf_titled *tl, const void *conf);
size_t *conf_count_at(const struct conf_titled *tl, const void *conf);
char *conf_element_at(const struct conf_titled *tl, const void *conf, size_t i);

/* ---- conf_section.c: what lines say -------------------------------------- */

#define CONF_SECTION_MAX 64 /* more than conf_read_text() lets through */

/* One file being read, in one run of conf_load(). */
struct conf_load {
	const struct conf_table *t;
	struct conf_problems *problems;
	struct conf_origins *origins;
	char *conf;
	const char *file; /* as told in problems */
	char *folder;     /* of the file */
	/* the section the reader is in */
	char section[CONF_SECTION_MAX];
	const struct conf_titled *titled; /* NULL: a plain one */
	char *element;                    /* of titled */
	bool known;
};
/* n octets of l->file; the number of lines. */
unsigned conf_read_lines(struct conf_load *l, const char *text, size_t n);

/* ---- conf_guess.c: "did you mean" ---------------------------------------- */

struct conf_guess {
	const char *word;  /* what was written */
	const char *match; /* the nearest so far, NULL: nothing is near */
	size_t distance;   /* of match */
};
void conf_guess_init(struct conf_guess *g, const char *word);
void conf_guess_try(struct conf_guess *g, const char *candidate);

/* ---- conf_reader.c: lines of a file -------------------------------------- */

/* Texts are borrowed during the call. A bad line comes by on_bad alone. */
struct conf_sink {
	void (*on_section)(void *arg, unsigned line, const char *title);
	void (*on_setting)(
	    void *arg, unsigned line, const char *name, const char *value);
	void (*on_bad)(void *arg, unsigned line, const char *why);
	void *arg;
};
/* Read n octets of buf. Returns the number of lines. */
unsigned conf_read_text(
    const char *buf, size_t n, const struct conf_sink *sink);
/* Copy at most 60 octets of text that may be put into a message. */
const char *conf_excerpt(char out[68], const char *s);

/* ---- conf_value.c: one value --------------------------------------------- */

/* As conf_parse_value(), with the folder that a relative path belongs to. */
int conf_value_parse(const struct conf_key *k, const char *text,
    const char *folder, void *field, char *why, size_t why_n);
/* Free what the field owns and make it absent. */
void conf_value_clear(const struct conf_key *k, void *field);
bool conf_value_equal(const struct conf_key *k, const void *a, const void *b);
/* For strings, as held; else NULL: the text of file or default tells it. */
const char *conf_value_text(const struct conf_key *k, const void *field);
/* Is it a char *? */
bool conf_value_is_text(const struct conf_key *k);

/* ---- conf_number.c: numbers with units ----------------------------------- */

/* For INT, BYTES, MSEC and RATE. 0, -EINVAL with why. */
int conf_number_parse(enum conf_type type, const char *text, int64_t *out,
    char *why, size_t why_n);
/* "5 %" to 5.0. */
int conf_percent_parse(const char *text, double *out, char *why, size_t why_n);

#endif
