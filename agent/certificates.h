/*
 * certificates.h - the CA bundles of stores, by the id a recipe names
 *
 * Kept in memory only: without the signer there is no recipe to use them for,
 * and with it they are asked for again.
 */
#ifndef CERTIFICATES_H
#define CERTIFICATES_H

#include <stdbool.h>
#include <sys/queue.h>

struct certificates;
struct signer;

/* One who waits; embedded by its owner, zeroed before the first use. */
struct certificate_wait {
	TAILQ_ENTRY(certificate_wait) link;
	struct certificate *on; /* NULL: not waiting */
	/* pem: NULL if the signer did not give it, then error tells. */
	void (*fn)(const char *pem, const char *error, void *arg);
	void *arg;
};

struct certificates *certificates_new(struct signer *s);
void certificates_free(struct certificates *c);
/* The bundle (valid until the loop turns), or NULL: w->fn will be called. */
const char *certificates_get(
    struct certificates *c, const char *id, struct certificate_wait *w);
void certificates_leave(struct certificate_wait *w);
/* TLS failed with it: fetch it again, at most once a minute. */
void certificates_doubt(struct certificates *c, const char *id);

#endif
