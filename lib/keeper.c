/*
 * keeper.c - the spool's slow housework, on a thread of its own
 *
 * First, where the index was lost, rows are made anew from the footers of all
 * files up to rebuild_end, a few hundred a transaction, so that uploads come
 * in and go out meanwhile; how far it got is in the index, so a crash goes on
 * from there. A file whose footer cannot be read gets its row as well, as
 * quarantined: it may have been acknowledged. Then, once per start, files at or
 * below the mark that have no row are removed: their upload is done, only the
 * unlink was missed. A file is never removed while rows may still be missing
 * for lack of a rebuild.
 *
 * At last items are read back: keeper_read.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "keeper_private.h"
#include "log.h"
#include "xalloc.h"

#define STACK (256 * 1024)
#define PAUSE_MS 50 /* between chunks of the sweep: nothing hurries it */

bool
keeper_stopping(struct keeper *k)
{
	bool stop;

	pthread_mutex_lock(&k->mutex);
	stop = k->stop;
	pthread_mutex_unlock(&k->mutex);
	return stop;
}

void
keeper_pause_ms(struct keeper *k, int64_t ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += ms % 1000 * 1000000;
	ts.tv_sec += ms / 1000 + ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	pthread_mutex_lock(&k->mutex);
	if (!k->stop && !k->asked)
		pthread_cond_timedwait(&k->cond, &k->mutex, &ts);
	pthread_mutex_unlock(&k->mutex);
}

void
keeper_settled(struct index_job *j)
{
	struct keeper *k = ((struct chunk *)j)->k;

	pthread_mutex_lock(&k->mutex);
	k->answered = true;
	k->rc = j->rc;
	pthread_cond_signal(&k->cond);
	pthread_mutex_unlock(&k->mutex);
}

static void
on_chunk_done(struct index_job *j)
{
	struct chunk *c = (struct chunk *)j;

	for (size_t i = 0; i < c->items_n; i++)
		spool_item_fini(&c->items[i]);
	free(c);
}

int
keeper_ask(
    struct keeper *k, struct chunk *c, void (*settle)(struct index_job *))
{
	int rc;

	c->k = k;
	c->job.settle = settle;
	c->job.done = on_chunk_done;
	pthread_mutex_lock(&k->mutex);
	k->answered = false;
	index_submit(k->sp->ix, &c->job);
	while (!k->answered)
		pthread_cond_wait(&k->cond, &k->mutex);
	rc = k->rc;
	pthread_mutex_unlock(&k->mutex);
	return rc;
}

/* ---- rebuild ------------------------------------------------------------- */

static int
run_rebuild(struct index_txn *t, struct index_job *j)
{
	struct chunk *c = (struct chunk *)j;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < c->items_n; i++)
		if (!index_has(t, c->items[i].seq))
			rc = spool_row_add(t, &c->items[i], true);
	if (c->next > t->st->rebuild_next)
		t->st->rebuild_next = c->next;
	return rc;
}

struct chunk *
keeper_chunk(bool writes, int (*run)(struct index_txn *, struct index_job *))
{
	struct chunk *c = xcalloc(1, sizeof(*c));

	c->job.writes = writes;
	c->job.run = run;
	return c;
}

/* On the index thread, rows committed. */
static void
settle_rebuild(struct index_job *j)
{
	struct chunk *c = (struct chunk *)j;

	for (size_t i = 0; j->rc == 0 && i < c->items_n; i++) {
		spool_names_note(c->k->sp->names, &c->items[i]);
		if (c->move && c->items[i].state == SPOOL_QUARANTINED)
			spool_move_to_quarantine(c->k->sp, &c->items[i]);
	}
	keeper_settled(j);
}

/* -ENOENT: it went meanwhile. Others: the process or the disk is in trouble,
 * and nothing may be concluded about this upload. */
static int
read_item(struct keeper *k, uint64_t seq, struct spool_item *it)
{
	const struct layout *l = &k->sp->l;
	int rc = recover_read(l, seq, false, it);

	if (rc != -EBADMSG && rc != -EIO)
		return rc;
	recover_damaged(l, seq,
	    rc == -EIO ? "the disk cannot read it" : "its footer is damaged",
	    it);
	log_error("id=%s %s: to quarantine", it->id, it->last_error);
	return 0;
}

struct rebuild {
	uint64_t from, end, made, bad;
};

