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
 * At last, for as long as the spool is open, items are read back one by one
 * with a pause after each, so that a flipped bit is found before somebody wants
 * the file; that one upload goes to quarantine. A check that the operator asks
 * for is the same without the pauses. Reading back looks at files alone: the
 * index is asked (and so written to) only when something is wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "log.h"
#include "spool_internal.h"
#include "verify.h"
#include "xalloc.h"

#define CHUNK 256
#define STACK (256 * 1024)
#define PASS_MS 10000  /* from one reading of all items to the next */
#define SCRUB_MS_MB 50 /* pause after each MB: at most 20 MB a second ... */
#define CHECK_MS_MB 5  /* ... and 200, if the operator waits for it */
#define PAUSE_MS 50    /* between chunks of the sweep: nothing hurries it */

struct keeper {
	struct spool *sp;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool stop, answered;
	bool counted; /* the index thread's: the rows are all there */
	int rc;       /* of the answer */
	bool asked;   /* for a check; it has not begun */
	struct spool_check check;
};

/* A job whose answer the keeper waits for. */
struct chunk {
	struct index_job job;
	struct keeper *k;
	struct spool_item items[CHUNK]; /* rebuild: rows to be */
	size_t items_n;
	uint64_t next;        /* rebuild: all below is done */
	bool move;            /* rebuild: what is damaged to quarantine/ */
	uint64_t seqs[CHUNK]; /* sweep: files; those with rows are zeroed */
	size_t seqs_n;
};

static bool
stopping(struct keeper *k)
{
	bool stop;

	pthread_mutex_lock(&k->mutex);
	stop = k->stop;
	pthread_mutex_unlock(&k->mutex);
	return stop;
}

static void
pause_ms(struct keeper *k, int64_t ms)
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

static void
on_settled(struct index_job *j)
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

/* Submit and wait; the chunk is gone afterwards. */
static int
ask(struct keeper *k, struct chunk *c, void (*settle)(struct index_job *))
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

static struct chunk *
chunk_new(bool writes, int (*run)(struct index_txn *, struct index_job *))
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
	on_settled(j);
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

	for (size_t i = 0; rc == 0 && i < n && !stopping(k);) {
		struct chunk *c = chunk_new(true, run_rebuild);

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
			rc = ask(k, c, settle_rebuild);
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
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0) {
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
	fd = openat(l->quarantine, id, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	rc = recover_read_fd(l, fd, seq, false, it);
	if (rc != 0)
		recover_damaged(l, seq, "", it);
	it->state = SPOOL_QUARANTINED;
	free(it->last_error);
	it->last_error = read_reason(l->quarantine, id);
	close(fd);
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

	for (size_t i = 0; rc == 0 && i < n && !stopping(k);) {
		struct chunk *c = chunk_new(true, run_rebuild);

		for (; i < n && c->items_n < CHUNK; i++)
			if (read_quarantined(
				l, seqs[i], &c->items[c->items_n]) == 0)
				c->items_n++;
		rc = ask(k, c, settle_rebuild);
	}
	free(seqs);
	return rc;
}

static int
each_dir(struct keeper *k, uint64_t from,
    int (*fn)(struct keeper *k, const uint64_t *seqs, size_t n, void *arg),
    void *arg)
{
	uint64_t *dirs = NULL, *seqs;
	size_t dirs_n = 0, n;
	int rc = recover_list_dirs(&k->sp->l, &dirs, &dirs_n);

	for (size_t i = 0; rc == 0 && i < dirs_n && !stopping(k); i++) {
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
		rc = each_dir(k, r.from, rebuild_dir, &r);
	if (rc != 0 || stopping(k))
		return rc;
	c = chunk_new(true, run_rebuild);
	c->next = r.end + 1;
	rc = ask(k, c, settle_rebuild);
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
	on_settled(j);
}

static int
sweep_dir(struct keeper *k, const uint64_t *seqs, size_t n, void *arg)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n && !stopping(k);) {
		struct chunk *c = chunk_new(false, run_sweep);

		for (; i < n && c->seqs_n < CHUNK; i++)
			c->seqs[c->seqs_n++] = seqs[i];
		rc = ask(k, c, settle_sweep);
		pause_ms(k, PAUSE_MS);
	}
	return rc;
}

/* ---- reading back -------------------------------------------------------- */

struct pass {
	struct keeper *k;
	bool check;    /* the operator's */
	size_t octets; /* since the last pause */
	uint64_t read; /* of this item */
};

/* Has somebody asked for a check that is not this pass? */
static bool
interrupted(struct keeper *k)
{
	bool yes;

	pthread_mutex_lock(&k->mutex);
	yes = k->stop || k->asked;
	pthread_mutex_unlock(&k->mutex);
	return yes;
}

