/*
 * credential.c - short-lived credentials that a provider fetches
 *
 * Entries stand in one list under one lock, in order of use; the least used go
 * when there are too many. Waiters are the loop's; a fetch runs on a thread
 * with a copy of the names only and puts its result into the list.
 */
#include "credential.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "clock.h"
#include "log.h"
#include "pool.h"
#include "provider.h"
#include "signer.h"
#include "signer_conf.h"
#include "storage.h"
#include "storage_cache.h"
#include "store.h"
#include "xalloc.h"

#define ENTRIES_MAX 4096
#define RETRY_S 10
/* No scope: those of a storage whose service does not answer. */
#define ALL_SCOPES "*"
/* A credential with less than this left is not used, one with less than a
 * quarter of its life is renewed. */
#define LEFT_MIN_S 30

struct entry {
	TAILQ_ENTRY(entry) link;
	char *key;
	struct credential *cred; /* NULL: the last fetch failed */
	int64_t renew_s, retry_s;
	struct fetch_error error;
};
TAILQ_HEAD(entries, entry);

struct waiter {
	SLIST_ENTRY(waiter) link;
	void (*done)(void *arg);
	void *arg;
};
struct fetch {
	TAILQ_ENTRY(fetch) link;
	struct credentials *c;
	char *tenant, *name, *scope;
	SLIST_HEAD(, waiter) waiters;
};
TAILQ_HEAD(fetches, fetch);

struct credentials {
	struct signer *sg;
	pthread_mutex_t lock;
	struct entries entries; /* most used first */
	size_t n;
	struct fetches fetches; /* the loop's */
};

void
credential_drop(struct credential *cred)
{
	for (size_t i = 0; i < CREDENTIAL_TEXTS; i++) {
		if (cred->text[i] != NULL)
			explicit_bzero(cred->text[i], strlen(cred->text[i]));
		free(cred->text[i]);
	}
	memset(cred, 0, sizeof(*cred));
}

/* The list's own use counts as one. */
static void
unref(struct credential *cred)
{
	if (cred == NULL || --cred->users > 0)
		return;
	credential_drop(cred);
	free(cred);
}

struct credentials *
credentials_new(struct signer *sg)
{
	struct credentials *c = xcalloc(1, sizeof(*c));

	c->sg = sg;
	pthread_mutex_init(&c->lock, NULL);
	TAILQ_INIT(&c->entries);
	TAILQ_INIT(&c->fetches);
	return c;
}

static void
entry_free(struct credentials *c, struct entry *e)
{
	TAILQ_REMOVE(&c->entries, e, link);
	c->n--;
	unref(e->cred);
	free(e->key);
	free(e);
}

