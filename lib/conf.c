/*
 * conf.c - INI files checked against one typed table
 *
 * The struct that is handed out stands behind a header that remembers where
 * each value came from. It is filled with the defaults first, then file after
 * file writes over it; nobody sees it unless no problem was found in any of
 * them. A titled section makes its element when it is first seen.
 */
#include "conf_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "xalloc.h"

#define FILE_MAX (1 << 20)
#define TITLED_MAX 4096 /* sections like [camera NAME], of one kind */

struct box {
	struct conf_origins *origins;
	max_align_t conf[];
};

/* One file being read, in one run of conf_load(). */
struct load {
	const struct conf_table *t;
	struct conf_problems *problems;
	struct conf_origins *origins;
	char *conf;
	const char *file; /* as told in problems */
	char *folder;     /* of the file */
	/* the section the reader is in */
	char section[64];
	const struct conf_titled *titled; /* NULL: a plain one */
	char *element;                    /* of titled */
	bool known;
};

static struct box *
box_of(const void *conf)
{
	return (
	    struct box *)((char *)(uintptr_t)conf - offsetof(struct box, conf));
}

static void **
array_at(const struct conf_titled *tl, const void *conf)
{
	return (void **)((char *)(uintptr_t)conf + tl->at_array);
}

static size_t *
count_at(const struct conf_titled *tl, const void *conf)
{
	return (size_t *)((char *)(uintptr_t)conf + tl->at_count);
}

static char *
element_at(const struct conf_titled *tl, const void *conf, size_t i)
{
	return (char *)*array_at(tl, conf) + i * tl->size;
}

/* A table whose default its own parser refuses is a mistake of ours. */
static void
set_defaults(const struct conf_key *keys, size_t n, char *at)
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

static void *
conf_new(const struct conf_table *t)
{
	struct box *b = xcalloc(1, sizeof(*b) + t->size);

	set_defaults(t->keys, t->keys_n, (char *)b->conf);
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

		for (size_t j = 0; j < *count_at(tl, conf); j++) {
			char *e = element_at(tl, conf, j);

			for (size_t k = 0; k < tl->keys_n; k++)
				conf_value_clear(
				    &tl->keys[k], e + tl->keys[k].at);
			free(*(char **)e);
		}
		free(*array_at(tl, conf));
	}
	conf_origins_unref(box_of(conf)->origins);
	free(box_of(conf));
}

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
unknown_section(struct load *l, unsigned line, const char *title)
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
take_element(struct load *l, const struct conf_titled *tl, const char *name,
    unsigned line)
{
	size_t *n = count_at(tl, l->conf);
	char *e;

	for (size_t i = 0; i < *n; i++)
		if (strcmp(*(char **)element_at(tl, l->conf, i), name) == 0)
			return element_at(tl, l->conf, i);
	if (*n == TITLED_MAX) {
		conf_problem_at(l->problems, l->file, line,
		    "more than %d [%s ...] sections", TITLED_MAX, tl->section);
		return NULL;
	}
	*array_at(tl, l->conf) =
	    xrealloc(*array_at(tl, l->conf), (*n + 1) * tl->size);
	(*n)++;
	e = element_at(tl, l->conf, *n - 1);
	memset(e, 0, tl->size);
	*(char **)e = xstrdup(name);
	set_defaults(tl->keys, tl->keys_n, e);
	return e;
}

static void
titled_section(struct load *l, const struct conf_titled *tl, const char *name,
    unsigned line)
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
	struct load *l = arg;
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
before_any_section(struct load *l, unsigned line, const char *name)
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
unknown_setting(struct load *l, unsigned line, const char *name)
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
find_key(const struct load *l, const char *name)
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
	struct load *l = arg;
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
	struct load *l = arg;

	conf_problem_at(l->problems, l->file, line, "%s", why);
}

/* ---- files --------------------------------------------------------------- */

static char *
folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder, *full;

	if (slash == path)
		return xstrdup("/");
	folder = slash != NULL ? xstrndup(path, (size_t)(slash - path))
			       : xstrdup(".");
	/* A daemon may change its folder later. */
	full = realpath(folder, NULL);
	if (full == NULL)
		return folder;
	free(folder);
	return full;
}

static unsigned
load_text(struct load *l, const char *path, const char *text, size_t n)
{
	struct conf_sink sink = { on_section, on_setting, on_bad, l };
	unsigned lines;

	l->file = path;
	l->folder = folder_of(path);
	l->section[0] = '\0';
	l->known = false;
	l->titled = NULL;
	l->element = NULL;
	lines = conf_read_text(text, n, &sink);
	free(l->folder);
	return lines;
}

