/*
 * spool.c - uploads that we have acknowledged and the cloud has not
 *
 * A file per upload is the truth, the LMDB index follows it. The order of the
 * steps is what lets an acknowledged upload survive a power cut:
 *	accept	write incoming/N with its footer, rename to item/N,
 *		fdatasync, fsync the folder, 201; the row comes within a second
 *	done	commit the removal of the row, then unlink
 * So a crash can leave a file without a row (the next start adds it if it is
 * newer than what the index has seen, else sweeps it), never a row without its
 * file. Rows are added in order of number without gaps, together with the
 * number up to which all is indexed. This file opens and closes a spool and is
 * the writer's side of it; spool_drain.c, spool_change.c and spool_view.c take
 * uploads out, change their rows and look.
 */
#include "spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <event2/event.h>
#include <openssl/rand.h>

#include "clock.h"
#include "log.h"
#include "repeat.h"
#include "spool_internal.h"
#include "xalloc.h"

#define INDEX_TIGHT_PERCENT 85 /* more rows, longer texts: no more */

void
spool_item_fini(struct spool_item *it)
{
	free(it->device);
	free(it->name);
	free(it->type);
	free(it->address);
	free(it->last_error);
	free(it->storage);
	free(it->key);
	free(it->encoding);
	free(it->kept);
	memset(it, 0, sizeof(*it));
}

const char *
spool_state_name(enum spool_state s)
{
	static const char *const names[] = { "waiting", "sending", "held",
		"quarantined" };

	return names[s];
}

/* ---- the index follows ----------------------------------------------------
 */

bool
spool_index_tight(const struct spool *sp, uint64_t more)
{
	return sp->index_used + sp->rows_since + more >
	    sp->l.index_size / 100 * INDEX_TIGHT_PERCENT;
}

static void
spool_measure_index(struct spool *sp)
{
	sp->index_used = index_used(sp->ix);
	sp->rows_since = 0;
}

/* Rows are added strictly in order: one that came before those that failed
 * would move the mark past files whose rows are missing. */
static int
run_add(struct index_txn *t, struct index_job *j)
{
	struct add_job *a = (struct add_job *)j;
	int rc;

	if (a->order != a->sp->order_done + t->scratch + 1)
		return -EAGAIN;
	/* A commit that failed in its last write may be there all the same. */
	if (a->item.seq <= t->st->upto) {
		t->scratch++;
		return 0;
	}
	if (spool_index_tight(a->sp, (t->scratch + 1) * a->row_size))
		return -ENOSPC; /* the rest is for taking rows out */
	rc = spool_row_add(t, &a->item, false);
	if (rc != 0)
		return rc;
	t->scratch++;
	t->st->upto = a->item.seq;
	return 0;
}

static void
settle_add(struct index_job *j)
{
	struct add_job *a = (struct add_job *)j;

	if (j->rc != 0)
		return;
	a->sp->order_done = a->order;
	a->sp->rows_since += a->row_size;
	spool_names_note(a->sp->names, &a->item);
}

/* On the loop. */
static void
on_added(struct index_job *j)
{
	struct add_job *a = (struct add_job *)j;
	struct spool *sp = a->sp;
	struct timeval second = { 1, 0 };
	bool tell;

	if (j->rc != 0 && !sp->closing) {
		a->failed = true;
		event_add(sp->retry, &second);
		return;
	}
	pthread_mutex_lock(&sp->mutex);
	STAILQ_REMOVE(&sp->unindexed, a, add_job, link);
	sp->unindexed_n--;
	sp->unindexed_bytes -= a->item.size;
	sp->unindexed_rows -= a->row_size;
	/* One ring for many rows of a batch. */
	tell = sp->unindexed_n == 0 || a->order % 64 == 0;
	pthread_mutex_unlock(&sp->mutex);
	if (tell && sp->on_change != NULL)
		sp->on_change(sp->change_arg);
	spool_item_fini(&a->item);
	free(a);
}

