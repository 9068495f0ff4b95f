/*
 * firmware_drop.c - edgehaul firmware drop: a folder as a way in
 *
 * For build machines that can only copy files, also into a bucket by s3fs. A
 * file is looked at when FILE.minisig stands beside it; it is copied once its
 * size and time have not changed between two looks, and only the copy is
 * verified and published, so that what is still written, or comes out as zeros,
 * can never be taken for what was signed. The signature's trusted comment, or
 * the path DIR/PRODUCT/CHANNEL/VERSION/FILE, tells what it is. What became of
 * it is written beside: FILE.taken or FILE.refused.
 */
#include "firmware.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "json.h"
#include "manifest.h"
#include "publisher_keys.h"
#include "xalloc.h"

#define SEEN_MAX 1024
#define DEPTH_MAX 4

/* A file as the last look found it. */
struct seen {
	char *path;
	int64_t size, at, list_at; /* list: of the .minisig */
	bool now;                  /* by this look, too */
};
struct drop {
	struct publisher *p;
	const char *dir;
	struct minisign_public keys[PUBLISHER_KEYS_MAX];
	size_t keys_n;
	struct seen seen[SEEN_MAX];
	size_t seen_n;
	int failed; /* exit code of the last one that was refused */
	unsigned taken;
};

static volatile sig_atomic_t stop;

static void
on_stop(int sig)
{
	stop = 1;
}

/* ---- what became of it --------------------------------------------------- */

