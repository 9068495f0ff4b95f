/*
 * incoming_disk.c - what a committer does for one upload: write, number, commit
 *
 * The order of the steps is told in incoming.c. Numbers are given when the body
 * is complete, and told in order and without gaps.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "checksum.h"
#include "clock.h"
#include "folders.h"
#include "footer.h"
#include "incoming_private.h"
#include "layout.h"
#include "repeat.h"
#include "xalloc.h"

#define SYNC_FIRST (1024 * 1024) /* larger: sync the body before the footer */
#define IOV 32

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
	if (u->want != NULL)
		u->sums = checksum_begin(u->want, ~(1U << CHECKSUM_SHA256));
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
		*u->in->opt.written += (uint64_t)w;
		u->in->written_live += (uint64_t)w;
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
		checksum_update(u->sums, p->data, p->n);
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

void
incoming_give_back(struct spool_upload *u, struct pieces *ps)
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
		incoming_wake_loop(in);
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
	uint64_t seq;

	u->item->size = u->size;
	EVP_DigestFinal_ex(u->md, u->item->sha256, NULL);
	if (u->want != NULL &&
	    (checksum_differs(u->want, CHECKSUM_SHA256, u->item->sha256) ||
		!checksum_fits(u->sums)))
		return -EBADMSG;
	if (u->repeat_window_ms <= 0 ||
	    !repeat_find(in->opt.repeat, u->item->device, u->item->name,
		u->item->sha256, clock_ms() - u->repeat_window_ms, &seq))
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
		incoming_give_back(u, ps);
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
	incoming_give_back(u, ps);
	if (rc == 0) {
		temp_name(u, temp);
		rc = folders_publish(u->in->folders, u->item->seq,
		    u->in->l->incoming, temp, u->fd, u->in->opt.sync_single);
	}
	if (rc == 0) /* before its row can come, and so go */
		repeat_add(u->in->opt.repeat, u->item->device, u->item->name,
		    u->item->sha256, clock_ms(), u->item->seq);
	number_settle(u->in, f, u->item, rc);
	return rc;
}

void
incoming_note(struct incoming *in, int rc)
{
	if (rc == 0 && in->failures == 0)
		return;
	pthread_mutex_lock(&in->mutex);
	if (rc == 0) {
		in->failures = 0;
	} else if (rc != -ENOSPC && rc != -EDQUOT && rc != -EBADMSG &&
	    rc != -EEXIST && rc != -EMFILE && rc != -ENFILE && rc != -EFBIG) {
		in->failures++;
		in->failed_ms = clock_ms();
		if (rc == -EROFS)
			*in->opt.read_only = true;
	}
	pthread_mutex_unlock(&in->mutex);
}

void
incoming_file_close(struct spool_upload *u, bool keep)
{
	char name[24];

	EVP_MD_CTX_free(u->md);
	checksum_free(u->sums);
	u->md = NULL;
	u->sums = NULL;
	if (u->fd < 0)
		return;
	close(u->fd);
	u->fd = -1;
	if (keep)
		return;
	temp_name(u, name);
	unlinkat(u->in->l->incoming, name, 0);
}

int
incoming_take(struct spool_upload *u, struct pieces *ps, bool last)
{
	int rc = u->rc;

	if (rc == 0 && u->fd < 0)
		rc = open_temp(u);
	if (rc != 0)
		return rc;
	hash_pieces(u, ps);
	return last ? commit(u, ps) : write_pieces(u, ps, NULL);
}
