/*
 * index.c - the thread that owns the index
 *
 * What must stay true: only this thread has transactions; none is open while
 * it waits; a job's `done` runs once. A commit costs two flushes of the disk,
 * so lazy jobs wait for company: until 256 are there or for 20 times as long
 * as the last commit took (100 ms to 1 s). Jobs that somebody waits for take
 * the lazy ones along.
 */
#include "index.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <event2/event.h>

#include "clock.h"
#include "db.h"
#include "index_guard.h"
#include "index_state.h"
#include "log.h"
#include "xalloc.h"

#define BATCH 256
#ifndef INTERVAL_MIN_MS /* doc/performance.md: how they were chosen */
#define INTERVAL_MIN_MS 100
#define INTERVAL_MAX_MS 1000
#endif
#define TICK_MS 1000
#define STACK (256 * 1024)

STAILQ_HEAD(job_list, index_job);

struct index {
	struct db *db;
	char *path;
	int dir; /* open, for the guard's mark */
	MDB_dbi dbis[INDEX_TABLES];
	struct event *wake; /* of the loop */
	int efd;
	struct index_clock clock;
	pthread_t thread;
	bool started;
	pthread_mutex_t mutex; /* guards what follows */
	pthread_cond_t cond;
	struct job_list urgent, lazy, finished;
	unsigned lazy_n;
	int64_t interval_ms;
	bool stop;
	struct index_state snap;
	/* the index thread's own */
	uint64_t seen_txn;
	int64_t next_tick_ms, next_readers_ms;
	void (*tick)(bool changed, void *arg);
	void *tick_arg;
};

static const char *const tables[INDEX_TABLES] = { "item", "due", "device",
	"meta", "end" };

/* ---- transactions -------------------------------------------------------- */

struct batch {
	struct index *ix;
	struct index_job *one; /* run just this one, or */
	struct job_list *list; /* all of them */
	int (*fn)(struct index_txn *t, void *arg);
	void *arg;
	struct index_state st;
};

static int
run_batch(MDB_txn *txn, void *arg)
{
	struct batch *b = arg;
	struct index_txn t = { txn, b->ix->dbis, &b->st, 0, 0 };
	struct index_job *j;
	int rc = index_state_read(txn, b->ix->dbis, &b->st);

	if (rc != 0)
		return rc;
	t.now = index_clock_now(&b->ix->clock, &b->st);
	if (b->fn != NULL)
		rc = b->fn(&t, b->arg);
	else if (b->one != NULL)
		rc = b->one->run(&t, b->one);
	else
		STAILQ_FOREACH(j, b->list, link)
	if ((rc = j->run(&t, j)) != 0)
		break;
	return rc;
}

static int
run_and_stamp(MDB_txn *txn, void *arg)
{
	struct batch *b = arg;
	int rc = run_batch(txn, arg);

	if (rc != 0)
		return rc;
	index_clock_stamp(
	    &b->ix->clock, &b->st, index_clock_now(&b->ix->clock, &b->st));
	return index_state_write(txn, b->ix->dbis, &b->st);
}

static void
keep_snapshot(struct index *ix, const struct index_state *st)
{
	pthread_mutex_lock(&ix->mutex);
	ix->snap = *st;
	pthread_mutex_unlock(&ix->mutex);
}

static int
commit(struct index *ix, struct batch *b)
{
	int64_t t0 = clock_ms(), took;
	int rc;

	b->ix = ix;
	index_guard_enter(ix->dir);
	rc = db_update(ix->db, run_and_stamp, b);
	index_guard_leave();
	if (rc != 0)
		return rc;
	took = clock_ms() - t0;
	keep_snapshot(ix, &b->st);
	pthread_mutex_lock(&ix->mutex);
	ix->interval_ms = 20 * took < INTERVAL_MIN_MS ? INTERVAL_MIN_MS
	    : 20 * took > INTERVAL_MAX_MS             ? INTERVAL_MAX_MS
						      : 20 * took;
	pthread_mutex_unlock(&ix->mutex);
	return 0;
}

