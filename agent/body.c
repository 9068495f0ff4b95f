/*
 * body.c - bodies read from the spool by threads, hashed on the way
 *
 * One lock guards the line of bodies that have room for a piece, and each
 * body's ring. A body is in the line or with one thread, never both; file and
 * digests belong to whoever has it, so they need no lock. A rewind or close
 * while a thread has it is left as a note (restart, dead) that the thread
 * follows when it comes back. The loop is told by an eventfd.
 */
#include "body.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>
#include <event2/event.h>
#include <openssl/evp.h>

#include "xalloc.h"

#define STACK (96 * 1024)

struct body_hash {
	EVP_MD_CTX *sha;
	uint64_t at; /* octets of the upload it covers */
};

struct piece {
	char *data;
	size_t n, used;
};

struct body {
	struct body_pool *pool;
	struct spool_item it; /* a copy: a thread may outlive the owner's */
	uint64_t offset, end; /* the range */
	enum recipe_digest kind;
	bool hash_only;
	bool other; /* fd is not of the spool's file */
	void (*on_ready)(void *arg);
	void *arg;

	/* the thread's that has it */
	int fd;
	uint64_t at;                   /* next octet to read */
	struct body_hash *hash, *base; /* base: as of offset, for rewinds */
	EVP_MD_CTX *range;

	/* under the lock */
	TAILQ_ENTRY(body) line, news;
	bool in_line, busy, in_news, restart, dead, waiting;
	unsigned in_a_row; /* pieces read without a turn of others */
	struct piece ring[BODY_PIECES];
	unsigned first, pieces;
	uint64_t given; /* octets given out since offset */
	int state;      /* body_state() */
	uint8_t digest[32];
	size_t digest_n;
};

TAILQ_HEAD(body_list, body);

struct body_pool {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct body_list line, news;
	bool stop;
	struct spool *sp;
	int wake;
	struct event *ev;
	unsigned pieces, threads_n;
	pthread_t *threads;
};

/* ---- digests ------------------------------------------------------------- */

static EVP_MD_CTX *
md_new(const EVP_MD *md)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	if (c == NULL || EVP_DigestInit_ex(c, md, NULL) != 1)
		abort(); /* out of memory, as in xalloc.c */
	return c;
}

static struct body_hash *
hash_new(const struct body_hash *from)
{
	struct body_hash *h = xcalloc(1, sizeof(*h));

	h->sha = md_new(EVP_sha256());
	if (from != NULL) {
		if (EVP_MD_CTX_copy_ex(h->sha, from->sha) != 1)
			abort(); /* out of memory, as in xalloc.c */
		h->at = from->at;
	}
	return h;
}

void
body_hash_free(struct body_hash *h)
{
	if (h == NULL)
		return;
	EVP_MD_CTX_free(h->sha);
	free(h);
}

/* ---- what a thread does with a body -------------------------------------- */

/* Back to the range's start, or to where hashing must begin. */
static void
begin(struct body *b)
{
	struct body_hash *h = hash_new(b->base);

	body_hash_free(b->hash);
	b->hash = h;
	b->at = h->at;
	EVP_MD_CTX_free(b->range);
	b->range = b->kind == DIGEST_NONE
	    ? NULL
	    : md_new(b->kind == DIGEST_MD5 ? EVP_md5() : EVP_sha256());
}