static void
on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct spool *sp = arg;
	struct add_job *a;

	pthread_mutex_lock(&sp->mutex);
	STAILQ_FOREACH(a, &sp->unindexed, link)
	if (a->failed) {
		a->failed = false;
		index_submit(sp->ix, &a->job);
	}
	pthread_mutex_unlock(&sp->mutex);
}

/* On a committer thread, in order of seq. */
static void
on_durable(uint64_t seq, struct spool_item *item, void *arg)
{
	struct spool *sp = arg;
	struct add_job *a;

	if (item == NULL)
		return; /* given up: the next row moves the mark past it */
	a = xcalloc(1, sizeof(*a));
	a->sp = sp;
	a->item = *item;
	a->row_size = row_size(&a->item);
	a->job = (struct index_job){ .writes = true,
		.lazy = true,
		.run = run_add,
		.settle = settle_add,
		.done = on_added };
	pthread_mutex_lock(&sp->mutex);
	a->order = ++sp->order;
	STAILQ_INSERT_TAIL(&sp->unindexed, a, link);
	sp->unindexed_n++;
	sp->unindexed_bytes += item->size;
	sp->unindexed_rows += a->row_size;
	pthread_mutex_unlock(&sp->mutex);
	index_submit(sp->ix, &a->job);
}

/* ---- open and close -------------------------------------------------------
 */

/* Uploads wait for rows that cannot come, or have rows that cannot be read: a
 * new start makes the index anew while all goes on. */
static void
stop_if_damaged(struct spool *sp)
{
	if (sp->role != SPOOL_WRITER || sp->stopping ||
	    !index_is_damaged(sp->ix))
		return;
	sp->stopping = true;
	log_error("spool index is damaged: stopping, so that the next start "
		  "makes it anew from the files");
	kill(getpid(), SIGTERM);
}

/* Kernels differ in whether they tell; only a try does for sure. */
static bool
can_write(const struct spool *sp)
{
	int fd =
	    openat(sp->l.incoming, "try", O_WRONLY | O_CREAT | O_CLOEXEC, 0660);

	if (fd < 0)
		return errno != EROFS;
	close(fd);
	unlinkat(sp->l.incoming, "try", 0);
	return true;
}

/* The kernel makes a file system read-only when it finds an error in it. An
 * upload has met it, or the kernel tells; then tries tell when it is over. */
static void
look_if_read_only(struct spool *sp, bool told)
{
	if (told)
		sp->read_only = true;
	if (!sp->read_only || sp->role != SPOOL_WRITER)
		return;
	if (!sp->told_read_only)
		log_error("spool %s: its file system is read-only: refusing "
			  "uploads until it can be written again",
		    sp->l.dir);
	sp->told_read_only = true;
	if (told || !can_write(sp))
		return;
	log_info("spool %s can be written again", sp->l.dir);
	sp->read_only = sp->told_read_only = false;
}

void
spool_measure_disk(struct spool *sp)
{
	uint64_t written = sp->written;
	struct statvfs fs;

	if (fstatvfs(sp->l.root, &fs) != 0)
		return;
	sp->disk_written = written; /* some of it may count twice, not never */
	sp->disk_free = (uint64_t)fs.f_bavail * fs.f_frsize;
	sp->disk_total = (uint64_t)fs.f_blocks * fs.f_frsize;
	/* Some file systems have no fixed number of inodes. */
	sp->inodes_free = fs.f_files == 0 ? UINT64_MAX : fs.f_favail;
	look_if_read_only(sp, (fs.f_flag & ST_RDONLY) != 0);
}

/* On the index thread, once a second. */
static void
on_tick(bool changed, void *arg)
{
	struct spool *sp = arg;

	spool_measure_disk(sp);
	if (changed)
		spool_measure_index(sp);
	stop_if_damaged(sp);
	if ((changed || sp->reweigh) && sp->role == SPOOL_WRITER)
		spool_weigh_devices(sp);
}