void
credentials_free(struct credentials *c)
{
	if (c == NULL)
		return;
	while (!TAILQ_EMPTY(&c->entries))
		entry_free(c, TAILQ_FIRST(&c->entries));
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static char *
make_key(const struct storage *s, const char *scope)
{
	return xasprintf("%s/%s/%s/%s", s->tenant, s->name, s->row_id, scope);
}

static struct entry *
find(struct credentials *c, const char *key)
{
	struct entry *e;

	TAILQ_FOREACH(e, &c->entries, link)
	{
		if (strcmp(e->key, key) == 0)
			return e;
	}
	return NULL;
}

/* Does a fetch that has failed tell what the next one would say? */
static bool
known_failure(const struct entry *e, int64_t now_s, struct fetch_error *error,
    int *retry_s)
{
	if (e == NULL || e->cred != NULL || now_s >= e->retry_s)
		return false;
	*error = e->error;
	*retry_s = (int)(e->retry_s - now_s);
	return true;
}

int
credentials_get(struct credentials *c, const struct storage *s,
    const char *scope, int64_t now_s, const struct credential **cred_out,
    bool *renew_out, struct fetch_error *error_out, int *retry_s_out)
{
	char *key = make_key(s, scope), *all = make_key(s, ALL_SCOPES);
	struct entry *e;
	int rc = -EAGAIN;

	pthread_mutex_lock(&c->lock);
	e = find(c, key);
	if (e != NULL) {
		TAILQ_REMOVE(&c->entries, e, link);
		TAILQ_INSERT_HEAD(&c->entries, e, link);
	}
	if (e != NULL && e->cred != NULL &&
	    e->cred->expires_s > now_s + LEFT_MIN_S) {
		e->cred->users++;
		*cred_out = e->cred;
		*renew_out = now_s >= e->renew_s && now_s >= e->retry_s;
		rc = 0;
	} else if (e != NULL && now_s < e->retry_s) {
		*error_out = e->error;
		*retry_s_out = (int)(e->retry_s - now_s);
		rc = -EBUSY;
	} else if (known_failure(find(c, all), now_s, error_out, retry_s_out)) {
		rc = -EBUSY;
	}
	pthread_mutex_unlock(&c->lock);
	free(key);
	free(all);
	return rc;
}

void
credential_put(struct credentials *c, const struct credential *cred)
{
	pthread_mutex_lock(&c->lock);
	unref((struct credential *)(uintptr_t)cred);
	pthread_mutex_unlock(&c->lock);
}

/* ---- fetching ------------------------------------------------------------ */

int
credential_fetch_now(const struct storage *s, const char *scope,
    bool allow_private, int64_t now_s, struct credential *out,
    struct fetch_error *error_out)
{
	int rc;

	memset(out, 0, sizeof(*out));
	memset(error_out, 0, sizeof(*error_out));
	rc = s->provider->fetch(s, scope, allow_private, now_s, out, error_out);
	if (rc != 0 || out->expires_s > now_s + LEFT_MIN_S)
		return rc;
	credential_drop(out);
	snprintf(error_out->error, sizeof(error_out->error),
	    "the credentials that were given have ended already");
	error_out->hint = "Set the clock of this machine by NTP.";
	return -EACCES;
}

int64_t
credential_ends(const char *when, int64_t asked_s)
{
	char text[21];
	int64_t t;

	if (when == NULL || strlen(when) < 20)
		return asked_s;
	snprintf(text, sizeof(text), "%.19sZ", when); /* without fractions */
	return clock_parse_rfc3339(text, &t) == 0 && t < asked_s ? t : asked_s;
}

/* The entry of a storage and scope, made if need be. Locked. */
static struct entry *
entry_of(struct credentials *c, const struct storage *s, const char *scope)
{
	char *key = make_key(s, scope);
	struct entry *e = find(c, key);

	if (e != NULL) {
		free(key);
		return e;
	}
	e = xcalloc(1, sizeof(*e));
	e->key = key;
	TAILQ_INSERT_HEAD(&c->entries, e, link);
	if (++c->n > ENTRIES_MAX)
		entry_free(c, TAILQ_LAST(&c->entries, entries));
	return e;
}

static void
note_failure(struct entry *e, const struct fetch_error *error, int64_t now_s)
{
	e->error = *error;
	e->retry_s = now_s + RETRY_S;
}

/* lent_out, unless NULL: also lent to the caller; NULL there if rc is not 0. */
static void
take_result(struct credentials *c, const struct storage *s, const char *scope,
    int rc, const struct credential *got, const struct fetch_error *error,
    const struct credential **lent_out)
{
	int64_t now_s = clock_wall_ms() / 1000;
	struct entry *e;

	pthread_mutex_lock(&c->lock);
	e = entry_of(c, s, scope);
	e->retry_s = 0;
	if (rc == 0) {
		unref(e->cred);
		e->cred = xmalloc(sizeof(*e->cred));
		*e->cred = *got;
		e->cred->users = 1;
		if (lent_out != NULL) {
			e->cred->users++;
			*lent_out = e->cred;
		}
		e->renew_s = now_s + (got->expires_s - now_s) * 3 / 4;
	} else {
		note_failure(e, error, now_s);
		if (error->unreachable)
			note_failure(entry_of(c, s, ALL_SCOPES), error, now_s);
	}
	pthread_mutex_unlock(&c->lock);
}

struct looking {
	struct fetch *f;
	const struct storage *s;
};

static int
look_up(struct store_txn *t, void *arg)
{
	struct looking *l = arg;

	return storage_cache_get(
	    l->f->c->sg->cache, t, l->f->tenant, l->f->name, &l->s);
}

static bool
fails_already(struct credentials *c, const struct storage *s)
{
	char *all = make_key(s, ALL_SCOPES);
	struct fetch_error error;
	int retry_s;
	bool fails;

	pthread_mutex_lock(&c->lock);
	fails = known_failure(
	    find(c, all), clock_wall_ms() / 1000, &error, &retry_s);
	pthread_mutex_unlock(&c->lock);
	free(all);
	return fails;
}

static void
run(void *arg)
{
	struct fetch *f = arg;
	struct signer *sg = f->c->sg;
	struct looking l = { .f = f };
	struct credential got;
	struct fetch_error error;
	int rc;

	if (store_view(sg->store, look_up, &l) != 0)
		return; /* gone meanwhile: who waits finds out */
	if (fails_already(f->c, l.s)) {
		storage_cache_put(sg->cache, l.s);
		return; /* found out while this one waited for a thread */
	}
	rc = credential_fetch_now(l.s, f->scope, sg->conf->allow_private,
	    clock_wall_ms() / 1000, &got, &error);
	if (rc != 0)
		log_warn("storage=%s/%s no credentials next=%ds: %s", f->tenant,
		    f->name, RETRY_S, error.error);
	take_result(f->c, l.s, f->scope, rc, &got, &error, NULL);
	storage_cache_put(sg->cache, l.s);
}

int
credentials_renew(struct credentials *c, const struct storage *s,
    const char *scope, const struct credential **cred,
    struct fetch_error *error_out)
{
	const struct credential *fresh = NULL;
	struct credential got;
	int rc = credential_fetch_now(s, scope, c->sg->conf->allow_private,
	    clock_wall_ms() / 1000, &got, error_out);

	take_result(c, s, scope, rc, &got, error_out, &fresh);
	if (rc != 0)
		return *cred != NULL ? 0 : rc;
	if (*cred != NULL)
		credential_put(c, *cred);
	*cred = fresh;
	return 0;
}

static void
ran(void *arg)
{
	struct fetch *f = arg;
	struct waiter *w;

	TAILQ_REMOVE(&f->c->fetches, f, link);
	while ((w = SLIST_FIRST(&f->waiters)) != NULL) {
		SLIST_REMOVE_HEAD(&f->waiters, link);
		w->done(w->arg);
		free(w);
	}
	free(f->tenant);
	free(f->name);
	free(f->scope);
	free(f);
}

void
credentials_fetch(struct credentials *c, const char *tenant, const char *name,
    const char *scope, void (*done)(void *arg), void *arg)
{
	struct fetch *f;
	struct waiter *w;

	TAILQ_FOREACH(f, &c->fetches, link)
	{
		if (strcmp(f->tenant, tenant) == 0 &&
		    strcmp(f->name, name) == 0 && strcmp(f->scope, scope) == 0)
			break;
	}
	if (f == NULL) {
		f = xcalloc(1, sizeof(*f));
		f->c = c;
		f->tenant = xstrdup(tenant);
		f->name = xstrdup(name);
		f->scope = xstrdup(scope);
		SLIST_INIT(&f->waiters);
		TAILQ_INSERT_TAIL(&c->fetches, f, link);
		pool_run_for(c->sg->outgoing, tenant, name, run, ran, f);
	}
	if (done == NULL)
		return;
	w = xcalloc(1, sizeof(*w));
	w->done = done;
	w->arg = arg;
	SLIST_INSERT_HEAD(&f->waiters, w, link);
}
