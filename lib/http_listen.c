/*
 * http_listen.c - listening sockets and accept
 *
 * Running out of descriptors must neither spin nor shut anybody out for good:
 * accepting pauses for PAUSE_MS and the idlest connection goes. Options that
 * accepted sockets inherit are set once, on the listener.
 */
#include "http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "xalloc.h"

#define PAUSE_MS 200
#define ACCEPT_MAX 64 /* in one turn */
#define BACKLOG 4096  /* the kernel cuts it to net.core.somaxconn */

/* ---- accept -------------------------------------------------------------- */

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *hs = arg;
	struct listener *l;

	LIST_FOREACH(l, &hs->listeners, link)
	event_add(l->ev, NULL);
}

static void
pause_accept(struct http_server *hs, int error)
{
	struct timeval tv = { .tv_usec = PAUSE_MS * 1000 };
	struct listener *l;

	server_tell(hs, "-", 0, strerror(error));
	LIST_FOREACH(l, &hs->listeners, link)
	event_del(l->ev);
	if (hs->resume == NULL)
		hs->resume = evtimer_new(hs->base, on_resume, hs);
	if (hs->resume == NULL)
		abort();
	evtimer_add(hs->resume, &tv);
	server_evict(hs);
}

/* The peer's address, IPv4 mapped; false for a Unix socket. */
static bool
peer_ip(const struct sockaddr_storage *ss, struct in6_addr *ip)
{
	if (ss->ss_family == AF_INET6) {
		*ip =
		    ((const struct sockaddr_in6 *)(const void *)ss)->sin6_addr;
		return true;
	}
	if (ss->ss_family != AF_INET)
		return false;
	memset(ip, 0, sizeof(*ip));
	ip->s6_addr[10] = ip->s6_addr[11] = 0xff;
	memcpy(&ip->s6_addr[12],
	    &((const struct sockaddr_in *)(const void *)ss)->sin_addr, 4);
	return true;
}

