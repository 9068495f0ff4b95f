/*
 * api_want.c - credentials that a call needs are fetched, then it runs again
 *
 * A call waits for them for API_PATIENCE_MS: a token service that does not
 * answer must not hold up what goes to other storages. The call lives on until
 * the last fetch has told it (fetching 0).
 */
#include "api.h"

#include <stdlib.h>
#include <event2/event.h>

#include "credential.h"
#include "signer.h"
#include "xalloc.h"

void
api_want(
    struct api_call *c, const char *name, const char *scope, bool background)
{
	if (c->wants_n == API_WANTS)
		return;
	c->wants[c->wants_n].name = xstrdup(name);
	c->wants[c->wants_n].scope = xstrdup(scope);
	c->wants[c->wants_n++].background = background;
}

void
api_wants_fini(struct api_call *c)
{
	for (size_t i = 0; i < c->wants_n; i++) {
		free(c->wants[i].name);
		free(c->wants[i].scope);
	}
	c->wants_n = 0;
}

static void
on_fetched(void *arg)
{
	struct api_call *c = arg;

	if (--c->fetching == 0 && c->rq != NULL && c->patience != NULL) {
		event_free(c->patience);
		c->patience = NULL;
		api_again(c);
	}
	api_maybe_free(c);
}

/* It takes too long: go on without. What was asked for comes later. */
static void
on_patience(evutil_socket_t fd, short what, void *arg)
{
	struct api_call *c = arg;

	event_free(c->patience);
	c->patience = NULL;
	c->rounds = API_ROUNDS;
	if (c->rq != NULL)
		api_again(c);
}

bool
api_fetch_wanted(struct api_call *c)
{
	static const struct timeval wait = { API_PATIENCE_MS / 1000,
		API_PATIENCE_MS % 1000 * 1000 };
	struct credentials *cr = c->sg->credentials;

	for (size_t i = 0; i < c->wants_n; i++) {
		bool waits = !c->wants[i].background;

		c->fetching += waits;
		credentials_fetch(cr, c->who.tenant, c->wants[i].name,
		    c->wants[i].scope, waits ? on_fetched : NULL, c);
	}
	api_wants_fini(c);
	c->rounds++;
	if (c->fetching == 0)
		return false;
	c->patience = evtimer_new(c->sg->base, on_patience, c);
	evtimer_add(c->patience, &wait);
	return true;
}
