/*
 * spool_drain.c - the drainer's side: signing, sending, reading
 *
 * What must stay true: what is offered to a store is committed before it is
 * signed and never changes; only items that are waiting are taken.
 */
#include "spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "footer.h"
#include "json.h"
#include "log.h"
#include "spool_internal.h"
#include "xalloc.h"

/* ---- sending --------------------------------------------------------------
 */

struct send_job {
	struct index_job job;
	struct spool *sp;
	struct spool_item *items;
	size_t n, gone_n;
	uint64_t *gone;
	void (*fn)(int rc, const uint64_t *gone, size_t gone_n, void *arg);
	void *arg;
};

static int
send_row(struct index_txn *t, const struct spool_item *it, bool *gone)
{
	struct row r, before;
	int rc = index_get(t, it->seq, &r);

	*gone = rc == -ENOENT || (rc == 0 && r.item.state != SPOOL_WAITING);
	if (rc != 0)
		return rc == -ENOENT ? 0 : rc;
	before = r;
	if (!*gone) {
		r.item.state = SPOOL_SENDING;
		r.due_clock = 0;
		if (!r.item.offered) {
			r.item.offered = true;
			r.item.offer_size = it->offer_size;
			memcpy(r.item.offer_sha256, it->offer_sha256, 32);
			spool_set_text(&r.item.storage, it->storage);
			free(r.item.key);
			r.item.key = xstrdup(it->key);
			spool_set_text(&r.item.encoding, it->encoding);
		}
		rc = spool_row_change(t, &before, &r);
	}
	spool_item_fini(&r.item);
	return rc;
}

static int
run_send(struct index_txn *t, struct index_job *j)
{
	struct send_job *s = (struct send_job *)j;
	int rc = 0;

	s->gone_n = 0;
	for (size_t i = 0; rc == 0 && i < s->n; i++) {
		bool gone;

		rc = send_row(t, &s->items[i], &gone);
		if (gone)
			s->gone[s->gone_n++] = s->items[i].seq;
	}
	return rc;
}

static void
on_sent(struct index_job *j)
{
	struct send_job *s = (struct send_job *)j;

	s->fn(j->rc, s->gone, s->gone_n, s->arg);
	for (size_t i = 0; i < s->n; i++)
		spool_item_fini(&s->items[i]);
	free(s->items);
	free(s->gone);
	free(s);
}

void
spool_send(struct spool *sp, const struct spool_item *items, size_t n,
    void (*fn)(int rc, const uint64_t *gone, size_t gone_n, void *arg),
    void *arg)
{
	struct send_job *s = xcalloc(1, sizeof(*s));

	s->job = (struct index_job){
		.writes = true, .run = run_send, .done = on_sent
	};
	s->sp = sp;
	s->items = xcalloc(n, sizeof(*s->items));
	s->gone = xcalloc(n, sizeof(*s->gone));
	s->n = n;
	for (size_t i = 0; i < n; i++) {
		const struct spool_item *it = &items[i];

		s->items[i].seq = it->seq;
		s->items[i].offer_size = it->offer_size;
		memcpy(s->items[i].offer_sha256, it->offer_sha256, 32);
		s->items[i].storage = xstrdup(it->storage);
		s->items[i].key = xstrdup(it->key);
		s->items[i].encoding = xstrdup(it->encoding);
	}
	s->fn = fn;
	s->arg = arg;
	index_submit(sp->ix, &s->job);
}

/* ---- many at once ---------------------------------------------------------
 */

/* Back to waiting: all that a crash left in sending, or what was held of one
 * device. */
struct wake_job {
	struct index_job job;
	struct spool *sp;
	enum spool_state from;
	char *device; /* NULL: any */
	uint64_t *seqs;
	size_t n;
	spool_fn fn;
	void *arg;
};

static int
on_asleep(uint64_t seq, struct row *r, void *arg)
{
	struct wake_job *w = arg;

	if (r == NULL ||
	    (w->device != NULL && strcmp(r->item.device, w->device) != 0))
		return 0;
	w->seqs = xrealloc(w->seqs, (w->n + 1) * sizeof(*w->seqs));
	w->seqs[w->n++] = seq;
	return 0;
}

static int
run_wake(struct index_txn *t, struct index_job *j)
{
	struct wake_job *w = (struct wake_job *)j;
	uint64_t there =
	    w->from == SPOOL_SENDING ? t->st->sending : t->st->held;
	int rc;

	w->n = 0;
	if (there == 0)
		return 0;
	rc = index_walk(t, 0, w->from, on_asleep, w);
	for (size_t i = 0; rc == 0 && i < w->n; i++) {
		struct row r, before;

		if ((rc = index_get(t, w->seqs[i], &r)) != 0)
			break;
		before = r;
		r.item.state = SPOOL_WAITING;
		r.due_clock = t->now;
		rc = spool_row_change(t, &before, &r);
		spool_item_fini(&r.item);
	}
	return rc;
}

static void
on_woken(struct index_job *j)
{
	struct wake_job *w = (struct wake_job *)j;

	if (w->fn != NULL)
		w->fn(j->rc, w->arg);
	free(w->device);
	free(w->seqs);
	free(w);
}

static void
wake(struct spool *sp, enum spool_state from, const char *device, spool_fn fn,
    void *arg)
{
	struct wake_job *w = xcalloc(1, sizeof(*w));

	w->job = (struct index_job){
		.writes = true, .run = run_wake, .done = on_woken
	};
	w->sp = sp;
	w->from = from;
	w->device = device != NULL ? xstrdup(device) : NULL;
	w->fn = fn;
	w->arg = arg;
	index_submit(sp->ix, &w->job);
}

void
spool_requeue(struct spool *sp, spool_fn fn, void *arg)
{
	wake(sp, SPOOL_SENDING, NULL, fn, arg);
}

void
spool_release_device(
    struct spool *sp, const char *device, spool_fn fn, void *arg)
{
	wake(sp, SPOOL_HELD, device, fn, arg);
}

/* ---- reading --------------------------------------------------------------
 */

int
spool_open_body(struct spool *sp, const struct spool_item *it, int *fd_out)
{
	struct footer f;
	char name[31];
	int fd, rc;

	layout_item_name(it->seq, name);
	rc = layout_open_file(sp->l.item, name, &fd);
	if (rc != 0)
		return rc;
	rc = footer_read(fd, &f);
	if (rc == 0) {
		if (f.seq != it->seq || f.epoch != sp->l.epoch ||
		    f.size != it->size || memcmp(f.sha256, it->sha256, 32) != 0)
			rc = -EBADMSG;
		footer_fini(&f);
	}
	if (rc != 0) {
		close(fd);
		return rc;
	}
	*fd_out = fd;
	return 0;
}
