/*
 * conf_problems.c - all that is wrong with a configuration, and where
 *
 * Problems are kept until the run is over, so that a person mends them all at
 * once. Beside them stands where each setting was read: a check that looks at
 * several settings can so name the line. A file of nothing but mistakes must
 * not fill the memory: past PROBLEMS_MAX only the count goes on.
 */
#include "conf_private.h"

#include <search.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "xalloc.h"

#define PROBLEMS_MAX 200

struct problem {
	char *file, *text, *full;
	unsigned line;
	size_t file_rank, serial; /* order of sorting */
};

struct conf_problems {
	struct problem *v;
	size_t n, left_off;
	char *more; /* the sentence for what was left off */
	struct conf_origins *origins;
	char *place_file;
	unsigned place_line;
	char **files; /* in the order in which they were first named */
	size_t files_n;
};

struct conf_origins {
	void *root; /* tsearch(3) tree of struct conf_origin */
	unsigned refs;
};

static int
by_name(const void *a, const void *b)
{
	const struct conf_origin *x = a, *y = b;
	int d = strcmp(x->section, y->section);

	return d != 0 ? d : strcmp(x->name, y->name);
}

struct conf_origins *
conf_origins_new(void)
{
	struct conf_origins *o = xcalloc(1, sizeof(*o));

	o->refs = 1;
	return o;
}

struct conf_origins *
conf_origins_ref(struct conf_origins *o)
{
	o->refs++;
	return o;
}

static void
origin_free(void *arg)
{
	struct conf_origin *o = arg;

	free(o->section);
	free(o->name);
	free(o->value);
	free(o->file);
	free(o);
}

void
conf_origins_unref(struct conf_origins *o)
{
	if (o == NULL || --o->refs > 0)
		return;
	tdestroy(o->root, origin_free);
	free(o);
}

const struct conf_origin *
conf_origins_find(
    const struct conf_origins *o, const char *section, const char *name)
{
	struct conf_origin key = { (char *)section, (char *)name };
	void *node;

	if (o == NULL)
		return NULL;
	node = tfind(&key, &o->root, by_name);
	return node != NULL ? *(struct conf_origin **)node : NULL;
}

void
conf_origins_put(struct conf_origins *o, const char *section, const char *name,
    const char *value, const char *file, unsigned line)
{
	struct conf_origin *n =
	    (struct conf_origin *)conf_origins_find(o, section, name);

	if (n == NULL) {
		n = xcalloc(1, sizeof(*n));
		n->section = xstrdup(section);
		n->name = xstrdup(name);
		if (tsearch(n, &o->root, by_name) == NULL)
			abort(); /* no memory */
	}
	free(n->value);
	free(n->file);
	n->value = xstrdup(value);
	n->file = xstrdup(file);
	n->line = line;
}

struct conf_problems *
conf_problems_new(void)
{
	return xcalloc(1, sizeof(struct conf_problems));
}

void
conf_problems_free(struct conf_problems *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->n; i++) {
		free(p->v[i].file);
		free(p->v[i].text);
		free(p->v[i].full);
	}
	for (size_t i = 0; i < p->files_n; i++)
		free(p->files[i]);
	free(p->files);
	free(p->v);
	free(p->more);
	free(p->place_file);
	conf_origins_unref(p->origins);
	free(p);
}

size_t
conf_problems_count(const struct conf_problems *p)
{
	return p->n + (p->left_off > 0);
}

const char *
conf_problems_get(const struct conf_problems *p, size_t i)
{
	if (i == p->n && p->left_off > 0)
		return p->more;
	return i < p->n ? p->v[i].full : NULL;
}

static size_t
file_rank(struct conf_problems *p, const char *file)
{
	for (size_t i = 0; i < p->files_n; i++)
		if (strcmp(p->files[i], file) == 0)
			return i;
	p->files = xrealloc(p->files, (p->files_n + 1) * sizeof(*p->files));
	p->files[p->files_n] = xstrdup(file);
	return p->files_n++;
}

static void
problem_add(struct conf_problems *p, const char *file, unsigned line,
    const char *fmt, va_list ap)
{
	struct problem *n;
	char text[1024];

	if (p->n == PROBLEMS_MAX) {
		p->left_off++;
		free(p->more);
		p->more = xasprintf("%s: %zu more problems are not shown; "
				    "is it the right file?",
		    file, p->left_off);
		return;
	}
	vsnprintf(text, sizeof(text), fmt, ap);
	p->v = xrealloc(p->v, (p->n + 1) * sizeof(*p->v));
	n = &p->v[p->n];
	n->file = xstrdup(file);
	n->text = xstrdup(text);
	n->full = line > 0 ? xasprintf("%s:%u: %s", file, line, text)
			   : xasprintf("%s: %s", file, text);
	n->line = line;
	n->file_rank = file_rank(p, file);
	n->serial = p->n++;
}

void
conf_problem_at(struct conf_problems *p, const char *file, unsigned line,
    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	problem_add(p, file, line, fmt, ap);
	va_end(ap);
}

void
conf_problem(struct conf_problems *p, const char *section, const char *name,
    const char *fmt, ...)
{
	const struct conf_origin *o = section != NULL && name != NULL
	    ? conf_origins_find(p->origins, section, name)
	    : NULL;
	const char *file = p->place_file != NULL ? p->place_file : "settings";
	va_list ap;

	va_start(ap, fmt);
	if (o != NULL)
		problem_add(p, o->file, o->line, fmt, ap);
	else
		problem_add(p, file, p->place_line, fmt, ap);
	va_end(ap);
}

void
conf_problems_set_origins(struct conf_problems *p, struct conf_origins *o)
{
	conf_origins_unref(p->origins);
	p->origins = conf_origins_ref(o);
}

void
conf_problems_set_place(
    struct conf_problems *p, const char *file, unsigned line)
{
	char *copy = xstrdup(file);

	free(p->place_file);
	p->place_file = copy;
	p->place_line = line;
	file_rank(p, file);
}

static int
by_place(const void *a, const void *b)
{
	const struct problem *x = a, *y = b;

	if (x->file_rank != y->file_rank)
		return x->file_rank < y->file_rank ? -1 : 1;
	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return x->serial < y->serial ? -1 : 1;
}

void
conf_problems_sort(struct conf_problems *p)
{
	if (p->n > 1)
		qsort(p->v, p->n, sizeof(*p->v), by_place);
}

cJSON *
conf_problems_json(const struct conf_problems *p)
{
	cJSON *o = cJSON_CreateObject();
	cJSON *list = cJSON_AddArrayToObject(o, "problems");

	for (size_t i = 0; i < p->n; i++) {
		cJSON *row = cJSON_CreateObject();

		json_add_text(row, "file", p->v[i].file);
		json_add_int(row, "line", p->v[i].line);
		json_add_text(row, "text", p->v[i].text);
		cJSON_AddItemToArray(list, row);
	}
	return o;
}
