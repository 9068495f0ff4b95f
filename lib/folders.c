/*
 * folders.c - the open folders of item/ that new uploads go to
 *
 * What must stay true: a folder is handed out only if its name in item/ has
 * been synced. If that sync fails the name is taken back, so that the next
 * upload makes and syncs a new one; nothing leans on a second sync of the
 * first. A mutex of its own: whoever waits here waits for the disk, and the
 * event loop never takes it.
 */
#include "folders.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layout.h"
#include "log.h"
#include "xalloc.h"

#define OPEN_MAX_ 4

struct folder {
	uint64_t prefix;
	int fd;
	unsigned refs;
};

struct folders {
	const struct layout *l;
	pthread_mutex_t mutex; /* guards what follows */
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
	*o = (struct folder){ seq >> LAYOUT_DIR_BITS, fd, 0 };
	*out = o;
	return 0;
}

int
folders_get(struct folders *f, uint64_t seq, int *fd_out)
{
	struct folder *o;
	int rc = 0;

	pthread_mutex_lock(&f->mutex);
	o = find(f, seq >> LAYOUT_DIR_BITS);
	if (o == NULL)
		rc = open_new(f, seq, &o);
	if (rc == 0) {
		o->refs++;
		*fd_out = o->fd;
	}
	pthread_mutex_unlock(&f->mutex);
	return rc;
}

void
folders_put(struct folders *f, uint64_t seq)
{
	pthread_mutex_lock(&f->mutex);
	find(f, seq >> LAYOUT_DIR_BITS)->refs--;
	pthread_mutex_unlock(&f->mutex);
}
