/*
 * firmware_key.c - the key that signs manifests
 *
 * As stock minisign makes it, or ours by keygen: the same format, so either
 * tool works with either's. The password comes from password_file, else from
 * EDGEHAUL_KEY_PASSWORD, else it is asked for.
 */
#include "firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "xalloc.h"

#define FILE_MAX 4096
#define PASSWORD_MAX 1024

/* A small file as text, malloc'd; NULL: errno. */
static char *
read_small(const char *path)
{
	char *s = xcalloc(1, FILE_MAX);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, s, FILE_MAX - 1) : -1;

	if (fd >= 0)
		close(fd);
	if (n >= 0)
		return s;
	free(s);
	return NULL;
}

static void
wipe(char *s)
{
	if (s != NULL)
		explicit_bzero(s, strlen(s));
	free(s);
}

/* From the terminal, without showing it. NULL: there is none. */
static char *
ask(const char *prompt)
{
	FILE *tty = fopen("/dev/tty", "r+");
	char *s = xcalloc(1, PASSWORD_MAX);
	struct termios was, quiet;

	if (tty == NULL || tcgetattr(fileno(tty), &was) != 0) {
		if (tty != NULL)
			fclose(tty);
		free(s);
		return NULL;
	}
	quiet = was;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(fileno(tty), TCSAFLUSH, &quiet);
	fputs(prompt, tty);
	fflush(tty);
	if (fgets(s, PASSWORD_MAX, tty) == NULL)
		s[0] = '\0';
	s[strcspn(s, "\r\n")] = '\0';
	tcsetattr(fileno(tty), TCSAFLUSH, &was);
	fputc('\n', tty);
	fclose(tty);
	return s;
}

/* From where it is configured; NULL: nowhere. */
static int
known_password(const struct publisher *p, char **out)
{
	const char *env = getenv("EDGEHAUL_KEY_PASSWORD");

	*out = NULL;
	if (p->conf->password_file != NULL) {
		*out = read_small(p->conf->password_file);
		if (*out == NULL) {
			complain("password_file %s: %s", p->conf->password_file,
			    strerror(errno));
			return EXIT_CONFIG;
		}
		(*out)[strcspn(*out, "\r\n")] = '\0';
	} else if (env != NULL) {
		*out = xstrdup(env);
	}
	return 0;
}

static int
explain(const struct publisher *p, int rc, bool asked)
{
	if (rc == -EACCES)
		complain(asked
			? "the password of %s is wrong"
			: "%s needs a password: set password_file or "
			  "EDGEHAUL_KEY_PASSWORD, or run it on a terminal",
		    p->conf->key_file);
	else if (rc == -EOPNOTSUPP)
		complain("%s: its password cannot be stretched here (scrypt)",
		    p->conf->key_file);
	else
		complain("%s is no secret key of minisign; edgehaul firmware "
			 "keygen makes one",
		    p->conf->key_file);
	return EXIT_CONFIG;
}

static void
warn_readable(const char *path)
{
	struct stat st;

	if (stat(path, &st) == 0 && (st.st_mode & 077) != 0)
		complain("others may read %s: chmod 600 it", path);
}

int
key_load(struct publisher *p)
{
	char *text, *password = NULL;
	bool asked = false;
	int rc;

	if (p->conf->key_file == NULL) {
		complain("[publisher] key_file is not set: name the secret "
			 "key that signs manifests; edgehaul firmware keygen "
			 "FILE makes one");
		return EXIT_CONFIG;
	}
	text = read_small(p->conf->key_file);
	if (text == NULL) {
		complain("key_file %s: %s", p->conf->key_file, strerror(errno));
		return EXIT_CONFIG;
	}
	warn_readable(p->conf->key_file);
	rc = minisign_secret_parse(text, NULL, &p->key);
	if (rc == -EACCES) {
		rc = known_password(p, &password);
		if (rc != 0) {
			wipe(text);
			return rc;
		}
		asked = password != NULL;
		if (password == NULL) {
			password = ask("Password of the publisher's key: ");
			asked = password != NULL;
		}
		rc = password != NULL
		    ? minisign_secret_parse(text, password, &p->key)
		    : -EACCES;
	}
	wipe(password);
	wipe(text);
	p->have_key = rc == 0;
	return rc == 0 ? 0 : explain(p, rc, asked);
}

