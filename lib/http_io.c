/*
 * http_io.c - octets in and out of a connection, plain or TLS
 *
 * The socket's event is edge-triggered and stays in the loop as long as the
 * connection, so that pausing, resuming and answering cost no system call. In
 * return `readable` and `blocked` must be true to the socket at all times:
 * readable falls only when a read came up short (and no FIN is known to wait)
 * or found nothing; the event sets it again.
 *
 * TLS calls SSL_read() and SSL_write() on the socket itself: a bufferevent
 * would add two buffers and a copy to each connection and a second way for
 * each step above, for what the library does by itself. SSL_read() may hold
 * octets back, so under TLS only "nothing" ends readable.
 *
 * Input is read into one buffer that all connections share. What a connection
 * has not parsed when the loop turns (a pipelined request, a paused body) is
 * copied aside; when all of that exceeds AHEAD_MAX, reads become small, so
 * that the sum stays bounded.
 */
#include "http_internal.h"

#include <errno.h>
#include <event2/buffer.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "xalloc.h"

#define AHEAD_MAX (4u << 20)
#define READ_SMALL 2048
#define FLUSH_MAX (1u << 20) /* octets sent before others get their turn */
#define IOV_N 16

/* ---- the two kinds of socket --------------------------------------------- */

/* What an SSL call's failure means: -EAGAIN, 0 for a clean end, -EIO. */
static int
tls_error(struct conn *c, int rc)
{
	switch (SSL_get_error(c->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		ERR_clear_error();
		return -EIO;
	}
}

/* > 0: octets. 0: EOF. -EAGAIN or another error. */
static ssize_t
raw_recv(struct conn *c, char *p, size_t n)
{
	ssize_t k;

	if (c->ssl != NULL) {
		int rc;

		ERR_clear_error();
		rc = SSL_read(c->ssl, p, (int)n);
		return rc > 0 ? rc : tls_error(c, rc);
	}
	do {
		k = recv(c->fd, p, n, 0);
	} while (k < 0 && errno == EINTR);
	return k >= 0 ? k : -errno;
}

static ssize_t
tls_sendv(struct conn *c, const struct iovec *iov, int n)
{
	char *text = c->hs->text;
	size_t len = 0, size = sizeof(c->hs->text);
	int rc;

	/* one record for what is small; the text may be there already */
	for (int i = 0; i < n && len < size; i++) {
		size_t k =
		    iov[i].iov_len < size - len ? iov[i].iov_len : size - len;

		if (k > 0)
			memmove(text + len, iov[i].iov_base, k);
		len += k;
	}
	ERR_clear_error();
	rc = SSL_write(c->ssl, text, (int)len);
	return rc > 0 ? rc : tls_error(c, rc);
}

static ssize_t
raw_sendv(struct conn *c, struct iovec *iov, int n, bool more)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = (size_t)n };
	ssize_t k;

	if (c->ssl != NULL)
		return tls_sendv(c, iov, n);
	do {
		k = sendmsg(c->fd, &m, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
	} while (k < 0 && errno == EINTR);
	return k >= 0 ? k : -errno;
}

static ssize_t
raw_sendfile(struct conn *c, int fd, uint64_t off, uint64_t n)
{
	off_t at = (off_t)off;
	ssize_t k;

	if (c->ssl != NULL) {
		struct iovec iov = { .iov_base = c->hs->text };

		/* the same octets again if the last write did not take them */
		k = pread(fd, c->hs->text,
		    n < sizeof(c->hs->text) ? n : sizeof(c->hs->text), at);
		if (k <= 0)
			return -EIO;
		iov.iov_len = (size_t)k;
		k = tls_sendv(c, &iov, 1);
		return k == 0 ? -EIO : k;
	}
	do {
		k = sendfile(c->fd, fd, &at, n < FLUSH_MAX ? n : FLUSH_MAX);
	} while (k < 0 && errno == EINTR);
	if (k == 0)
		return -EIO; /* the file has become shorter */
	return k > 0 ? k : -errno;
}

/* ---- input --------------------------------------------------------------- */