static int
rebuild_dir(struct keeper *k, const uint64_t *seqs, size_t n, void *arg)
{
	struct rebuild *r = arg;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n && !keeper_stopping(k);) {
		struct chunk *c = keeper_chunk(true, run_rebuild);

		c->move = true;
		for (; i < n && c->items_n < CHUNK && rc == 0; i++) {
			struct spool_item *it = &c->items[c->items_n];

			if (seqs[i] < r->from || seqs[i] > r->end)
				continue;
			rc = read_item(k, seqs[i], it);
			if (rc == 0) {
				c->items_n++;
				r->made++;
				r->bad += it->state == SPOOL_QUARANTINED;
			} else if (rc == -ENOENT) {
				rc = 0;
			}
			if (rc == 0)
				c->next = seqs[i] + 1;
		}
		if (rc == 0)
			rc = keeper_ask(k, c, settle_rebuild);
		else
			on_chunk_done(&c->job);
	}
	return rc;
}

/* The reason that stands beside it, malloc'd. */
static char *
read_reason(int dir, const char *id)
{
	char name[40], text[4096];
	cJSON *o = NULL;
	const char *why = NULL;
	ssize_t n = -1;
	char *s;
	int fd;

	snprintf(name, sizeof(name), "%s.json", id);
	if (layout_open_file(dir, name, &fd) == 0) {
		n = read(fd, text, sizeof(text));
		close(fd);
	}
	if (n > 0)
		o = json_parse(text, (size_t)n, sizeof(text), NULL);
	if (o != NULL)
		why = json_string(o, "reason");
	s = xstrdup(why != NULL ? why : "found in quarantine");
	cJSON_Delete(o);
	return s;
}

static int
read_quarantined(const struct layout *l, uint64_t seq, struct spool_item *it)
{
	char id[SPOOL_ID_LEN + 1];
	int fd, rc;

	layout_id(l->epoch, seq, id);
	rc = layout_open_file(l->quarantine, id, &fd);
	if (rc == -ENOENT)
		return rc;
	if (rc == 0) {
		rc = recover_read_fd(l, fd, seq, false, it);
		close(fd);
	}
	if (rc != 0)
		recover_damaged(l, seq, "", it);
	it->state = SPOOL_QUARANTINED;
	free(it->last_error);
	it->last_error = read_reason(l->quarantine, id);
	return 0;
}

/* What is in quarantine/ has its rows as well. Few: done again after a crash.
 */
static int
rebuild_quarantine(struct keeper *k)
{
	const struct layout *l = &k->sp->l;
	uint64_t *seqs = NULL;
	size_t n = 0;
	int rc = recover_list_quarantine(l, &seqs, &n);

	for (size_t i = 0; rc == 0 && i < n && !keeper_stopping(k);) {
		struct chunk *c = keeper_chunk(true, run_rebuild);

		for (; i < n && c->items_n < CHUNK; i++)
			if (read_quarantined(
				l, seqs[i], &c->items[c->items_n]) == 0)
				c->items_n++;
		rc = keeper_ask(k, c, settle_rebuild);
	}
	free(seqs);
	return rc;
}

