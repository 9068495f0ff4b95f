/*
 * folders.c - the open folders of item/, and how names get into them
 *
 * What must stay true: a folder is used only if its name in item/ has been
 * synced. If that sync fails the name is taken back, so that the next upload
 * makes and syncs a new one; nothing leans on a second sync of the first. A
 * file is published when both a sync of it and, after its rename, a sync of
 * its folder have succeeded; a failed one of either is final.
 *
 * Uploads are published in groups: while one group syncs, the next gathers.
 * Then its first member renames the files of all and, on a slow disk, waits
 * until their bodies are written; each member syncs its own file, side by side,
 * so that the file system can make one journal commit of them, and the last one
 * syncs the folder for all. No rename comes between: a
 * folder that changes all the time would cost each upload a journal commit of
 * its own instead of a flush that all share. That the name is there before the
 * body is synced does no harm: a start takes no file above the mark whose
 * SHA-256 does not fit, and nobody was told of it.
 *
 * One mutex for all folders, never held while a file or a used folder is
 * synced. The event loop never takes it.
 */
#include "folders.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"
#include "log.h"
#include "xalloc.h"

#define OPEN_MAX_ 4
#define SLOW_NS (5 * 1000000) /* a group that lasts longer: a slow disk */

static int64_t
clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* An upload that is being published; on the stack of its thread. */
struct member {
	STAILQ_ENTRY(member) link;
	pthread_cond_t cond;
	int from, fd; /* its folder so far, itself */
	const char *temp, *name;
	enum { GATHERING, LEADING, SYNCING, OVER } state;
	int rc;
};
STAILQ_HEAD(members, member);

struct folder {
	uint64_t prefix;
	int fd;
	unsigned refs;
	bool busy;                        /* a group is being synced */
	struct members gathering, synced; /* synced: or failed */
	struct member *leader;            /* that waits for others */
	unsigned gathering_n, syncing, group_n, want_n;
	int64_t begun_ns, took_ns; /* of the last group */
};

struct folders {
	const struct layout *l;
	pthread_mutex_t mutex; /* guards what follows */
	pthread_condattr_t clock;
	struct folder open[OPEN_MAX_];
	bool unsure; /* a name that could neither be synced nor taken back */
	uint64_t unsure_prefix;
};

struct folders *
folders_new(const struct layout *l)
{
	struct folders *f = xcalloc(1, sizeof(*f));

	f->l = l;
	for (int i = 0; i < OPEN_MAX_; i++)
		f->open[i].fd = -1;
	pthread_mutex_init(&f->mutex, NULL);
	pthread_condattr_init(&f->clock);
	pthread_condattr_setclock(&f->clock, CLOCK_MONOTONIC);
	return f;
}

void
folders_free(struct folders *f)
{
	if (f == NULL)
		return;
	for (int i = 0; i < OPEN_MAX_; i++)
		if (f->open[i].fd >= 0)
			close(f->open[i].fd);
	pthread_condattr_destroy(&f->clock);
	pthread_mutex_destroy(&f->mutex);
	free(f);
}

static struct folder *
find(struct folders *f, uint64_t prefix)
{
	for (int i = 0; i < OPEN_MAX_; i++)
		if (f->open[i].fd >= 0 && f->open[i].prefix == prefix)
			return &f->open[i];
	return NULL;
}

/* A place for one more: an empty one, else the oldest that is not in use. */
static struct folder *
idle(struct folders *f)
{
	struct folder *best = NULL;

	for (int i = 0; i < OPEN_MAX_; i++) {
		struct folder *o = &f->open[i];

		if (o->fd < 0)
			return o;
		if (o->refs == 0 && (best == NULL || o->prefix < best->prefix))
			best = o;
	}
	return best;
}

static int
make(struct folders *f, uint64_t prefix, const char *name)
{
	int rc = 0;

	if (f->unsure && f->unsure_prefix == prefix)
		return -EIO;
	if (mkdirat(f->l->item, name, 02770) != 0)
		return errno == EEXIST ? 0 : -errno; /* synced by its maker */
	if (fsync(f->l->item) == 0)
		return 0;
	rc = -errno;
	if (unlinkat(f->l->item, name, AT_REMOVEDIR) != 0) {
		f->unsure = true;
		f->unsure_prefix = prefix;
		log_error("spool folder item/%s cannot be synced: no uploads "
			  "go there until the next start",
		    name);
	}
	return rc;
}

