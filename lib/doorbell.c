/*
 * doorbell.c - proxy and agent tell each other that there is something to do
 */
#include "doorbell.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <stdlib.h>
#include <event2/event.h>

#include "log.h"
#include "xalloc.h"

struct doorbell {
	int fd;
	char *path;
	struct event *ev;
	void (*on_ring)(const char *msg, size_t n, void *arg);
	void *arg;
};

static int
to_address(const char *path, struct sockaddr_un *sa)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sa->sun_path))
		return -ENAMETOOLONG;
	strcpy(sa->sun_path, path);
	return 0;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct doorbell *db = arg;
	char msg[DOORBELL_MAX + 1];

	/* Bounded: a flood of rings leaves the loop to others. */
	for (int i = 0; i < 64; i++) {
		ssize_t n = recv(fd, msg, DOORBELL_MAX, MSG_DONTWAIT);

		if (n < 0)
			return;
		msg[n] = '\0';
		db->on_ring(msg, (size_t)n, db->arg);
	}
}

int
doorbell_open(struct event_base *base, const char *path,
    void (*on_ring)(const char *msg, size_t n, void *arg), void *arg,
    struct doorbell **db_out)
{
	struct doorbell *db;
	struct sockaddr_un sa;
	int fd, rc = to_address(path, &sa);

	if (rc != 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlink(path);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 ||
	    chmod(path, 0660) != 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	db = xcalloc(1, sizeof(*db));
	db->fd = fd;
	db->path = xstrdup(path);
	db->on_ring = on_ring;
	db->arg = arg;
	db->ev = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, db);
	event_add(db->ev, NULL);
	*db_out = db;
	return 0;
}

void
doorbell_ring(struct doorbell *db, const char *peer_path, const char *msg)
{
	struct sockaddr_un sa;

	if (to_address(peer_path, &sa) != 0)
		return;
	if (sendto(db->fd, msg, strlen(msg), MSG_DONTWAIT | MSG_NOSIGNAL,
		(struct sockaddr *)&sa, sizeof(sa)) < 0)
		log_debug("doorbell %s: %s", peer_path, strerror(errno));
}

void
doorbell_close(struct doorbell *db)
{
	if (db == NULL)
		return;
	event_free(db->ev);
	close(db->fd);
	unlink(db->path);
	free(db->path);
	free(db);
}