/* Others write to the folder, too: nothing of theirs is followed. */
static void
note(const char *path, const char *suffix, const char *text)
{
	char *name = xasprintf("%s%s", path, suffix);
	char *tmp = xasprintf("%s%s.new", path, suffix), when[21];
	int fd;
	FILE *f;

	unlink(tmp);
	fd = open(
	    tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	f = fd >= 0 ? fdopen(fd, "w") : NULL;
	clock_rfc3339(clock_wall_ms() / 1000, when);
	if (f == NULL || fprintf(f, "%s %s\n", when, text) < 0 ||
	    fclose(f) != 0 || rename(tmp, name) != 0)
		complain("%s: %s", name, strerror(errno));
	free(name);
	free(tmp);
}

static void
refused(struct drop *d, const char *path, int code, const char *why)
{
	char *other = xasprintf("%s.taken", path);

	complain("%s: refused: %s", path, why);
	note(path, ".refused", why);
	unlink(other);
	free(other);
	d->failed = code;
}

static int64_t
time_of(const char *path, const char *suffix)
{
	char *name = xasprintf("%s%s", path, suffix);
	struct stat st;
	int64_t at = -1;

	if (stat(name, &st) == 0)
		at = (int64_t)st.st_mtim.tv_sec * 1000 +
		    st.st_mtim.tv_nsec / 1000000;
	free(name);
	return at;
}

/* ---- what it is ---------------------------------------------------------- */

struct parcel {
	char *text; /* of the comment; owns the words */
	char product[65], channel[65];
	struct firmware_options o;
};

/* "product:cam-x version:1.4.2 hw:1.0,1.1 min_from:1.2.0 percent:10" */
static int
read_comment(struct parcel *x, const char *comment)
{
	char *save = NULL, *hw = NULL;

	x->text = xstrdup(comment);
	for (char *w = strtok_r(x->text, " \t", &save); w != NULL;
	     w = strtok_r(NULL, " \t", &save)) {
		char *v = strchr(w, ':');

		if (v == NULL)
			continue;
		*v++ = '\0';
		if (strcmp(w, "product") == 0)
			x->o.product = v;
		else if (strcmp(w, "channel") == 0)
			x->o.channel = v;
		else if (strcmp(w, "version") == 0)
			x->o.version = v;
		else if (strcmp(w, "min_from") == 0)
			x->o.min_from = v;
		else if (strcmp(w, "percent") == 0)
			x->o.percent = strtol(v, NULL, 10);
		else if (strcmp(w, "hw") == 0)
			hw = v;
	}
	for (char *w = hw != NULL ? strtok_r(hw, ",", &save) : NULL;
	     w != NULL && x->o.hw_n < FW_LIST_MAX;
	     w = strtok_r(NULL, ",", &save))
		x->o.hw[x->o.hw_n++] = w;
	return x->o.percent >= -1 && x->o.percent <= 100 ? 0 : -EINVAL;
}

/* PRODUCT/CHANNEL/VERSION/FILE below the folder. */
static void
read_path(struct parcel *x, const char *below, char version[65])
{
	char name[2];

	if (sscanf(below, "%64[^/]/%64[^/]/%64[^/]/%1[^/]", x->product,
		x->channel, version, name) != 4)
		return;
	if (x->o.product == NULL)
		x->o.product = x->product;
	if (x->o.channel == NULL)
		x->o.channel = x->channel;
	if (x->o.version == NULL)
		x->o.version = version;
}

/* ---- taking one ---------------------------------------------------------- */

/* One drop at a time makes copies and publishes them. A descriptor to be closed
 * at the end, or -1. */
static int
lock_copies(const struct drop *d)
{
	char *folder = xasprintf("%s/drop", d->p->state_dir);
	int fd;

	mkdir(folder, 0700);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(folder);
	if (fd >= 0 && flock(fd, LOCK_EX) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* At most size octets: what still grows is not what was signed. */
static int
copy_octets(int in, int out, int64_t size)
{
	char *buf = xmalloc(1 << 20);
	int rc = 0;

	while (rc == 0 && size > 0) {
		size_t most = size < 1 << 20 ? (size_t)size : 1 << 20;
		ssize_t n = read(in, buf, most), put = 0, done = 0;

		if (n == 0)
			break;
		while (n > done &&
		    (put = write(out, buf + done, (size_t)(n - done))) >= 0)
			done += put;
		if (n < 0 || put < 0)
			rc = -errno;
		size -= done;
	}
	free(buf);
	return rc;
}

/* A copy that nobody else writes to; *fd_out is at its start. */
static int
copy_file(const struct drop *d, const char *path, char **copy_out, int *fd_out)
{
	const char *name = strrchr(path, '/') + 1;
	char *copy = xasprintf("%s/drop/%s", d->p->state_dir, name);
	struct stat st;
	int in = file_open(path, O_NOFOLLOW, &st), out = -1, rc = 0;

	if (in < 0)
		rc = in;
	else if ((out = open(
		      copy, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) < 0)
		rc = -errno;
	else
		rc = copy_octets(in, out, st.st_size);
	if (in >= 0)
		close(in);
	*copy_out = copy;
	*fd_out = out;
	return rc;
}

/* Who may put files there: drop_keys, else our own key alone. */
static int
load_keys(struct publisher *p, struct minisign_public keys[PUBLISHER_KEYS_MAX],
    size_t *n_out)
{
	char *line, *why = NULL;
	int rc;

	if (p->conf->drop_keys != NULL) {
		rc = publisher_keys_load(p->conf->drop_keys, keys, n_out, &why);
		if (rc != 0)
			complain("[publisher] drop_keys: %s", why);
		free(why);
		return rc;
	}
	line = key_public_line(p);
	*n_out = 1;
	rc = minisign_public_parse(line, keys);
	free(line);
	return rc;
}

/* Does the copy fit the signature, by a key that may? */
static int
verify(const struct drop *d, int fd, const char *signature, const char **why)
{
	struct stat st;
	void *map;
	int rc;

	*why = "it is empty";
	if (fstat(fd, &st) != 0 || st.st_size == 0)
		return -EINVAL;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	rc = minisign_verify(
	    d->keys, d->keys_n, map, (size_t)st.st_size, signature, NULL);
	munmap(map, (size_t)st.st_size);
	*why = rc == -ENOKEY ? "its .minisig was made by a key that may "
			       "not (drop_keys)"
	    : rc == -EINVAL  ? "its .minisig is no signature of minisign"
	    : rc != 0        ? "its bytes do not fit its .minisig"
			     : NULL;
	return rc;
}

static char *
read_signature(const char *path)
{
	char *name = xasprintf("%s.minisig", path);
	char *s = xcalloc(1, MINISIGN_SIGNATURE_MAX + 1);
	struct stat st;
	int fd = file_open(name, O_NOFOLLOW, &st);
	ssize_t n = fd >= 0 ? read(fd, s, MINISIGN_SIGNATURE_MAX) : -1;

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		s[0] = '\0';
	free(name);
	return s;
}

/* The trusted comment as it stands; it counts only once it is verified. */
static char *
claimed_comment(const char *signature)
{
	const char *at = strstr(signature, "\ntrusted comment: ");

	return at != NULL ? xstrndup(at + 18, strcspn(at + 18, "\r\n"))
			  : xstrdup("");
}

/* What was refused for a passing reason is tried again at the next look. */
static bool
is_passing(int code)
{
	return code == EXIT_LATER || code == EXIT_DOWN || code == EXIT_IO ||
	    code == EXIT_DENIED;
}

static void
publish_copy(struct drop *d, const char *path, const char *copy)
{
	struct publisher *p = d->p;
	int64_t seq = 0;
	char *text;
	int code;

	p->o.files[0] = copy;
	p->o.files_n = 1;
	code = publish_files(p, &seq);
	if (code == 0) {
		text =
		    xasprintf("%s %s is published in %s (manifest %" PRId64 ")",
			p->o.product, p->o.version, p->o.channel, seq);
		note(path, ".taken", text);
		printf("%s: %s\n", path, text);
		fflush(stdout);
		free(text);
		text = xasprintf("%s.refused", path);
		unlink(text);
		free(text);
		d->taken++;
	} else if (is_passing(code)) {
		complain("%s: not taken yet, tried again later", path);
		d->failed = code;
	} else {
		refused(d, path, code,
		    "against a rule of the version check; the reason stands "
		    "in the log of edgehaul firmware drop");
	}
}

static void
take(struct drop *d, const char *path)
{
	struct publisher *p = d->p;
	char *signature = read_signature(path), *copy = NULL;
	char *comment = claimed_comment(signature), version[65];
	struct parcel x = {
		.o = { .percent = -1, .max_size = -1, .expires_ms = -1 }
	};
	struct firmware_options was = p->o;
	const char *why = NULL;
	int fd = -1, lock = -1, rc = read_comment(&x, comment);

	read_path(&x, path + strlen(d->dir) + 1, version);
	if (x.o.channel == NULL)
		x.o.channel = p->conf->channel;
	p->o = x.o;
	if (rc != 0 || x.o.product == NULL ||
	    !firmware_product_ok(x.o.product) ||
	    !firmware_product_ok(x.o.channel) ||
	    (x.o.version != NULL && !firmware_version_ok(x.o.version))) {
		refused(d, path, EXIT_REFUSED,
		    "neither the trusted comment of its .minisig (product:P "
		    "version:V) nor its path (PRODUCT/CHANNEL/VERSION/FILE) "
		    "tells what it is");
		goto out;
	}
	lock = lock_copies(d);
	rc = lock < 0 ? -errno : copy_file(d, path, &copy, &fd);
	if (rc != 0) {
		complain("%s: %s; tried again later", path, strerror(-rc));
		d->failed = EXIT_IO;
	} else if (verify(d, fd, signature, &why) != 0) {
		refused(d, path, EXIT_REFUSED,
		    why != NULL ? why : "it cannot be read");
	} else {
		publish_copy(d, path, copy);
	}
out:
	if (fd >= 0)
		close(fd);
	if (copy != NULL)
		unlink(copy);
	if (lock >= 0)
		close(lock);
	p->o = was;
	free(copy);
	free(comment);
	free(signature);
	free(x.text);
}

/* ---- looking ------------------------------------------------------------- */

static bool
ends_in(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && strcmp(s + n - m, end) == 0;
}

/* Was it dealt with since it last changed? */
static bool
is_old(const char *path, int64_t at, int64_t list_at)
{
	int64_t taken = time_of(path, ".taken");
	int64_t not = time_of(path, ".refused");
	int64_t newest = at > list_at ? at : list_at;

	return taken >= newest || not >= newest;
}

/* The file has a signature: is it as the last look found it? */
static void
look_at(struct drop *d, const char *path, const struct stat *st)
{
	int64_t at =
	    (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
	int64_t list_at = time_of(path, ".minisig");
	struct seen *s = NULL;

	if (list_at < 0 || is_old(path, at, list_at))
		return;
	for (size_t i = 0; i < d->seen_n; i++)
		if (strcmp(d->seen[i].path, path) == 0)
			s = &d->seen[i];
	if (s == NULL && d->seen_n == SEEN_MAX)
		return; /* its turn comes */
	if (s == NULL) {
		s = &d->seen[d->seen_n++];
		memset(s, 0, sizeof(*s));
		s->path = xstrdup(path);
		s->size = -1;
	}
	s->now = true;
	if (s->size == st->st_size && s->at == at && s->list_at == list_at)
		take(d, path);
	s->size = st->st_size;
	s->at = at;
	s->list_at = list_at;
}

static void
look_in(struct drop *d, const char *folder, int depth)
{
	DIR *dir = opendir(folder);
	const struct dirent *e;
	struct stat st;

	if (dir == NULL) {
		complain("%s: %s", folder, strerror(errno));
		d->failed = EXIT_IO;
		return;
	}
	while (!stop && (e = readdir(dir)) != NULL) {
		char *path;

		if (e->d_name[0] == '.')
			continue;
		path = xasprintf("%s/%s", folder, e->d_name);
		if (lstat(path, &st) != 0)
			;
		else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
			look_in(d, path, depth + 1);
		else if (S_ISREG(st.st_mode) && !ends_in(path, ".minisig") &&
		    !ends_in(path, ".taken") && !ends_in(path, ".refused") &&
		    !ends_in(path, ".new"))
			look_at(d, path, &st);
		free(path);
	}
	closedir(dir);
}

static void
look(struct drop *d)
{
	size_t kept = 0;

	for (size_t i = 0; i < d->seen_n; i++)
		d->seen[i].now = false;
	look_in(d, d->dir, 0);
	for (size_t i = 0; i < d->seen_n; i++) {
		if (d->seen[i].now)
			d->seen[kept++] = d->seen[i];
		else
			free(d->seen[i].path);
	}
	d->seen_n = kept;
}

int
command_drop(struct publisher *p)
{
	struct drop *d = xcalloc(1, sizeof(*d));
	int64_t ms = p->conf->drop_interval_ms;
	struct sigaction sa = { .sa_handler = on_stop };
	int rc;

	d->p = p;
	d->dir = p->o.watch != NULL ? p->o.watch : p->conf->drop_dir;
	if (d->dir == NULL) {
		complain("name the folder: --watch DIR, or [publisher] "
			 "drop_dir");
		free(d);
		return EXIT_USAGE;
	}
	if (load_keys(p, d->keys, &d->keys_n) != 0) {
		free(d);
		return EXIT_CONFIG;
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	for (int i = 0; !stop && (!p->o.once || i < 2); i++) {
		if (i > 0)
			nanosleep(&(struct timespec){ ms / 1000,
				      ms % 1000 * 1000000 },
			    NULL);
		d->failed = 0;
		if (!stop)
			look(d);
	}
	rc = p->o.once ? d->failed : EXIT_GOOD;
	for (size_t i = 0; i < d->seen_n; i++)
		free(d->seen[i].path);
	free(d);
	return rc;
}
