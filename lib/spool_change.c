/*
 * spool_change.c - what happens to an upload that waits
 *
 * What must stay true: an item's state changes in the transaction that changes
 * the ledger's columns; a row goes before its file, and is marked quarantined
 * before its file moves. Each call is one job of the index thread.
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
#include "index_ends.h"
#include "json.h"
#include "log.h"
#include "repeat.h"
#include "spool_internal.h"
#include "url.h"
#include "xalloc.h"

/* ---- changes of one row ---------------------------------------------------
 */

enum change {
	CHANGE_OFFER,
	CHANGE_KEEP,
	CHANGE_DEFER,
	CHANGE_HOLD,
	CHANGE_END,
	CHANGE_EVICT,
	CHANGE_QUARANTINE,
	CHANGE_DAMAGED /* found by reading back */
};

struct change_job {
	struct index_job job;
	struct spool *sp;
	enum change what;
	uint64_t seq;
	int64_t wait_ms;
	bool counts;
	enum spool_end how;
	char *text;
	uint64_t offer_size;
	uint8_t offer_sha256[32];
	struct spool_item was; /* texts are its own; after the transaction */
	bool changed, busy;    /* busy: left as it was */
	spool_fn fn;
	void *arg;
};

/* Take the row out of the column of its state. */
static void
leave_state(struct index_state *st, const struct spool_item *it)
{
	if (it->state == SPOOL_QUARANTINED) {
		st->quarantined--;
		st->quarantined_bytes -= it->size;
		return;
	}
	st->waiting--;
	st->waiting_bytes -= it->size;
	if (it->state == SPOOL_SENDING)
		st->sending--;
	if (it->state == SPOOL_HELD)
		st->held--;
}

static void
enter_state(struct index_state *st, const struct spool_item *it)
{
	if (it->state == SPOOL_QUARANTINED) {
		st->quarantined++;
		st->quarantined_bytes += it->size;
		return;
	}
	st->waiting++;
	st->waiting_bytes += it->size;
	if (it->state == SPOOL_SENDING)
		st->sending++;
	if (it->state == SPOOL_HELD)
		st->held++;
}

int
spool_row_add(struct index_txn *t, const struct spool_item *it, bool found)
{
	struct row r = { .item = *it, .received_clock = t->now };
	int rc;

	r.item.found = found;
	rc = index_put(t, it->seq, NULL, &r);
	if (rc == 0)
		rc =
		    index_device_count(t, it->device, it->address, 1, it->size);
	if (rc != 0)
		return rc;
	t->st->accepted++;
	t->st->accepted_bytes += it->size;
	enter_state(t->st, it);
	return 0;
}

int
spool_row_change(struct index_txn *t, const struct row *before, struct row *r)
{
	int rc = index_put(t, r->item.seq, before, r);

	if (rc != 0)
		return rc;
	leave_state(t->st, &before->item);
	enter_state(t->st, &r->item);
	return 0;
}

void
spool_set_text(char **field, const char *s)
{
	free(*field);
	*field = xstrndup(s != NULL ? s : "", 1000);
}

int
spool_row_end(struct index_txn *t, struct row *r, enum spool_end how)
{
	int rc = index_del(t, r->item.seq, r);

	if (rc == 0)
		rc = index_device_count(
		    t, r->item.device, r->item.address, -1, r->item.size);
	if (rc != 0)
		return rc;
	rc = index_ends_add(t, r, how);
	if (rc != 0)
		return rc;
	leave_state(t->st, &r->item);
	t->st->ends[how]++;
	if (how == SPOOL_DELIVERED)
		t->st->delivered_bytes += r->item.size;
	return 0;
}

/* Its parts at a store will not be finished: somebody has to free them. */
static int
give_up_parts(struct index_txn *t, struct row *r)
{
	int rc = 0;

	if (r->item.kept[0] != '\0')
		rc = index_ends_add(t, r, SPOOL_ENDED_PARTS);
	if (rc == 0)
		spool_set_text(&r->item.kept, "");
	return rc;
}