static bool
on_piece(size_t n, void *arg)
{
	struct pass *p = arg;

	p->read += n;
	p->octets += n;
	if (p->octets >= 1 << 20) {
		p->octets = 0;
		pause_ms(p->k, p->check ? CHECK_MS_MB : SCRUB_MS_MB);
	}
	return !interrupted(p->k);
}

/* On the loop; the keeper may be gone. */
static void
on_put_aside(int rc, void *arg)
{
	char *text = arg;

	if (rc == 0)
		log_error("%s: to quarantine", text);
	free(text);
}

static void
note_read(struct pass *p, uint64_t seq, const char *why)
{
	struct keeper *k = p->k;
	struct spool_check *c = &k->check;

	pthread_mutex_lock(&k->mutex);
	c->checked++;
	c->octets += p->read;
	if (why != NULL && c->bad++ < SPOOL_CHECK_BAD) {
		layout_id(k->sp->l.epoch, seq, c->bad_items[c->bad - 1].id);
		c->bad_items[c->bad - 1].why = why;
	}
	pthread_mutex_unlock(&k->mutex);
}

/* 0, or -ECANCELED: the pass is over. */
static int
read_back_item(struct pass *p, uint64_t seq)
{
	struct keeper *k = p->k;
	char name[31], id[SPOOL_ID_LEN + 1];
	const char *why = NULL;
	int fd, rc;

	layout_item_name(seq, name);
	fd = verify_open(k->sp->l.item, name);
	if (fd < 0)
		return 0; /* done meanwhile; or no descriptor: another time */
	p->read = 0;
	rc = verify_file(fd, seq, on_piece, p, &why);
	close(fd);
	if (rc == -EIO)
		why = "the disk cannot read it";
	if (rc == -EBADMSG || rc == -EIO) {
		layout_id(k->sp->l.epoch, seq, id);
		spool_quarantine_damaged(k->sp, seq, why, on_put_aside,
		    xasprintf("id=%s %s", id, why));
	} else if (rc == 0) {
		why = NULL;
	} else {
		return rc == -ECANCELED ? rc : 0;
	}
	if (p->check)
		note_read(p, seq, why);
	return 0;
}

static int
read_back_dir(struct keeper *k, const uint64_t *seqs, size_t n, void *arg)
{
	struct pass *p = arg;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (interrupted(k))
			return -ECANCELED;
		rc = read_back_item(p, seqs[i]);
		if (!p->check)
			pause_ms(k, k->sp->opt.scrub_pause_ms);
	}
	return rc;
}

static bool
check_begins(struct keeper *k)
{
	bool begins;

	pthread_mutex_lock(&k->mutex);
	begins = k->asked;
	k->asked = false;
	pthread_mutex_unlock(&k->mutex);
	return begins;
}

static void
check_ends(struct keeper *k)
{
	struct spool_check *c = &k->check;

	pthread_mutex_lock(&k->mutex);
	c->running = false;
	log_info("spool check done checked=%llu octets=%llu bad=%llu",
	    (unsigned long long)c->checked, (unsigned long long)c->octets,
	    (unsigned long long)c->bad);
	pthread_mutex_unlock(&k->mutex);
}

static void
read_back(struct keeper *k)
{
	while (!stopping(k)) {
		struct pass p = { .k = k, .check = check_begins(k) };
		int rc = 0;

		if (p.check || k->sp->opt.scrub_pause_ms > 0)
			rc = each_dir(k, 0, read_back_dir, &p);
		if (rc != 0 && rc != -ECANCELED)
			log_warn("spool: cannot list item/: %s", strerror(-rc));
		if (p.check)
			check_ends(k);
		pause_ms(k, PASS_MS);
	}
}

void
keeper_check_start(struct keeper *k)
{
	struct spool_check *c = &k->check;

	pthread_mutex_lock(&k->mutex);
	if (!c->running) {
		*c = (struct spool_check){ .running = true,
			.number = c->number + 1 };
		k->asked = true;
		pthread_cond_broadcast(&k->cond);
	}
	pthread_mutex_unlock(&k->mutex);
}

void
keeper_check_state(struct keeper *k, struct spool_check *out)
{
	pthread_mutex_lock(&k->mutex);
	*out = k->check;
	pthread_mutex_unlock(&k->mutex);
}

static void *
keeper_thread(void *arg)
{
	struct keeper *k = arg;
	int rc = rebuild(k);

	if (rc == 0 && !stopping(k))
		rc = each_dir(k, 0, sweep_dir, NULL);
	if (rc == 0)
		read_back(k);
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
