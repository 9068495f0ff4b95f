/*
 * wlog.c - nbdkit plugin: a disk in memory that remembers every write
 *
 * A power cut is a moment in the order of writes and flushes that reached the
 * disk. So the disk starts as the image `file=` and appends to `log=` a record
 * of each write and flush, before it answers; replay.c makes of a log and a
 * moment what a disk would hold then. Nothing is ever written to `file`.
 *
 * A record: struct wlog_record of wlog.h, then len octets of data.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "wlog.h"

/* One request at a time: the order in the log is the order on the disk. */
#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

static char *image_path, *log_path;
static unsigned char *disk;
static int64_t disk_size;
static int log_fd = -1;

static int
wlog_config(const char *key, const char *value)
{
	char **to = strcmp(key, "file") == 0 ? &image_path
	    : strcmp(key, "log") == 0        ? &log_path
					     : NULL;

	if (to == NULL) {
		nbdkit_error("unknown parameter %s", key);
		return -1;
	}
	free(*to);
	*to = nbdkit_absolute_path(value);
	return *to != NULL ? 0 : -1;
}

static int
wlog_get_ready(void)
{
	struct stat st;
	int fd;

	if (image_path == NULL || log_path == NULL) {
		nbdkit_error("file= and log= are needed");
		return -1;
	}
	fd = open(image_path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		nbdkit_error("%s: %s", image_path, strerror(errno));
		return -1;
	}
	disk_size = st.st_size;
	disk = mmap(NULL, (size_t)disk_size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE, fd, 0);
	close(fd);
	log_fd = open(log_path,
	    O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (disk == MAP_FAILED || log_fd < 0) {
		nbdkit_error("%s: %s", log_path, strerror(errno));
		return -1;
	}
	return 0;
}

static void *
wlog_open(int readonly)
{
	return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
wlog_get_size(void *handle)
{
	return disk_size;
}

static int
append(char op, uint64_t offset, uint32_t len, const void *data)
{
	struct wlog_record r = { .op = op, .len = len, .offset = offset };
	struct iovec v[2] = { { &r, sizeof(r) }, { (void *)data, len } };
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	r.ns = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
	if (writev(log_fd, v, 2) != (ssize_t)(sizeof(r) + len)) {
		nbdkit_error("%s: %s", log_path, strerror(errno));
		nbdkit_set_error(EIO);
		return -1;
	}
	return 0;
}

static int
wlog_pread(void *handle, void *buf, uint32_t n, uint64_t offset, uint32_t flags)
{
	memcpy(buf, disk + offset, n);
	return 0;
}

static int
wlog_pwrite(
    void *handle, const void *buf, uint32_t n, uint64_t offset, uint32_t flags)
{
	memcpy(disk + offset, buf, n);
	if (append('W', offset, n, buf) != 0)
		return -1;
	return (flags & NBDKIT_FLAG_FUA) != 0 ? append('F', 0, 0, NULL) : 0;
}

static int
wlog_flush(void *handle, uint32_t flags)
{
	return append('F', 0, 0, NULL);
}

static int
wlog_can_flush(void *handle)
{
	return 1;
}

static int
wlog_can_fua(void *handle)
{
	return NBDKIT_FUA_NATIVE;
}

static struct nbdkit_plugin plugin = {
	.name = "wlog",
	.longname = "disk in memory with a log of its writes",
	.config = wlog_config,
	.config_help = "file=IMAGE log=FILE",
	.get_ready = wlog_get_ready,
	.open = wlog_open,
	.get_size = wlog_get_size,
	.pread = wlog_pread,
	.pwrite = wlog_pwrite,
	.flush = wlog_flush,
	.can_flush = wlog_can_flush,
	.can_fua = wlog_can_fua,
};

NBDKIT_REGISTER_PLUGIN(plugin)
