/*
 * slowdisk.c - a disk that is as slow as an SD card
 *
 * slowdisk IMAGE MB_PER_S WRITE_US FLUSH_US FOLDER : FOLDER/disk is IMAGE,
 * with one write or flush at a time, each write lasting WRITE_US plus its
 * octets, each flush FLUSH_US. A loop device on it carries a file system.
 * The disk has a clock of its own: if a sleep ends late because the machine is
 * busy, what has been waiting meanwhile is done that much sooner. SIGUSR1: how
 * many writes, octets and flushes there were, to stderr.
 * Build: gcc -O2 slowdisk.c $(pkg-config --cflags --libs fuse3)
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/stat.h>

static int image;
static double octets_per_us, write_us, flush_us;
static pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;
static double free_at; /* the disk is at work until then */
static unsigned long long writes, octets, flushes;

static double
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* What came at `came` lasts us, once all that came before is done. */
static void
take(double came, double us)
{
	struct timespec t;

	free_at = (came > free_at ? came : free_at) + us;
	t.tv_sec = (time_t)(free_at / 1e6);
	t.tv_nsec = (long)((free_at - (double)t.tv_sec * 1e6) * 1e3);
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void
on_usr1(int sig)
{
	dprintf(2, "slowdisk writes=%llu octets=%llu flushes=%llu\n", writes,
	    octets, flushes);
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
	double came = now_us();
	ssize_t k;

	pthread_mutex_lock(&busy);
	k = pwrite(image, p, n, off);
	take(came, write_us + (double)n / octets_per_us);
	writes++;
	octets += n;
	pthread_mutex_unlock(&busy);
	return k < 0 ? -errno : (int)k;
}

static int
on_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	double came = now_us();

	pthread_mutex_lock(&busy);
	take(came, flush_us);
	flushes++;
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
	signal(SIGUSR1, on_usr1);
	return fuse_main(3, args, &ops, NULL);
}