static void
settle(struct index *ix, struct index_job *j, int rc)
{
	j->rc = rc;
	if (rc == -EBADMSG)
		index_guard_mark(ix->dir);
	if (rc != 0 && rc != -EAGAIN)
		log_warn("index: a change failed: %s", strerror(-rc));
	if (j->settle != NULL)
		j->settle(j);
}

/* All in one transaction; if that fails, each alone, so that one job that
 * cannot be done takes no other along. */
static void
run_writes(struct index *ix, struct job_list *list)
{
	struct batch all = { .list = list };
	struct index_job *j = STAILQ_FIRST(list);
	bool alone;
	int rc;

	if (j == NULL)
		return;
	rc = commit(ix, &all);
	alone = rc != 0 && STAILQ_NEXT(j, link) != NULL;
	STAILQ_FOREACH(j, list, link)
	{
		struct batch one = { .one = j };

		settle(ix, j, alone ? commit(ix, &one) : rc);
	}
}

static int
view(struct index *ix, struct batch *b)
{
	int rc;

	index_guard_enter(ix->dir);
	rc = db_view(ix->db, run_batch, b);
	index_guard_leave();
	return rc;
}

static void
run_view(struct index *ix, struct index_job *j)
{
	struct batch b = { .ix = ix, .one = j };

	if (j->skip != NULL && j->skip(j))
		return;
	j->rc = view(ix, &b);
	if (j->rc == -EBADMSG)
		index_guard_mark(ix->dir);
	if (j->rc == 0)
		keep_snapshot(ix, &b.st);
	if (j->settle != NULL)
		j->settle(j);
}

static int
view_state(struct index_txn *t, void *arg)
{
	return 0;
}

void
index_refresh(struct index *ix)
{
	struct batch b = { .ix = ix, .fn = view_state };

	if (view(ix, &b) == 0)
		keep_snapshot(ix, &b.st);
}

/* ---- the thread ---------------------------------------------------------- */

static bool
lazy_ripe(struct index *ix, int64_t now)
{
	struct index_job *first = STAILQ_FIRST(&ix->lazy);

	return first != NULL &&
	    (ix->stop || ix->lazy_n >= BATCH ||
		now - first->queued_ms >= ix->interval_ms);
}

static bool
has_write(struct job_list *l)
{
	struct index_job *j;

	STAILQ_FOREACH(j, l, link)
	if (j->writes)
		return true;
	return false;
}

/* Wait until there is something to do; false: stopping and all is done. */
static bool
wait_for_work(struct index *ix, struct job_list *urgent, struct job_list *lazy)
{
	bool more = true;

	STAILQ_INIT(urgent);
	STAILQ_INIT(lazy);
	pthread_mutex_lock(&ix->mutex);
	while (more) {
		int64_t now = clock_ms(), until = ix->next_tick_ms;
		struct index_job *first = STAILQ_FIRST(&ix->lazy);
		struct timespec ts;

		if (!STAILQ_EMPTY(&ix->urgent) || lazy_ripe(ix, now))
			break;
		if (ix->stop)
			more = false;
		if (now >= until || ix->stop)
			break;
		if (first != NULL && first->queued_ms + ix->interval_ms < until)
			until = first->queued_ms + ix->interval_ms;
		clock_gettime(CLOCK_MONOTONIC, &ts);
		until -= now;
		ts.tv_sec += until / 1000;
		ts.tv_nsec += until % 1000 * 1000000 + 500000;
		if (ts.tv_nsec >= 1000000000) {
			ts.tv_sec++;
			ts.tv_nsec -= 1000000000;
		}
		pthread_cond_timedwait(&ix->cond, &ix->mutex, &ts);
	}
	if (lazy_ripe(ix, clock_ms()) || has_write(&ix->urgent)) {
		STAILQ_CONCAT(lazy, &ix->lazy);
		ix->lazy_n = 0;
	}
	STAILQ_CONCAT(urgent, &ix->urgent);
	pthread_mutex_unlock(&ix->mutex);
	return more;
}

