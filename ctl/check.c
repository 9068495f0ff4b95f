/*
 * check.c - is the configuration right, and will it work
 *
 * First the files, by the same code that the daemons read them with; then
 * what the settings point to: token, folders. A problem names the line of the
 * setting. An operator need not be the agent's user, so what this user cannot
 * know is a note, not a problem.
 */
#include "check.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "format.h"
#include "gateway_conf.h"
#include "json.h"
#include "publisher_keys.h"
#include "xalloc.h"

#define TOKEN_MAX 4096

struct checking {
	const struct gateway_conf *conf;
	struct conf_problems *problems;
	char *notes[16];
	size_t notes_n;
};

static void note(struct checking *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void
note(struct checking *c, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c->notes_n < sizeof(c->notes) / sizeof(c->notes[0]))
		c->notes[c->notes_n++] = xstrdup(text);
}

/* Is it ours to read and write: our file, or we are root? */
static bool
is_ours(const struct stat *st)
{
	return geteuid() == 0 || st->st_uid == geteuid();
}

static char *
token_in(char *s, size_t n, const char *path, char **why_out)
{
	char *end = s + n;

	while (s < end && isspace((unsigned char)*s))
		s++;
	while (end > s && isspace((unsigned char)end[-1]))
		end--;
	if (s == end) {
		*why_out =
		    xasprintf("%s is empty; write the token into it", path);
		return NULL;
	}
	for (const char *c = s; c < end; c++)
		if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f) {
			*why_out = xasprintf("%s holds more than a token; it "
					     "must hold the token alone",
			    path);
			return NULL;
		}
	return xstrndup(s, (size_t)(end - s));
}

char *
token_read(const char *path, char **why_out, bool *mine_out)
{
	char buf[TOKEN_MAX + 1];
	struct stat st;
	ssize_t n;
	int fd;

	*mine_out = true;
	if (stat(path, &st) != 0) {
		*mine_out = errno != EACCES || geteuid() == 0;
		*why_out = xasprintf(errno == ENOENT
			? "%s is not there; save the token under "
			  "this name"
			: "%s cannot be looked at (this user may "
			  "not, or no folder)",
		    path);
		return NULL;
	}
	if (!S_ISREG(st.st_mode)) {
		*why_out = xasprintf("%s is no file", path);
		return NULL;
	}
	if ((st.st_mode & 0444) == 0) {
		*why_out = xasprintf("%s may be read by nobody; chmod 600 %s "
				     "and make the agent's user its owner",
		    path, path);
		return NULL;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		*mine_out = errno != EACCES || is_ours(&st);
		*why_out =
		    xasprintf("%s cannot be read: %s", path, strerror(errno));
		return NULL;
	}
	n = read(fd, buf, sizeof(buf));
	if (n < 0)
		*why_out =
		    xasprintf("%s cannot be read: %s", path, strerror(errno));
	else if (n > TOKEN_MAX)
		*why_out = xasprintf("%s is too large for a token", path);
	close(fd);
	if (n < 0 || n > TOKEN_MAX)
		return NULL;
	return token_in(buf, (size_t)n, path, why_out);
}

static void
check_token(struct checking *c)
{
	const char *path = c->conf->token_file;
	char *why = NULL, *token;
	struct stat st;
	bool mine;

	token = token_read(path, &why, &mine);
	if (token == NULL && mine)
		conf_problem(
		    c->problems, "signer", "token_file", "token_file: %s", why);
	else if (token == NULL)
		note(c,
		    "token_file: %s; that is right if only the agent's "
		    "user may",
		    why);
	if (stat(path, &st) == 0 && (st.st_mode & 0007) != 0)
		conf_problem(c->problems, "signer", "token_file",
		    "token_file: %s may be read or changed by every user of "
		    "this machine; chmod 600 %s",
		    path, path);
	free(token);
	free(why);
}

static void
check_readable(
    struct checking *c, const char *section, const char *name, const char *path)
{
	struct stat st;

	if (path == NULL || access(path, R_OK) == 0)
		return;
	if (errno == EACCES && (stat(path, &st) != 0 || !is_ours(&st)))
		note(c, "%s: %s cannot be read by this user", name, path);
	else
		conf_problem(c->problems, section, name,
		    "%s: %s cannot be read: %s", name, path, strerror(errno));
}

static char *
parent_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL || slash == path
	    ? xstrdup("/")
	    : xstrndup(path, (size_t)(slash - path));
}

/* A folder that is not there is made at start, if its parent allows. */
static void
check_missing(struct checking *c, const char *name, const char *path)
{
	char *parent = parent_of(path);
	struct stat st;

	if (stat(parent, &st) != 0)
		conf_problem(c->problems, "gateway", name,
		    "%s: %s is not there, nor is %s; mkdir -p %s", name, path,
		    parent, path);
	else if (access(parent, W_OK | X_OK) == 0)
		;
	else if (is_ours(&st) || errno == EROFS)
		conf_problem(c->problems, "gateway", name,
		    "%s: %s is not there and cannot be made in %s: %s", name,
		    path, parent, strerror(errno));
	else
		note(c,
		    "%s: %s is not there yet; the service makes it when "
		    "it starts",
		    name, path);
	free(parent);
}

