/*
 * look_box.c - check --live: this machine
 *
 * Disk, the daemons, and whether the port is free for a proxy that does not
 * run yet. Before the first start that is a normal state, no mistake.
 */
#include "check.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <event2/util.h>

#include "ctl.h"
#include "format.h"
#include "gateway_conf.h"
#include "xalloc.h"

#define IN_MEMORY 0x01021994 /* TMPFS_MAGIC of <linux/magic.h> */

/* The folder, or the nearest above it that is there. */
static int
stat_disk(const char *path, struct statvfs *vfs, struct statfs *fs)
{
	char *p = xstrdup(path), *slash;
	int rc;

	while ((rc = statvfs(p, vfs)) != 0 && errno == ENOENT &&
	    (slash = strrchr(p, '/')) != NULL && slash > p)
		*slash = '\0';
	if (rc == 0)
		rc = statfs(p, fs);
	free(p);
	return rc;
}

static void
look_at_disk(const struct gateway_conf *c, struct looks *l)
{
	struct statvfs vfs;
	struct statfs fs;
	struct small b, b2;
	int64_t avail, total, floor_size;

	if (stat_disk(c->state_dir, &vfs, &fs) != 0) {
		looks_add(l, "disk", EXIT_IO, NULL, "%s: %s", c->state_dir,
		    strerror(errno));
		return;
	}
	avail = (int64_t)vfs.f_bavail * (int64_t)vfs.f_frsize;
	total = (int64_t)vfs.f_blocks * (int64_t)vfs.f_frsize;
	floor_size = c->free_floor.is_percent
	    ? (int64_t)((double)total * c->free_floor.percent / 100)
	    : c->free_floor.bytes;
	if (fs.f_type == IN_MEMORY)
		looks_add(l, "disk", EXIT_IO,
		    "put [gateway] state_dir on a disk",
		    "%s is in memory: a power cut loses what waits",
		    c->state_dir);
	else if (avail <= floor_size)
		looks_add(l, "disk", EXIT_IO,
		    "make room on the disk, or lower [spool] free_floor",
		    "%s free, [spool] free_floor is %s: uploads are refused",
		    format_size(&b, avail), format_size(&b2, floor_size));
	else if (avail - floor_size < c->max_size)
		looks_add(l, "disk", 0, NULL,
		    "%s free; [spool] max_size (%s) may not be reached",
		    format_size(&b, avail), format_size(&b2, c->max_size));
	else
		looks_add(
		    l, "disk", 0, NULL, "%s free", format_size(&b, avail));
	if (vfs.f_files > 0 && vfs.f_favail < 1000)
		looks_add(l, "disk", EXIT_IO, "delete files that nobody needs",
		    "only %lu more files fit (inodes)",
		    (unsigned long)vfs.f_favail);
}

/* Could the proxy listen there? */
static void
look_at_port(const struct gateway_conf *c, struct looks *l)
{
	struct sockaddr_storage ss;
	int len = sizeof(ss), one = 1, fd;

	memset(&ss, 0, sizeof(ss));
	if (evutil_parse_sockaddr_port(
		c->address, (struct sockaddr *)&ss, &len) != 0)
		return;
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&ss, (socklen_t)len) == 0)
		looks_add(l, "port", 0, NULL, "%s is free", c->address);
	else if (errno == EADDRINUSE)
		looks_add(l, "port", EXIT_CONFIG,
		    "stop the other program, or change [listen] address",
		    "%s is used by another program", c->address);
	else if (errno == EADDRNOTAVAIL)
		looks_add(l, "port", EXIT_CONFIG,
		    "write an address of this machine, or 0.0.0.0, in "
		    "[listen] address",
		    "%s is no address of this machine", c->address);
	else
		looks_add(l, "port", 0, NULL, "%s cannot be tried: %s",
		    c->address, strerror(errno));
	close(fd);
}

static bool
look_at_daemon(const struct gateway_conf *c, struct looks *l, const char *what,
    const char *file, const char *path)
{
	char *socket = gateway_conf_path(c, file);
	struct answer a;
	int rc = client_get(socket, path, &a);

	if (rc == 0) {
		answer_fini(&a);
		looks_add(l, what, 0, NULL, "runs");
	} else if (client_is_down(rc)) {
		looks_add(l, what, 0, NULL, "does not run yet");
	} else if (rc == -EACCES) {
		looks_add(l, what, EXIT_DENIED,
		    "join the group of that file, or use sudo",
		    "you may not talk to it (%s)", socket);
	} else {
		looks_add(l, what, EXIT_LATER, "systemctl restart it",
		    "does not answer: %s", strerror(-rc));
	}
	free(socket);
	return rc == 0;
}

void
look_at_box(const struct gateway_conf *c, struct looks *l)
{
	look_at_disk(c, l);
	if (!look_at_daemon(c, l, "proxy", "proxy.sock", "/-/health"))
		look_at_port(c, l);
	look_at_daemon(c, l, "agent", "agent.sock", "/status");
}