static int
open_new(struct folders *f, uint64_t seq, struct folder **out)
{
	struct folder *o = idle(f);
	char name[14];
	int rc, fd;

	if (o == NULL)
		return -EBUSY; /* numbers that many folders apart at once */
	layout_dir_name(seq, name);
	rc = make(f, seq >> LAYOUT_DIR_BITS, name);
	if (rc != 0)
		return rc;
	fd = openat(f->l->item, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	fchmod(fd, 02770);
	if (o->fd >= 0)
		close(o->fd);
	*o = (struct folder){ .prefix = seq >> LAYOUT_DIR_BITS, .fd = fd };
	STAILQ_INIT(&o->gathering);
	STAILQ_INIT(&o->synced);
	*out = o;
	return 0;
}

/*
 * On a slow disk a group that leaves without those who are about to come makes
 * them wait for all of it: wait a little for as many as were in flight when
 * the last one ended. With the mutex held.
 */
static void
wait_for_others(struct folders *f, struct folder *o, struct member *m)
{
	int64_t until = clock_ns() + o->took_ns / 3;
	struct timespec ts = { until / 1000000000, until % 1000000000 };

	if (o->took_ns < SLOW_NS)
		return;
	while (o->gathering_n < o->want_n && m->state == LEADING)
		if (pthread_cond_timedwait(&m->cond, &f->mutex, &ts) != 0)
			break;
}

/*
 * ext4 notes in its journal that a body is on the disk when its last write has
 * ended. Who syncs while others' bodies are still being written makes a journal
 * commit, with its flushes, that those cannot share: on a slow disk wait for
 * all, so that all share one. To be told of a failed write here is final: the
 * kernel tells it but once, so the sync might not.
 */
static void
wait_for_bodies(struct folder *o, struct members *group)
{
	struct member *m;

	STAILQ_FOREACH(m, group, link)
	{
		if (m->rc != 0 ||
		    sync_file_range(m->fd, 0, 0,
			SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
			    SYNC_FILE_RANGE_WAIT_AFTER) == 0 ||
		    errno == ENOSYS)
			continue;
		m->rc = -errno;
		unlinkat(o->fd, m->name, 0);
	}
}

/* Move the files of all that have gathered, and let them go on. */
static void
lead(struct folders *f, struct folder *o, struct member *me)
{
	struct members group = STAILQ_HEAD_INITIALIZER(group);
	struct member *m;

	o->busy = true;
	me->state = LEADING;
	o->leader = me;
	wait_for_others(f, o, me);
	o->leader = NULL;
	STAILQ_CONCAT(&group, &o->gathering);
	o->group_n = o->gathering_n;
	o->gathering_n = 0;
	pthread_mutex_unlock(&f->mutex);
	o->begun_ns = clock_ns();
	STAILQ_FOREACH(m, &group, link)
	if (renameat(m->from, m->temp, o->fd, m->name) != 0)
		m->rc = -errno;
	if (o->took_ns >= SLOW_NS)
		wait_for_bodies(o, &group);
	pthread_mutex_lock(&f->mutex);
	while ((m = STAILQ_FIRST(&group)) != NULL) {
		STAILQ_REMOVE_HEAD(&group, link);
		o->syncing++;
		m->state = SYNCING;
		if (m != me)
			pthread_cond_signal(&m->cond);
	}
}

/* All have synced their files: now the folder; and the next group's turn. */
static void
finish(struct folders *f, struct folder *o)
{
	struct member *m, *next;
	int rc;

	pthread_mutex_unlock(&f->mutex);
	rc = fsync(o->fd) != 0 ? -errno : 0;
	pthread_mutex_lock(&f->mutex);
	while ((m = STAILQ_FIRST(&o->synced)) != NULL) {
		STAILQ_REMOVE_HEAD(&o->synced, link);
		if (m->rc == 0 && rc != 0) {
			m->rc = rc;
			unlinkat(o->fd, m->name, 0);
		}
		m->state = OVER;
		pthread_cond_signal(&m->cond);
	}
	o->took_ns = clock_ns() - o->begun_ns;
	o->want_n = o->group_n + o->gathering_n;
	o->busy = false;
	next = STAILQ_FIRST(&o->gathering);
	if (next != NULL)
		pthread_cond_signal(&next->cond);
}

/* With the mutex held. */
static void
take_part(struct folders *f, struct folder *o, struct member *m)
{
	STAILQ_INSERT_TAIL(&o->gathering, m, link);
	o->gathering_n++;
	if (o->leader != NULL && o->gathering_n >= o->want_n)
		pthread_cond_signal(&o->leader->cond);
	while (m->state == GATHERING && o->busy)
		pthread_cond_wait(&m->cond, &f->mutex);
	if (m->state == GATHERING)
		lead(f, o, m);
	pthread_mutex_unlock(&f->mutex);
	if (m->rc == 0 && fdatasync(m->fd) != 0) {
		m->rc = -errno;
		unlinkat(o->fd, m->name, 0);
	}
	pthread_mutex_lock(&f->mutex);
	STAILQ_INSERT_TAIL(&o->synced, m, link);
	if (--o->syncing == 0)
		finish(f, o);
	while (m->state != OVER)
		pthread_cond_wait(&m->cond, &f->mutex);
}

/* On file systems where a sync of the file takes its new name along. */
static int
publish_single(struct folder *o, struct member *m)
{
	if (renameat(m->from, m->temp, o->fd, m->name) != 0)
		return -errno;
	if (fsync(m->fd) == 0)
		return 0;
	m->rc = -errno;
	unlinkat(o->fd, m->name, 0);
	return m->rc;
}

int
folders_publish(struct folders *f, uint64_t seq, int from, const char *temp,
    int fd, bool single)
{
	char name[31];
	struct member m = {
		.from = from, .fd = fd, .temp = temp, .name = name + 14
	};
	struct folder *o;
	int rc = 0;

	/* The disk may begin while the upload waits for its group. A failure
	 * of this is told by the sync, which alone counts. */
	sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	layout_item_name(seq, name);
	pthread_mutex_lock(&f->mutex);
	o = find(f, seq >> LAYOUT_DIR_BITS);
	if (o == NULL)
		rc = open_new(f, seq, &o);
	if (rc != 0) {
		pthread_mutex_unlock(&f->mutex);
		return rc;
	}
	o->refs++;
	if (single) {
		pthread_mutex_unlock(&f->mutex);
		rc = publish_single(o, &m);
		pthread_mutex_lock(&f->mutex);
	} else {
		pthread_cond_init(&m.cond, &f->clock);
		take_part(f, o, &m);
		pthread_cond_destroy(&m.cond);
		rc = m.rc;
	}
	o->refs--;
	pthread_mutex_unlock(&f->mutex);
	return rc;
}
