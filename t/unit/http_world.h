/*
 * http_world.h - an HTTP server and its clients in one process, for tests
 *
 * Server and clients share one loop; nothing blocks. world_until() turns the
 * loop until a condition holds or WORLD_MS have passed.
 */
#ifndef HTTP_WORLD_H
#define HTTP_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http_server.h"

#define WORLD_MS 5000

struct ssl_st;
struct ssl_ctx_st;

struct world {
	struct event_base *base;
	struct http_server *hs;
	struct http_settings set;
	int port;      /* of listener "tcp" on 127.0.0.1 */
	char path[64]; /* of listener "unix" */
	/* what the handlers have seen */
	char log[4096];                   /* words, one for each event */
	struct http_request *waiting[16]; /* of /later, in order of arrival */
	unsigned waiting_n;
	char *body; /* of the last upload */
	size_t body_n;
	bool pause; /* the sink of /put pauses at each piece */
	struct http_request *paused;
	size_t most;    /* octets that waited to be sent, /stream */
	unsigned want;  /* of world_has() */
	unsigned asked; /* how often /checked was asked for its file */
	int fd;         /* of a file of FILE_N octets, byte i is i % 251 */
};
#define FILE_N (3u << 20)
#define STREAM_N (5u << 20)

/* Routes: GET HEAD /hello/:name; GET /later, /poll; PUT /put/..., /refuse;
 * POST /collect; GET HEAD /file; GET /checked; GET /stream, /short. */
struct world *world_new(const struct http_settings *set);
void world_free(struct world *w);
/* Turn the loop until cond or for WORLD_MS; false: it never came. */
bool world_until(struct world *w, bool (*cond)(void *arg), void *arg);
/* Until the server has n connections. */
bool world_has(struct world *w, unsigned n);
/* Turn the loop for ms. */
void world_spin(struct world *w, int ms);
/* Answer the oldest of /later. */
void world_answer(struct world *w, const char *text);

/* A client; its socket does not block. */
struct client {
	struct world *w;
	int fd;
	struct ssl_st *ssl;
	char *in; /* NUL-terminated */
	size_t n, size;
	bool closed, reset;
};

struct client *client_tcp(struct world *w);
struct client *client_unix(struct world *w);
struct client *client_tls(struct world *w, int port, struct ssl_ctx_st *ctx);
void client_free(struct client *c);
/* Send all, turning the loop; false if the server has closed before. */
bool client_send(struct client *c, const char *p, size_t n);
bool client_say(struct client *c, const char *text);
/* Send "TEXT" and wait for the whole answer; its body, "" at least. */
const char *client_ask(struct client *c, const char *text);
/* Read until `text` stands in what came, or until the server closes. */
bool client_sees(struct client *c, const char *text);
/* Read until `text` is the last that came. */
bool client_sees_last(struct client *c, const char *text);
bool client_ends(struct client *c);
/* Forget what came. */
void client_forget(struct client *c);
void client_reset(struct client *c); /* RST */

#endif
