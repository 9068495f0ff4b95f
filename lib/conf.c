/*
 * conf.c - INI files checked against one typed table
 *
 * A configuration is filled with the defaults first, then file after file
 * writes over it (conf_section.c); nobody sees it unless no problem was found
 * in any of them.
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
load_text(struct conf_load *l, const char *path, const char *text, size_t n)
{
	unsigned lines;

	l->file = path;
	l->folder = folder_of(path);
	lines = conf_read_lines(l, text, n);
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
load_file(struct conf_load *l, const char *path, unsigned *lines_out)
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
load_drop_ins(struct conf_load *l, const char *path)
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
check_required(
    struct conf_load *l, const struct conf_key *k, const char *section)
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
check_all_required(struct conf_load *l)
{
	for (size_t i = 0; i < l->t->keys_n; i++)
		check_required(l, &l->t->keys[i], l->t->keys[i].section);
	for (size_t i = 0; i < l->t->titled_n; i++) {
		const struct conf_titled *tl = &l->t->titled[i];

		for (size_t j = 0; j < *conf_count_at(tl, l->conf); j++) {
			char *section = xasprintf("%s %s", tl->section,
			    *(char **)conf_element_at(tl, l->conf, j));

			for (size_t k = 0; k < tl->keys_n; k++)
				check_required(l, &tl->keys[k], section);
			free(section);
		}
	}
}

static void
load_begin(struct conf_load *l, const struct conf_table *t,
    struct conf_problems *problems)
{
	memset(l, 0, sizeof(*l));
	l->t = t;
	l->problems = problems;
	l->origins = conf_origins_new();
	l->conf = conf_new(t);
	conf_problems_set_origins(problems, l->origins);
}

static int
load_end(struct conf_load *l, int rc, size_t problems_before, void **conf_out)
{
	if (rc == 0) {
		check_all_required(l);
		if (l->t->cross != NULL)
			l->t->cross(l->conf, l->problems);
		if (conf_problems_count(l->problems) > problems_before)
			rc = -EINVAL;
	}
	conf_problems_sort(l->problems);
	conf_set_origins(l->conf, l->origins);
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
	struct conf_load l;
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
	struct conf_load l;

	load_begin(&l, t, problems);
	conf_problems_set_place(problems, path, 0);
	conf_problems_set_place(problems, path, load_text(&l, path, text, n));
	return load_end(&l, 0, before, conf_out);
}
