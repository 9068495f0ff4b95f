/*
 * pool.c - threads for what may wait
 *
 * Lists under one lock: what waits to be run, what runs, and what has run and
 * waits for the loop, which an eventfd wakes. A job is on one of them, and
 * while it runs nobody but its thread touches its argument. A job that waits
 * for others of its owner lets those behind it pass.
 */
#include "pool.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>
#include <event2/event.h>

#include "xalloc.h"

#define STACK (512 * 1024)
#define THREADS_MAX 64

struct job {
	TAILQ_ENTRY(job) link;
	pool_fn run, done;
	void *arg;
	char *tenant, *name; /* NULL: of nobody */
};
TAILQ_HEAD(jobs, job);

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct jobs waiting, running, ran;
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

static bool
may_run(const struct pool *p, const struct job *j)
{
	unsigned owner = 0, tenant = 0;
	const struct job *r;

	if (j->tenant == NULL)
		return true;
	TAILQ_FOREACH(r, &p->running, link)
	{
		if (r->tenant == NULL || strcmp(r->tenant, j->tenant) != 0)
			continue;
		tenant++;
		owner += strcmp(r->name, j->name) == 0;
	}
	return owner < POOL_OWNER_MAX && tenant < (p->threads_n + 1) / 2;
}

static struct job *
next(struct pool *p)
{
	struct job *j;

	TAILQ_FOREACH(j, &p->waiting, link)
	{
		if (may_run(p, j))
			break;
	}
	return j;
}

static void *
work(void *arg)
{
	struct pool *p = arg;
	struct job *j;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while ((j = next(p)) == NULL &&
		    !(p->stopping && TAILQ_EMPTY(&p->waiting)))
			pthread_cond_wait(&p->more, &p->lock);
		if (j == NULL)
			break;
		TAILQ_REMOVE(&p->waiting, j, link);
		TAILQ_INSERT_TAIL(&p->running, j, link);
		pthread_mutex_unlock(&p->lock);
		j->run(j->arg);
		pthread_mutex_lock(&p->lock);
		TAILQ_REMOVE(&p->running, j, link);
		TAILQ_INSERT_TAIL(&p->ran, j, link);
		if (j->tenant != NULL && !TAILQ_EMPTY(&p->waiting))
			pthread_cond_broadcast(&p->more);
		wake(p);
	}
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void
reap(struct pool *p)
{
	struct jobs ran = TAILQ_HEAD_INITIALIZER(ran);
	struct job *j;

	pthread_mutex_lock(&p->lock);
	TAILQ_CONCAT(&ran, &p->ran, link);
	pthread_mutex_unlock(&p->lock);
	while ((j = TAILQ_FIRST(&ran)) != NULL) {
		TAILQ_REMOVE(&ran, j, link);
		p->busy--;
		j->done(j->arg);
		free(j->tenant);
		free(j->name);
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
	TAILQ_INIT(&p->waiting);
	TAILQ_INIT(&p->running);
	TAILQ_INIT(&p->ran);
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

static void
submit(struct pool *p, const char *tenant, const char *name, pool_fn run,
    pool_fn done, void *arg)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->run = run;
	j->done = done;
	j->arg = arg;
	if (tenant != NULL) {
		j->tenant = xstrdup(tenant);
		j->name = xstrdup(name);
	}
	p->busy++;
	pthread_mutex_lock(&p->lock);
	TAILQ_INSERT_TAIL(&p->waiting, j, link);
	pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->lock);
}

void
pool_run(struct pool *p, pool_fn run, pool_fn done, void *arg)
{
	submit(p, NULL, NULL, run, done, arg);
}

void
pool_run_for(struct pool *p, const char *tenant, const char *name, pool_fn run,
    pool_fn done, void *arg)
{
	submit(p, tenant, name, run, done, arg);
}

unsigned
pool_busy(const struct pool *p)
{
	return p->busy;
}

void
pool_free(struct pool *p)
{
	struct job *j;

	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads_n; i++)
		pthread_join(p->threads[i], NULL);
	reap(p);
	/* What those who were told submitted: there is no thread any more. */
	while ((j = TAILQ_FIRST(&p->waiting)) != NULL) {
		TAILQ_REMOVE(&p->waiting, j, link);
		j->run(j->arg);
		TAILQ_INSERT_TAIL(&p->ran, j, link);
		reap(p);
	}
	event_free(p->ev);
	close(p->fd);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