static int
read_full(int fd, char *p, size_t n, uint64_t at)
{
	while (n > 0) {
		ssize_t got = pread(fd, p, n, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EBADMSG; /* shorter than it was */
		p += got;
		at += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

/* At the end: does the whole fit? */
static int
finish(struct body *b, uint8_t digest[32], size_t *digest_n)
{
	uint8_t whole[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	struct body_hash *h;

	if (b->range != NULL) {
		EVP_DigestFinal_ex(b->range, digest, &n);
		*digest_n = n;
	}
	if (b->end != b->it.offer_size)
		return 1;
	h = hash_new(b->hash); /* the original may go on or be taken */
	EVP_DigestFinal_ex(h->sha, whole, NULL);
	body_hash_free(h);
	return memcmp(whole, b->it.offer_sha256, 32) == 0 ? 1 : -EBADMSG;
}

/*
 * Read the next piece and hash it. 0: p->data (malloc'd) is for the sender, or
 * NULL if it lies before the range. *state_out: the body's new state.
 */
static int
next_piece(struct body *b, struct piece *p, int *state_out)
{
	uint64_t stop = b->at < b->offset ? b->offset : b->end;
	size_t n =
	    stop - b->at < BODY_PIECE ? (size_t)(stop - b->at) : BODY_PIECE;
	bool ours = b->at >= b->offset;
	int rc = 0;

	*p = (struct piece){ .data = xmalloc(n + 1), .n = n };
	if (b->fd < 0)
		rc = b->other ? -EIO
			      : spool_open_body(b->pool->sp, &b->it, &b->fd);
	if (rc == 0)
		rc = read_full(b->fd, p->data, n, b->at);
	if (rc != 0) {
		free(p->data);
		p->data = NULL;
		return rc;
	}
	b->at += n;
	EVP_DigestUpdate(b->hash->sha, p->data, n);
	b->hash->at += n;
	if (ours && b->range != NULL)
		EVP_DigestUpdate(b->range, p->data, n);
	if (b->at == b->offset && b->offset > 0 &&
	    (b->base == NULL || b->base->at < b->offset)) {
		body_hash_free(b->base);
		b->base = hash_new(b->hash);
	}
	if (!ours || b->hash_only || n == 0) {
		free(p->data);
		p->data = NULL;
	}
	if (b->at == b->end)
		*state_out = finish(b, b->digest, &b->digest_n);
	return 0;
}

static void
body_free(struct body *b)
{
	if (b->fd >= 0)
		close(b->fd);
	body_hash_free(b->hash);
	body_hash_free(b->base);
	EVP_MD_CTX_free(b->range);
	for (unsigned i = 0; i < BODY_PIECES; i++)
		free(b->ring[i].data);
	spool_item_fini(&b->it);
	free(b);
}

static void
drop_pieces(struct body *b)
{
	for (unsigned i = 0; i < BODY_PIECES; i++) {
		free(b->ring[i].data);
		b->ring[i] = (struct piece){ 0 };
	}
	b->first = b->pieces = 0;
	b->given = 0;
	b->state = 0;
}

/* Tell the loop. Locked. */
static void
tell(struct body *b)
{
	struct body_pool *p = b->pool;
	uint64_t one = 1;

	b->waiting = false;
	if (b->in_news)
		return;
	b->in_news = true;
	TAILQ_INSERT_TAIL(&p->news, b, news);
	if (write(p->wake, &one, sizeof(one)) != sizeof(one))
		return; /* the counter is full: the loop is awake */
}

static bool
has_work(const struct body *b)
{
	return !b->busy && !b->in_line && (b->restart || b->state == 0) &&
	    b->pieces < b->pool->pieces;
}

/* Stand in line if there is something to do. Locked. */
static void
queue(struct body *b)
{
	if (!has_work(b))
		return;
	b->in_line = true;
	b->in_a_row = 0;
	TAILQ_INSERT_TAIL(&b->pool->line, b, line);
	pthread_cond_signal(&b->pool->more);
}

/* The same for a thread that had it and now takes the first in line itself:
 * nobody need be woken, and a body's pieces are read in one go; then it is the
 * others' turn, as one that is only hashed never has too many. Locked. */
static void
go_on(struct body *b)
{
	if (!has_work(b))
		return;
	b->in_line = true;
	if (++b->in_a_row < BODY_PIECES) {
		TAILQ_INSERT_HEAD(&b->pool->line, b, line);
		return;
	}
	b->in_a_row = 0;
	TAILQ_INSERT_TAIL(&b->pool->line, b, line);
}

/* A thread is back with a piece. Locked. */
static void
put_back(struct body *b, struct piece *p, int rc, int state)
{
	b->busy = false;
	if (b->dead) {
		free(p->data);
		body_free(b);
		return;
	}
	if (b->restart) {
		free(p->data);
		go_on(b);
		return;
	}
	if (p->data != NULL)
		b->ring[(b->first + b->pieces++) % BODY_PIECES] = *p;
	b->state = rc != 0 ? rc : state;
	go_on(b);
	if (b->waiting && (p->data != NULL || b->state != 0) &&
	    (!b->hash_only || b->state != 0))
		tell(b);
}

static void *
run(void *arg)
{
	struct body_pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct body *b = TAILQ_FIRST(&p->line);
		struct piece piece;
		int rc, state = 0;

		if (p->stop)
			break;
		if (b == NULL) {
			pthread_cond_wait(&p->more, &p->lock);
			continue;
		}
		TAILQ_REMOVE(&p->line, b, line);
		b->in_line = false;
		b->busy = true;
		if (b->restart) {
			b->restart = false;
			begin(b);
		}
		pthread_mutex_unlock(&p->lock);
		rc = next_piece(b, &piece, &state);
		pthread_mutex_lock(&p->lock);
		put_back(b, &piece, rc, state);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- the loop's side ----------------------------------------------------- */

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct body_pool *p = arg;
	struct body *b;
	uint64_t n;

	if (read(p->wake, &n, sizeof(n)) != sizeof(n))
		return;
	pthread_mutex_lock(&p->lock);
	while ((b = TAILQ_FIRST(&p->news)) != NULL) {
		TAILQ_REMOVE(&p->news, b, news);
		b->in_news = false;
		pthread_mutex_unlock(&p->lock);
		b->on_ready(b->arg); /* may close it */
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
}

struct body_pool *
body_pool_new(struct event_base *base, struct spool *sp, unsigned threads,
    unsigned pieces)
{
	struct body_pool *p = xcalloc(1, sizeof(*p));
	pthread_attr_t attr;
	sigset_t all, old;

	assert(pieces >= BODY_PIECES_MIN && pieces <= BODY_PIECES);
	p->sp = sp;
	p->pieces = pieces;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	TAILQ_INIT(&p->line);
	TAILQ_INIT(&p->news);
	p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->ev = event_new(base, p->wake, EV_READ | EV_PERSIST, on_wake, p);
	event_add(p->ev, NULL);
	p->threads = xcalloc(threads, sizeof(*p->threads));
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all); /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (; p->threads_n < threads; p->threads_n++)
		if (pthread_create(&p->threads[p->threads_n], &attr, run, p) !=
		    0)
			break;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	assert(p->threads_n > 0);
	return p;
}

void
body_pool_free(struct body_pool *p)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads_n; i++)
		pthread_join(p->threads[i], NULL);
	event_free(p->ev);
	close(p->wake);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
	free(p->threads);
	free(p);
}

static void
copy_item(struct spool_item *to, const struct spool_item *from)
{
	*to = *from;
	to->device = xstrdup(from->device);
	to->name = xstrdup(from->name);
	to->type = xstrdup(from->type);
	to->address = xstrdup(from->address);
	to->last_error = xstrdup(from->last_error);
	to->storage = xstrdup(from->storage);
	to->key = xstrdup(from->key);
	to->encoding = xstrdup(from->encoding);
	to->kept = xstrdup(from->kept);
}

struct body *
body_open(struct body_pool *p, const struct spool_item *it,
    const struct body_range *range, void (*on_ready)(void *arg), void *arg)
{
	struct body *b = xcalloc(1, sizeof(*b));

	assert(range->length <= it->offer_size &&
	    range->offset <= it->offer_size - range->length);
	copy_item(&b->it, it);
	b->pool = p;
	b->fd = range->file > 0 ? fcntl(range->file, F_DUPFD_CLOEXEC, 3) : -1;
	b->other = range->file > 0;
	b->offset = range->offset;
	b->end = range->offset + range->length;
	b->kind = range->digest;
	b->hash_only = range->hash_only;
	b->on_ready = on_ready;
	b->arg = arg;
	b->base = range->before;
	if (b->base != NULL && b->base->at > b->offset) {
		body_hash_free(b->base); /* of a later range: no help */
		b->base = NULL;
	}
	b->restart = true;
	b->waiting = b->hash_only;
	pthread_mutex_lock(&p->lock);
	queue(b);
	pthread_mutex_unlock(&p->lock);
	return b;
}

void
body_close(struct body *b)
{
	struct body_pool *p;

	if (b == NULL)
		return;
	p = b->pool;
	pthread_mutex_lock(&p->lock);
	if (b->in_news)
		TAILQ_REMOVE(&p->news, b, news);
	if (b->in_line)
		TAILQ_REMOVE(&p->line, b, line);
	b->in_news = b->in_line = false;
	b->dead = true;
	if (!b->busy)
		body_free(b);
	pthread_mutex_unlock(&p->lock);
}

/* How much may be given out now. Locked. */
static size_t
allowed(const struct body *b, const struct piece *p)
{
	uint64_t length = b->end - b->offset, free_n = length;
	size_t n = p->n - p->used;

	if (b->end == b->it.offer_size && b->state != 1) {
		free_n = length > BODY_WITHHELD ? length - BODY_WITHHELD : 0;
		free_n = free_n > b->given ? free_n - b->given : 0;
		return n < free_n ? n : (size_t)free_n;
	}
	return n;
}

ssize_t
body_read(struct body *b, void *buf, size_t n)
{
	struct piece *p;
	size_t done = 0;
	ssize_t rc;

	pthread_mutex_lock(&b->pool->lock);
	while (done < n && b->state >= 0 && b->pieces > 0) {
		size_t k;

		p = &b->ring[b->first];
		k = allowed(b, p);
		if (k == 0)
			break;
		if (k > n - done)
			k = n - done;
		memcpy((char *)buf + done, p->data + p->used, k);
		p->used += k;
		b->given += k;
		done += k;
		if (p->used == p->n) {
			free(p->data);
			*p = (struct piece){ 0 };
			b->first = (b->first + 1) % BODY_PIECES;
			b->pieces--;
		}
	}
	queue(b);
	rc = (ssize_t)done;
	if (b->state < 0) {
		rc = b->state;
	} else if (done == 0 && n > 0 &&
	    (b->restart || b->state == 0 || b->pieces > 0)) {
		b->waiting = true;
		rc = -EAGAIN;
	}
	pthread_mutex_unlock(&b->pool->lock);
	return rc;
}

void
body_rewind(struct body *b)
{
	pthread_mutex_lock(&b->pool->lock);
	drop_pieces(b);
	b->restart = true;
	queue(b);
	pthread_mutex_unlock(&b->pool->lock);
}

int
body_state(const struct body *b)
{
	int state;

	pthread_mutex_lock(&b->pool->lock);
	state = b->restart ? 0 : b->state;
	pthread_mutex_unlock(&b->pool->lock);
	return state;
}

size_t
body_digest(const struct body *b, uint8_t out[32])
{
	memcpy(out, b->digest, b->digest_n);
	return b->digest_n;
}

struct body_hash *
body_take_hash(struct body *b)
{
	struct body_hash *h = b->hash;

	b->hash = NULL;
	return h;
}
