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
 * as it comes. What waits for the disk is bounded by QUEUED_ALL and what one
 * read brings: beyond it nobody's octets are taken.
 */
#include "incoming.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <event2/event.h>
#include <openssl/evp.h>

#include "clock.h"
#include "folders.h"
#include "footer.h"
#include "layout.h"
#include "log.h"
#include "repeat.h"
#include "xalloc.h"

#define COMMITTERS_DEFAULT 32
#define STACK (128 * 1024)
#define HELD_ONE (256 * 1024)        /* held of one upload at most */
#define HELD_MAX (1 * 1024 * 1024)   /* of all */
#define HELD_MS 250                  /* a slow client holds nothing */
#define QUEUED_HIGH (1024 * 1024)    /* of one upload: pause its client */
#define QUEUED_LOW (256 * 1024)      /* go on */
#define QUEUED_ALL (3 * 1024 * 1024) /* of all uploads: nobody sends more */
#define SYNC_FIRST (1024 * 1024) /* larger: sync the body before the footer */
#define IOV 32

struct piece {
	STAILQ_ENTRY(piece) link;
	size_t n;
	char data[];
};
STAILQ_HEAD(pieces, piece);

enum ending { OPEN, COMMIT, ABORT };

struct spool_upload {
	struct incoming *in;
	TAILQ_ENTRY(spool_upload) link, finished; /* of the two lists */
	/* the loop's */
	uint64_t reserved, received;
	int64_t begun_ms;
	struct pieces held;
	size_t held_n;
	void (*on_room)(int rc, void *arg);
	void *room_arg;
	void (*fn)(int rc, const struct spool_item *it, void *arg);
	void *arg;
	/* under the mutex */
	struct pieces pieces;
	size_t queued; /* not yet written */
	enum ending ending;
	bool queued_up, running, tell_room, over, posted;
	/* of the thread that runs it */
	uint64_t temp;
	int fd, rc;
	uint64_t size, written;    /* size: of the body so far */
	EVP_MD_CTX *md, *md5;      /* md5: only if it is to be compared */
	struct spool_expect *want; /* NULL: nothing is */
	struct spool_item *item;   /* of a commit; texts are the upload's own */
};
TAILQ_HEAD(uploads, spool_upload);

/* A number given out and not yet told. */
struct fresh {
	TAILQ_ENTRY(fresh) link;
	uint64_t seq;
	int64_t since_ms;
	enum { FRESH_PENDING, FRESH_DURABLE, FRESH_GONE } state;
	struct spool_item item;
};

/*
 * A committer. Whoever became idle last is woken first: its stack and its CPU's
 * cache are warm, and the stacks that a quiet gateway never needs stay
 * untouched.
 */
struct thread {
	SLIST_ENTRY(thread) link;
	struct incoming *in;
	pthread_t id;
	pthread_cond_t cond;
	bool idle;
};

struct incoming {
	const struct layout *l;
	struct incoming_options opt;
	const EVP_MD *sha256;
	struct folders *folders;
	struct repeat *repeat;
	struct event *wake;
	int efd;
	uint64_t reserved; /* the loop's */
	size_t held;       /* the loop's */
	struct thread *threads;
	pthread_mutex_t mutex;     /* guards what follows */
	SLIST_HEAD(, thread) idle; /* who came last is first */
	struct uploads work, finished;
	unsigned live; /* uploads not yet freed */
	size_t queued;
	bool stop, woken;
	bool behind, caught_up; /* caught_up: and the loop is to be told */
	TAILQ_HEAD(, fresh) fresh;
	uint64_t fresh_n, next_seq, next_temp;
	atomic_uint failures; /* written under the mutex */
	int64_t failed_ms;
};

/* ---- threads: writing ---------------------------------------------------- */

static void
pieces_free(struct pieces *ps)
{
	struct piece *p;

	while ((p = STAILQ_FIRST(ps)) != NULL) {
		STAILQ_REMOVE_HEAD(ps, link);
		free(p);
	}
}

static void
temp_name(const struct spool_upload *u, char out[24])
{
	snprintf(out, 24, "%016" PRIx64, u->temp);
}

static int
open_temp(struct spool_upload *u)
{
	char name[24];

	temp_name(u, name);
	u->fd = openat(u->in->l->incoming, name,
	    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0660);
	if (u->fd < 0)
		return -errno;
	u->md = EVP_MD_CTX_new();
	if (u->md == NULL ||
	    EVP_DigestInit_ex2(u->md, u->in->sha256, NULL) != 1)
		return -ENOMEM;
	if (u->want != NULL && u->want->has_md5) {
		u->md5 = EVP_MD_CTX_new();
		if (u->md5 == NULL ||
		    EVP_DigestInit_ex2(u->md5, EVP_md5(), NULL) != 1)
			return -ENOMEM;
	}
	return 0;
}

