/*
 * body.c - bodies read from the spool by threads, hashed on the way
 *
 * One lock guards the line of bodies that have room for a piece, and each
 * body's ring. A body is in the line or with one thread, never both; file and
 * digests belong to whoever has it, so they need no lock (body_work.c). A
 * rewind or close while a thread has it is left as a note (restart, dead) that
 * the thread follows when it comes back. The loop is told by an eventfd, once
 * for all that is news when it looks.
 */
#include "body_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <event2/event.h>

#include "xalloc.h"

#define STACK (96 * 1024)

/* The octets of a piece are no longer needed. One of a whole body's size serves
 * the next one; all go with the last body. Locked. */
static void
give_back(struct body_pool *p, struct body_piece *x)
{
	if (x->data != NULL && x->size == p->whole_max &&
	    p->spare_n < BODY_SPARE)
		p->spare[p->spare_n++] = x->data;
	else
		free(x->data);
	*x = (struct body_piece){ 0 };
}

static void
free_spare(struct body_pool *p)
{
	while (p->spare_n > 0)
		free(p->spare[--p->spare_n]);
}

/* Locked. */
static void
body_free(struct body *b)
{
	struct body_pool *p = b->pool;

	if (b->fd >= 0)
		close(b->fd);
	body_hash_free(b->hash);
	body_hash_free(b->base);
	EVP_MD_CTX_free(b->range);
	for (unsigned i = 0; i < BODY_PIECES; i++)
		give_back(p, &b->ring[i]);
	if (--p->bodies == 0)
		free_spare(p);
	free(b);
}

static void
drop_pieces(struct body *b)
{
	for (unsigned i = 0; i < BODY_PIECES; i++)
		give_back(b->pool, &b->ring[i]);
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
	bool awake;

	b->waiting = false;
	if (b->in_news)
		return;
	b->in_news = true;
	awake = !TAILQ_EMPTY(&p->news);
	TAILQ_INSERT_TAIL(&p->news, b, news);
	if (!awake && write(p->wake, &one, sizeof(one)) != sizeof(one))
		return; /* the counter is full: the loop is awake */
}

static bool
has_work(const struct body *b)
{
	return !b->busy && !b->in_line && (b->restart || b->state == 0) &&
	    b->pieces < b->pool->pieces;
}

static void
stand_in_line(struct body *b, bool first)
{
	b->in_line = true;
	b->pool->line_n++;
	if (first)
		TAILQ_INSERT_HEAD(&b->pool->line, b, line);
	else
		TAILQ_INSERT_TAIL(&b->pool->line, b, line);
}

static void
leave_line(struct body *b)
{
	b->in_line = false;
	b->pool->line_n--;
	TAILQ_REMOVE(&b->pool->line, b, line);
}

/* Stand in line if there is something to do. Locked. */
static void
queue(struct body *b)
{
	if (!has_work(b))
		return;
	b->in_a_row = 0;
	stand_in_line(b, false);
	if (b->pool->line_n == 1) /* who takes it calls one more for the rest */
		pthread_cond_signal(&b->pool->more);
}

/* The same for a thread that had it and now takes the first in line itself:
 * nobody need be woken, and a body's pieces are read in one go; then it is the
 * others' turn, as one that is only hashed never has too many. Locked. */
static void
go_on(struct body *b)
{
	bool first;

	if (!has_work(b))
		return;
	first = ++b->in_a_row < BODY_PIECES;
	if (!first)
		b->in_a_row = 0;
	stand_in_line(b, first);
}

/* A thread is back with a piece. Locked. */
static void
put_back(struct body_work *w)
{
	struct body *b = w->b;

	b->busy = false;
	if (b->dead) {
		give_back(b->pool, &w->piece);
		body_free(b);
		return;
	}
	if (b->restart) {
		give_back(b->pool, &w->piece);
		go_on(b);
		return;
	}
	if (w->piece.data != NULL)
		b->ring[(b->first + b->pieces++) % BODY_PIECES] = w->piece;
	b->state = w->rc != 0 ? w->rc : w->state;
	go_on(b);
	if (b->waiting && (w->piece.data != NULL || b->state != 0) &&
	    (!b->hash_only || b->state != 0))
		tell(b);
}

