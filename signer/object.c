/*
 * object.c - objects of FILE storages on disk
 *
 * Written to .tmp/, synced, then linked to its name: link(2) fails where there
 * is one already, so nothing is ever written over; what replaces an object that
 * was named by its hash is renamed over it. The folders on the way are
 * opened one by one without following links, so no key leads outside. Type,
 * encoding and SHA-256 are an extended attribute of the file itself; where the
 * file system has none they stand in meta_dir under the hash of the name,
 * durable before the object is.
 */
#include "object.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <openssl/evp.h>

#include "json.h"
#include "url.h"
#include "xalloc.h"

#define ATTRIBUTE "user.edgehaul"
#define META_MAX 4096
#define TMP ".tmp"

struct object_dir {
	int fd, tmp_fd, meta_fd;
	pthread_mutex_t replacing;
};
struct object_writer {
	struct object_dir *d;
	char name[33]; /* in .tmp */
	int fd;
	int64_t size;
	EVP_MD_CTX *sha;
};

void
object_meta_fini(struct object_meta *m)
{
	free(m->type);
	free(m->encoding);
	free(m->metadata);
	memset(m, 0, sizeof(*m));
}

/* ---- folders ------------------------------------------------------------- */

static int
open_folder(int at, const char *name, bool make)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(at, name, flags);

	if (fd >= 0 || errno != ENOENT || !make)
		return fd >= 0 ? fd : -errno;
	if (mkdirat(at, name, 0770) != 0 && errno != EEXIST)
		return -errno;
	if (fsync(at) != 0)
		return -errno;
	fd = openat(at, name, flags);
	return fd >= 0 ? fd : -errno;
}

/* mkdir -p */
static int
make_path(const char *path)
{
	char *copy = xstrdup(path);
	int rc = 0;

	for (char *p = copy + 1; rc == 0 && *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0770) != 0 && errno != EEXIST)
			rc = -errno;
		*p = '/';
	}
	if (rc == 0 && mkdir(copy, 0770) != 0 && errno != EEXIST)
		rc = -errno;
	free(copy);
	return rc;
}