int
io_fill(struct conn *c)
{
	struct http_server *hs = c->hs;
	bool much = hs->ahead < AHEAD_MAX && !hs->hold;
	size_t want = much ? READ_MAX : c->sip ? hs->sip_size : READ_SMALL;
	ssize_t k;

	if (c->in_n > 0)
		return 1;
	io_drop(c);
	if (c->eof || c->broken)
		return -1;
	if (!c->readable)
		return 0;
	k = raw_recv(c, hs->buf, want);
	if (k > 0) {
		if (c->ssl == NULL && (size_t)k < want && !c->fin)
			c->readable = false;
		c->in = hs->buf;
		c->in_n = (size_t)k;
		c->active_ms = hs->now;
		return 1;
	}
	c->readable = false;
	if (k == -EAGAIN)
		return 0;
	if (k == 0)
		c->eof = true;
	else
		c->broken = true;
	return -1;
}

void
io_keep(struct conn *c)
{
	if (c->in_n == 0) {
		io_drop(c);
	} else if (c->ahead == NULL) {
		c->ahead = xmalloc(c->in_n);
		c->ahead_n = c->in_n;
		memcpy(c->ahead, c->in, c->in_n);
		c->in = c->ahead;
		c->hs->ahead += c->in_n;
	}
	/* else it is there already; the total counts it when it is dropped */
}

void
io_drop(struct conn *c)
{
	if (c->ahead != NULL) {
		c->hs->ahead -= c->ahead_n;
		free(c->ahead);
		c->ahead = NULL;
	}
	c->in = NULL;
	c->in_n = 0;
}

/* ---- output -------------------------------------------------------------- */

/* Have the event tell when there is room; that is rare, so it is set late. */
static void
watch_room(struct conn *c)
{
	c->blocked = true;
	if (c->writes)
		return;
	c->writes = true;
	event_del(&c->ev);
	event_assign(&c->ev, c->hs->base, c->fd,
	    EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST,
	    event_get_callback(&c->ev), c);
	event_add(&c->ev, NULL);
}

/* Account for what a send gave back; false: no more now. */
static bool
sent(struct conn *c, ssize_t k)
{
	if (k > 0) {
		c->moved += (uint64_t)k;
		c->active_ms = c->hs->now;
		return true;
	}
	if (k == -EAGAIN)
		watch_room(c);
	else
		c->broken = true;
	return false;
}

static struct segment *
segment_add(struct conn *c)
{
	struct segment *s = xcalloc(1, sizeof(*s));

	s->fd = -1;
	TAILQ_INSERT_TAIL(&c->out, s, link);
	return s;
}

static void
segment_drop(struct conn *c)
{
	struct segment *s = TAILQ_FIRST(&c->out);

	TAILQ_REMOVE(&c->out, s, link);
	if (s->buf != NULL)
		evbuffer_free(s->buf);
	free(s);
}

/* The evbuffer at the tail of the queue. */
static struct evbuffer *
tail(struct conn *c)
{
	struct segment *s = TAILQ_LAST(&c->out, segments);

	if (s == NULL || s->buf == NULL) {
		s = segment_add(c);
		s->buf = evbuffer_new();
		if (s->buf == NULL)
			abort();
	}
	return s->buf;
}

void
io_send(struct conn *c, struct iovec *iov, int n)
{
	ssize_t k = 0;

	if (c->broken)
		return;
	if (TAILQ_EMPTY(&c->out) && !c->blocked) {
		k = raw_sendv(c, iov, n, false);
		if (!sent(c, k))
			k = 0;
	}
	for (int i = 0; i < n && !c->broken; i++) {
		size_t len = iov[i].iov_len;

		if ((size_t)k >= len) {
			k -= (ssize_t)len;
			continue;
		}
		evbuffer_add(
		    tail(c), (char *)iov[i].iov_base + k, len - (size_t)k);
		c->out_n += len - (size_t)k;
		k = 0;
	}
}

void
io_queue(struct conn *c, struct evbuffer *from)
{
	c->out_n += evbuffer_get_length(from);
	evbuffer_add_buffer(tail(c), from);
}

void
io_queue_file(struct conn *c, int fd, uint64_t off, uint64_t n)
{
	struct segment *s = segment_add(c);

	s->fd = fd;
	s->off = off;
	s->n = n;
	c->out_n += n;
}

void
io_unqueue(struct conn *c)
{
	c->out_n = 0;
	while (!TAILQ_EMPTY(&c->out))
		segment_drop(c);
}