/* Read a file of at most FILE_MAX octets; more is -EFBIG. */
static int
read_file(const char *path, char **out, size_t *n_out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = 0;
	char *buf;
	size_t n = 0;

	if (fd < 0)
		return -errno;
	buf = xmalloc(FILE_MAX + 1);
	for (;;) {
		ssize_t got = read(fd, buf + n, FILE_MAX + 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			rc = -errno;
		if (got <= 0)
			break;
		n += (size_t)got;
		if (n > FILE_MAX) {
			rc = -EFBIG;
			break;
		}
	}
	close(fd);
	if (rc == 0) {
		*out = buf;
		*n_out = n;
	} else {
		free(buf);
	}
	return rc;
}

static int
load_file(struct load *l, const char *path, unsigned *lines_out)
{
	char *text = NULL;
	size_t n = 0;
	int rc = read_file(path, &text, &n);

	if (rc == -EFBIG)
		conf_problem_at(l->problems, path, 0,
		    "larger than 1 MB; is it the right file?");
	else if (rc != 0)
		conf_problem_at(
		    l->problems, path, 0, "cannot be read: %s", strerror(-rc));
	if (rc != 0)
		return rc;
	*lines_out = load_text(l, path, text, n);
	free(text);
	return 0;
}

static int
is_drop_in(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return d->d_name[0] != '.' && n > 5 &&
	    strcmp(d->d_name + n - 5, ".conf") == 0;
}

/* Lexical by octets, whatever the locale. */
static int
by_octets(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void
load_drop_ins(struct load *l, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash != NULL
	    ? xasprintf("%.*s/conf.d", (int)(slash - path), path)
	    : xstrdup("conf.d");
	struct dirent **v;
	int n = scandir(dir, &v, is_drop_in, by_octets);
	unsigned lines;

	if (n < 0 && errno != ENOENT && errno != ENOTDIR)
		conf_problem_at(
		    l->problems, dir, 0, "cannot be read: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		char *file = xasprintf("%s/%s", dir, v[i]->d_name);

		load_file(l, file, &lines);
		free(file);
		free(v[i]);
	}
	if (n >= 0)
		free(v);
	free(dir);
}

/* ---- what is checked when all is read ------------------------------------ */

static void
check_required(struct load *l, const struct conf_key *k, const char *section)
{
	const struct conf_origin *o;

	if ((k->flags & CONF_F_REQUIRED) == 0 ||
	    conf_origins_find(l->origins, section, k->name) != NULL)
		return;
	o = conf_origins_find(l->origins, section, "");
	if (o != NULL)
		conf_problem_at(l->problems, o->file, o->line,
		    "[%s] has no \"%s\" (%s); add: %s = VALUE", section,
		    k->name, k->help, k->name);
	else
		conf_problem(l->problems, NULL, NULL,
		    "section [%s] with \"%s\" is missing (%s)", section,
		    k->name, k->help);
}

static void
check_all_required(struct load *l)
{
	for (size_t i = 0; i < l->t->keys_n; i++)
		check_required(l, &l->t->keys[i], l->t->keys[i].section);
	for (size_t i = 0; i < l->t->titled_n; i++) {
		const struct conf_titled *tl = &l->t->titled[i];

		for (size_t j = 0; j < *count_at(tl, l->conf); j++) {
			char *section = xasprintf("%s %s", tl->section,
			    *(char **)element_at(tl, l->conf, j));

			for (size_t k = 0; k < tl->keys_n; k++)
				check_required(l, &tl->keys[k], section);
			free(section);
		}
	}
}

static void
load_begin(
    struct load *l, const struct conf_table *t, struct conf_problems *problems)
{
	memset(l, 0, sizeof(*l));
	l->t = t;
	l->problems = problems;
	l->origins = conf_origins_new();
	l->conf = conf_new(t);
	conf_problems_set_origins(problems, l->origins);
}

static int
load_end(struct load *l, int rc, size_t problems_before, void **conf_out)
{
	if (rc == 0) {
		check_all_required(l);
		if (l->t->cross != NULL)
			l->t->cross(l->conf, l->problems);
		if (conf_problems_count(l->problems) > problems_before)
			rc = -EINVAL;
	}
	conf_problems_sort(l->problems);
	box_of(l->conf)->origins = l->origins;
	if (rc == 0)
		*conf_out = l->conf;
	else
		conf_free(l->t, l->conf);
	return rc;
}

int
conf_load(const struct conf_table *t, const char *path,
    struct conf_problems *problems, void **conf_out)
{
	size_t before = conf_problems_count(problems);
	struct load l;
	unsigned lines = 0;
	int rc;

	load_begin(&l, t, problems);
	conf_problems_set_place(problems, path, 0);
	rc = load_file(&l, path, &lines);
	conf_problems_set_place(problems, path, lines);
	if (rc == 0)
		load_drop_ins(&l, path);
	return load_end(&l, rc, before, conf_out);
}

int
conf_load_text(const struct conf_table *t, const char *path, const char *text,
    size_t n, struct conf_problems *problems, void **conf_out)
{
	size_t before = conf_problems_count(problems);
	struct load l;

	load_begin(&l, t, problems);
	conf_problems_set_place(problems, path, 0);
	conf_problems_set_place(problems, path, load_text(&l, path, text, n));
	return load_end(&l, 0, before, conf_out);
}

/* ---- what is in a loaded one --------------------------------------------- */

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

		for (size_t j = 0; j < *count_at(tl, conf); j++) {
			const char *e = element_at(tl, conf, j);
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
	if (*count_at(tl, old) != *count_at(tl, new))
		return true;
	for (size_t j = 0; j < *count_at(tl, old); j++) {
		const char *a = element_at(tl, old, j);
		const char *b = element_at(tl, new, j);

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
