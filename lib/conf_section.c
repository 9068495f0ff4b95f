/*
 * conf_section.c - what the lines of a file say: sections and settings
 *
 * Each is looked up in the table and its value parsed into its field; whatever
 * is wrong is told with its line, and with what may have been meant. A titled
 * section makes its element when it is first seen.
 */
#include "conf_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xalloc.h"

#define TITLED_MAX 4096 /* sections like [camera NAME], of one kind */

/* ---- sections ------------------------------------------------------------ */

static bool
plain_section(const struct conf_table *t, const char *name)
{
	for (size_t i = 0; i < t->keys_n; i++)
		if (strcmp(t->keys[i].section, name) == 0)
			return true;
	return false;
}

static void
unknown_section(struct conf_load *l, unsigned line, const char *title)
{
	struct conf_guess g;
	char ex[68];

	conf_guess_init(&g, title);
	for (size_t i = 0; i < l->t->keys_n; i++)
		conf_guess_try(&g, l->t->keys[i].section);
	for (size_t i = 0; i < l->t->titled_n; i++)
		conf_guess_try(&g, l->t->titled[i].section);
	conf_excerpt(ex, title);
	if (g.match != NULL)
		conf_problem_at(l->problems, l->file, line,
		    "unknown section [%s]; did you mean [%s]?", ex, g.match);
	else
		conf_problem_at(l->problems, l->file, line,
		    "unknown section [%s]; its settings are not used by %s", ex,
		    l->t->program);
}

/* Find or make the element of [section NAME]. NULL: too many, reported. */
static char *
take_element(struct conf_load *l, const struct conf_titled *tl,
    const char *name, unsigned line)
{
	size_t *n = conf_count_at(tl, l->conf);
	char *e;

	for (size_t i = 0; i < *n; i++)
		if (strcmp(*(char **)conf_element_at(tl, l->conf, i), name) ==
		    0)
			return conf_element_at(tl, l->conf, i);
	if (*n == TITLED_MAX) {
		conf_problem_at(l->problems, l->file, line,
		    "more than %d [%s ...] sections", TITLED_MAX, tl->section);
		return NULL;
	}
	*conf_array_at(tl, l->conf) =
	    xrealloc(*conf_array_at(tl, l->conf), (*n + 1) * tl->size);
	(*n)++;
	e = conf_element_at(tl, l->conf, *n - 1);
	memset(e, 0, tl->size);
	*(char **)e = xstrdup(name);
	conf_set_defaults(tl->keys, tl->keys_n, e);
	return e;
}

static void
titled_section(struct conf_load *l, const struct conf_titled *tl,
    const char *name, unsigned line)
{
	if (*name == '\0') {
		conf_problem_at(l->problems, l->file, line,
		    "[%s] needs a name; write: [%s NAME]", tl->section,
		    tl->section);
		return;
	}
	l->element = take_element(l, tl, name, line);
	l->titled = tl;
	l->known = l->element != NULL;
	snprintf(l->section, sizeof(l->section), "%s %s", tl->section, name);
	if (l->known && conf_origins_find(l->origins, l->section, "") == NULL)
		conf_origins_put(l->origins, l->section, "", "", l->file, line);
}

static void
on_section(void *arg, unsigned line, const char *title)
{
	struct conf_load *l = arg;
	size_t word = strcspn(title, " \t");
	const char *name = title + word + strspn(title + word, " \t");
	char first[64];

	snprintf(first, sizeof(first), "%.*s", (int)word, title);
	l->known = false;
	l->titled = NULL;
	l->element = NULL;
	snprintf(l->section, sizeof(l->section), "%s", first);
	for (size_t i = 0; i < l->t->titled_n; i++)
		if (strcmp(l->t->titled[i].section, first) == 0) {
			titled_section(l, &l->t->titled[i], name, line);
			return;
		}
	if (!plain_section(l->t, first)) {
		unknown_section(l, line, *name != '\0' ? first : title);
		return;
	}
	if (*name != '\0')
		conf_problem_at(l->problems, l->file, line,
		    "[%s] takes no name; write: [%s]", first, first);
	l->known = true;
	if (conf_origins_find(l->origins, l->section, "") == NULL)
		conf_origins_put(l->origins, l->section, "", "", l->file, line);
}

/* ---- settings ------------------------------------------------------------ */

/* The section where a setting of this name belongs, NULL: none has it. */
static const char *
home_of(const struct conf_table *t, const char *name, const char *not_in)
{
	for (size_t i = 0; i < t->keys_n; i++)
		if (strcmp(t->keys[i].name, name) == 0 &&
		    strcmp(t->keys[i].section, not_in) != 0)
			return t->keys[i].section;
	for (size_t i = 0; i < t->titled_n; i++)
		for (size_t k = 0; k < t->titled[i].keys_n; k++)
			if (strcmp(t->titled[i].keys[k].name, name) == 0 &&
			    strcmp(t->titled[i].section, not_in) != 0)
				return t->titled[i].section;
	return NULL;
}

