/*
 * incoming.c - bodies on their way to stable storage
 *
 * The order of the steps is what lets an acknowledged upload survive a power
 * cut:
 *	write incoming/N, over 1 MiB fdatasync it, write the footer,
 *	rename to item/, fdatasync, fsync the folder; then fn(0)
 * (folders.c says why in this order). With sync_single one fsync of the file
 * stands for the two syncs. A failed sync is
 * final: the file goes and is never synced again. Numbers are given when the
 * body is complete, so a slow client holds up nothing; on_durable() tells them
 * in order and without gaps, so that all files up to the index's mark are
 * known to it.
 *
 * Memory: small bodies are held until they are complete (one hand-over, one
 * turn of a thread), but only of clients that send them within HELD_MS, and
 * while all that is held stays under HELD_MAX; else each piece goes to the disk
 * as it comes. What waits for the disk is bounded by QUEUED_ALL and what a few
 * reads bring (QUEUED_SIPS): beyond it nobody's octets are taken.
 */
#include "incoming_private.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <event2/event.h>
#include <openssl/evp.h>

#include "checksum.h"
#include "clock.h"
#include "folders.h"
#include "layout.h"
#include "log.h"
#include "repeat.h"
#include "xalloc.h"

#ifndef COMMITTERS_DEFAULT /* doc/performance.md: how it was chosen */
#define COMMITTERS_DEFAULT 32
#endif
#define STACK (128 * 1024)
#define HELD_ONE (256 * 1024)      /* held of one upload at most */
#define HELD_MAX (1 * 1024 * 1024) /* of all */
#define HELD_MS 250                /* a slow client holds nothing */
#define QUEUED_HIGH (1024 * 1024)  /* of one upload: pause its client */
#define QUEUED_LOW (256 * 1024)    /* go on */

/* ---- threads: the pool --------------------------------------------------- */

/* There is work for one more. Called with the mutex held. */
static void
wake_one(struct incoming *in)
{
	struct thread *t = SLIST_FIRST(&in->idle);

	if (t == NULL)
		return; /* whoever ends first takes it */
	SLIST_REMOVE_HEAD(&in->idle, link);
	t->idle = false;
	pthread_cond_signal(&t->cond);
}

/* Called with the mutex held. */
static void
wait_for_work(struct incoming *in, struct thread *me)
{
	SLIST_INSERT_HEAD(&in->idle, me, link);
	me->idle = true;
	while (me->idle)
		pthread_cond_wait(&me->cond, &in->mutex);
}

/* Wake the loop. Called with the mutex held. */
void
incoming_wake_loop(struct incoming *in)
{
	uint64_t one = 1;

	if (in->woken)
		return;
	in->woken = true;
	if (write(in->efd, &one, sizeof(one)) < 0)
		log_error(
		    "incoming: cannot wake the loop: %s", strerror(errno));
}

/* Hand it back to the loop. Called with the mutex held. */
static void
post(struct incoming *in, struct spool_upload *u)
{
	if (u->posted)
		return; /* the loop will see its state of then */
	u->posted = true;
	TAILQ_INSERT_TAIL(&in->finished, u, finished);
	incoming_wake_loop(in);
}

static void
run(struct incoming *in, struct spool_upload *u)
{
	struct pieces ps = STAILQ_HEAD_INITIALIZER(ps);
	enum ending ending = u->ending;
	int rc = 0;

	STAILQ_CONCAT(&ps, &u->pieces);
	u->running = true;
	pthread_mutex_unlock(&in->mutex);
	if (ending != ABORT)
		rc = incoming_take(u, &ps, ending == COMMIT);
	if (rc != 0 && u->rc == 0)
		incoming_note(in, rc);
	else if (ending == COMMIT && rc == 0)
		incoming_note(in, 0);
	if (rc != 0)
		u->rc = rc;
	if (ending != OPEN || u->rc != 0)
		incoming_file_close(u, ending == COMMIT && u->rc == 0);
	incoming_give_back(u, &ps);
	pthread_mutex_lock(&in->mutex);
	u->running = false;
	if (ending != OPEN) {
		u->over = true;
		post(in, u);
	} else if (!STAILQ_EMPTY(&u->pieces) || u->ending != OPEN) {
		u->queued_up = true;
		TAILQ_INSERT_TAIL(&in->work, u, link);
		wake_one(in);
	} else if (u->rc != 0 || (u->tell_room && u->queued <= QUEUED_LOW)) {
		u->tell_room = true;
		post(in, u);
	}
}

static void *
committer(void *arg)
{
	struct thread *me = arg;
	struct incoming *in = me->in;

	pthread_mutex_lock(&in->mutex);
	for (;;) {
		struct spool_upload *u = TAILQ_FIRST(&in->work);

		if (u != NULL) {
			TAILQ_REMOVE(&in->work, u, link);
			u->queued_up = false;
			run(in, u);
		} else if (in->stop) {
			break;
		} else {
			wait_for_work(in, me);
		}
	}
	pthread_mutex_unlock(&in->mutex);
	return NULL;
}