static int
write_iov(struct spool_upload *u, struct iovec *v, int n)
{
	while (n > 0) {
		ssize_t w = pwritev(u->fd, v, n, (off_t)u->written);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		if (w == 0)
			return -EIO;
		u->written += (uint64_t)w;
		while (n > 0 && (size_t)w >= v->iov_len) {
			w -= (ssize_t)v->iov_len;
			v++;
			n--;
		}
		if (n > 0) {
			v->iov_base = (char *)v->iov_base + w;
			v->iov_len -= (size_t)w;
		}
	}
	return 0;
}

static void
hash_pieces(struct spool_upload *u, const struct pieces *ps)
{
	struct piece *p;

	STAILQ_FOREACH(p, ps, link)
	{
		EVP_DigestUpdate(u->md, p->data, p->n);
		if (u->md5 != NULL)
			EVP_DigestUpdate(u->md5, p->data, p->n);
		u->size += p->n;
	}
}

/* The pieces, and what stands behind them if it is the end, in as few calls as
 * can be. */
static int
write_pieces(struct spool_upload *u, struct pieces *ps, const struct iovec *end)
{
	struct piece *p = STAILQ_FIRST(ps);
	struct iovec v[IOV];
	int rc = 0;

	while (rc == 0 && (p != NULL || end != NULL)) {
		int n = 0;

		for (; p != NULL && n < IOV - 1; p = STAILQ_NEXT(p, link))
			v[n++] = (struct iovec){ p->data, p->n };
		if (p == NULL && end != NULL) {
			v[n++] = *end;
			end = NULL;
		}
		rc = write_iov(u, v, n);
	}
	return rc;
}

/* ---- threads: committing ------------------------------------------------- */

/* Wake the loop. Called with the mutex held. */
static void
wake_loop(struct incoming *in)
{
	uint64_t one = 1;

	if (in->woken)
		return;
	in->woken = true;
	if (write(in->efd, &one, sizeof(one)) < 0)
		log_error(
		    "incoming: cannot wake the loop: %s", strerror(errno));
}

/* What was taken of u is written, or never will be. */
static void
give_back(struct spool_upload *u, struct pieces *ps)
{
	struct incoming *in = u->in;
	struct piece *p;
	size_t n = 0;

	STAILQ_FOREACH(p, ps, link)
	n += p->n;
	if (n == 0)
		return;
	pieces_free(ps);
	pthread_mutex_lock(&in->mutex);
	u->queued -= n;
	in->queued -= n;
	if (in->behind && in->queued < QUEUED_ALL / 2) {
		in->behind = false;
		in->caught_up = true;
		wake_loop(in);
	}
	pthread_mutex_unlock(&in->mutex);
}

/* Tell what has become certain, in order. Called with the mutex held. */
static void
tell_fresh(struct incoming *in)
{
	struct fresh *f;

	while ((f = TAILQ_FIRST(&in->fresh)) != NULL &&
	    f->state != FRESH_PENDING) {
		TAILQ_REMOVE(&in->fresh, f, link);
		in->fresh_n--;
		in->opt.on_durable(f->seq,
		    f->state == FRESH_DURABLE ? &f->item : NULL, in->opt.arg);
		free(f);
	}
}

static struct fresh *
number_new(struct spool_upload *u)
{
	struct incoming *in = u->in;
	struct fresh *f = xcalloc(1, sizeof(*f));

	pthread_mutex_lock(&in->mutex);
	f->seq = in->next_seq++;
	f->since_ms = clock_ms();
	TAILQ_INSERT_TAIL(&in->fresh, f, link);
	in->fresh_n++;
	pthread_mutex_unlock(&in->mutex);
	u->item->seq = f->seq;
	layout_id(in->l->epoch, f->seq, u->item->id);
	return f;
}

struct spool_item
incoming_item_copy(const struct spool_item *from)
{
	struct spool_item it = *from;

	it.device = xstrdup(from->device);
	it.name = xstrdup(from->name);
	it.type = xstrdup(from->type);
	it.address = xstrdup(from->address);
	it.last_error = xstrdup("");
	it.storage = xstrdup("");
	it.key = xstrdup("");
	it.encoding = xstrdup("");
	it.kept = xstrdup("");
	return it;
}

static void
number_settle(
    struct incoming *in, struct fresh *f, const struct spool_item *item, int rc)
{
	if (rc == 0)
		f->item = incoming_item_copy(item);
	pthread_mutex_lock(&in->mutex);
	f->state = rc == 0 ? FRESH_DURABLE : FRESH_GONE;
	tell_fresh(in);
	pthread_mutex_unlock(&in->mutex);
}