static void
check_folder(struct checking *c, const char *name, const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		if (errno == ENOENT)
			check_missing(c, name, path);
		else if (errno == EACCES)
			note(c, "%s: %s cannot be looked at by this user", name,
			    path);
		else
			conf_problem(c->problems, "gateway", name, "%s: %s: %s",
			    name, path, strerror(errno));
		return;
	}
	if (!S_ISDIR(st.st_mode)) {
		conf_problem(c->problems, "gateway", name,
		    "%s: %s is no folder", name, path);
		return;
	}
	if (access(path, W_OK | X_OK) == 0)
		return;
	if (errno == EROFS || is_ours(&st))
		conf_problem(c->problems, "gateway", name,
		    "%s: nothing can be written to %s: %s", name, path,
		    strerror(errno));
	else
		note(c,
		    "%s: %s cannot be written by this user; the daemons' "
		    "users must",
		    name, path);
}

static void
check_example(struct checking *c)
{
	if (strstr(c->conf->signer_url, "://signer.example.com") != NULL)
		conf_problem(c->problems, "signer", "url",
		    "url: still the example's address; write that of your "
		    "signer");
}

static void
check_template(struct checking *c)
{
	const char *t = c->conf->key_template;

	if (strstr(t, "{id}") == NULL && strstr(t, "{sha256}") == NULL)
		note(c,
		    "key_template has no {id}: two files of one name may "
		    "overwrite each other in the store");
}

static void
check_keys(struct checking *c)
{
	struct minisign_public keys[PUBLISHER_KEYS_MAX];
	char *why = NULL;
	size_t n;
	int rc = publisher_keys_load(c->conf->publisher_key, keys, &n, &why);

	if (rc == -EACCES && geteuid() != 0)
		note(c, "publisher_key: %s", why);
	else if (rc != 0)
		conf_problem(c->problems, "firmware", "publisher_key",
		    "publisher_key: %s", why);
	free(why);
}

/* What the settings point to. */
static void
check_world(struct checking *c)
{
	const struct gateway_conf *conf = c->conf;

	check_example(c);
	check_token(c);
	check_readable(c, "signer", "ca_file", conf->ca_file);
	check_readable(c, "listen", "cert_file", conf->cert_file);
	check_readable(c, "listen", "key_file", conf->key_file);
	check_folder(c, "state_dir", conf->state_dir);
	check_folder(c, "run_dir", conf->run_dir);
	check_template(c);
	check_keys(c);
	for (size_t i = 0; i < conf->cameras_n; i++) {
		char *section = xasprintf("camera %s", conf->cameras[i].name);

		check_readable(c, section, "password_file",
		    conf->cameras[i].password_file);
		free(section);
	}
}

/* ---- what was found ------------------------------------------------------ */

void
looks_add(struct looks *l, const char *what, int code, const char *hint,
    const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
	l->v[l->n++] = (struct look){ what, code == 0, format_text(text, 0),
		hint != NULL ? xstrdup(hint) : NULL, code };
}

void
looks_fini(struct looks *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].text);
		free(l->v[i].hint);
	}
	free(l->v);
}

static void
print_json(const struct checking *c, const struct looks *l, bool live)
{
	cJSON *o = conf_problems_json(c->problems);
	cJSON *notes = cJSON_AddArrayToObject(o, "notes"), *rows;
	char *s;

	for (size_t i = 0; i < c->notes_n; i++)
		cJSON_AddItemToArray(notes, cJSON_CreateString(c->notes[i]));
	if (live) {
		rows = cJSON_AddArrayToObject(o, "live");
		for (size_t i = 0; i < l->n; i++) {
			cJSON *row = cJSON_CreateObject();

			json_add_text(row, "what", l->v[i].what);
			cJSON_AddBoolToObject(row, "ok", l->v[i].ok);
			json_add_text(row, "text", l->v[i].text);
			json_add_text(row, "hint", l->v[i].hint);
			cJSON_AddItemToArray(rows, row);
		}
	}
	s = json_line(o);
	puts(s);
	free(s);
	cJSON_Delete(o);
}

static void
print_plain(const struct checking *c, const struct looks *l, bool good)
{
	for (size_t i = 0; i < conf_problems_count(c->problems); i++)
		puts(conf_problems_get(c->problems, i));
	for (size_t i = 0; i < c->notes_n; i++)
		printf("note: %s\n", c->notes[i]);
	for (size_t i = 0; i < l->n; i++) {
		const struct look *k = &l->v[i];

		printf(
		    "%-4s %-7s %s\n", k->ok ? "ok" : "BAD", k->what, k->text);
		if (!k->ok && k->hint != NULL)
			printf("%12s -> %s\n", "", k->hint);
	}
	if (good)
		puts("ok");
}

int
ctl_check(struct ctl *ctl)
{
	struct checking c = { NULL, conf_problems_new() };
	struct looks l = { 0 };
	void *conf = NULL;
	int rc = EXIT_GOOD;

	if (conf_load(&gateway_conf_table, ctl->config, c.problems, &conf) ==
	    0) {
		c.conf = ctl->conf = conf;
		check_world(&c);
		if (ctl->live) {
			look_at_box(c.conf, &l);
			look_at_cloud(c.conf, &l);
		}
	}
	for (size_t i = 0; i < l.n && rc == EXIT_GOOD; i++)
		if (!l.v[i].ok)
			rc = l.v[i].code;
	if (conf_problems_count(c.problems) > 0)
		rc = EXIT_CONFIG;
	if (ctl->json)
		print_json(&c, &l, ctl->live);
	else
		print_plain(&c, &l, rc == EXIT_GOOD);
	for (size_t i = 0; i < c.notes_n; i++)
		free(c.notes[i]);
	looks_fini(&l);
	conf_problems_free(c.problems);
	return rc;
}
