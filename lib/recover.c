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
list(int dir, uint64_t epoch,
    bool (*parse)(uint64_t, const struct dirent *, uint64_t *), uint64_t **out,
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
		if (!parse(epoch, e, &seq))
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

/* A folder among the items is nobody's upload. */
static bool
is_item(uint64_t epoch, const struct dirent *e, uint64_t *seq_out)
{
	return e->d_type != DT_DIR && layout_parse_seq(e->d_name, seq_out);
}

static bool
is_dir(uint64_t epoch, const struct dirent *e, uint64_t *prefix_out)
{
	return layout_parse_dir(e->d_name, prefix_out);
}

static bool
is_id(uint64_t epoch, const struct dirent *e, uint64_t *seq_out)
{
	return layout_parse_id(epoch, e->d_name, seq_out);
}

int
recover_list(int dir, uint64_t **seqs_out, size_t *n_out)
{
	return list(dir, 0, is_item, seqs_out, n_out);
}

int
recover_list_dirs(
    const struct layout *l, uint64_t **prefixes_out, size_t *n_out)
{
	return list(l->item, 0, is_dir, prefixes_out, n_out);
}

int
recover_list_quarantine(
    const struct layout *l, uint64_t **seqs_out, size_t *n_out)
{
	return list(l->quarantine, l->epoch, is_id, seqs_out, n_out);
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

static void
highest_of_quarantine(const struct layout *l, uint64_t *seq)
{
	uint64_t *seqs = NULL;
	size_t n = 0;

	if (recover_list_quarantine(l, &seqs, &n) == 0 && n > 0 &&
	    seqs[n - 1] > *seq)
		*seq = seqs[n - 1];
	free(seqs);
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
	if (rc == 0)
		highest_of_quarantine(l, seq_out);
	return rc;
}

/* unlinkat() has failed: 0 if it is a folder, which nobody here has made and
 * which is in nobody's way. */
static int
not_ours(const struct layout *l, const char *dir, const char *name)
{
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	log_warn("spool %s/%s/%s is not of the spool and left alone", l->dir,
	    dir, name);
	return 0;
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
		    unlinkat(l->incoming, e->d_name, 0) != 0) {
			int other = not_ours(l, "incoming", e->d_name);

			rc = other != 0 ? other : rc;
		}
	closedir(d);
	return rc;
}

static int
open_item(const struct layout *l, uint64_t seq, int *fd_out)
{
	char name[31];

	layout_item_name(seq, name);
	return layout_open_file(l->item, name, fd_out);
}

/* The texts that only the index knows; the others are there already. */
static void
no_texts(struct spool_item *it)
{
	char **texts[] = { &it->device, &it->name, &it->type, &it->address,
		&it->last_error, &it->storage, &it->key, &it->encoding,
		&it->kept };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (*texts[i] == NULL)
			*texts[i] = xstrdup("");
}

int
recover_read_fd(const struct layout *l, int fd, uint64_t seq, bool deep,
    struct spool_item *item_out)
{
	struct spool_item it = { 0 };
	struct footer f;
	int rc = footer_read(fd, &f);

	if (rc != 0)
		return rc;
	if (f.seq != seq || f.epoch != l->epoch)
		rc = -EBADMSG;
	if (rc == 0 && deep && (f.flags & FOOTER_F_BODY_SYNCED) == 0)
		rc = footer_verify_body(fd, &f);
	if (rc != 0) {
		footer_fini(&f);
		return rc;
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
	no_texts(&it);
	*item_out = it;
	return 0;
}

int
recover_read(const struct layout *l, uint64_t seq, bool deep,
    struct spool_item *item_out)
{
	int fd, rc = open_item(l, seq, &fd);

	if (rc != 0)
		return rc;
	rc = recover_read_fd(l, fd, seq, deep, item_out);
	close(fd);
	return rc;
}

void
recover_damaged(const struct layout *l, uint64_t seq, const char *why,
    struct spool_item *item_out)
{
	struct spool_item it = { .seq = seq, .state = SPOOL_QUARANTINED };
	struct stat st;
	char name[31];

	layout_item_name(seq, name);
	if (fstatat(l->item, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		it.size = (uint64_t)st.st_size;
	layout_id(l->epoch, seq, it.id);
	it.last_error = xstrdup(why);
	no_texts(&it);
	*item_out = it;
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

static int
drop_file(struct tail *tail, int dir, const char *name, unsigned *dropped)
{
	(*dropped)++;
	return unlinkat(dir, name + 14, 0) != 0
	    ? not_ours(tail->l, "item", name)
	    : 0;
}

/* One file above the mark: its row, or away with it. */
static int
take_file(struct tail *tail, int dir, uint64_t seq, unsigned *dropped)
{
	struct spool_item *it;
	char name[31];
	int fd, rc;

	layout_item_name(seq, name);
	tail->items =
	    xrealloc(tail->items, (tail->n + 1) * sizeof(*tail->items));
	it = &tail->items[tail->n];
	rc = open_item(tail->l, seq, &fd);
	if (rc == -EBADMSG) /* no file at all */
		return drop_file(tail, dir, name, dropped);
	if (rc != 0)
		return rc; /* the disk; do not throw away what may be good */
	rc = recover_read_fd(tail->l, fd, seq, true, it);
	if (rc == 0 && fdatasync(fd) != 0) {
		rc = -errno;
		spool_item_fini(it);
		close(fd);
		return rc;
	}
	close(fd);
	if (rc == -EIO) {
		/* Bad blocks of one upload hold up none of the others. */
		recover_damaged(tail->l, seq, "the disk cannot read it", it);
		log_error("id=%s cannot be read: to quarantine", it->id);
		rc = 0;
	}
	if (rc == 0) {
		tail->n++;
		return 0;
	}
	return rc != -EBADMSG ? rc : drop_file(tail, dir, name, dropped);
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