/* A file that may not be sent now: it and all behind it go back. */
static bool
taken_back(struct conn *c, const struct segment *s)
{
	if (s->buf != NULL ||
	    reply_may_send(
		c->rq, s->fd, s->off, s->n < FLUSH_MAX ? s->n : FLUSH_MAX))
		return false;
	reply_taken_back(c->rq, c->out_n);
	io_unqueue(c);
	return true;
}

static ssize_t
flush_buffer(struct conn *c, struct segment *s)
{
	struct evbuffer_iovec iov[IOV_N];
	int n = evbuffer_peek(s->buf, -1, NULL, iov, IOV_N);
	ssize_t k;

	k = raw_sendv(c, (struct iovec *)iov, n < IOV_N ? n : IOV_N,
	    TAILQ_NEXT(s, link) != NULL);
	if (k > 0)
		evbuffer_drain(s->buf, (size_t)k);
	return k;
}

bool
io_flush(struct conn *c)
{
	struct segment *s;
	uint64_t quota = FLUSH_MAX;

	while ((s = TAILQ_FIRST(&c->out)) != NULL) {
		ssize_t k;

		if (s->buf != NULL ? evbuffer_get_length(s->buf) == 0
				   : s->n == 0) {
			segment_drop(c);
			continue;
		}
		if (c->broken || c->blocked)
			return false;
		if (quota == 0) {
			c->again = true;
			return false;
		}
		if (taken_back(c, s))
			return false;
		k = s->buf != NULL ? flush_buffer(c, s)
				   : raw_sendfile(c, s->fd, s->off, s->n);
		if (!sent(c, k))
			return false;
		if (s->buf == NULL) {
			s->off += (uint64_t)k;
			s->n -= (uint64_t)k;
		}
		c->out_n -= (uint64_t)k;
		quota -= (uint64_t)k < quota ? (uint64_t)k : quota;
	}
	return true;
}

/* ---- the ends of a connection -------------------------------------------- */

/* Why no handshake came about: for whoever looks after the device. A peer that
 * just went, as scanners do, is nothing to tell. */
static int
hello_failed(struct conn *c, unsigned long error)
{
	const char *why = ERR_reason_error_string(error);
	char text[120];

	if (ERR_GET_LIB(error) == ERR_LIB_SSL &&
	    ERR_GET_REASON(error) == SSL_R_HTTP_REQUEST)
		return -EPROTO;
	if (error == 0 || ERR_GET_LIB(error) == ERR_LIB_SYS)
		return -EIO;
	snprintf(text, sizeof(text), "no TLS handshake: %s",
	    why != NULL ? why : "unknown reason");
	server_tell(c->hs, conn_peer(c), 0, text);
	return -EIO;
}

int
io_hello(struct conn *c)
{
	unsigned long error;
	int rc;

	ERR_clear_error();
	rc = SSL_do_handshake(c->ssl);
	if (rc == 1)
		return 1;
	error = ERR_peek_error();
	if (tls_error(c, rc) != -EAGAIN)
		return hello_failed(c, error);
	if (SSL_want_write(c->ssl))
		watch_room(c);
	return 0;
}

void
io_plain(struct conn *c)
{
	SSL_free(c->ssl);
	c->ssl = NULL;
}

void
io_shutdown(struct conn *c)
{
	if (c->ssl != NULL && !c->broken && SSL_is_init_finished(c->ssl)) {
		ERR_clear_error();
		SSL_shutdown(c->ssl);
		ERR_clear_error();
	}
	shutdown(c->fd, SHUT_WR);
}

void
io_close(struct conn *c)
{
	io_unqueue(c);
	io_drop(c);
	event_del(&c->ev);
	SSL_free(c->ssl);
	close(c->fd);
	c->fd = -1;
}

bool
io_gone(const struct conn *c)
{
	struct pollfd p = { .fd = c->fd };

	return c->broken ||
	    (poll(&p, 1, 0) == 1 &&
		(p.revents & (POLLERR | POLLHUP | POLLNVAL)));
}

uint64_t
io_acked(const struct conn *c)
{
	int queued = 0;

	if (ioctl(c->fd, SIOCOUTQ, &queued) != 0 || queued < 0)
		return c->moved;
	return (uint64_t)queued < c->moved ? c->moved - (uint64_t)queued : 0;
}
