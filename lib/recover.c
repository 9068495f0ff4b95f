/*
 * recover.c - a spool's files and its index agree again after a crash
 *
 * The index knows a number up to which all is indexed. Files above it get
 * their rows if they are whole, else they go: nobody was told of them. "Whole"
 * means footer and SHA-256 fit; over 1 MiB the body was synced before the
 * footer was written, so the footer alone decides. What is taken over is
 * synced first: after a mere kill -9 it may be in the page cache only.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "footer.h"
#include "log.h"
#include "spool_internal.h"
#include "xalloc.h"

static int
by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int
list(int dir, bool (*parse)(const char *, uint64_t *), uint64_t **out,
    size_t *n_out)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	uint64_t *v = NULL, seq;
	size_t n = 0, room = 0;
	struct dirent *e;

	if (d == NULL) {
		int rc = -errno;

		if (fd >= 0)
			close(fd);
		return rc;
	}
	while ((e = readdir(d)) != NULL) {
		if (!parse(e->d_name, &seq))
			continue;
		if (n == room) {
			room = room == 0 ? 64 : 2 * room;
			v = xrealloc(v, room * sizeof(*v));
		}
		v[n++] = seq;
	}
	closedir(d);
	if (n > 0)
		qsort(v, n, sizeof(*v), by_number);
	*out = v;
	*n_out = n;
	return 0;
}

int
recover_list(int dir, uint64_t **seqs_out, size_t *n_out)
{
	return list(dir, layout_parse_seq, seqs_out, n_out);
}

int
recover_list_dirs(
    const struct layout *l, uint64_t **prefixes_out, size_t *n_out)
{
	return list(l->item, layout_parse_dir, prefixes_out, n_out);
}

static int
open_dir(const struct layout *l, uint64_t prefix, int *fd_out)
{
	char name[14];

	layout_dir_name(prefix << LAYOUT_DIR_BITS, name);
	*fd_out = openat(
	    l->item, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return *fd_out < 0 ? -errno : 0;
}

int
recover_highest(const struct layout *l, uint64_t *seq_out)
{
	uint64_t *dirs = NULL, *seqs;
	size_t dirs_n = 0, n;
	int rc = recover_list_dirs(l, &dirs, &dirs_n), fd;

	*seq_out = 0;
	for (size_t i = dirs_n; rc == 0 && i > 0 && *seq_out == 0; i--) {
		if ((rc = open_dir(l, dirs[i - 1], &fd)) != 0)
			break;
		rc = recover_list(fd, &seqs, &n);
		if (rc == 0) {
			if (n > 0)
				*seq_out = seqs[n - 1];
			free(seqs);
		}
		close(fd);
	}
	free(dirs);
	return rc;
}

int
recover_empty_incoming(const struct layout *l)
{
	int fd = openat(l->incoming, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int rc = 0;

	if (d == NULL) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' &&
		    unlinkat(l->incoming, e->d_name, 0) != 0)
			rc = -errno;
	closedir(d);
	return rc;
}

int
recover_read(const struct layout *l, uint64_t seq, bool deep,
    struct spool_item *item_out)
{
	struct spool_item it = { 0 };
	struct footer f;
	char name[31];
	int fd, rc;

	layout_item_name(seq, name);
	fd = openat(l->item, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	rc = footer_read(fd, &f);
	if (rc != 0)
		goto out;
	if (f.seq != seq || f.epoch != l->epoch)
		rc = -EBADMSG;
	if (rc == 0 && deep && (f.flags & FOOTER_F_BODY_SYNCED) == 0)
		rc = footer_verify_body(fd, &f);
	if (rc == 0 && deep && fdatasync(fd) != 0)
		rc = -errno;
	if (rc != 0) {
		footer_fini(&f);
		goto out;
	}
	layout_id(l->epoch, seq, it.id);
	it.seq = seq;
	it.size = f.size;
	memcpy(it.sha256, f.sha256, sizeof(it.sha256));
	it.received_wall_ms = f.received_wall_ms;
	it.device = f.device; /* the footer's texts are the item's now */
	it.name = f.name;
	it.type = f.type;
	it.address = f.address;
	it.last_error = xstrdup("");
	it.storage = xstrdup("");
	it.key = xstrdup("");
	it.encoding = xstrdup("");
	it.kept = xstrdup("");
	*item_out = it;
out:
	close(fd);
	return rc;
}

struct tail {
	const struct layout *l;
	struct spool_item *items;
	size_t n;
	uint64_t upto;
};

static int
add_tail(struct index_txn *t, void *arg)
{
	struct tail *tail = arg;

	for (size_t i = 0; i < tail->n; i++) {
		int rc = index_has(t, tail->items[i].seq)
		    ? 0
		    : spool_row_add(t, &tail->items[i], false);

		if (rc != 0)
			return rc;
	}
	if (tail->upto > t->st->upto)
		t->st->upto = tail->upto;
	return 0;
}

/* One file above the mark: its row, or away with it. */
static int
take_file(struct tail *tail, int dir, uint64_t seq, unsigned *dropped)
{
	char name[31];
	int rc;

	tail->items =
	    xrealloc(tail->items, (tail->n + 1) * sizeof(*tail->items));
	rc = recover_read(tail->l, seq, true, &tail->items[tail->n]);
	if (rc == 0) {
		tail->n++;
		return 0;
	}
	if (rc != -EBADMSG)
		return rc; /* the disk; do not throw away what may be good */
	layout_item_name(seq, name);
	(*dropped)++;
	return unlinkat(dir, name + 14, 0) != 0 ? -errno : 0;
}

static int
take_dir(struct tail *tail, uint64_t prefix, uint64_t after, unsigned *dropped)
{
	uint64_t *seqs = NULL;
	size_t n = 0;
	int fd, rc = open_dir(tail->l, prefix, &fd);

	if (rc != 0)
		return rc;
	rc = recover_list(fd, &seqs, &n);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (seqs[i] <= after)
			continue;
		rc = take_file(tail, fd, seqs[i], dropped);
		tail->upto = seqs[i];
	}
	if (rc == 0 && fsync(fd) != 0)
		rc = -errno;
	free(seqs);
	close(fd);
	return rc;
}

int
recover_tail(const struct layout *l, struct index *ix, uint64_t *next_seq_out)
{
	struct tail tail = { .l = l };
	struct index_state st;
	uint64_t *dirs = NULL;
	size_t dirs_n = 0;
	unsigned dropped = 0;
	int64_t t0 = clock_ms();
	int rc = recover_list_dirs(l, &dirs, &dirs_n);

	index_snapshot(ix, &st);
	tail.upto = st.upto;
	for (size_t i = 0; rc == 0 && i < dirs_n; i++)
		if (dirs[i] >= st.upto >> LAYOUT_DIR_BITS)
			rc = take_dir(&tail, dirs[i], st.upto, &dropped);
	if (rc == 0 && fsync(l->item) != 0)
		rc = -errno;
	if (rc == 0 && (tail.n > 0 || tail.upto != st.upto)) {
		rc = index_update_now(ix, add_tail, &tail);
		log_info("spool recovered uploads=%zu dropped=%u ms=%lld",
		    tail.n, dropped, (long long)(clock_ms() - t0));
	}
	for (size_t i = 0; i < tail.n; i++)
		spool_item_fini(&tail.items[i]);
	free(tail.items);
	free(dirs);
	*next_seq_out = tail.upto + 1;
	return rc;
}