/* The first in line; behind one that is whole others that are. Locked. */
static size_t
take(struct body_pool *p, struct body_work w[BODY_TOGETHER])
{
	struct body *b;
	size_t n = 0;

	while (n < BODY_TOGETHER && (b = TAILQ_FIRST(&p->line)) != NULL &&
	    (n == 0 || (w[0].b->whole && b->whole))) {
		leave_line(b);
		b->busy = true;
		w[n++] = (struct body_work){ .b = b, .restart = b->restart };
		b->restart = false;
	}
	return n;
}

/* Those of whole bodies that are worth it begin with a buffer. Locked. */
static void
lend(struct body_pool *p, struct body_work *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (w[i].b->whole && w[i].b->end > BODY_PIECE) {
			w[i].piece.size = p->whole_max;
			if (p->spare_n > 0)
				w[i].piece.data = p->spare[--p->spare_n];
		}
}

static void *
run(void *arg)
{
	struct body_pool *p = arg;
	struct body_work w[BODY_TOGETHER];
	size_t n;

	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		n = take(p, w);
		if (n == 0) {
			pthread_cond_wait(&p->more, &p->lock);
			continue;
		}
		if (p->line_n > 0)
			pthread_cond_signal(&p->more);
		lend(p, w, n);
		pthread_mutex_unlock(&p->lock);
		body_work(w, n);
		pthread_mutex_lock(&p->lock);
		for (size_t i = 0; i < n; i++)
			put_back(&w[i]);
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
	p->whole_max = pieces * BODY_PIECE;
	p->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	p->md5 = EVP_MD_fetch(NULL, "MD5", NULL);
	if (p->sha256 == NULL || p->md5 == NULL)
		abort(); /* out of memory, as in xalloc.c */
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
	free_spare(p);
	EVP_MD_free(p->sha256);
	EVP_MD_free(p->md5);
	free(p->threads);
	free(p);
}

struct body *
body_open(struct body_pool *p, const struct spool_item *it,
    const struct body_range *range, void (*on_ready)(void *arg), void *arg)
{
	struct body *b = xcalloc(1, sizeof(*b));

	assert(range->length <= it->offer_size &&
	    range->offset <= it->offer_size - range->length);
	b->it.seq = it->seq;
	b->it.size = it->size;
	b->it.offer_size = it->offer_size;
	memcpy(b->it.sha256, it->sha256, 32);
	memcpy(b->it.offer_sha256, it->offer_sha256, 32);
	b->pool = p;
	b->fd = range->file > 0 ? fcntl(range->file, F_DUPFD_CLOEXEC, 3) : -1;
	b->other = range->file > 0;
	b->offset = range->offset;
	b->end = range->offset + range->length;
	b->kind = range->digest;
	b->hash_only = range->hash_only;
	b->whole = b->offset == 0 && b->end == it->offer_size &&
	    b->end <= p->whole_max;
	b->on_ready = on_ready;
	b->arg = arg;
	b->base = range->before;
	if (b->base != NULL && body_hash_at(b->base) > b->offset) {
		body_hash_free(b->base); /* of a later range: no help */
		b->base = NULL;
	}
	b->restart = true;
	b->waiting = b->hash_only;
	pthread_mutex_lock(&p->lock);
	p->bodies++;
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
		leave_line(b);
	b->in_news = false;
	b->dead = true;
	if (!b->busy)
		body_free(b);
	pthread_mutex_unlock(&p->lock);
}

/* How much may be given out now. Locked. */
static size_t
allowed(const struct body *b, const struct body_piece *p)
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
	struct body_piece *p;
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
			give_back(b->pool, p);
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
