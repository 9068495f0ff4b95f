/*
 * conf_held.c - a configuration in memory: what the files were read into
 *
 * The struct that is handed out stands behind a header that remembers where
 * each value came from; so whoever has it can be told all of it, setting by
 * setting, and what has changed since another one was read.
 */
#include "conf_private.h"

#include <stdlib.h>
#include <string.h>

#include "xalloc.h"

struct box {
	struct conf_origins *origins;
	max_align_t conf[];
};

static struct box *
box_of(const void *conf)
{
	return (
	    struct box *)((char *)(uintptr_t)conf - offsetof(struct box, conf));
}

void **
conf_array_at(const struct conf_titled *tl, const void *conf)
{
	return (void **)((char *)(uintptr_t)conf + tl->at_array);
}

size_t *
conf_count_at(const struct conf_titled *tl, const void *conf)
{
	return (size_t *)((char *)(uintptr_t)conf + tl->at_count);
}

char *
conf_element_at(const struct conf_titled *tl, const void *conf, size_t i)
{
	return (char *)*conf_array_at(tl, conf) + i * tl->size;
}

/* A table whose default its own parser refuses is a mistake of ours. */
void
conf_set_defaults(const struct conf_key *keys, size_t n, char *at)
{
	char why[256];

	for (size_t i = 0; i < n; i++)
		if (keys[i].dflt != NULL &&
		    conf_value_parse(&keys[i], keys[i].dflt, NULL,
			at + keys[i].at, why, sizeof(why)) != 0) {
			fprintf(stderr, "default of [%s] %s: %s\n",
			    keys[i].section, keys[i].name, why);
			abort();
		}
}

void *
conf_new(const struct conf_table *t)
{
	struct box *b = xcalloc(1, sizeof(*b) + t->size);

	conf_set_defaults(t->keys, t->keys_n, (char *)b->conf);
	return b->conf;
}

void
conf_free(const struct conf_table *t, void *conf)
{
	if (conf == NULL)
		return;
	for (size_t i = 0; i < t->keys_n; i++)
		conf_value_clear(&t->keys[i], (char *)conf + t->keys[i].at);
	for (size_t i = 0; i < t->titled_n; i++) {
		const struct conf_titled *tl = &t->titled[i];

		for (size_t j = 0; j < *conf_count_at(tl, conf); j++) {
			char *e = conf_element_at(tl, conf, j);

			for (size_t k = 0; k < tl->keys_n; k++)
				conf_value_clear(
				    &tl->keys[k], e + tl->keys[k].at);
			free(*(char **)e);
		}
		free(*conf_array_at(tl, conf));
	}
	conf_origins_unref(box_of(conf)->origins);
	free(box_of(conf));
}

void
conf_set_origins(void *conf, struct conf_origins *origins)
{
	box_of(conf)->origins = origins;
}

/* ---- what is in it ------------------------------------------------------- */

static void
tell_row(const struct conf_origins *origins, const struct conf_key *k,
    const char *section, const char *at,
    void (*fn)(const struct conf_row *row, void *arg), void *arg)
{
	const struct conf_origin *o =
	    conf_origins_find(origins, section, k->name);
	struct conf_row row = { section, k };

	row.value = conf_value_text(k, at + k->at);
	if (row.value == NULL)
		row.value = o != NULL ? o->value
		    : k->dflt != NULL ? k->dflt
				      : "none";
	if ((k->flags & CONF_F_SECRET) != 0)
		row.value = "(secret)";
	if (o != NULL) {
		row.file = o->file;
		row.line = o->line;
	}
	fn(&row, arg);
}

void
conf_each(const struct conf_table *t, const void *conf,
    void (*fn)(const struct conf_row *row, void *arg), void *arg)
{
	const struct conf_origins *origins = box_of(conf)->origins;

	for (size_t i = 0; i < t->keys_n; i++)
		tell_row(
		    origins, &t->keys[i], t->keys[i].section, conf, fn, arg);
	for (size_t i = 0; i < t->titled_n; i++) {
		const struct conf_titled *tl = &t->titled[i];

		for (size_t j = 0; j < *conf_count_at(tl, conf); j++) {
			const char *e = conf_element_at(tl, conf, j);
			char *section =
			    xasprintf("%s %s", tl->section, *(char *const *)e);

			for (size_t k = 0; k < tl->keys_n; k++)
				tell_row(
				    origins, &tl->keys[k], section, e, fn, arg);
			free(section);
		}
	}
}

static void
show_row(const struct conf_row *row, void *arg)
{
	FILE *f = arg;

	fprintf(f, "[%s] %s = %s   ", row->section, row->key->name, row->value);
	if (row->file != NULL)
		fprintf(f, "(%s:%u)\n", row->file, row->line);
	else
		fprintf(f, "(default)\n");
}

void
conf_show(const struct conf_table *t, const void *conf, FILE *f)
{
	conf_each(t, conf, show_row, f);
}

/* Do two configurations differ in a titled section's keys that a running
 * program does not take over? */
static bool
titled_differ(const struct conf_titled *tl, const struct conf_key *k,
    const void *old, const void *new)
{
	if (*conf_count_at(tl, old) != *conf_count_at(tl, new))
		return true;
	for (size_t j = 0; j < *conf_count_at(tl, old); j++) {
		const char *a = conf_element_at(tl, old, j);
		const char *b = conf_element_at(tl, new, j);

		if (strcmp(*(char *const *)a, *(char *const *)b) != 0 ||
		    !conf_value_equal(k, a + k->at, b + k->at))
			return true;
	}
	return false;
}

size_t
conf_needs_restart(const struct conf_table *t, const void *old, const void *new,
    void (*tell)(const char *name, void *arg), void *arg)
{
	size_t found = 0;

	for (size_t i = 0; i < t->keys_n; i++) {
		const struct conf_key *k = &t->keys[i];
		char *name;

		if ((k->flags & CONF_F_RELOAD) != 0 ||
		    conf_value_equal(k, (const char *)old + k->at,
			(const char *)new + k->at))
			continue;
		found++;
		name = xasprintf("[%s] %s", k->section, k->name);
		if (tell != NULL)
			tell(name, arg);
		free(name);
	}
	for (size_t i = 0; i < t->titled_n; i++) {
		const struct conf_titled *tl = &t->titled[i];

		for (size_t j = 0; j < tl->keys_n; j++) {
			const struct conf_key *k = &tl->keys[j];
			char *name;

			if ((k->flags & CONF_F_RELOAD) != 0 ||
			    !titled_differ(tl, k, old, new))
				continue;
			found++;
			name = xasprintf("[%s NAME] %s", tl->section, k->name);
			if (tell != NULL)
				tell(name, arg);
			free(name);
		}
	}
	return found;
}
