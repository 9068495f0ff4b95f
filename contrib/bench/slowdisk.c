/*
 * slowdisk.c - a disk that is as slow as an SD card
 *
 * slowdisk IMAGE MB_PER_S WRITE_US FLUSH_US FOLDER : FOLDER/disk is IMAGE,
 * with one write or flush at a time, each write lasting WRITE_US plus its
 * octets, each flush FLUSH_US. A loop device on it carries a file system.
 * Build: gcc -O2 slowdisk.c $(pkg-config --cflags --libs fuse3)
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/stat.h>

static int image;
static double octets_per_us, write_us, flush_us;
static pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;

static void
take(double us)
{
	struct timespec t = { (time_t)(us / 1e6), 0 };

	t.tv_nsec = (long)((us - (double)t.tv_sec * 1e6) * 1e3);
	nanosleep(&t, NULL);
}

static int
on_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	memset(st, 0, sizeof(*st));
	if (strcmp(path, "/") == 0) {
		st->st_mode = S_IFDIR | 0755;
		st->st_nlink = 2;
		return 0;
	}
	if (strcmp(path, "/disk") != 0)
		return -ENOENT;
	return fstat(image, st) != 0 ? -errno : 0;
}

static int
on_open(const char *path, struct fuse_file_info *fi)
{
	return strcmp(path, "/disk") == 0 ? 0 : -ENOENT;
}

static int
on_read(const char *path, char *p, size_t n, off_t off,
    struct fuse_file_info *fi)
{
	ssize_t k = pread(image, p, n, off);

	return k < 0 ? -errno : (int)k;
}

static int
on_write(const char *path, const char *p, size_t n, off_t off,
    struct fuse_file_info *fi)
{
	ssize_t k;

	pthread_mutex_lock(&busy);
	k = pwrite(image, p, n, off);
	take(write_us + (double)n / octets_per_us);
	pthread_mutex_unlock(&busy);
	return k < 0 ? -errno : (int)k;
}

static int
on_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	pthread_mutex_lock(&busy);
	take(flush_us);
	pthread_mutex_unlock(&busy);
	return 0;
}

static int
on_fallocate(const char *path, int mode, off_t off, off_t n,
    struct fuse_file_info *fi)
{
	return -EOPNOTSUPP;
}

static void *
on_init(struct fuse_conn_info *conn, struct fuse_config *conf)
{
	conn->max_write = 1 << 20;
	return NULL;
}

int
main(int argc, char **argv)
{
	static const struct fuse_operations ops = { .getattr = on_getattr,
		.open = on_open,
		.read = on_read,
		.write = on_write,
		.fsync = on_fsync,
		.fallocate = on_fallocate,
		.init = on_init };
	char *args[] = { argv[0], argv[5], "-f", NULL };

	if (argc != 6) {
		fputs("slowdisk IMAGE MB_PER_S WRITE_US FLUSH_US FOLDER\n",
		    stderr);
		return 64;
	}
	image = open(argv[1], O_RDWR);
	if (image < 0) {
		perror(argv[1]);
		return 1;
	}
	octets_per_us = atof(argv[2]);
	write_us = atof(argv[3]);
	flush_us = atof(argv[4]);
	return fuse_main(3, args, &ops, NULL);
}
