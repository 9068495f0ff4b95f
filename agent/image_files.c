/*
 * image_files.c - a thread that opens, makes and hashes the files of a run
 *
 * A task is with its owner or with the thread. One that is dropped while the
 * thread has it is freed when it comes back.
 */
#include "image_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/evp.h>

#include "pool.h"
#include "worker_magic.h"
#include "xalloc.h"

#define PIECE (64 * 1024)

struct image_files {
	struct pool *pool; /* of one thread */
	struct spool *sp;
	char *dir;
	unsigned char piece[PIECE]; /* the thread's */
};

void
image_task_init(struct image_task *t, const struct spool_item *it,
    void (*fn)(struct image_task *t))
{
	memset(t, 0, sizeof(*t));
	t->fn = fn;
	t->fd_in = t->fd_out = -1;
	/* its texts stay the other's, and are not looked at */
	memcpy(t->it.id, it->id, sizeof(t->it.id));
	t->it.seq = it->seq;
	t->it.size = it->size;
	memcpy(t->it.sha256, it->sha256, 32);
}

/* ---- the thread ---------------------------------------------------------- */

/* A file without a name: gone when the last descriptor is. */
static int
open_nameless(const char *dir)
{
	char *path;
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd >= 0 ? fd : -errno;
	path = xasprintf("%s/.image-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	else
		unlink(path);
	free(path);
	return fd;
}

static int
open_both(struct image_files *f, struct image_task *t)
{
	int rc = spool_open_body(f->sp, &t->it, &t->fd_in);
	size_t n = t->it.size < MAGIC_OCTETS ? t->it.size : MAGIC_OCTETS;
	uint8_t head[MAGIC_OCTETS];

	if (rc != 0)
		return rc;
	if (pread(t->fd_in, head, n, 0) != (ssize_t)n)
		return -EIO;
	t->content = magic_content(head, n);
	if (t->content == WORKER_PACKED)
		return 0;
	rc = open_nameless(f->dir);
	if (rc < 0)
		return rc;
	t->fd_out = rc;
	return 0;
}

static int
hash_result(struct image_files *f, struct image_task *t)
{
	EVP_MD_CTX *sha = EVP_MD_CTX_new();
	uint64_t at = 0;
	struct stat st;
	int rc = 0;

	if (sha == NULL || EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1)
		abort(); /* out of memory, as in xalloc.c */
	if (fstat(t->fd_out, &st) != 0)
		rc = -errno;
	else if ((uint64_t)st.st_size != t->out_size)
		rc = -EBADMSG;
	while (rc == 0 && at < t->out_size) {
		ssize_t n = pread(t->fd_out, f->piece, PIECE, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			rc = n < 0 ? -errno : -EBADMSG;
		else
			EVP_DigestUpdate(sha, f->piece, (size_t)n);
		at += n > 0 ? (uint64_t)n : 0;
	}
	if (rc == 0 && at != t->out_size)
		rc = -EBADMSG;
	EVP_DigestFinal_ex(sha, t->out_sha256, NULL);
	EVP_MD_CTX_free(sha);
	return rc;
}

static void
run_open(void *arg)
{
	struct image_task *t = arg;

	t->rc = open_both(t->files, t);
}

static void
run_hash(void *arg)
{
	struct image_task *t = arg;

	t->rc = hash_result(t->files, t);
}

/* ---- the loop's side ----------------------------------------------------- */

static void
task_free(struct image_task *t)
{
	if (t->fd_in >= 0)
		close(t->fd_in);
	if (t->fd_out >= 0)
		close(t->fd_out);
	free(t);
}

static void
on_run(void *arg)
{
	struct image_task *t = arg;

	t->away = false;
	if (t->dropped)
		task_free(t);
	else
		t->fn(t); /* may free it */
}

static void
hand_over(struct image_files *f, struct image_task *t, pool_fn run)
{
	t->files = f;
	t->away = true;
	pool_run(f->pool, run, on_run, t);
}

void
image_files_open(struct image_files *f, struct image_task *t)
{
	hand_over(f, t, run_open);
}

void
image_files_hash(struct image_files *f, struct image_task *t)
{
	hand_over(f, t, run_hash);
}

void
image_files_drop(struct image_task *t)
{
	t->dropped = true;
	if (!t->away)
		task_free(t);
}

struct image_files *
image_files_new(struct event_base *base, struct spool *sp, const char *dir)
{
	struct image_files *f = xcalloc(1, sizeof(*f));

	f->sp = sp;
	f->dir = xstrdup(dir);
	f->pool = pool_new(base, 1);
	return f;
}

void
image_files_free(struct image_files *f)
{
	if (f == NULL)
		return;
	pool_free(f->pool);
	free(f->dir);
	free(f);
}