/* ---- the loop ------------------------------------------------------------ */

static void
upload_free(struct spool_upload *u)
{
	struct incoming *in = u->in;

	in->reserved -= u->reserved;
	in->written_live -= u->written;
	pthread_mutex_lock(&in->mutex);
	in->live--;
	pthread_mutex_unlock(&in->mutex);
	if (u->item != NULL) {
		free(u->item->device);
		free(u->item->name);
		free(u->item->type);
		free(u->item->address);
		free(u->item);
	}
	free(u->want);
	free(u);
}

static void
on_posted(struct spool_upload *u, bool over, int rc)
{
	void (*on_room)(int, void *) = u->on_room;

	if (!over) {
		u->on_room = NULL;
		if (on_room != NULL)
			on_room(rc, u->room_arg);
		return;
	}
	if (u->fn != NULL)
		u->fn(rc, rc == 0 || rc == -EEXIST ? u->item : NULL, u->arg);
	upload_free(u);
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct incoming *in = arg;
	struct spool_upload *u;
	bool caught_up;
	uint64_t n;

	if (read(in->efd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		log_error("incoming: eventfd: %s", strerror(errno));
	pthread_mutex_lock(&in->mutex);
	in->woken = false;
	while ((u = TAILQ_FIRST(&in->finished)) != NULL) {
		bool over = u->over, room = u->tell_room;
		int rc = u->rc;

		TAILQ_REMOVE(&in->finished, u, finished);
		u->posted = u->tell_room = false;
		pthread_mutex_unlock(&in->mutex);
		if (over || room)
			on_posted(u, over, rc);
		pthread_mutex_lock(&in->mutex);
	}
	caught_up = in->caught_up;
	in->caught_up = false;
	pthread_mutex_unlock(&in->mutex);
	if (caught_up && in->opt.on_behind != NULL)
		in->opt.on_behind(false, in->opt.behind_arg);
}

struct incoming *
incoming_new(struct event_base *base, const struct layout *l,
    const struct incoming_options *opt)
{
	struct incoming *in = xcalloc(1, sizeof(*in));
	pthread_attr_t at;

	in->l = l;
	in->opt = *opt;
	if (in->opt.committers == 0)
		in->opt.committers = COMMITTERS_DEFAULT;
	in->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	assert(in->sha256 != NULL);
	in->next_seq = opt->next_seq;
	in->next_temp = 1;
	TAILQ_INIT(&in->work);
	TAILQ_INIT(&in->finished);
	TAILQ_INIT(&in->fresh);
	in->folders = folders_new(l);
	pthread_mutex_init(&in->mutex, NULL);
	SLIST_INIT(&in->idle);
	in->efd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	in->wake = event_new(base, in->efd, EV_READ | EV_PERSIST, on_wake, in);
	event_add(in->wake, NULL);
	in->threads = xcalloc(in->opt.committers, sizeof(*in->threads));
	pthread_attr_init(&at);
	pthread_attr_setstacksize(&at, STACK);
	for (unsigned i = 0; i < in->opt.committers; i++) {
		struct thread *t = &in->threads[i];

		t->in = in;
		pthread_cond_init(&t->cond, NULL);
		if (pthread_create(&t->id, &at, committer, t) != 0) {
			log_error("incoming: no thread: stopping");
			abort();
		}
	}
	pthread_attr_destroy(&at);
	return in;
}

void
incoming_free(struct incoming *in)
{
	if (in == NULL)
		return;
	pthread_mutex_lock(&in->mutex);
	in->stop = true;
	while (!SLIST_EMPTY(&in->idle))
		wake_one(in);
	pthread_mutex_unlock(&in->mutex);
	for (unsigned i = 0; i < in->opt.committers; i++)
		pthread_join(in->threads[i].id, NULL);
	on_wake(in->efd, 0, in);
	assert(in->live == 0); /* the caller aborts what it had open */
	event_free(in->wake);
	close(in->efd);
	folders_free(in->folders);
	EVP_MD_free((EVP_MD *)in->sha256);
	pthread_mutex_destroy(&in->mutex);
	for (unsigned i = 0; i < in->opt.committers; i++)
		pthread_cond_destroy(&in->threads[i].cond);
	free(in->threads);
	free(in);
}

struct spool_upload *
incoming_begin(struct incoming *in, uint64_t size)
{
	struct spool_upload *u = xcalloc(1, sizeof(*u));

	u->in = in;
	u->begun_ms = clock_ms();
	u->fd = -1;
	STAILQ_INIT(&u->held);
	STAILQ_INIT(&u->pieces);
	u->reserved = size == UINT64_MAX ? 0 : size;
	in->reserved += u->reserved;
	pthread_mutex_lock(&in->mutex);
	u->temp = in->next_temp++;
	in->live++;
	pthread_mutex_unlock(&in->mutex);
	return u;
}

void
incoming_expect(struct spool_upload *u, const struct checksums *want)
{
	if (u->want == NULL)
		u->want = xmalloc(sizeof(*u->want));
	*u->want = *want;
}

/* Give what is held, and the wish to end, to the pool. */
static bool
submit(struct spool_upload *u, enum ending ending)
{
	struct incoming *in = u->in;
	bool pause, now_behind = false;

	pthread_mutex_lock(&in->mutex);
	STAILQ_CONCAT(&u->pieces, &u->held);
	u->queued += u->held_n;
	in->queued += u->held_n;
	if (u->ending == OPEN)
		u->ending = ending;
	pause = u->queued > QUEUED_HIGH || u->rc != 0;
	if (in->queued > QUEUED_ALL && !in->behind) {
		in->behind = true;
		in->caught_up = false;
		now_behind = in->opt.on_behind != NULL;
	}
	if (pause && ending == OPEN)
		u->tell_room = true;
	if (!u->queued_up && !u->running) {
		u->queued_up = true;
		TAILQ_INSERT_TAIL(&in->work, u, link);
		wake_one(in);
	}
	pthread_mutex_unlock(&in->mutex);
	in->held -= u->held_n;
	u->held_n = 0;
	if (now_behind)
		in->opt.on_behind(true, in->opt.behind_arg);
	return pause;
}

int
incoming_write(struct spool_upload *u, const void *p, size_t n)
{
	struct incoming *in = u->in;
	struct piece *pc = xmalloc(sizeof(*pc) + n);

	pc->n = n;
	memcpy(pc->data, p, n);
	STAILQ_INSERT_TAIL(&u->held, pc, link);
	u->held_n += n;
	in->held += n;
	u->received += n;
	if (u->received > u->reserved) {
		in->reserved += u->received - u->reserved;
		u->reserved = u->received;
	}
	if (u->held_n < HELD_ONE && u->reserved <= HELD_ONE &&
	    in->held < HELD_MAX && clock_ms() - u->begun_ms < HELD_MS)
		return 0;
	return submit(u, OPEN) ? 1 : 0;
}

bool
incoming_bears_more(struct incoming *in)
{
	bool bears;

	pthread_mutex_lock(&in->mutex);
	bears = in->queued + in->held < QUEUED_ALL + QUEUED_SIPS;
	pthread_mutex_unlock(&in->mutex);
	return bears;
}

void
incoming_on_room(
    struct spool_upload *u, void (*fn)(int rc, void *arg), void *arg)
{
	u->on_room = fn;
	u->room_arg = arg;
}

void
incoming_commit(struct spool_upload *u, const struct spool_meta *meta,
    void (*fn)(int rc, const struct spool_item *it, void *arg), void *arg)
{
	u->on_room = NULL;
	u->fn = fn;
	u->arg = arg;
	u->item = xcalloc(1, sizeof(*u->item));
	u->item->device = xstrdup(meta->device);
	u->item->name = xstrdup(meta->name);
	u->item->type = xstrdup(meta->type);
	u->item->address = xstrdup(meta->address);
	u->repeat_window_ms = meta->repeat_window_ms;
	u->item->received_wall_ms = clock_wall_ms();
	submit(u, COMMIT);
}

void
incoming_abort(struct spool_upload *u)
{
	u->on_room = NULL;
	u->fn = NULL;
	submit(u, ABORT);
}

uint64_t
incoming_reserved(const struct incoming *in)
{
	return in->reserved;
}

uint64_t
incoming_to_write(const struct incoming *in)
{
	uint64_t written = in->written_live; /* with footers */

	return written < in->reserved ? in->reserved - written : 0;
}

unsigned
incoming_live(struct incoming *in)
{
	unsigned n;

	pthread_mutex_lock(&in->mutex);
	n = in->live;
	pthread_mutex_unlock(&in->mutex);
	return n;
}

void
incoming_backlog(struct incoming *in, uint64_t *n_out, int64_t *age_out)
{
	struct fresh *f;

	pthread_mutex_lock(&in->mutex);
	f = TAILQ_FIRST(&in->fresh);
	*n_out = in->fresh_n;
	*age_out = f != NULL ? clock_ms() - f->since_ms : 0;
	pthread_mutex_unlock(&in->mutex);
}

unsigned
incoming_failures(struct incoming *in, int64_t *last_ms_out)
{
	unsigned n;

	pthread_mutex_lock(&in->mutex);
	n = in->failures;
	*last_ms_out = in->failed_ms;
	pthread_mutex_unlock(&in->mutex);
	return n;
}

uint64_t
incoming_next_seq(struct incoming *in)
{
	uint64_t n;

	pthread_mutex_lock(&in->mutex);
	n = in->next_seq;
	pthread_mutex_unlock(&in->mutex);
	return n;
}
