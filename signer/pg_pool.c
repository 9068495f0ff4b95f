/*
 * pg_pool.c - the few connections that a signer's threads share
 *
 * Connections are made when they are needed, up to PG_POOL_MAX, and kept. When
 * one cannot be made the database counts as away: until the next attempt is
 * due, and while that one is under way, everybody else is told so at once, so
 * threads never pile up behind a server that does not answer. The pauses grow
 * from 100 ms to 5 s, with jitter, so that many signers do not come at once.
 */
#include "pg_pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "log.h"
#include "xalloc.h"

#define CONNECT_MS 3000
#define PAUSE_FIRST_MS 100
#define PAUSE_MOST_MS 5000

struct pg_pool {
	char *uri;
	pthread_mutex_t lock;
	pthread_cond_t back;
	struct pg *idle[PG_POOL_MAX];
	unsigned idle_n, open_n; /* open_n: idle, lent and being made */
	/* While it is away. */
	bool away, trying;
	int64_t again_ms; /* by clock_ms() */
	int pause_ms;
	unsigned jitter; /* state of rand_r() */
	char why[PG_WHY];
	bool told_clear;
};

struct pg_pool *
pg_pool_new(const char *uri)
{
	struct pg_pool *p = xcalloc(1, sizeof(*p));
	pthread_condattr_t attr;

	p->uri = xstrdup(uri);
	p->jitter = (unsigned)clock_wall_ms();
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->back, &attr);
	pthread_condattr_destroy(&attr);
	return p;
}

static void
close_idle(struct pg_pool *p)
{
	while (p->idle_n > 0) {
		pg_close(p->idle[--p->idle_n]);
		p->open_n--;
	}
}

void
pg_pool_free(struct pg_pool *p)
{
	if (p == NULL)
		return;
	close_idle(p);
	assert(p->open_n == 0);
	pthread_cond_destroy(&p->back);
	pthread_mutex_destroy(&p->lock);
	explicit_bzero(p->uri, strlen(p->uri));
	free(p->uri);
	free(p);
}

/* ---- connecting ---------------------------------------------------------- */

static void
mark_away(struct pg_pool *p, const char *why)
{
	if (!p->away)
		log_error(
		    "database is away, requests get 503 meanwhile: %s", why);
	p->pause_ms = !p->away ? PAUSE_FIRST_MS : p->pause_ms * 2;
	if (p->pause_ms > PAUSE_MOST_MS)
		p->pause_ms = PAUSE_MOST_MS;
	p->away = true;
	p->again_ms = clock_ms() + p->pause_ms / 2 +
	    rand_r(&p->jitter) % (p->pause_ms / 2 + 1);
	memcpy(p->why, why, sizeof(p->why));
}

static void
mark_there(struct pg_pool *p, const struct pg *c)
{
	if (p->away)
		log_info("database is back");
	p->away = false;
	p->why[0] = '\0';
	if (pg_in_clear(c) && !p->told_clear) {
		p->told_clear = true;
		log_warn("the database is spoken to in clear: add "
			 "sslmode=verify-full to its URI");
	}
}

/* Called and returns with the lock, which is not held meanwhile. */
static int
make_one(struct pg_pool *p, struct pg **c_out)
{
	char why[PG_WHY];
	bool probing = p->away;
	int rc;

	p->open_n++;
	p->trying = p->trying || probing;
	pthread_mutex_unlock(&p->lock);
	rc = pg_open(p->uri, CONNECT_MS, c_out, why);
	pthread_mutex_lock(&p->lock);
	if (probing)
		p->trying = false;
	if (rc == 0) {
		mark_there(p, *c_out);
		return 0;
	}
	p->open_n--;
	if (!p->away || probing)
		mark_away(p, why);
	pthread_cond_broadcast(&p->back);
	return -ETIMEDOUT;
}

/* ---- lending ------------------------------------------------------------- */

static void
add_ms(struct timespec *t, int ms)
{
	clock_gettime(CLOCK_MONOTONIC, t);
	t->tv_sec += ms / 1000;
	t->tv_nsec += (long)(ms % 1000) * 1000000;
	if (t->tv_nsec >= 1000000000) {
		t->tv_sec++;
		t->tv_nsec -= 1000000000;
	}
}

static int
get_locked(struct pg_pool *p, const struct timespec *until, struct pg **c_out,
    bool *fresh_out)
{
	for (;;) {
		*fresh_out = p->idle_n == 0;
		if (p->idle_n > 0) {
			*c_out = p->idle[--p->idle_n];
			return 0;
		}
		if (p->away && (p->trying || clock_ms() < p->again_ms))
			return -ETIMEDOUT;
		if (p->open_n < PG_POOL_MAX)
			return make_one(p, c_out);
		if (pthread_cond_timedwait(&p->back, &p->lock, until) != 0)
			return -ETIMEDOUT;
	}
}

int
pg_pool_get(struct pg_pool *p, int wait_ms, struct pg **c_out, bool *fresh_out)
{
	struct timespec until;
	int rc;

	add_ms(&until, wait_ms);
	pthread_mutex_lock(&p->lock);
	rc = get_locked(p, &until, c_out, fresh_out);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

void
pg_pool_put(struct pg_pool *p, struct pg *c)
{
	pthread_mutex_lock(&p->lock);
	if (pg_lost(c)) {
		pg_close(c);
		p->open_n--;
		close_idle(p);
	} else {
		p->idle[p->idle_n++] = c;
	}
	pthread_cond_signal(&p->back);
	pthread_mutex_unlock(&p->lock);
}

void
pg_pool_why(struct pg_pool *p, char why[PG_WHY])
{
	pthread_mutex_lock(&p->lock);
	memcpy(why, p->why, PG_WHY);
	pthread_mutex_unlock(&p->lock);
}
