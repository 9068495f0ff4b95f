/*
 * layout.c - names and folders of a spool
 *
 * What must stay true: a power cut during the first start leaves nothing or a
 * usable spool. So the folders come first, and `format`, which makes a folder
 * a spool, last: written aside, synced, renamed, its folder synced.
 */
#include "layout.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/rand.h>

#include "footer.h"
#include "xalloc.h"

#define DIR_MODE 02770
#define FILE_MODE 0660

void
layout_dir_name(uint64_t seq, char out[14])
{
	snprintf(out, 14, "%013" PRIx64, seq >> LAYOUT_DIR_BITS);
}

void
layout_item_name(uint64_t seq, char out[31])
{
	snprintf(
	    out, 31, "%013" PRIx64 "/%016" PRIx64, seq >> LAYOUT_DIR_BITS, seq);
}

static bool
parse_hex(const char *s, size_t digits, uint64_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < digits; i++) {
		unsigned char c = (unsigned char)s[i];

		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
			return false;
		v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	*out = v;
	return true;
}

bool
layout_parse_seq(const char *s, uint64_t *seq_out)
{
	return strlen(s) == 16 && parse_hex(s, 16, seq_out);
}

bool
layout_parse_dir(const char *s, uint64_t *prefix_out)
{
	return strlen(s) == 13 && parse_hex(s, 13, prefix_out);
}

void
layout_id(uint64_t epoch, uint64_t seq, char out[33])
{
	snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, epoch, seq);
}

bool
layout_parse_id(uint64_t epoch, const char *id, uint64_t *seq_out)
{
	uint64_t e;

	return strlen(id) == 32 && parse_hex(id, 16, &e) && e == epoch &&
	    parse_hex(id + 16, 16, seq_out);
}

int
layout_open_file(int dir, const char *name, int *fd_out)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	int fd = openat(dir, name, flags);
	struct stat st;
	int rc;

	if (fd < 0) /* a link; a socket; a device that is not there */
		return errno == ELOOP || errno == ENXIO ? -EBADMSG : -errno;
	rc = fstat(fd, &st) != 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EBADMSG;
	if (rc != 0)
		close(fd);
	else
		*fd_out = fd;
	return rc;
}

static int
sub_dir(struct layout *l, const char *name, bool create, int *fd_out,
    char **why_out)
{
	int fd, rc;

	if (create && mkdirat(l->root, name, DIR_MODE) != 0 && errno != EEXIST)
		return -errno;
	fd = openat(
	    l->root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		rc = -errno;
		*why_out = xasprintf("%s/%s cannot be used as a folder: %s: "
				     "move away what stands there",
		    l->dir, name, strerror(-rc));
		return rc;
	}
	if (create)
		fchmod(
		    fd, DIR_MODE); /* the umask; ours or it fails, as it is */
	*fd_out = fd;
	return 0;
}