static bool
is_titled(const struct conf_table *t, const char *section)
{
	for (size_t i = 0; i < t->titled_n; i++)
		if (strcmp(t->titled[i].section, section) == 0)
			return true;
	return false;
}

static void
before_any_section(struct conf_load *l, unsigned line, const char *name)
{
	const char *home = home_of(l->t, name, "");
	char ex[68];

	conf_excerpt(ex, name);
	if (home != NULL)
		conf_problem_at(l->problems, l->file, line,
		    "\"%s\" stands before the first [section]; it belongs "
		    "below [%s%s]",
		    ex, home, is_titled(l->t, home) ? " NAME" : "");
	else
		conf_problem_at(l->problems, l->file, line,
		    "\"%s\" stands before the first [section]", ex);
}

static void
unknown_setting(struct conf_load *l, unsigned line, const char *name)
{
	const char *own = l->titled != NULL ? l->titled->section : l->section;
	const char *home = home_of(l->t, name, own);
	struct conf_guess g;
	char ex[68];

	conf_excerpt(ex, name);
	if (home != NULL) {
		conf_problem_at(l->problems, l->file, line,
		    "\"%s\" belongs in section [%s%s], not [%s]", ex, home,
		    is_titled(l->t, home) ? " NAME" : "", l->section);
		return;
	}
	conf_guess_init(&g, name);
	for (size_t i = 0; i < l->t->keys_n && l->titled == NULL; i++)
		if (strcmp(l->t->keys[i].section, own) == 0)
			conf_guess_try(&g, l->t->keys[i].name);
	for (size_t i = 0; l->titled != NULL && i < l->titled->keys_n; i++)
		conf_guess_try(&g, l->titled->keys[i].name);
	if (g.match != NULL) {
		conf_problem_at(l->problems, l->file, line,
		    "unknown setting \"%s\" in [%s]; did you mean \"%s\"?", ex,
		    l->section, g.match);
		return;
	}
	for (size_t i = 0; i < l->t->keys_n; i++)
		conf_guess_try(&g, l->t->keys[i].name);
	home = g.match != NULL ? home_of(l->t, g.match, own) : NULL;
	if (home != NULL)
		conf_problem_at(l->problems, l->file, line,
		    "unknown setting \"%s\" in [%s]; did you mean \"%s\" of "
		    "[%s]?",
		    ex, l->section, g.match, home);
	else
		conf_problem_at(l->problems, l->file, line,
		    "unknown setting \"%s\" in [%s]", ex, l->section);
}

static const struct conf_key *
find_key(const struct conf_load *l, const char *name)
{
	if (l->titled != NULL) {
		for (size_t i = 0; i < l->titled->keys_n; i++)
			if (strcmp(l->titled->keys[i].name, name) == 0)
				return &l->titled->keys[i];
		return NULL;
	}
	for (size_t i = 0; i < l->t->keys_n; i++)
		if (strcmp(l->t->keys[i].section, l->section) == 0 &&
		    strcmp(l->t->keys[i].name, name) == 0)
			return &l->t->keys[i];
	return NULL;
}

static void
on_setting(void *arg, unsigned line, const char *name, const char *value)
{
	struct conf_load *l = arg;
	const struct conf_origin *o;
	const struct conf_key *k;
	char why[400];

	if (l->section[0] == '\0') {
		before_any_section(l, line, name);
		return;
	}
	if (!l->known)
		return; /* the section was reported */
	k = find_key(l, name);
	if (k == NULL) {
		unknown_setting(l, line, name);
		return;
	}
	o = conf_origins_find(l->origins, l->section, name);
	if (o != NULL && strcmp(o->file, l->file) == 0) {
		conf_problem_at(l->problems, l->file, line,
		    "\"%s\" stands twice in [%s], first in line %u; remove "
		    "one",
		    name, l->section, o->line);
		return;
	}
	conf_origins_put(l->origins, l->section, name,
	    (k->flags & CONF_F_SECRET) != 0 ? "(secret)" : value, l->file,
	    line);
	if (conf_value_parse(k, value, l->folder,
		(l->element != NULL ? l->element : l->conf) + k->at, why,
		sizeof(why)) != 0)
		conf_problem_at(
		    l->problems, l->file, line, "%s: %s", name, why);
}

static void
on_bad(void *arg, unsigned line, const char *why)
{
	struct conf_load *l = arg;

	conf_problem_at(l->problems, l->file, line, "%s", why);
}

unsigned
conf_read_lines(struct conf_load *l, const char *text, size_t n)
{
	struct conf_sink sink = { on_section, on_setting, on_bad, l };

	l->section[0] = '\0';
	l->known = false;
	l->titled = NULL;
	l->element = NULL;
	return conf_read_text(text, n, &sink);
}
