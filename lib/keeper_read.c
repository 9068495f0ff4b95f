/*
 * keeper_read.c - items are read back, so that damage is found early
 *
 * For as long as the spool is open, items are read back one by one
 * with a pause after each, so that a flipped bit is found before somebody wants
 * the file; that one upload goes to quarantine. A check that the operator asks
 * for is the same without the pauses, and then looks whether each row has its
 * file. Otherwise reading back looks at files alone: the index is asked (and so
 * written to) only when something is wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keeper_private.h"
#include "log.h"
#include "verify.h"
#include "xalloc.h"

#define PASS_MS 10000  /* from one reading of all items to the next */
#define SCRUB_MS_MB 50 /* pause after each MB: at most 20 MB a second ... */
#define CHECK_MS_MB 5  /* ... and 200, if the operator waits for it */

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
		keeper_pause_ms(p->k, p->check ? CHECK_MS_MB : SCRUB_MS_MB);
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

static void
found_bad(struct pass *p, uint64_t seq, const char *why)
{
	struct keeper *k = p->k;
	char id[SPOOL_ID_LEN + 1];

	layout_id(k->sp->l.epoch, seq, id);
	spool_quarantine_damaged(
	    k->sp, seq, why, on_put_aside, xasprintf("id=%s %s", id, why));
}

/* 0, or -ECANCELED: the pass is over. */
static int
read_back_item(struct pass *p, uint64_t seq)
{
	struct keeper *k = p->k;
	const char *why = "it is no file";
	char name[31];
	int fd, rc;

	layout_item_name(seq, name);
	p->read = 0;
	fd = verify_open(k->sp->l.item, name);
	rc = fd < 0 ? fd : verify_file(fd, seq, on_piece, p, &why);
	if (fd >= 0)
		close(fd);
	if (rc == -EIO)
		why = "the disk cannot read it";
	if (rc == -EBADMSG || rc == -EIO) {
		found_bad(p, seq, why);
	} else if (rc == 0) {
		why = NULL;
	} else {
		/* else it was done meanwhile; or no descriptor: another time */
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
			keeper_pause_ms(k, k->sp->opt.scrub_pause_ms);
	}
	return rc;
}

/* ---- rows without a file -------------------------------------------------
 */

/* Rows whose files should be in item/. */
struct rows {
	uint64_t after, seqs[CHUNK];
	size_t n;
};

static int
on_row(uint64_t seq, struct row *r, void *arg)
{
	struct rows *rows = arg;

	rows->after = seq;
	if (r != NULL && r->item.state != SPOOL_QUARANTINED)
		rows->seqs[rows->n++] = seq;
	return rows->n == CHUNK;
}

static int
run_rows(struct index_txn *t, struct index_job *j)
{
	struct rows *rows = ((struct chunk *)j)->arg;
	int rc = index_walk(t, rows->after, -1, on_row, rows);

	return rc < 0 ? rc : 0;
}

/* A row goes before its file: those that have one still lack the file. */
static int
run_still(struct index_txn *t, struct index_job *j)
{
	struct rows *rows = ((struct chunk *)j)->arg;
	size_t n = 0;

	for (size_t i = 0; i < rows->n; i++) {
		struct row r;

		if (index_get(t, rows->seqs[i], &r) != 0)
			continue;
		if (r.item.state != SPOOL_QUARANTINED)
			rows->seqs[n++] = rows->seqs[i];
		spool_item_fini(&r.item);
	}
	rows->n = n;
	return 0;
}

static int
ask_rows(struct keeper *k, struct rows *rows,
    int (*run)(struct index_txn *, struct index_job *))
{
	struct chunk *c = keeper_chunk(false, run);

	c->arg = rows;
	return keeper_ask(k, c, keeper_settled);
}

static void
leave_missing(struct keeper *k, struct rows *rows)
{
	struct stat st;
	size_t n = 0;
	char name[31];

	for (size_t i = 0; i < rows->n; i++) {
		layout_item_name(rows->seqs[i], name);
		if (fstatat(k->sp->l.item, name, &st, AT_SYMLINK_NOFOLLOW) == 0
			? S_ISDIR(st.st_mode)
			: errno == ENOENT)
			rows->seqs[n++] = rows->seqs[i];
	}
	rows->n = n;
}

static void
check_rows(struct pass *p)
{
	static const char why[] = "its file is missing";
	struct rows rows = { 0 };
	size_t n = CHUNK;

	while (n == CHUNK && !keeper_stopping(p->k)) {
		rows.n = 0;
		if (ask_rows(p->k, &rows, run_rows) != 0)
			return;
		n = rows.n;
		leave_missing(p->k, &rows);
		if (rows.n > 0 && ask_rows(p->k, &rows, run_still) != 0)
			return;
		for (size_t i = 0; i < rows.n; i++) {
			p->read = 0;
			found_bad(p, rows.seqs[i], why);
			note_read(p, rows.seqs[i], why);
		}
	}
}

/* ---- passes ---------------------------------------------------------------
 */

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

void
keeper_read_back(struct keeper *k)
{
	while (!keeper_stopping(k)) {
		struct pass p = { .k = k, .check = check_begins(k) };
		int rc = 0;

		if (p.check || k->sp->opt.scrub_pause_ms > 0)
			rc = keeper_each_dir(k, 0, read_back_dir, &p);
		if (rc != 0 && rc != -ECANCELED)
			log_warn("spool: cannot list item/: %s", strerror(-rc));
		if (p.check) {
			check_rows(&p);
			check_ends(k);
		}
		keeper_pause_ms(k, PASS_MS);
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