/* The epoch of the first readable item, if `format` was lost; 0: no item. */
static uint64_t
epoch_of_items(int item)
{
	int fd = dup(item);
	DIR *top = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d, *f;
	uint64_t epoch = 0;

	while (top != NULL && epoch == 0 && (d = readdir(top)) != NULL) {
		int sub = d->d_name[0] == '.'
		    ? -1
		    : openat(
			  item, d->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *dir = sub < 0 ? NULL : fdopendir(sub);

		while (
		    dir != NULL && epoch == 0 && (f = readdir(dir)) != NULL) {
			struct footer ft;
			int file;

			if (layout_open_file(sub, f->d_name, &file) != 0)
				continue;
			if (footer_read(file, &ft) == 0) {
				epoch = ft.epoch;
				footer_fini(&ft);
			}
			close(file);
		}
		if (dir != NULL)
			closedir(dir);
	}
	if (top != NULL)
		closedir(top);
	return epoch;
}

static int
write_format(struct layout *l)
{
	char text[128];
	int n, rc = 0;
	int fd = openat(l->root, "format.new",
	    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);

	if (fd < 0)
		return -errno;
	n = snprintf(text, sizeof(text),
	    "edgehaul-spool %d\nepoch %016" PRIx64 "\nindex_size %" PRIu64 "\n",
	    LAYOUT_VERSION, l->epoch, l->index_size);
	if (write(fd, text, (size_t)n) != n || fsync(fd) != 0 ||
	    fchmod(fd, FILE_MODE) != 0 ||
	    renameat(l->root, "format.new", l->root, "format") != 0 ||
	    fsync(l->root) != 0)
		rc = errno != 0 ? -errno : -EIO;
	close(fd);
	return rc;
}

static int
make_format(struct layout *l)
{
	l->epoch = epoch_of_items(l->item);
	while (l->epoch == 0)
		if (RAND_bytes((unsigned char *)&l->epoch, sizeof(l->epoch)) !=
		    1)
			return -EIO;
	l->made_now = true;
	if (fsync(l->root) != 0)
		return -errno;
	return write_format(l);
}

static int
read_format(struct layout *l, char **why_out)
{
	char text[256];
	int fd = openat(l->root, "format", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	unsigned version = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	if (sscanf(text, "edgehaul-spool %u", &version) != 1) {
		*why_out =
		    xasprintf("%s/format is not readable: move it aside "
			      "and start again, uploads are kept and the "
			      "file is made anew",
			l->dir);
		return -EPROTO;
	}
	if (version != LAYOUT_VERSION) {
		*why_out = xasprintf("%s has spool format %u, this program "
				     "writes %d: run the version that wrote it "
				     "until `edgehaul queue ls` is empty, or "
				     "install a program that knows format %u",
		    l->dir, version, LAYOUT_VERSION, version);
		return -EPROTO;
	}
	if (sscanf(text,
		"edgehaul-spool %u epoch %" SCNx64 " index_size %" SCNu64,
		&version, &l->epoch, &l->index_size) != 3 ||
	    l->epoch == 0 || l->index_size < (1 << 20)) {
		*why_out = xasprintf("%s/format is damaged: move it aside and "
				     "start again, uploads are kept",
		    l->dir);
		return -EPROTO;
	}
	return 0;
}

int
layout_read_epoch(const char *dir, uint64_t *epoch_out)
{
	struct layout l = { .dir = (char *)dir };
	char *why = NULL;
	int rc;

	l.root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l.root < 0)
		return -errno;
	rc = read_format(&l, &why);
	free(why);
	close(l.root);
	if (rc == 0)
		*epoch_out = l.epoch;
	return rc;
}

static int
take_lock(struct layout *l, const char *role)
{
	char name[32];

	snprintf(name, sizeof(name), ".%s.lock", role);
	l->lock =
	    openat(l->root, name, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
	if (l->lock < 0)
		return -errno;
	if (flock(l->lock, LOCK_EX | LOCK_NB) != 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return 0;
}

/* One folder of a path, its name in its parent on stable storage. */
static int
make_dir(const char *path)
{
	char *parent = xstrdup(path), *slash = strrchr(parent, '/');
	int fd, rc = 0;

	if (mkdir(path, 0770) != 0) {
		free(parent);
		return errno == EEXIST ? 0 : -errno;
	}
	if (slash != NULL)
		slash[slash == parent] = '\0';
	fd = open(
	    slash != NULL ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0) {
		rc = -errno;
		rmdir(path);
	}
	if (fd >= 0)
		close(fd);
	free(parent);
	return rc;
}

int
layout_make_dirs(const char *dir)
{
	char *p = xstrdup(dir);
	int rc = 0;

	for (char *s = p + 1; rc == 0; s++) {
		char c = *s;

		if (c != '/' && c != '\0')
			continue;
		*s = '\0';
		rc = make_dir(p);
		*s = c;
		if (c == '\0')
			break;
	}
	free(p);
	return rc;
}

static int
open_all(struct layout *l, bool create, const char *role, char **why_out)
{
	int rc;

	l->root = open(l->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->root < 0)
		return -errno;
	if (create)
		fchmod(l->root, DIR_MODE);
	if (!create && faccessat(l->root, "format", F_OK, 0) != 0)
		return -ENOENT;
	if ((rc = take_lock(l, role)) != 0 ||
	    (rc = sub_dir(l, "incoming", create, &l->incoming, why_out)) != 0 ||
	    (rc = sub_dir(l, "item", create, &l->item, why_out)) != 0 ||
	    (rc = sub_dir(l, "quarantine", create, &l->quarantine, why_out)) !=
		0)
		return rc;
	rc = read_format(l, why_out);
	if (rc == -ENOENT && create)
		rc = make_format(l);
	return rc;
}

int
layout_open(const char *dir, bool create, const char *role, uint64_t index_size,
    struct layout *l, char **why_out)
{
	int rc = 0;

	*l = (struct layout){ .root = -1,
		.incoming = -1,
		.item = -1,
		.quarantine = -1,
		.lock = -1,
		.index_size = index_size,
		.dir = xstrdup(dir) };
	if (create)
		rc = layout_make_dirs(dir);
	if (rc == 0)
		rc = open_all(l, create, role, why_out);
	if (rc != 0)
		layout_close(l);
	return rc;
}

void
layout_close(struct layout *l)
{
	int *fds[] = { &l->incoming, &l->item, &l->quarantine, &l->lock,
		&l->root };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	free(l->dir);
	l->dir = NULL;
}