static void
empty_folder(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	const struct dirent *e;

	if (dir == NULL) {
		if (copy >= 0)
			close(copy);
		return;
	}
	while ((e = readdir(dir)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			unlinkat(fd, e->d_name, 0);
	closedir(dir);
}

int
object_dir_open(
    const char *dir, const char *meta_dir, struct object_dir **d_out)
{
	struct object_dir *d = xcalloc(1, sizeof(*d));
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	int rc = make_path(dir);

	d->fd = d->tmp_fd = d->meta_fd = -1;
	pthread_mutex_init(&d->replacing, NULL);
	if (rc == 0)
		rc = make_path(meta_dir);
	if (rc == 0 && (d->fd = open(dir, flags)) < 0)
		rc = -errno;
	if (rc == 0 && (d->meta_fd = open(meta_dir, flags)) < 0)
		rc = -errno;
	if (rc == 0 && (d->tmp_fd = open_folder(d->fd, TMP, true)) < 0)
		rc = d->tmp_fd;
	if (rc != 0) {
		object_dir_close(d);
		return rc;
	}
	empty_folder(d->tmp_fd);
	*d_out = d;
	return 0;
}

void
object_dir_close(struct object_dir *d)
{
	if (d == NULL)
		return;
	if (d->fd >= 0)
		close(d->fd);
	if (d->tmp_fd >= 0)
		close(d->tmp_fd);
	if (d->meta_fd >= 0)
		close(d->meta_fd);
	pthread_mutex_destroy(&d->replacing);
	free(d);
}

/* An empty segment has no name on disk; this one stands for it. */
#define EMPTY_SEGMENT "%2F"

/* Take the next segment of *key to name; false at the end. */
static bool
segment(const char **key, char name[256])
{
	size_t n = strcspn(*key, "/");

	if (n > 255)
		n = 255; /* checked when it was signed */
	snprintf(name, 256, "%.*s", (int)n, n == 0 ? "" : *key);
	if (n == 0)
		strcpy(name, EMPTY_SEGMENT);
	*key += strcspn(*key, "/");
	if (**key == '\0')
		return false;
	(*key)++;
	return true;
}

/* The folder of a key, opened, and the last segment. -errno. */
static int
open_parent(struct object_dir *d, const char *tenant, const char *storage,
    const char *key, bool make, char last[256])
{
	int at = open_folder(d->fd, tenant, make), next;

	if (at < 0)
		return at;
	next = open_folder(at, storage, make);
	close(at);
	at = next;
	while (at >= 0 && segment(&key, last)) {
		if (strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
			next = -EINVAL;
		else
			next = open_folder(at, last, make);
		close(at);
		at = next;
	}
	if (at >= 0 && (strcmp(last, ".") == 0 || strcmp(last, "..") == 0)) {
		close(at);
		return -EINVAL;
	}
	return at;
}

/* ---- what is kept of an object ------------------------------------------- */

static char *
meta_text(const struct object_meta *m)
{
	cJSON *o = cJSON_CreateObject();
	char *s;

	json_add_text(o, "sha256", m->sha256);
	json_add_int(o, "size", m->size);
	if (m->type != NULL)
		json_add_text(o, "type", m->type);
	if (m->encoding != NULL)
		json_add_text(o, "encoding", m->encoding);
	if (m->metadata != NULL)
		json_add_text(o, "metadata", m->metadata);
	s = json_line(o);
	cJSON_Delete(o);
	return s;
}

static int
meta_parse(const char *text, size_t n, struct object_meta *m)
{
	cJSON *o = json_parse(text, n, META_MAX, NULL);
	const char *sha = json_string(o, "sha256");
	const char *type = json_string(o, "type");
	const char *encoding = json_string(o, "encoding");
	const char *metadata = json_string(o, "metadata");
	int rc = -EBADMSG;

	if (sha != NULL && strlen(sha) == 64 &&
	    json_int(o, "size", 0, INT64_MAX / 2048, &m->size) == 0) {
		strcpy(m->sha256, sha);
		m->type = type != NULL ? xstrdup(type) : NULL;
		m->encoding = encoding != NULL ? xstrdup(encoding) : NULL;
		m->metadata = metadata != NULL ? xstrdup(metadata) : NULL;
		rc = 0;
	}
	cJSON_Delete(o);
	return rc;
}

static void
sidecar_name(
    const char *tenant, const char *storage, const char *key, char name[65])
{
	char *full = xasprintf("%s/%s/%s", tenant, storage, key);

	digest_sha256_hex(full, strlen(full), name);
	free(full);
}

static int
write_sidecar(struct object_dir *d, const char *name, const char *text)
{
	char tmp[72];
	size_t n = strlen(text);
	int fd, rc = 0;

	snprintf(tmp, sizeof(tmp), "%s.new", name);
	fd = openat(
	    d->meta_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (fd < 0)
		return -errno;
	if (write(fd, text, n) != (ssize_t)n || fdatasync(fd) != 0)
		rc = -EIO;
	close(fd);
	if (rc == 0 &&
	    (renameat(d->meta_fd, tmp, d->meta_fd, name) != 0 ||
		fsync(d->meta_fd) != 0))
		rc = -errno;
	return rc;
}

static int
read_sidecar(struct object_dir *d, const char *name, struct object_meta *m)
{
	char buf[META_MAX];
	int fd = openat(d->meta_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, sizeof(buf));
	close(fd);
	return n > 0 ? meta_parse(buf, (size_t)n, m) : -EBADMSG;
}

/* A file that somebody put there by hand has no meta data: hash it. */
static int
make_meta(int fd, struct object_meta *m)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	char *buf = xmalloc(65536);
	uint8_t md[DIGEST_LEN];
	int64_t at = 0;
	ssize_t n;

	EVP_DigestInit_ex(c, EVP_sha256(), NULL);
	while ((n = pread(fd, buf, 65536, at)) > 0) {
		EVP_DigestUpdate(c, buf, (size_t)n);
		at += n;
	}
	EVP_DigestFinal_ex(c, md, NULL);
	EVP_MD_CTX_free(c);
	free(buf);
	hex_encode(md, sizeof(md), m->sha256);
	m->size = at;
	return n < 0 ? -EIO : 0;
}

static int
read_meta(struct object_dir *d, int fd, const char *tenant, const char *storage,
    const char *key, struct object_meta *m)
{
	char buf[META_MAX], name[65];
	ssize_t n = fgetxattr(fd, ATTRIBUTE, buf, sizeof(buf));
	struct stat st;

	memset(m, 0, sizeof(*m));
	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOENT;
	if (n > 0 && meta_parse(buf, (size_t)n, m) == 0 &&
	    m->size == st.st_size)
		return 0;
	object_meta_fini(m);
	sidecar_name(tenant, storage, key, name);
	if (read_sidecar(d, name, m) == 0 && m->size == st.st_size)
		return 0;
	object_meta_fini(m);
	return make_meta(fd, m);
}

/* ---- writing ------------------------------------------------------------- */

int
object_begin(struct object_dir *d, struct object_writer **w_out)
{
	struct object_writer *w = xcalloc(1, sizeof(*w));
	uint8_t raw[16];
	int rc = 0;

	w->d = d;
	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		abort();
	hex_encode(raw, sizeof(raw), w->name);
	w->fd = openat(
	    d->tmp_fd, w->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (w->fd < 0) {
		rc = -errno;
		free(w);
		return rc;
	}
	w->sha = EVP_MD_CTX_new();
	EVP_DigestInit_ex(w->sha, EVP_sha256(), NULL);
	*w_out = w;
	return 0;
}

int
object_write(struct object_writer *w, const void *p, size_t n)
{
	const char *at = p;

	EVP_DigestUpdate(w->sha, p, n);
	w->size += (int64_t)n;
	while (n > 0) {
		ssize_t done = write(w->fd, at, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

void
object_abort(struct object_writer *w)
{
	if (w == NULL)
		return;
	unlinkat(w->d->tmp_fd, w->name, 0);
	close(w->fd);
	EVP_MD_CTX_free(w->sha);
	free(w);
}

static int
check_received(
    struct object_writer *w, struct object_meta *m, const char **why_out)
{
	uint8_t md[DIGEST_LEN];
	char hex[65];

	EVP_DigestFinal_ex(w->sha, md, NULL);
	hex_encode(md, sizeof(md), hex);
	if (m->size >= 0 && m->size != w->size) {
		*why_out = "The body is not of the size that was signed";
		return -EBADMSG;
	}
	if (m->sha256[0] != '\0' && strcmp(m->sha256, hex) != 0) {
		*why_out = "The body's SHA-256 is not the one that was signed";
		return -EBADMSG;
	}
	m->size = w->size;
	strcpy(m->sha256, hex);
	return 0;
}

/* An object is there already: the same one? */
static int
compare(struct object_dir *d, int at, const char *last, const char *tenant,
    const char *storage, const char *key, const struct object_meta *m)
{
	struct object_meta there;
	int fd, rc;

	fd = openat(at, last, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ELOOP ? -EEXIST : -errno;
	rc = read_meta(d, fd, tenant, storage, key, &there);
	close(fd);
	if (rc == -ENOENT)
		return -EISDIR;
	if (rc != 0)
		return rc;
	rc = strcmp(there.sha256, m->sha256) == 0 ? 1 : -EEXIST;
	object_meta_fini(&there);
	return rc;
}

static int
keep_meta(struct object_writer *w, const char *tenant, const char *storage,
    const char *key, const struct object_meta *m)
{
	char *text = meta_text(m), name[65];
	int rc = 0;

	if (fsetxattr(w->fd, ATTRIBUTE, text, strlen(text), 0) != 0) {
		sidecar_name(tenant, storage, key, name);
		rc = write_sidecar(w->d, name, text);
	}
	free(text);
	return rc;
}

/*
 * Over the object whose SHA-256 is `replace`, one writer after the other. 1:
 * it is these very bytes already.
 */
static int
replace_object(struct object_writer *w, int at, const char *last,
    const char *tenant, const char *storage, const char *key,
    const char *replace, const struct object_meta *m)
{
	struct object_meta seen = { 0 };
	int rc;

	snprintf(seen.sha256, sizeof(seen.sha256), "%s", replace);
	pthread_mutex_lock(&w->d->replacing);
	rc = compare(w->d, at, last, tenant, storage, key, m);
	if (rc == -EEXIST) {
		rc = compare(w->d, at, last, tenant, storage, key, &seen);
		rc = rc == -EEXIST ? -ESTALE : rc == 1 ? 0 : rc;
		if (rc == 0)
			rc = keep_meta(w, tenant, storage, key, m);
		if (rc == 0 && fsync(w->fd) != 0)
			rc = -errno;
		if (rc == 0 && renameat(w->d->tmp_fd, w->name, at, last) != 0)
			rc = -errno;
	}
	pthread_mutex_unlock(&w->d->replacing);
	return rc;
}

/* To a name that is free. */
static int
link_object(struct object_writer *w, int at, const char *last,
    const char *tenant, const char *storage, const char *key,
    const struct object_meta *m)
{
	int rc = 0;

	if (faccessat(at, last, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		rc = compare(w->d, at, last, tenant, storage, key, m);
	if (rc == 0)
		rc = keep_meta(w, tenant, storage, key, m);
	if (rc == 0 && fsync(w->fd) != 0)
		rc = -errno;
	if (rc == 0 && linkat(w->d->tmp_fd, w->name, at, last, 0) != 0)
		rc = errno != EEXIST
		    ? -errno
		    : compare(w->d, at, last, tenant, storage, key, m);
	return rc;
}

int
object_commit(struct object_writer *w, const char *tenant, const char *storage,
    const char *key, const char *replace, struct object_meta *m,
    const char **why_out)
{
	char last[256];
	int at = -1, rc = check_received(w, m, why_out);

	if (rc == 0) {
		at = open_parent(w->d, tenant, storage, key, true, last);
		rc = at < 0 ? at : 0;
	}
	if (rc == 0 && replace != NULL)
		rc = replace_object(
		    w, at, last, tenant, storage, key, replace, m);
	else if (rc == 0)
		rc = link_object(w, at, last, tenant, storage, key, m);
	/* Also when it was there: who put it may not have synced it yet. */
	if (rc >= 0 && fsync(at) != 0)
		rc = -errno;
	if (at >= 0)
		close(at);
	object_abort(w); /* the other name */
	return rc;
}

/* ---- reading, deleting --------------------------------------------------- */

int
object_open(struct object_dir *d, const char *tenant, const char *storage,
    const char *key, int *fd_out, struct object_meta *m_out)
{
	char last[256];
	int at = open_parent(d, tenant, storage, key, false, last), fd, rc;

	if (at < 0)
		return at == -ENOTDIR ? -ENOENT : at;
	fd = openat(at, last, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	rc = fd < 0 ? -errno : 0;
	close(at);
	if (rc != 0)
		return rc;
	rc = read_meta(d, fd, tenant, storage, key, m_out);
	if (rc != 0)
		close(fd);
	else
		*fd_out = fd;
	return rc;
}

int
object_delete(struct object_dir *d, const char *tenant, const char *storage,
    const char *key)
{
	char last[256], name[65];
	int at = open_parent(d, tenant, storage, key, false, last), rc = 0;

	if (at < 0)
		return at == -ENOTDIR ? -ENOENT : at;
	if (unlinkat(at, last, 0) != 0)
		rc = errno == EISDIR ? -ENOENT : -errno;
	else if (fsync(at) != 0)
		rc = -errno;
	close(at);
	if (rc == 0) {
		sidecar_name(tenant, storage, key, name);
		unlinkat(d->meta_fd, name, 0);
	}
	return rc;
}
