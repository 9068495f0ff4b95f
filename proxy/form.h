/*
 * form.h - multipart/form-data bodies (RFC 7578, RFC 2046 section 5.1)
 *
 * Incremental, in bounded memory, and lenient where cameras are wrong in ways
 * that cannot change where a part ends: doubled delimiter lines, an empty
 * boundary parameter (the first line of the body tells it), LF or LF CR as
 * line ends, junk among a part's headers.
 */
#ifndef FORM_H
#define FORM_H

#include <stdbool.h>
#include <stddef.h>

struct form;

struct form_part {
	const char *name, *filename, *type; /* "" if absent */
};

struct form_events {
	/* A part begins; texts are valid during the call. */
	void (*begin)(const struct form_part *p, void *arg);
	/* Octets of the part that began last. */
	void (*data)(const char *p, size_t n, void *arg);
	void (*end)(void *arg);
};

/* content_type: the header's value, which begins with multipart/form-data.
 * NULL: its boundary is too long; *why_out tells. */
struct form *form_new(const char *content_type, const struct form_events *ev,
    void *arg, const char **why_out);
/* 0; or -400 or -413 with *why_out, for good. */
int form_feed(struct form *f, const char *p, size_t n, const char **why_out);
/* Was the closing delimiter there? */
bool form_complete(const struct form *f);
void form_free(struct form *f);

/* A parameter of a header's value ("form-data; name=\"x\""), malloc'd; NULL if
 * it is not there. */
char *form_parameter(const char *value, const char *name);

#endif