/* The second line of a .pub file. */
static char *
second_line(const char *text)
{
	const char *line = strchr(text, '\n');

	line = line != NULL ? line + 1 : text;
	return xstrndup(line, strcspn(line, "\r\n"));
}

char *
key_public_line(const struct publisher *p)
{
	struct minisign_public pub;
	char *text, *line;

	memcpy(pub.id, p->key.id, sizeof(pub.id));
	memcpy(pub.key, p->key.key + 32, sizeof(pub.key));
	text = minisign_public_text(&pub);
	line = second_line(text);
	free(text);
	return line;
}

static int
write_key(const char *path, const char *text, mode_t mode)
{
	int fd = open(
	    path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	size_t n = strlen(text);
	int rc = 0;

	if (fd < 0 || write(fd, text, n) != (ssize_t)n || fsync(fd) != 0) {
		complain("%s: %s", path, strerror(errno));
		rc = EXIT_IO;
	}
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && rc != 0)
		unlink(path);
	return rc;
}

/* A name that is free, or to be replaced once all is written. */
static char *
new_name(const char *path, bool force)
{
	char *name = xasprintf("%s%s", path, force ? ".new" : "");

	if (force)
		unlink(name);
	return name;
}

/*
 * Both files or none. The secret of a key that is in use cannot be had again,
 * so one that is there is replaced by --force only.
 */
static int
write_pair(const char *path, const char *secret, const char *pub_path,
    const char *public, bool force)
{
	char *secret_new = new_name(path, force);
	char *public_new = new_name(pub_path, force);
	int rc = write_key(secret_new, secret, 0600);

	if (rc == 0) {
		rc = write_key(public_new, public, 0644);
		if (rc == 0 && force &&
		    (rename(secret_new, path) != 0 ||
			rename(public_new, pub_path) != 0)) {
			complain("%s: %s", path, strerror(errno));
			unlink(public_new);
			rc = EXIT_IO;
		}
		if (rc != 0)
			unlink(secret_new);
	}
	free(secret_new);
	free(public_new);
	return rc;
}

static int
check_free(const char *path, bool force)
{
	struct stat st;

	if (force || lstat(path, &st) != 0)
		return 0;
	complain("%s is there already: take another name, or --force, after "
		 "which what was signed by it cannot be changed any more "
		 "unless you have a copy",
	    path);
	return EXIT_IO;
}

static int
new_password(const struct publisher *p, char **out)
{
	char *twice;
	int rc = known_password(p, out);

	if (rc != 0 || *out != NULL || p->o.no_password)
		return rc;
	*out = ask("Password for the new key (empty: none): ");
	if (*out == NULL) {
		complain("no terminal to ask for a password: set "
			 "EDGEHAUL_KEY_PASSWORD, or --no-password");
		return EXIT_USAGE;
	}
	twice = ask("Once more: ");
	if (twice == NULL || strcmp(twice, *out) != 0) {
		complain("they differ");
		rc = EXIT_USAGE;
	}
	wipe(twice);
	return rc;
}

int
command_keygen(struct publisher *p)
{
	const char *path = p->o.files_n > 0 ? p->o.files[0] : p->conf->key_file;
	char *password = NULL, *secret = NULL, *public = NULL, *pub_path;
	struct minisign_public pub;
	int rc;

	if (path == NULL) {
		complain("name the file of the new key: edgehaul firmware "
			 "keygen FILE");
		return EXIT_USAGE;
	}
	pub_path = xasprintf("%s.pub", path);
	rc = check_free(path, p->o.force);
	if (rc == 0)
		rc = check_free(pub_path, p->o.force);
	if (rc == 0)
		rc = new_password(p, &password);
	if (rc == 0 &&
	    minisign_generate(
		password != NULL && *password != '\0' ? password : NULL, &pub,
		&secret) != 0) {
		complain("no key could be made");
		rc = EXIT_IO;
	}
	if (rc == 0) {
		public = minisign_public_text(&pub);
		rc = write_pair(path, secret, pub_path, public, p->o.force);
	}
	if (rc == 0 && !p->o.json) {
		char *line = second_line(public);

		printf("%s: the secret key; keep it, and keep it to "
		       "yourself\n%s: the public key, for gateways "
		       "([firmware] publisher_key) and\nedgehaul firmware "
		       "product:\n%s\n",
		    path, pub_path, line);
		free(line);
	}
	wipe(password);
	wipe(secret);
	free(public);
	free(pub_path);
	return rc;
}
