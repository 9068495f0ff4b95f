/*
 * problem.h - what is wrong with a request, for people and programs
 *
 * Collected while a body is checked, so that one answer names all of it, and
 * written as application/problem+json (RFC 9457) with errors[], each with a
 * JSON pointer (RFC 6901) into the body, a detail and a hint what to do.
 */
#ifndef PROBLEM_H
#define PROBLEM_H

#include <cjson/cJSON.h>

struct problem {
	int status;      /* of the answer; 0: nothing is wrong */
	char *title;     /* one line */
	char *detail;    /* may be NULL */
	char *hint;      /* may be NULL */
	int retry_after; /* seconds; 0: not told */
	cJSON *errors;   /* may be NULL */
};

void problem_fini(struct problem *p);
/* Set status and title; the first call stays. hint may be NULL. */
void problem_set(struct problem *p, int status, const char *hint,
    const char *title_fmt, ...) __attribute__((format(printf, 4, 5)));
/* A field is wrong: 422. Called any number of times. hint may be NULL. */
void problem_field(struct problem *p, const char *pointer, const char *hint,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* The JSON pointer to a member of the object that the pointer `object` leads to
 * ("" is the whole), malloc'd; a long name is cut. RFC 6901 section 3. */
char *problem_pointer(const char *object, const char *name);
/* Each member of doc that is none of names (NULL-terminated) is wrong. */
void problem_unknown(
    const cJSON *doc, const char *const *names, struct problem *p);
/* The members of the answer, the caller's. */
cJSON *problem_json(const struct problem *p);
/* The name out of names (NULL-terminated) that is meant by `word`, or NULL. */
const char *problem_meant(const char *word, const char *const *names);

#endif