static void
welcome(struct listener *l, int fd, const struct sockaddr_storage *ss)
{
	struct http_server *hs = l->hs;
	char peer[INET6_ADDRSTRLEN] = "unix";
	struct address *a = NULL;
	struct in6_addr ip;

	if (peer_ip(ss, &ip)) {
		if (IN6_IS_ADDR_V4MAPPED(&ip))
			inet_ntop(AF_INET, &ip.s6_addr[12], peer, sizeof(peer));
		else
			inet_ntop(AF_INET6, &ip, peer, sizeof(peer));
		a = server_address(hs, &ip, peer);
		if (a == NULL) {
			server_tell(hs, peer, 0, "too many connections of it");
			close(fd);
			return;
		}
	}
	if (hs->conns_n >= hs->set.max_connections && !server_evict(hs)) {
		server_tell(hs, peer, 0, "too many connections, all at work");
		server_address_drop(a);
		close(fd);
		return;
	}
	conn_new(l, fd, a);
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	l->hs->now = clock_ms();
	for (unsigned i = 0; i < ACCEPT_MAX; i++) {
		struct sockaddr_storage ss = { 0 };
		socklen_t len = sizeof(ss);
		int cfd = accept4(l->fd, (struct sockaddr *)&ss, &len,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (cfd >= 0) {
			welcome(l, cfd, &ss);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
		    errno == ENOBUFS) {
			pause_accept(l->hs, errno);
			return;
		}
		if (errno == EAGAIN)
			return;
		/* else that one connection has failed already */
	}
}

/* ---- sockets ------------------------------------------------------------- */

/* A stale socket file goes, one in use or another kind of file stays. */
static int
clear_path(const struct sockaddr_un *un)
{
	struct stat st;
	int fd, rc;

	if (lstat(un->sun_path, &st) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	rc = connect(fd, (const struct sockaddr *)un, sizeof(*un));
	rc = rc != 0 && errno == ECONNREFUSED ? 0 : -EADDRINUSE;
	close(fd);
	if (rc == 0 && unlink(un->sun_path) != 0)
		rc = -errno;
	return rc;
}

static int
open_unix(const char *path, int *fd_out)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd, rc;

	if (strlen(path) >= sizeof(un.sun_path) || path[0] == '\0')
		return -EINVAL;
	strcpy(un.sun_path, path);
	rc = clear_path(&un);
	if (rc != 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* the file gets the socket's mode, so it is never open to others */
	if (fchmod(fd, 0660) != 0 ||
	    bind(fd, (struct sockaddr *)&un, sizeof(un)) != 0 ||
	    chmod(path, 0660) != 0 || listen(fd, BACKLOG) != 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	*fd_out = fd;
	return 0;
}

static int
open_addrinfo(const struct addrinfo *ai)
{
	int fd, rc, on = 1, off = 0;

	fd = socket(ai->ai_family,
	    ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (ai->ai_family == AF_INET6) /* "[::]" means all of both kinds */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 ||
	    listen(fd, BACKLOG) != 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

/* "HOST:PORT", "[V6]:PORT" */
static int
open_inet(const char *address, int *fd_out)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *list;
	const char *colon = strrchr(address, ':');
	char *host;
	int rc;

	if (colon == NULL || colon == address)
		return -EINVAL;
	if (address[0] == '[' && colon[-1] == ']')
		host = xstrndup(address + 1, (size_t)(colon - address) - 2);
	else
		host = xstrndup(address, (size_t)(colon - address));
	rc = getaddrinfo(host, colon + 1, &hints, &list);
	free(host);
	if (rc != 0)
		return rc == EAI_SYSTEM ? -errno : -EADDRNOTAVAIL;
	rc = open_addrinfo(list);
	freeaddrinfo(list);
	if (rc < 0)
		return rc;
	*fd_out = rc;
	return 0;
}

/* "ADDRESS:PORT" or "[ADDRESS]:PORT" of our end of a socket; "" if it has
 * none. */
static void
local_text(int fd, char out[HTTP_LOCAL_MAX])
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char host[INET6_ADDRSTRLEN], port[8];
	const char *v4;

	out[0] = '\0';
	if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0 ||
	    (ss.ss_family != AF_INET && ss.ss_family != AF_INET6) ||
	    getnameinfo((struct sockaddr *)&ss, len, host, sizeof(host), port,
		sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return;
	v4 = strncmp(host, "::ffff:", 7) == 0 && strchr(host, '.') != NULL
	    ? host + 7
	    : host;
	snprintf(out, HTTP_LOCAL_MAX,
	    strchr(v4, ':') != NULL ? "[%s]:%s" : "%s:%s", v4, port);
}

void
http_request_local(const struct http_request *rq, char out[HTTP_LOCAL_MAX])
{
	local_text(rq->conn->fd, out);
}

static void
log_listening(const struct listener *l)
{
	char text[HTTP_LOCAL_MAX];

	if (l->path != NULL) {
		log_info("listening name=%s address=unix:%s", l->name, l->path);
		return;
	}
	local_text(l->fd, text);
	log_info("listening name=%s address=%s", l->name, text);
}

int
http_server_listen(struct http_server *hs, const char *name,
    const char *address, struct ssl_ctx_st *tls)
{
	const char *path = NULL;
	struct listener *l;
	int fd = -1, rc;

	if (strncmp(address, "unix:", 5) == 0) {
		path = address + 5;
		rc = open_unix(path, &fd);
	} else {
		rc = open_inet(address, &fd);
	}
	if (rc != 0)
		return rc;
	l = xcalloc(1, sizeof(*l));
	l->hs = hs;
	l->fd = fd;
	l->name = xstrdup(name);
	l->path = path != NULL ? xstrdup(path) : NULL;
	if (tls != NULL)
		SSL_CTX_up_ref(tls);
	l->tls = tls;
	l->ev = event_new(hs->base, fd, EV_READ | EV_PERSIST, on_accept, l);
	if (l->ev == NULL)
		abort();
	event_add(l->ev, NULL);
	LIST_INSERT_HEAD(&hs->listeners, l, link);
	log_listening(l);
	return 0;
}

static struct listener *
listener_find(const struct http_server *hs, const char *name)
{
	struct listener *l;

	LIST_FOREACH(l, &hs->listeners, link)
	if (strcmp(l->name, name) == 0)
		break;
	return l;
}

int
http_server_set_tls(
    struct http_server *hs, const char *name, struct ssl_ctx_st *tls)
{
	struct listener *l = listener_find(hs, name);

	if (l == NULL || l->tls == NULL)
		return -ENOENT;
	SSL_CTX_up_ref(tls);
	SSL_CTX_free(l->tls);
	l->tls = tls;
	return 0;
}

int
http_server_port(const struct http_server *hs, const char *name)
{
	const struct listener *l = listener_find(hs, name);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (l == NULL || getsockname(l->fd, (struct sockaddr *)&ss, &len) != 0)
		return -ENOENT;
	if (ss.ss_family == AF_INET)
		return ntohs(((struct sockaddr_in *)(void *)&ss)->sin_port);
	if (ss.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)(void *)&ss)->sin6_port);
	return -ENOENT;
}

void
listener_free(struct listener *l)
{
	LIST_REMOVE(l, link);
	event_free(l->ev);
	close(l->fd);
	if (l->path != NULL)
		unlink(l->path);
	SSL_CTX_free(l->tls);
	free(l->name);
	free(l->path);
	free(l);
}