static uint64_t
index_size_for(const struct spool_options *opt)
{
	uint64_t size =
	    opt->index_size != 0 ? opt->index_size : opt->max_size / 32;

	if (size < 1 << 20)
		size = 1 << 20;
	if (opt->index_size == 0 && size < 16 << 20)
		size = 16 << 20;
	return (size + 0xffff) & ~(uint64_t)0xffff;
}

static void
remove_index(const char *dir)
{
	static const char *const files[] = { "data.mdb", "lock.mdb",
		"damaged" };

	for (int i = 0; i < 3; i++) {
		char *p = xasprintf("%s/%s", dir, files[i]);

		unlink(p);
		free(p);
	}
	remove(dir); /* also if it is no folder */
}

/*
 * Where numbers go on when nobody knows the last one given: an upload that was
 * delivered has left no trace, and no number may be given twice. So far ahead,
 * and so much by chance, that neither this loss of the index nor the next one
 * can meet what was there before.
 */
static int
number_to_go_on(const struct spool *sp, uint64_t highest, uint64_t *out)
{
	uint16_t jump;

	if (sp->l.made_now && highest == 0) {
		*out = 0;
		return 0; /* a new spool, and a new epoch */
	}
	if (RAND_bytes((unsigned char *)&jump, sizeof(jump)) != 1)
		return -EIO;
	*out = ((highest >> 32) + 1 + (jump & 0x3fff)) << 32;
	return 0;
}

/* A damaged index goes aside; a new one is filled from the files. */
static int
remake_index(struct spool *sp, const char *path)
{
	char *aside = xasprintf("%s.damaged", path);
	uint64_t highest, upto = 0;
	int rc = recover_highest(&sp->l, &highest);

	if (rc == 0)
		rc = number_to_go_on(sp, highest, &upto);
	if (rc == 0 && access(path, F_OK) == 0) {
		remove_index(aside);
		if (rename(path, aside) != 0)
			rc = -errno;
		log_error("spool index %s is damaged: kept as %s, a new one is "
			  "made from the files",
		    path, aside);
	}
	if (rc == 0)
		rc = index_create(path, sp->l.index_size, highest, upto);
	if (rc == -ENOSPC && access(aside, F_OK) == 0) {
		remove_index(
		    aside); /* serving matters more than the evidence */
		rc = index_create(path, sp->l.index_size, highest, upto);
	}
	free(aside);
	return rc;
}

static int
open_index(struct spool *sp, char **why_out)
{
	char *path = xasprintf("%s/index", sp->l.dir);
	int rc = index_open(sp->base, path, sp->l.index_size, &sp->ix);

	if ((rc == -ENOENT || rc == -ENOTDIR || rc == -EBADMSG) &&
	    sp->role == SPOOL_WRITER) {
		rc = remake_index(sp, path);
		if (rc == 0)
			rc = index_open(
			    sp->base, path, sp->l.index_size, &sp->ix);
	}
	if (rc == -ENOSPC)
		*why_out =
		    xasprintf("no room for the index of %llu MB in %s: "
			      "free some space or set [spool] index_size",
			(unsigned long long)sp->l.index_size >> 20, path);
	free(path);
	return rc;
}

static int
open_writer(struct spool *sp)
{
	struct incoming_options io = { .committers = sp->opt.committers,
		.sync_single = sp->opt.sync_single,
		.on_durable = on_durable,
		.arg = sp,
		.read_only = &sp->read_only,
		.written = &sp->written,
		.repeat = sp->repeat,
		.on_behind = sp->opt.on_behind,
		.behind_arg = sp->opt.behind_arg };
	int rc = recover_empty_incoming(&sp->l);

	if (rc == 0)
		rc = recover_tail(&sp->l, sp->ix, &io.next_seq);
	if (rc != 0)
		return rc;
	index_start(sp->ix);
	sp->in = incoming_new(sp->base, &sp->l, &io);
	sp->keeper = keeper_new(sp);
	return 0;
}

