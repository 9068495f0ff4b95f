/*
 * http_hello.c - how many TLS handshakes run at a time
 *
 * A handshake holds some 50 KB, a connection after it 14 KB. So when thousands
 * of peers come back at once, most of them wait a moment, without an SSL object
 * yet. One that takes over a second counts no more: peers that stall in their
 * handshake hold up nobody, and end by their deadline.
 */
#include "http_internal.h"

#include <openssl/ssl.h>
#include <stdlib.h>

#define HELLOS 64
#define COUNTS_MS 1000

enum { HELLO_NEW, HELLO_WAITS, HELLO_COUNTS, HELLO_SLOW };

static void
leave(struct conn *c)
{
	struct http_server *hs = c->hs;

	if (c->hello == HELLO_WAITS) {
		TAILQ_REMOVE(&hs->hello_waits, c, hello_link);
	} else if (c->hello == HELLO_COUNTS) {
		TAILQ_REMOVE(&hs->hellos, c, hello_link);
		hs->hellos_n--;
	}
}

void
hello_start_more(struct http_server *hs)
{
	unsigned room;
	struct conn *c;

	while ((c = TAILQ_FIRST(&hs->hellos)) != NULL &&
	    hs->now - c->hello_ms >= COUNTS_MS) {
		leave(c);
		c->hello = HELLO_SLOW;
	}
	room = HELLOS - hs->hellos_n;
	TAILQ_FOREACH(c, &hs->hello_waits, hello_link)
	{
		if (room-- == 0)
			break;
		server_turn(c);
	}
}

bool
hello_may(struct conn *c)
{
	struct http_server *hs = c->hs;

	if (c->ssl != NULL)
		return true;
	if (hs->hellos_n >= HELLOS) {
		if (c->hello == HELLO_NEW)
			TAILQ_INSERT_TAIL(&hs->hello_waits, c, hello_link);
		c->hello = HELLO_WAITS;
		return false;
	}
	leave(c);
	c->hello = HELLO_COUNTS;
	c->hello_ms = hs->now;
	TAILQ_INSERT_TAIL(&hs->hellos, c, hello_link);
	hs->hellos_n++;
	c->ssl = SSL_new(c->tls);
	if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1)
		abort(); /* out of memory */
	SSL_set_accept_state(c->ssl);
	SSL_set_mode(c->ssl,
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	return true;
}

void
hello_over(struct conn *c)
{
	leave(c);
	c->hello = HELLO_SLOW; /* on no list */
	SSL_CTX_free(c->tls);
	c->tls = NULL;
	hello_start_more(c->hs);
}