static struct iovec
make_footer(const struct spool_upload *u, unsigned flags)
{
	struct footer f = { .size = u->item->size,
		.seq = u->item->seq,
		.epoch = u->in->l->epoch,
		.flags = flags,
		.received_wall_ms = u->item->received_wall_ms,
		.device = u->item->device,
		.name = u->item->name,
		.type = u->item->type,
		.address = u->item->address };
	struct iovec v;

	memcpy(f.sha256, u->item->sha256, sizeof(f.sha256));
	v.iov_base = footer_encode(&f, &v.iov_len);
	return v;
}

/* The body is complete: is it what was announced, is it new? */
static int
check_digests(struct spool_upload *u)
{
	struct incoming *in = u->in;
	uint8_t md5[16];
	uint64_t seq;

	u->item->size = u->size;
	EVP_DigestFinal_ex(u->md, u->item->sha256, NULL);
	if (u->want != NULL && u->want->has_sha256 &&
	    memcmp(u->want->sha256, u->item->sha256, 32) != 0)
		return -EBADMSG;
	if (u->md5 != NULL) {
		EVP_DigestFinal_ex(u->md5, md5, NULL);
		if (memcmp(u->want->md5, md5, 16) != 0)
			return -EBADMSG;
	}
	if (!repeat_find(in->repeat, u->item->device, u->item->name,
		u->item->sha256, clock_ms(), &seq))
		return 0;
	layout_id(in->l->epoch, seq, u->item->id);
	return -EEXIST;
}

static int
commit(struct spool_upload *u, struct pieces *ps)
{
	struct iovec footer;
	struct fresh *f;
	unsigned flags = 0;
	int rc = check_digests(u);
	char temp[24];

	if (rc == 0 && u->size > SYNC_FIRST) {
		rc = write_pieces(u, ps, NULL);
		give_back(u, ps);
		if (rc == 0 && fdatasync(u->fd) != 0)
			rc = -errno;
		flags = FOOTER_F_BODY_SYNCED;
	}
	if (rc != 0)
		return rc;
	f = number_new(u);
	footer = make_footer(u, flags);
	rc = write_pieces(u, ps, &footer);
	free(footer.iov_base);
	give_back(u, ps);
	if (rc == 0) {
		temp_name(u, temp);
		rc = folders_publish(u->in->folders, u->item->seq,
		    u->in->l->incoming, temp, u->fd, u->in->opt.sync_single);
	}
	number_settle(u->in, f, u->item, rc);
	if (rc == 0)
		repeat_add(u->in->repeat, u->item->device, u->item->name,
		    u->item->sha256, clock_ms(), u->item->seq);
	return rc;
}

static void
note_outcome(struct incoming *in, int rc)
{
	if (rc == 0 && in->failures == 0)
		return;
	pthread_mutex_lock(&in->mutex);
	if (rc == 0) {
		in->failures = 0;
	} else if (rc != -ENOSPC && rc != -EDQUOT && rc != -EBADMSG &&
	    rc != -EEXIST && rc != -EMFILE && rc != -ENFILE) {
		in->failures++;
		in->failed_ms = clock_ms();
		if (rc == -EROFS)
			*in->opt.read_only = true;
	}
	pthread_mutex_unlock(&in->mutex);
}

static void
cleanup(struct spool_upload *u, bool keep)
{
	char name[24];

	EVP_MD_CTX_free(u->md);
	EVP_MD_CTX_free(u->md5);
	u->md = u->md5 = NULL;
	if (u->fd < 0)
		return;
	close(u->fd);
	u->fd = -1;
	if (keep)
		return;
	temp_name(u, name);
	unlinkat(u->in->l->incoming, name, 0);
}

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

/* Hand it back to the loop. Called with the mutex held. */
static void
post(struct incoming *in, struct spool_upload *u)
{
	if (u->posted)
		return; /* the loop will see its state of then */
	u->posted = true;
	TAILQ_INSERT_TAIL(&in->finished, u, finished);
	wake_loop(in);
}

static int
take_pieces(struct spool_upload *u, struct pieces *ps, bool last)
{
	int rc = u->rc;

	if (rc == 0 && u->fd < 0)
		rc = open_temp(u);
	if (rc != 0)
		return rc;
	hash_pieces(u, ps);
	return last ? commit(u, ps) : write_pieces(u, ps, NULL);
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
		rc = take_pieces(u, &ps, ending == COMMIT);
	if (rc != 0 && u->rc == 0)
		note_outcome(in, rc);
	else if (ending == COMMIT && rc == 0)
		note_outcome(in, 0);
	if (rc != 0)
		u->rc = rc;
	if (ending != OPEN || u->rc != 0)
		cleanup(u, ending == COMMIT && u->rc == 0);
	give_back(u, &ps);
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
	in->repeat = repeat_new(opt->repeat_window_ms);
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
	repeat_free(in->repeat);
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
incoming_expect(struct spool_upload *u, const struct spool_expect *want)
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
	bears = in->queued + in->held < QUEUED_ALL;
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
