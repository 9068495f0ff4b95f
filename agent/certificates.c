/*
 * certificates.c - the CA bundles of stores, by the id a recipe names
 */
#include "certificates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "signer_client.h"
#include "xalloc.h"

#define KEPT_MAX 64
#define ANEW_MS 60000

struct certificate {
	TAILQ_ENTRY(certificate) link;
	char *id, *pem;
	struct signer_call *call;
	int64_t asked_ms;
	TAILQ_HEAD(, certificate_wait) waiters;
};

struct certificates {
	struct signer *signer;
	TAILQ_HEAD(, certificate) list; /* last used first */
	unsigned n;
};

static void
drop(struct certificates *c, struct certificate *ce)
{
	struct certificate_wait *w;

	while ((w = TAILQ_FIRST(&ce->waiters)) != NULL)
		certificates_leave(w);
	signer_cancel(ce->call);
	TAILQ_REMOVE(&c->list, ce, link);
	c->n--;
	free(ce->id);
	free(ce->pem);
	free(ce);
}

struct certificates *
certificates_new(struct signer *s)
{
	struct certificates *c = xcalloc(1, sizeof(*c));

	c->signer = s;
	TAILQ_INIT(&c->list);
	return c;
}

void
certificates_free(struct certificates *c)
{
	if (c == NULL)
		return;
	while (!TAILQ_EMPTY(&c->list))
		drop(c, TAILQ_FIRST(&c->list));
	free(c);
}

static void
on_pem(const struct signer_answer *a, void *arg)
{
	struct certificate *ce = arg;
	struct certificate_wait *w;
	const char *error = a->error;
	bool ok = a->rc == 0 && a->status == 200 && a->text_n > 0 &&
	    strlen(a->text) == a->text_n &&
	    strstr(a->text, "-----BEGIN CERTIFICATE-----") != NULL;

	ce->call = NULL;
	if (ok) {
		free(ce->pem);
		ce->pem = xstrdup(a->text);
	} else if (error == NULL) {
		error = "the signer gave no PEM certificate";
	}
	while ((w = TAILQ_FIRST(&ce->waiters)) != NULL) {
		certificates_leave(w);
		w->fn(ce->pem, error, w->arg);
	}
}

static void
ask(struct certificates *c, struct certificate *ce)
{
	char *path = xasprintf("/v1/certificates/%s", ce->id);

	ce->asked_ms = clock_ms();
	ce->call = signer_call(c->signer, path, NULL, 30000, false, on_pem, ce);
	free(path);
}

static struct certificate *
find(struct certificates *c, const char *id)
{
	struct certificate *ce;

	TAILQ_FOREACH(ce, &c->list, link)
	{
		if (strcmp(ce->id, id) == 0)
			return ce;
	}
	return NULL;
}

/* Make room: the one unused for longest that nobody waits for. */
static void
shrink(struct certificates *c)
{
	struct certificate *ce, *next, *victim = NULL;

	if (c->n < KEPT_MAX)
		return;
	for (ce = TAILQ_FIRST(&c->list); ce != NULL; ce = next) {
		next = TAILQ_NEXT(ce, link);
		if (TAILQ_EMPTY(&ce->waiters) && ce->call == NULL)
			victim = ce;
	}
	if (victim != NULL)
		drop(c, victim);
}

const char *
certificates_get(
    struct certificates *c, const char *id, struct certificate_wait *w)
{
	struct certificate *ce = find(c, id);

	if (ce == NULL) {
		shrink(c);
		ce = xcalloc(1, sizeof(*ce));
		ce->id = xstrdup(id);
		TAILQ_INIT(&ce->waiters);
		c->n++;
	} else {
		TAILQ_REMOVE(&c->list, ce, link);
	}
	TAILQ_INSERT_HEAD(&c->list, ce, link);
	if (ce->pem != NULL && ce->call == NULL)
		return ce->pem;
	w->on = ce;
	TAILQ_INSERT_TAIL(&ce->waiters, w, link);
	if (ce->call == NULL)
		ask(c, ce);
	return NULL;
}

void
certificates_leave(struct certificate_wait *w)
{
	if (w->on != NULL)
		TAILQ_REMOVE(&w->on->waiters, w, link);
	w->on = NULL;
}

void
certificates_doubt(struct certificates *c, const char *id)
{
	struct certificate *ce = find(c, id);

	if (ce != NULL && ce->call == NULL &&
	    clock_ms() - ce->asked_ms >= ANEW_MS)
		ask(c, ce);
}