int
spool_open(struct event_base *base, const char *dir, enum spool_role role,
    const struct spool_options *opt, struct spool **sp_out, char **why_out)
{
	struct spool *sp = xcalloc(1, sizeof(*sp));
	int rc;

	*why_out = NULL;
	sp->base = base;
	sp->role = role;
	sp->opt = *opt;
	sp->share = opt->share;
	sp->share_files = opt->share_files;
	sp->next_due = -1;
	sp->names = spool_names_new();
	sp->repeat = repeat_new();
	pthread_mutex_init(&sp->mutex, NULL);
	STAILQ_INIT(&sp->unindexed);
	sp->retry = evtimer_new(base, on_retry, sp);
	rc = layout_open(dir, role == SPOOL_WRITER,
	    role == SPOOL_WRITER ? "writer" : "drainer", index_size_for(opt),
	    &sp->l, why_out);
	if (rc != 0) {
		event_free(sp->retry);
		spool_names_free(sp->names);
		repeat_free(sp->repeat);
		pthread_mutex_destroy(&sp->mutex);
		free(sp);
		return rc;
	}
	sp->remover = remover_new(&sp->l);
	rc = open_index(sp, why_out);
	if (rc == 0) {
		index_on_tick(sp->ix, on_tick, sp);
		on_tick(true, sp);
		if (role == SPOOL_WRITER)
			rc = open_writer(sp);
		else
			index_start(sp->ix);
	}
	if (rc != 0) {
		spool_close(sp);
		return rc;
	}
	*sp_out = sp;
	return 0;
}

void
spool_close(struct spool *sp)
{
	struct add_job *a;

	if (sp == NULL)
		return;
	keeper_stop(sp->keeper);
	incoming_free(sp->in);
	sp->closing = true; /* rows that still fail are the next start's work */
	index_close(sp->ix);
	remover_free(sp->remover);
	while ((a = STAILQ_FIRST(&sp->unindexed)) != NULL) {
		STAILQ_REMOVE_HEAD(&sp->unindexed, link);
		spool_item_fini(&a->item);
		free(a);
	}
	event_free(sp->retry);
	spool_forget_devices(sp);
	spool_names_free(sp->names);
	repeat_free(sp->repeat);
	layout_close(&sp->l);
	pthread_mutex_destroy(&sp->mutex);
	free(sp->status);
	free(sp);
}

int
spool_make_dirs(const char *path)
{
	return layout_make_dirs(path);
}

void
spool_on_change(struct spool *sp, void (*fn)(void *arg), void *arg)
{
	sp->on_change = fn;
	sp->change_arg = arg;
}

/* ---- uploads --------------------------------------------------------------
 */

void
spool_check_start(struct spool *sp)
{
	keeper_check_start(sp->keeper);
}

void
spool_check_state(struct spool *sp, struct spool_check *out)
{
	keeper_check_state(sp->keeper, out);
}

void
spool_expect(struct spool_upload *u, const struct checksums *want)
{
	incoming_expect(u, want);
}

int
spool_write(struct spool_upload *u, const void *p, size_t n)
{
	return incoming_write(u, p, n);
}

bool
spool_bears_more(struct spool *sp)
{
	return incoming_bears_more(sp->in);
}

void
spool_on_room(
    struct spool_upload *u, void (*on_room)(int rc, void *arg), void *arg)
{
	incoming_on_room(u, on_room, arg);
}

void
spool_commit(struct spool_upload *u, const struct spool_meta *meta,
    void (*fn)(int rc, const struct spool_item *it, void *arg), void *arg)
{
	incoming_commit(u, meta, fn, arg);
}

void
spool_abort(struct spool_upload *u)
{
	incoming_abort(u);
}
