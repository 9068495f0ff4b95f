/*
 * spool_remove.c - the files of uploads that have ended, removed by a thread
 *
 * What must stay true: a file is named here after the transaction that took its
 * row out was committed, never before. unlink() frees the file's blocks and may
 * wait for the disk, so the index thread, for whose next commit others wait,
 * hands it over, and whoever sends or receives goes first. Behind by thousands
 * of files or a quarter of a GB it gets no more: the index thread removes them
 * itself, so that room comes free as fast as the rows say. What is left when
 * the process ends goes first, as far as a second or two suffices; what stays,
 * as after a crash, is swept away after the proxy's next start (keeper.c).
 */
#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "spool_internal.h"
#include "xalloc.h"

#define STACK (96 * 1024)
#define BEHIND_MAX 4096 /* files */
#define BEHIND_OCTETS (256 << 20)
#define NICE 10
#define LAST_MS 2000

struct removal {
	STAILQ_ENTRY(removal) link;
	uint64_t seq, size;
	char id[33];
	bool quarantined;
	bool folder; /* no new name comes into its folder */
};
STAILQ_HEAD(removals, removal);

struct remover {
	const struct layout *l;
	pthread_mutex_t mutex; /* guards what follows */
	pthread_cond_t more;
	struct removals list;
	unsigned n;
	uint64_t octets;
	bool stop;
	int64_t until_ms; /* stop: not longer than that */
	pthread_t thread;
	bool started;
};

static void
remove_file(const struct layout *l, const struct removal *r)
{
	char name[31], dir[14], reason[40];

	layout_item_name(r->seq, name);
	if (r->quarantined) {
		unlinkat(l->quarantine, r->id, 0);
		snprintf(reason, sizeof(reason), "%s.json", r->id);
		unlinkat(l->quarantine, reason, 0);
	}
	if (unlinkat(l->item, name, 0) != 0 && errno != ENOENT)
		log_warn(
		    "id=%s cannot remove the file: %s: the next start does",
		    r->id, strerror(errno));
	if (r->folder) {
		layout_dir_name(r->seq, dir);
		unlinkat(l->item, dir, AT_REMOVEDIR);
	}
}

static void *
run(void *arg)
{
	struct remover *m = arg;
	struct removal *r;

	setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
	pthread_mutex_lock(&m->mutex);
	for (;;) {
		r = STAILQ_FIRST(&m->list);
		if (m->stop && (r == NULL || clock_ms() >= m->until_ms))
			break;
		if (r == NULL) {
			pthread_cond_wait(&m->more, &m->mutex);
			continue;
		}
		STAILQ_REMOVE_HEAD(&m->list, link);
		m->n--;
		m->octets -= r->size;
		pthread_mutex_unlock(&m->mutex);
		remove_file(m->l, r);
		free(r);
		pthread_mutex_lock(&m->mutex);
	}
	pthread_mutex_unlock(&m->mutex);
	return NULL;
}

struct remover *
remover_new(const struct layout *l)
{
	struct remover *m = xcalloc(1, sizeof(*m));

	m->l = l;
	STAILQ_INIT(&m->list);
	pthread_mutex_init(&m->mutex, NULL);
	pthread_cond_init(&m->more, NULL);
	return m;
}

/* At the first file: a spool that is only looked at needs no thread. */
static bool
start(struct remover *m)
{
	pthread_attr_t at;
	sigset_t all, old;

	if (m->started)
		return true;
	pthread_attr_init(&at);
	pthread_attr_setstacksize(&at, STACK);
	sigfillset(&all); /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	m->started = pthread_create(&m->thread, &at, run, m) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&at);
	return m->started;
}

void
remover_free(struct remover *m)
{
	struct removal *r;

	if (m == NULL)
		return;
	pthread_mutex_lock(&m->mutex);
	m->stop = true;
	m->until_ms = clock_ms() + LAST_MS;
	pthread_cond_signal(&m->more);
	pthread_mutex_unlock(&m->mutex);
	if (m->started)
		pthread_join(m->thread, NULL);
	while ((r = STAILQ_FIRST(&m->list)) != NULL) {
		STAILQ_REMOVE_HEAD(&m->list, link);
		free(r);
	}
	pthread_cond_destroy(&m->more);
	pthread_mutex_destroy(&m->mutex);
	free(m);
}

static struct removal
removal_of(struct spool *sp, const struct spool_item *it)
{
	struct removal r = { .seq = it->seq,
		.size = it->size,
		.quarantined = it->state == SPOOL_QUARANTINED };
	struct index_state st;

	memcpy(r.id, it->id, sizeof(r.id));
	/* No new name comes into a folder below the mark's. */
	index_snapshot(sp->ix, &st);
	r.folder = it->seq >> LAYOUT_DIR_BITS < st.upto >> LAYOUT_DIR_BITS;
	return r;
}

void
spool_unlink_item(struct spool *sp, const struct spool_item *it)
{
	struct removal r = removal_of(sp, it);

	remove_file(&sp->l, &r);
}

void
spool_unlink_later(struct spool *sp, const struct spool_item *it)
{
	struct remover *m = sp->remover;
	struct removal *r;
	bool behind;

	pthread_mutex_lock(&m->mutex);
	behind = m->n >= BEHIND_MAX || m->octets >= BEHIND_OCTETS || !start(m);
	pthread_mutex_unlock(&m->mutex);
	if (behind) {
		spool_unlink_item(sp, it);
		return;
	}
	r = xmalloc(sizeof(*r));
	*r = removal_of(sp, it);
	pthread_mutex_lock(&m->mutex);
	STAILQ_INSERT_TAIL(&m->list, r, link);
	m->octets += r->size;
	if (m->n++ == 0)
		pthread_cond_signal(&m->more);
	pthread_mutex_unlock(&m->mutex);
}