static void
finish(struct index *ix, struct job_list *l)
{
	uint64_t one = 1;

	if (STAILQ_EMPTY(l))
		return;
	pthread_mutex_lock(&ix->mutex);
	STAILQ_CONCAT(&ix->finished, l);
	pthread_mutex_unlock(&ix->mutex);
	if (write(ix->efd, &one, sizeof(one)) < 0)
		log_error("index: cannot wake the loop: %s", strerror(errno));
}

/* The writer has made the index anew: what this process had open is a thing of
 * the past. */
static void
follow(struct index *ix)
{
	int dir = open(ix->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	log_warn("index %s was made anew: going on with the new one", ix->path);
	if (dir >= 0) {
		close(ix->dir);
		ix->dir = dir;
	}
	db_reopen(ix->db);
	ix->seen_txn = 0;
}

static void
tick(struct index *ix)
{
	int64_t now = clock_ms();
	uint64_t txn;

	if (now < ix->next_tick_ms)
		return;
	ix->next_tick_ms = now + TICK_MS;
	if (db_replaced(ix->db))
		follow(ix);
	txn = db_last_txn(ix->db);
	if (txn != ix->seen_txn)
		index_refresh(ix);
	if (now >= ix->next_readers_ms) {
		ix->next_readers_ms = now + 60000;
		db_check_readers(ix->db);
	}
	if (ix->tick != NULL)
		ix->tick(txn != ix->seen_txn, ix->tick_arg);
	ix->seen_txn = txn;
}

static void *
index_thread(void *arg)
{
	struct index *ix = arg;
	struct job_list urgent, lazy;

	while (wait_for_work(ix, &urgent, &lazy)) {
		struct job_list views = STAILQ_HEAD_INITIALIZER(views);
		struct index_job *j;

		while ((j = STAILQ_FIRST(&urgent)) != NULL) {
			STAILQ_REMOVE_HEAD(&urgent, link);
			STAILQ_INSERT_TAIL(j->writes ? &lazy : &views, j, link);
		}
		run_writes(ix, &lazy);
		finish(ix, &lazy);
		STAILQ_FOREACH(j, &views, link)
		run_view(ix, j);
		finish(ix, &views);
		tick(ix);
	}
	return NULL;
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct index *ix = arg;
	struct job_list l = STAILQ_HEAD_INITIALIZER(l);
	struct index_job *j;
	uint64_t n;

	if (read(ix->efd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		log_error("index: eventfd: %s", strerror(errno));
	pthread_mutex_lock(&ix->mutex);
	STAILQ_CONCAT(&l, &ix->finished);
	pthread_mutex_unlock(&ix->mutex);
	while ((j = STAILQ_FIRST(&l)) != NULL) {
		STAILQ_REMOVE_HEAD(&l, link);
		j->done(j);
	}
}

/* ---- open and close ------------------------------------------------------ */

static int
fill_new(MDB_txn *txn, const MDB_dbi *dbis, void *arg)
{
	return index_state_write(txn, dbis, arg);
}

int
index_create(
    const char *dir, uint64_t map_size, uint64_t rebuild_end, uint64_t upto)
{
	struct index_state st = { 0 };
	struct index_clock clock;

	index_clock_init(&clock);
	st.since_wall_ms = clock_wall_ms();
	index_clock_stamp(&clock, &st, 1); /* 0 means never in a row */
	st.upto = upto;
	st.rebuild_end = rebuild_end;
	return db_create(dir, map_size, tables, INDEX_TABLES, fill_new, &st);
}

static int
open_guarded(struct index *ix, uint64_t map_size)
{
	int rc;

	index_guard_enter(ix->dir);
	rc = db_open(
	    ix->path, map_size, tables, INDEX_TABLES, ix->dbis, &ix->db);
	index_guard_leave();
	return rc;
}

int
index_open(struct event_base *base, const char *dir, uint64_t map_size,
    struct index **ix_out)
{
	struct index *ix = xcalloc(1, sizeof(*ix));
	struct batch b = { .ix = ix, .fn = view_state };
	pthread_condattr_t ca;
	int rc;

	ix->path = xstrdup(dir);
	ix->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ix->dir < 0)
		rc = -errno;
	else if (index_guard_marked(ix->dir))
		rc = -EBADMSG;
	else
		rc = open_guarded(ix, map_size);
	index_clock_init(&ix->clock);
	if (rc == 0)
		rc = view(ix, &b);
	if (rc != 0) {
		db_close(ix->db);
		if (ix->dir >= 0)
			close(ix->dir);
		free(ix->path);
		free(ix);
		return rc;
	}
	ix->snap = b.st;
	ix->interval_ms = INTERVAL_MIN_MS;
	ix->seen_txn = db_last_txn(ix->db);
	pthread_mutex_init(&ix->mutex, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&ix->cond, &ca);
	pthread_condattr_destroy(&ca);
	STAILQ_INIT(&ix->urgent);
	STAILQ_INIT(&ix->lazy);
	STAILQ_INIT(&ix->finished);
	ix->efd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ix->wake = event_new(base, ix->efd, EV_READ | EV_PERSIST, on_wake, ix);
	event_add(ix->wake, NULL);
	*ix_out = ix;
	return 0;
}

void
index_start(struct index *ix)
{
	pthread_attr_t at;

	pthread_attr_init(&at);
	pthread_attr_setstacksize(&at, STACK);
	if (pthread_create(&ix->thread, &at, index_thread, ix) != 0) {
		log_error("index: no thread: %s: stopping", strerror(errno));
		abort();
	}
	pthread_attr_destroy(&at);
	ix->started = true;
}

void
index_close(struct index *ix)
{
	if (ix == NULL)
		return;
	if (ix->started) {
		pthread_mutex_lock(&ix->mutex);
		ix->stop = true;
		pthread_cond_signal(&ix->cond);
		pthread_mutex_unlock(&ix->mutex);
		pthread_join(ix->thread, NULL);
	}
	on_wake(ix->efd, 0, ix);
	event_free(ix->wake);
	close(ix->efd);
	db_close(ix->db);
	close(ix->dir);
	free(ix->path);
	pthread_mutex_destroy(&ix->mutex);
	pthread_cond_destroy(&ix->cond);
	free(ix);
}

void
index_submit(struct index *ix, struct index_job *j)
{
	bool wake;

	assert(j->writes || !j->lazy);
	j->queued_ms = clock_ms();
	pthread_mutex_lock(&ix->mutex);
	if (j->lazy) {
		STAILQ_INSERT_TAIL(&ix->lazy, j, link);
		ix->lazy_n++;
		wake = ix->lazy_n == 1 || ix->lazy_n == BATCH;
	} else {
		STAILQ_INSERT_TAIL(&ix->urgent, j, link);
		wake = true;
	}
	if (wake)
		pthread_cond_signal(&ix->cond);
	pthread_mutex_unlock(&ix->mutex);
}

int
index_update_now(
    struct index *ix, int (*fn)(struct index_txn *t, void *arg), void *arg)
{
	struct batch b = { .fn = fn, .arg = arg };

	assert(!ix->started);
	return commit(ix, &b);
}

int
index_view_now(
    struct index *ix, int (*fn)(struct index_txn *t, void *arg), void *arg)
{
	struct batch b = { .ix = ix, .fn = fn, .arg = arg };

	return db_view(ix->db, run_batch, &b);
}

void
index_on_tick(struct index *ix, void (*fn)(bool changed, void *arg), void *arg)
{
	assert(!ix->started);
	ix->tick = fn;
	ix->tick_arg = arg;
}

void
index_snapshot(struct index *ix, struct index_state *out)
{
	pthread_mutex_lock(&ix->mutex);
	*out = ix->snap;
	pthread_mutex_unlock(&ix->mutex);
}

uint64_t
index_used(struct index *ix)
{
	uint64_t used;

	index_guard_enter(ix->dir);
	used = db_used(ix->db);
	index_guard_leave();
	return used;
}

uint64_t
index_last_txn(struct index *ix)
{
	return db_last_txn(ix->db);
}

int64_t
index_interval_ms(const struct index *ix)
{
	return ix->interval_ms;
}

void
index_mark_damaged(struct index *ix)
{
	index_guard_mark(ix->dir);
}

bool
index_is_damaged(struct index *ix)
{
	return index_guard_marked(ix->dir);
}