static int
change_row(struct index_txn *t, struct change_job *c, struct row *r)
{
	struct row before = *r; /* state and due; its texts are r's */
	int rc;

	switch (c->what) {
	case CHANGE_OFFER:
		rc = give_up_parts(t, r);
		if (rc != 0)
			return rc;
		r->item.offer_size = c->offer_size;
		memcpy(r->item.offer_sha256, c->offer_sha256, 32);
		spool_set_text(&r->item.encoding, c->text);
		break;
	case CHANGE_KEEP:
		free(r->item.kept);
		r->item.kept = xstrdup(c->text);
		break;
	case CHANGE_DEFER:
		r->item.state = SPOOL_WAITING;
		r->due_clock = t->now + (c->wait_ms > 0 ? c->wait_ms : 0);
		if (c->counts)
			r->item.attempts++;
		spool_set_text(&r->item.last_error,
		    spool_index_tight(c->sp, 0) ? "" : c->text);
		break;
	case CHANGE_HOLD:
		rc = give_up_parts(t, r);
		if (rc != 0)
			return rc;
		r->item.state = SPOOL_HELD;
		spool_set_text(&r->item.last_error, c->text);
		break;
	case CHANGE_DAMAGED:
		c->busy = r->item.state == SPOOL_SENDING ||
		    r->item.state == SPOOL_QUARANTINED;
		if (c->busy)
			return 0;
		/* fallthrough */
	case CHANGE_QUARANTINE:
		r->item.state = SPOOL_QUARANTINED;
		spool_set_text(&r->item.last_error, c->text);
		rc = index_ends_add(t, r, SPOOL_ENDED_QUARANTINED);
		if (rc != 0)
			return rc;
		break;
	case CHANGE_EVICT:
		c->busy = r->item.state == SPOOL_SENDING ||
		    r->item.state == SPOOL_QUARANTINED;
		if (c->busy)
			return 0;
		/* fallthrough */
	case CHANGE_END:
		spool_set_text(&r->item.last_error, c->text);
		return spool_row_end(t, r, c->how);
	}
	return spool_row_change(t, &before, r);
}

static int
run_change(struct index_txn *t, struct index_job *j)
{
	struct change_job *c = (struct change_job *)j;
	struct row r;
	int rc = index_get(t, c->seq, &r);

	c->changed = c->busy = false;
	spool_item_fini(&c->was); /* of a batch that was tried again */
	if (rc == -ENOENT)
		return 0;
	if (rc != 0)
		return rc;
	rc = change_row(t, c, &r);
	c->changed = rc == 0 && !c->busy;
	spool_item_from_row(c->sp, t, &r);
	c->was = r.item;
	return rc;
}

static void
write_reason(struct spool *sp, const struct spool_item *it)
{
	char name[40];
	cJSON *o = cJSON_CreateObject();
	char *line, sha[65];
	int fd;

	hex_encode(it->sha256, 32, sha);
	json_add_text(o, "id", it->id);
	json_add_text(o, "device", it->device);
	json_add_text(o, "name", it->name);
	json_add_text(o, "type", it->type);
	json_add_int(o, "size", (int64_t)it->size);
	json_add_text(o, "sha256", sha);
	json_add_text(o, "reason", it->last_error);
	line = json_line(o);
	cJSON_Delete(o);
	snprintf(name, sizeof(name), "%s.json", it->id);
	fd = openat(sp->l.quarantine, name,
	    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0660);
	if (fd < 0 || write(fd, line, strlen(line)) < 0)
		log_warn("id=%s quarantine: cannot write the reason: %s",
		    it->id, strerror(errno));
	if (fd >= 0)
		close(fd);
	free(line);
}

/* On the index thread, row committed: the file follows. quarantine/ takes at
 * most a tenth of the spool; beyond that the file stays where it is. */
void
spool_move_to_quarantine(struct spool *sp, const struct spool_item *it)
{
	struct index_state st;
	char name[31];

	index_snapshot(sp->ix, &st);
	if (st.quarantined_bytes > sp->opt.max_size / 10)
		return;
	layout_item_name(it->seq, name);
	write_reason(sp, it);
	if (renameat(sp->l.item, name, sp->l.quarantine, it->id) != 0 &&
	    errno != ENOENT)
		log_warn("id=%s stays in item/: %s", it->id, strerror(errno));
}

/* Does it still wait, or was it delivered? */
static bool
is_kept(const struct change_job *c)
{
	return c->what == CHANGE_END ? c->how == SPOOL_DELIVERED
				     : c->what != CHANGE_EVICT &&
		c->what != CHANGE_QUARANTINE && c->what != CHANGE_DAMAGED;
}