int
keeper_each_dir(struct keeper *k, uint64_t from,
    int (*fn)(struct keeper *k, const uint64_t *seqs, size_t n, void *arg),
    void *arg)
{
	uint64_t *dirs = NULL, *seqs;
	size_t dirs_n = 0, n;
	int rc = recover_list_dirs(&k->sp->l, &dirs, &dirs_n);

	for (size_t i = 0; rc == 0 && i < dirs_n && !keeper_stopping(k); i++) {
		char name[14];
		int fd;

		if (dirs[i] < from >> LAYOUT_DIR_BITS)
			continue;
		layout_dir_name(dirs[i] << LAYOUT_DIR_BITS, name);
		fd = openat(
		    k->sp->l.item, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			continue; /* emptied and removed meanwhile */
		seqs = NULL;
		rc = recover_list(fd, &seqs, &n);
		close(fd);
		if (rc == 0)
			rc = fn(k, seqs, n, arg);
		free(seqs);
	}
	free(dirs);
	return rc;
}

static int
rebuild(struct keeper *k)
{
	struct index_state st;
	struct rebuild r;
	struct chunk *c;
	int rc;

	index_snapshot(k->sp->ix, &st);
	if (st.rebuild_next > st.rebuild_end || st.rebuild_end == 0)
		return 0;
	r = (struct rebuild){ st.rebuild_next, st.rebuild_end, 0, 0 };
	log_warn("spool index is made anew from the files: uploads come in and "
		 "go out meanwhile");
	rc = rebuild_quarantine(k);
	if (rc == 0)
		rc = keeper_each_dir(k, r.from, rebuild_dir, &r);
	if (rc != 0 || keeper_stopping(k))
		return rc;
	c = keeper_chunk(true, run_rebuild);
	c->next = r.end + 1;
	rc = keeper_ask(k, c, settle_rebuild);
	log_info("spool index rebuilt uploads=%llu quarantined=%llu",
	    (unsigned long long)r.made, (unsigned long long)r.bad);
	return rc;
}

/* ---- sweep --------------------------------------------------------------- */

static int
count_row(uint64_t seq, struct row *r, void *arg)
{
	uint64_t *n = arg;

	*n += r != NULL;
	return 0;
}

/* A damaged page looks like rows that are done. So before the first file goes
 * the rows are counted: one look at all of them, and only if there is a file
 * to sweep. */
static bool
all_rows_there(struct keeper *k, struct index_txn *t)
{
	uint64_t n = 0;

	if (k->counted)
		return true;
	if (index_walk(t, 0, -1, count_row, &n) == 0 &&
	    n == t->st->waiting + t->st->quarantined) {
		k->counted = true;
		return true;
	}
	log_error("spool index has rows=%llu and should have %llu",
	    (unsigned long long)n,
	    (unsigned long long)(t->st->waiting + t->st->quarantined));
	index_mark_damaged(k->sp->ix);
	return false;
}

/* On the index thread: leave the numbers that have no row. */
static int
run_sweep(struct index_txn *t, struct index_job *j)
{
	struct chunk *c = (struct chunk *)j;
	size_t left = 0;

	for (size_t i = 0; i < c->seqs_n; i++)
		if (c->seqs[i] > t->st->upto || index_has(t, c->seqs[i]))
			c->seqs[i] = 0;
		else
			left++;
	if (left > 0 && !all_rows_there(c->k, t))
		c->seqs_n = 0;
	return 0;
}

/* On the index thread, after the look and outside of it. */
static void
settle_sweep(struct index_job *j)
{
	struct chunk *c = (struct chunk *)j;
	struct spool *sp = c->k->sp;
	char name[31];

	for (size_t i = 0; j->rc == 0 && i < c->seqs_n; i++) {
		if (c->seqs[i] == 0)
			continue;
		layout_item_name(c->seqs[i], name);
		if (unlinkat(sp->l.item, name, 0) == 0)
			log_info("spool swept seq=%llu: it was done before the "
				 "last stop",
			    (unsigned long long)c->seqs[i]);
	}
	keeper_settled(j);
}

static int
sweep_dir(struct keeper *k, const uint64_t *seqs, size_t n, void *arg)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n && !keeper_stopping(k);) {
		struct chunk *c = keeper_chunk(false, run_sweep);

		for (; i < n && c->seqs_n < CHUNK; i++)
			c->seqs[c->seqs_n++] = seqs[i];
		rc = keeper_ask(k, c, settle_sweep);
		keeper_pause_ms(k, PAUSE_MS);
	}
	return rc;
}

/* ---- the thread -----------------------------------------------------------
 */

static void *
keeper_thread(void *arg)
{
	struct keeper *k = arg;
	int rc = rebuild(k);

	if (rc == 0 && !keeper_stopping(k))
		rc = keeper_each_dir(k, 0, sweep_dir, NULL);
	if (rc == 0)
		keeper_read_back(k);
	else
		log_error("spool housework stopped: %s: start again when the "
			  "disk is well",
		    strerror(-rc));
	return NULL;
}

struct keeper *
keeper_new(struct spool *sp)
{
	struct keeper *k = xcalloc(1, sizeof(*k));
	pthread_condattr_t mono;
	pthread_attr_t at;

	k->sp = sp;
	pthread_mutex_init(&k->mutex, NULL);
	pthread_condattr_init(&mono);
	pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
	pthread_cond_init(&k->cond, &mono);
	pthread_condattr_destroy(&mono);
	pthread_attr_init(&at);
	pthread_attr_setstacksize(&at, STACK);
	if (pthread_create(&k->thread, &at, keeper_thread, k) != 0) {
		log_error("spool: no thread: stopping");
		abort();
	}
	pthread_attr_destroy(&at);
	return k;
}

void
keeper_stop(struct keeper *k)
{
	if (k == NULL)
		return;
	pthread_mutex_lock(&k->mutex);
	k->stop = true;
	pthread_cond_broadcast(&k->cond);
	pthread_mutex_unlock(&k->mutex);
	pthread_join(k->thread, NULL);
	pthread_mutex_destroy(&k->mutex);
	pthread_cond_destroy(&k->cond);
	free(k);
}
