/*
 * image_files.c - a thread that opens, makes and hashes the files of a run
 *
 * A task is with its owner, in the line, with the thread or among the done;
 * the lock guards the lists. One that is dropped while the thread has it is
 * freed when it comes back.
 */
#include "image_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <event2/event.h>
#include <openssl/evp.h>

#include "worker_magic.h"
#include "xalloc.h"

#define STACK (256 * 1024)
#define PIECE (64 * 1024)

TAILQ_HEAD(tasks, image_task);

struct image_files {
	pthread_mutex_t lock;
	pthread_cond_t more;
	pthread_t thread;
	struct tasks line, done;
	bool stop;
	struct spool *sp;
	char *dir;
	int wake;
	struct event *ev;
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
task_close(struct image_task *t)
{
	if (t->fd_in >= 0)
		close(t->fd_in);
	if (t->fd_out >= 0)
		close(t->fd_out);
	t->fd_in = t->fd_out = -1;
}

/* Locked. */
static void
put_back(struct image_files *f, struct image_task *t)
{
	uint64_t one = 1;

	t->busy = false;
	if (t->dropped) {
		task_close(t);
		free(t);
		return;
	}
	TAILQ_INSERT_TAIL(&f->done, t, link);
	if (write(f->wake, &one, sizeof(one)) != sizeof(one))
		return; /* the counter is full: the loop is awake */
}

static void *
run(void *arg)
{
	struct image_files *f = arg;
	struct image_task *t;

	pthread_mutex_lock(&f->lock);
	while (!f->stop) {
		t = TAILQ_FIRST(&f->line);
		if (t == NULL) {
			pthread_cond_wait(&f->more, &f->lock);
			continue;
		}
		TAILQ_REMOVE(&f->line, t, link);
		t->busy = true;
		pthread_mutex_unlock(&f->lock);
		t->rc = t->hash ? hash_result(f, t) : open_both(f, t);
		pthread_mutex_lock(&f->lock);
		put_back(f, t);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* ---- the loop's side ----------------------------------------------------- */

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct image_files *f = arg;
	struct image_task *t;
	uint64_t n;

	if (read(f->wake, &n, sizeof(n)) != sizeof(n))
		return;
	pthread_mutex_lock(&f->lock);
	while ((t = TAILQ_FIRST(&f->done)) != NULL) {
		TAILQ_REMOVE(&f->done, t, link);
		pthread_mutex_unlock(&f->lock);
		t->fn(t); /* may free it */
		pthread_mutex_lock(&f->lock);
	}
	pthread_mutex_unlock(&f->lock);
}

struct image_files *
image_files_new(struct event_base *base, struct spool *sp, const char *dir)
{
	struct image_files *f = xcalloc(1, sizeof(*f));
	pthread_attr_t attr;
	sigset_t all, old;

	f->sp = sp;
	f->dir = xstrdup(dir);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->more, NULL);
	TAILQ_INIT(&f->line);
	TAILQ_INIT(&f->done);
	f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->ev = event_new(base, f->wake, EV_READ | EV_PERSIST, on_wake, f);
	event_add(f->ev, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all); /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&f->thread, &attr, run, f) != 0)
		abort(); /* as out of memory */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return f;
}

void
image_files_free(struct image_files *f)
{
	if (f == NULL)
		return;
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_cond_signal(&f->more);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	event_free(f->ev);
	close(f->wake);
	pthread_cond_destroy(&f->more);
	pthread_mutex_destroy(&f->lock);
	free(f->dir);
	free(f);
}

static void
queue(struct image_files *f, struct image_task *t, bool hash)
{
	pthread_mutex_lock(&f->lock);
	t->hash = hash;
	TAILQ_INSERT_TAIL(&f->line, t, link);
	pthread_cond_signal(&f->more);
	pthread_mutex_unlock(&f->lock);
}

void
image_files_open(struct image_files *f, struct image_task *t)
{
	queue(f, t, false);
}

void
image_files_hash(struct image_files *f, struct image_task *t)
{
	queue(f, t, true);
}

static bool
take_out(struct tasks *list, struct image_task *t)
{
	struct image_task *x;

	TAILQ_FOREACH(x, list, link)
	if (x == t) {
		TAILQ_REMOVE(list, t, link);
		return true;
	}
	return false;
}

void
image_files_drop(struct image_files *f, struct image_task *t)
{
	bool busy;

	pthread_mutex_lock(&f->lock);
	if (!take_out(&f->line, t))
		take_out(&f->done, t);
	busy = t->busy;
	t->dropped = true;
	pthread_mutex_unlock(&f->lock);
	if (!busy) {
		task_close(t);
		free(t);
	}
}