static void
settle_change(struct index_job *j)
{
	struct change_job *c = (struct change_job *)j;

	if (j->rc != 0 || !c->changed)
		return;
	if (!is_kept(c)) /* what is sent again is no repeat */
		repeat_forget(c->sp->repeat, c->seq);
	if (c->what == CHANGE_END)
		spool_unlink_later(c->sp, &c->was);
	else if (c->what == CHANGE_EVICT) /* somebody needs the room */
		spool_unlink_item(c->sp, &c->was);
	else if (c->what == CHANGE_QUARANTINE || c->what == CHANGE_DAMAGED)
		spool_move_to_quarantine(c->sp, &c->was);
}

static void
on_changed(struct index_job *j)
{
	struct change_job *c = (struct change_job *)j;

	if (c->fn != NULL)
		c->fn(j->rc != 0     ? j->rc
			: c->changed ? 0
			: c->busy    ? -EBUSY
				     : -ENOENT,
		    c->arg);
	spool_item_fini(&c->was);
	free(c->text);
	free(c);
}

static struct change_job *
change_new(struct spool *sp, enum change what, uint64_t seq, const char *text,
    spool_fn fn, void *arg)
{
	struct change_job *c = xcalloc(1, sizeof(*c));

	c->job = (struct index_job){ .writes = true,
		.run = run_change,
		.settle = settle_change,
		.done = on_changed };
	c->sp = sp;
	c->what = what;
	c->seq = seq;
	c->text = xstrdup(text != NULL ? text : "");
	c->fn = fn;
	c->arg = arg;
	return c;
}

void
spool_offer_anew(
    struct spool *sp, const struct spool_item *it, spool_fn fn, void *arg)
{
	struct change_job *c =
	    change_new(sp, CHANGE_OFFER, it->seq, it->encoding, fn, arg);

	c->offer_size = it->offer_size;
	memcpy(c->offer_sha256, it->offer_sha256, 32);
	index_submit(sp->ix, &c->job);
}

void
spool_keep(
    struct spool *sp, uint64_t seq, const char *kept, spool_fn fn, void *arg)
{
	index_submit(
	    sp->ix, &change_new(sp, CHANGE_KEEP, seq, kept, fn, arg)->job);
}

void
spool_defer(struct spool *sp, uint64_t seq, int64_t wait_ms, bool counts,
    const char *error, spool_fn fn, void *arg)
{
	struct change_job *c =
	    change_new(sp, CHANGE_DEFER, seq, error, fn, arg);

	c->wait_ms = wait_ms;
	c->counts = counts;
	c->job.lazy = wait_ms >= 1000; /* nobody waits for it before */
	index_submit(sp->ix, &c->job);
}

void
spool_hold(
    struct spool *sp, uint64_t seq, const char *why, spool_fn fn, void *arg)
{
	index_submit(
	    sp->ix, &change_new(sp, CHANGE_HOLD, seq, why, fn, arg)->job);
}

void
spool_end(struct spool *sp, uint64_t seq, enum spool_end how, const char *why,
    spool_fn fn, void *arg)
{
	struct change_job *c = change_new(sp, CHANGE_END, seq, why, fn, arg);

	c->how = how;
	c->job.lazy = true;
	index_submit(sp->ix, &c->job);
}

void
spool_evict(
    struct spool *sp, uint64_t seq, const char *why, spool_fn fn, void *arg)
{
	struct change_job *c = change_new(sp, CHANGE_EVICT, seq, why, fn, arg);

	c->how = SPOOL_EVICTED;
	index_submit(sp->ix, &c->job);
}

void
spool_quarantine(
    struct spool *sp, uint64_t seq, const char *why, spool_fn fn, void *arg)
{
	index_submit(
	    sp->ix, &change_new(sp, CHANGE_QUARANTINE, seq, why, fn, arg)->job);
}

void
spool_quarantine_damaged(
    struct spool *sp, uint64_t seq, const char *why, spool_fn fn, void *arg)
{
	index_submit(
	    sp->ix, &change_new(sp, CHANGE_DAMAGED, seq, why, fn, arg)->job);
}
