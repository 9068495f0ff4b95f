/*
 * conf_docs.c - tables, sample files and man pages tell the same
 *
 * Every setting of a table stands once in the sample file, at its default and
 * in its section, and once in the man page; nothing else stands there. And the
 * sample works: as it is shipped, and with every # taken away.
 */
#include "gateway_conf.h"
#include "publisher_conf.h"
#include "signer_conf.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "xalloc.h"

struct doc {
	const struct conf_table *table;
	const char *sample, *manual; /* below the top of the sources */
};
static const struct doc docs[] = {
	{ &gateway_conf_table, "conf/gateway.conf", "doc/gateway.conf.5" },
	{ &signer_conf_table, "conf/signer.conf", "doc/signer.conf.5" },
	{ &publisher_conf_table, "conf/publisher.conf",
	    "doc/publisher.conf.5" },
};
#define DOCS_N (sizeof(docs) / sizeof(docs[0]))

static char *
read_text(const char *name)
{
	const char *top = getenv("TOP_SRCDIR");
	char *path = xasprintf("%s/%s", top != NULL ? top : ".", name);
	FILE *f = fopen(path, "r");
	char *s = xcalloc(1, 1 << 20);

	if (f == NULL)
		fail_msg("%s cannot be read", path);
	fread(s, 1, (1 << 20) - 1, f);
	fclose(f);
	free(path);
	return s;
}

/* Called for each setting of a document; value NULL: none is told. */
typedef void (*setting_fn)(
    const char *section, const char *name, const char *value, void *arg);

/* "#[camera dock]" to "camera"; false: no section. */
static bool
section_line(const char *line, char section[64])
{
	line += *line == '#';
	return sscanf(line, "[%63[a-z_]", section) == 1;
}

/* "#name = value" or "name = value"; false: a comment, or blank. */
static bool
setting_line(const char *line, char name[64], char value[200])
{
	return sscanf(line + (*line == '#'), "%63[a-z_] = %199[^\n]", name,
		   value) == 2;
}

static void
walk_sample(const char *text, setting_fn fn, void *arg)
{
	char *copy = xstrdup(text), *save = NULL;
	char section[64] = "", name[64], value[200];

	for (char *l = strtok_r(copy, "\n", &save); l != NULL;
	     l = strtok_r(NULL, "\n", &save))
		if (!section_line(l, section) && setting_line(l, name, value))
			fn(section, name, value, arg);
	free(copy);
}

/* ".Ss The [section] section" and ".It Cm name = value". */
static void
walk_manual(const char *text, setting_fn fn, void *arg)
{
	char *copy = xstrdup(text), *save = NULL;
	char section[64] = "", name[64], value[200];

	for (char *l = strtok_r(copy, "\n", &save); l != NULL;
	     l = strtok_r(NULL, "\n", &save)) {
		if (sscanf(l, ".Ss The [%63[a-z_]", section) == 1)
			continue;
		if (strncmp(l, ".It Cm ", 7) != 0)
			continue;
		if (setting_line(l + 7, name, value))
			fn(section, name, value, arg);
		else if (sscanf(l + 7, "%63[a-z_]", name) == 1)
			fn(section, name, NULL, arg);
	}
	free(copy);
}

/* All rows of a table in one list. */
struct seen {
	const struct conf_key **keys;
	unsigned *times;
	size_t n;
	bool is_manual;
	const char *file;
};

static void
take_keys(struct seen *s, const struct conf_key *keys, size_t n)
{
	s->keys = xrealloc(s->keys, (s->n + n) * sizeof(*s->keys));
	for (size_t i = 0; i < n; i++)
		s->keys[s->n++] = &keys[i];
}

static struct seen
seen_new(const struct conf_table *t, const char *file, bool is_manual)
{
	struct seen s = { .file = file, .is_manual = is_manual };

	take_keys(&s, t->keys, t->keys_n);
	for (size_t i = 0; i < t->titled_n; i++)
		take_keys(&s, t->titled[i].keys, t->titled[i].keys_n);
	s.times = xcalloc(s.n, sizeof(*s.times));
	return s;
}

static void
on_setting(const char *section, const char *name, const char *value, void *arg)
{
	struct seen *s = arg;
	const char *dflt;
	size_t i;

	for (i = 0; i < s->n; i++)
		if (strcmp(s->keys[i]->section, section) == 0 &&
		    strcmp(s->keys[i]->name, name) == 0)
			break;
	if (i == s->n)
		fail_msg("%s: [%s] %s is no setting", s->file, section, name);
	s->times[i]++;
	dflt = s->keys[i]->dflt;
	if (dflt != NULL && (value == NULL || strcmp(value, dflt) != 0))
		fail_msg("%s: [%s] %s: the default is %s", s->file, section,
		    name, dflt);
	if (dflt == NULL && s->is_manual && value != NULL)
		fail_msg("%s: [%s] %s has no default", s->file, section, name);
}

static void
seen_end(struct seen *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->times[i] != 1)
			fail_msg("%s: [%s] %s stands there %u times", s->file,
			    s->keys[i]->section, s->keys[i]->name, s->times[i]);
	free(s->keys);
	free(s->times);
}

static void
test_sample(void **state)
{
	for (size_t i = 0; i < DOCS_N; i++) {
		struct seen s = seen_new(docs[i].table, docs[i].sample, false);
		char *text = read_text(docs[i].sample);

		walk_sample(text, on_setting, &s);
		seen_end(&s);
		free(text);
	}
}

static void
test_manual(void **state)
{
	for (size_t i = 0; i < DOCS_N; i++) {
		struct seen s = seen_new(docs[i].table, docs[i].manual, true);
		char *text = read_text(docs[i].manual);

		walk_manual(text, on_setting, &s);
		seen_end(&s);
		free(text);
	}
}

static void
expect_good(const struct doc *d, const char *text)
{
	struct conf_problems *p = conf_problems_new();
	void *conf = NULL;

	if (conf_load_text(d->table, d->sample, text, strlen(text), p, &conf) !=
	    0)
		fail_msg("%s", conf_problems_get(p, 0));
	conf_free(d->table, conf);
	conf_problems_free(p);
}

/* Take the # from before every setting and section. */
static char *
uncomment(const char *text)
{
	char *copy = xstrdup(text), *out = xcalloc(1, strlen(text) + 2);
	char *save = NULL, name[64], value[200];

	for (char *l = strtok_r(copy, "\n", &save); l != NULL;
	     l = strtok_r(NULL, "\n", &save)) {
		if (section_line(l, name) || setting_line(l, name, value))
			l += *l == '#';
		strcat(out, l);
		strcat(out, "\n");
	}
	free(copy);
	return out;
}

static void
test_sample_works(void **state)
{
	for (size_t i = 0; i < DOCS_N; i++) {
		char *text = read_text(docs[i].sample);
		char *all = uncomment(text);

		expect_good(&docs[i], text);
		expect_good(&docs[i], all);
		free(all);
		free(text);
	}
}

/* Each row has its help, in one line without a full stop. */
static void
test_help(void **state)
{
	for (size_t i = 0; i < DOCS_N; i++) {
		struct seen s = seen_new(docs[i].table, "table", false);

		for (size_t j = 0; j < s.n; j++) {
			const char *h = s.keys[j]->help;

			assert_non_null(h);
			assert_true(strlen(h) > 5);
			assert_null(strchr(h, '\n'));
			assert_true(h[strlen(h) - 1] != '.');
		}
		free(s.keys);
		free(s.times);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sample),
		cmocka_unit_test(test_manual),
		cmocka_unit_test(test_sample_works),
		cmocka_unit_test(test_help),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
