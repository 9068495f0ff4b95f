/*
 * pool.c - threads for what may wait
 *
 * Two lists under one lock: what waits to be run, and what has run and waits
 * for the loop, which an eventfd wakes. A job is on one list or in a thread's
 * hands, so nobody else touches its argument meanwhile.
 */
#include "pool.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>
#include <event2/event.h>

#include "xalloc.h"

#define STACK (512 * 1024)
#define THREADS_MAX 64

struct job {
	STAILQ_ENTRY(job) link;
	pool_fn run, done;
	void *arg;
};
STAILQ_HEAD(jobs, job);

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct jobs waiting, ran;
	bool stopping;
	unsigned busy; /* the loop's alone */
	int fd;        /* eventfd */
	struct event *ev;
	pthread_t threads[THREADS_MAX];
	unsigned threads_n;
};

static void
wake(struct pool *p)
{
	uint64_t one = 1;
	ssize_t n = write(p->fd, &one, sizeof(one));

	(void)n; /* full: the loop is awake already */
}

static void *
work(void *arg)
{
	struct pool *p = arg;
	struct job *j;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (STAILQ_EMPTY(&p->waiting) && !p->stopping)
			pthread_cond_wait(&p->more, &p->lock);
		j = STAILQ_FIRST(&p->waiting);
		if (j == NULL)
			break;
		STAILQ_REMOVE_HEAD(&p->waiting, link);
		pthread_mutex_unlock(&p->lock);
		j->run(j->arg);
		pthread_mutex_lock(&p->lock);
		STAILQ_INSERT_TAIL(&p->ran, j, link);
		wake(p);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void
reap(struct pool *p)
{
	struct jobs ran = STAILQ_HEAD_INITIALIZER(ran);
	struct job *j;

	pthread_mutex_lock(&p->lock);
	STAILQ_CONCAT(&ran, &p->ran);
	pthread_mutex_unlock(&p->lock);
	while ((j = STAILQ_FIRST(&ran)) != NULL) {
		STAILQ_REMOVE_HEAD(&ran, link);
		p->busy--;
		j->done(j->arg);
		free(j);
	}
}

static void
on_ran(evutil_socket_t fd, short what, void *arg)
{
	uint64_t n;
	ssize_t got = read(fd, &n, sizeof(n));

	(void)got;
	reap(arg);
}

struct pool *
pool_new(struct event_base *base, unsigned threads)
{
	struct pool *p = xcalloc(1, sizeof(*p));
	sigset_t all, old;
	pthread_attr_t attr;

	assert(threads > 0 && threads <= THREADS_MAX);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	STAILQ_INIT(&p->waiting);
	STAILQ_INIT(&p->ran);
	p->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert(p->fd >= 0);
	p->ev = event_new(base, p->fd, EV_READ | EV_PERSIST, on_ran, p);
	event_add(p->ev, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all); /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&p->threads[p->threads_n], &attr, work, p) ==
		    0)
			p->threads_n++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	assert(p->threads_n > 0);
	return p;
}

void
pool_run(struct pool *p, pool_fn run, pool_fn done, void *arg)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->run = run;
	j->done = done;
	j->arg = arg;
	p->busy++;
	pthread_mutex_lock(&p->lock);
	STAILQ_INSERT_TAIL(&p->waiting, j, link);
	pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->lock);
}

unsigned
pool_busy(const struct pool *p)
{
	return p->busy;
}

void
pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads_n; i++)
		pthread_join(p->threads[i], NULL);
	reap(p);
	event_free(p->ev);
	close(p->fd);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
