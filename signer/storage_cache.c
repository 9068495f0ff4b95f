/*
 * storage_cache.c - storages made ready for signing
 *
 * Entries are counted: one that was replaced or pushed out lives until the
 * last signing with it is over. The list is in order of use.
 */
#include "storage_cache.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "digest.h"
#include "json.h"
#include "problem.h"
#include "storage.h"
#include "store.h"
#include "xalloc.h"

struct entry {
	TAILQ_ENTRY(entry) link;
	struct storage *s;
	char *id;  /* "NAME" or "NAME/VERSION" */
	char *row; /* the row it was made of */
	size_t row_n;
	unsigned users;
	bool listed;
};
TAILQ_HEAD(entries, entry);

struct storage_cache {
	const struct seal *seal;
	const struct sign_env *env;
	pthread_mutex_t lock;
	struct entries used;
	size_t n, max;
	struct entries lent; /* not listed any more, still in use */
};

struct storage_cache *
storage_cache_new(
    const struct seal *seal, const struct sign_env *env, size_t max)
{
	struct storage_cache *c = xcalloc(1, sizeof(*c));

	c->seal = seal;
	c->env = env;
	c->max = max;
	pthread_mutex_init(&c->lock, NULL);
	TAILQ_INIT(&c->used);
	TAILQ_INIT(&c->lent);
	return c;
}

static void
entry_free(struct entry *e)
{
	storage_free(e->s);
	free(e->id);
	free(e->row);
	free(e);
}

/* Take out of the list; freed when nobody uses it. */
static void
drop(struct storage_cache *c, struct entry *e)
{
	TAILQ_REMOVE(&c->used, e, link);
	e->listed = false;
	c->n--;
	if (e->users == 0)
		entry_free(e);
	else
		TAILQ_INSERT_TAIL(&c->lent, e, link);
}

void
storage_cache_free(struct storage_cache *c)
{
	if (c == NULL)
		return;
	while (!TAILQ_EMPTY(&c->used))
		drop(c, TAILQ_FIRST(&c->used));
	assert(TAILQ_EMPTY(&c->lent));
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static struct entry *
find(struct storage_cache *c, const char *tenant, const char *id)
{
	struct entry *e;

	TAILQ_FOREACH(e, &c->used, link)
	{
		if (strcmp(e->id, id) == 0 && strcmp(e->s->tenant, tenant) == 0)
			return e;
	}
	return NULL;
}

/* A row is {"version", "createdAt", "updatedAt", "doc"}. */
static int
make(struct storage_cache *c, const char *tenant, const char *id,
    const char *row, size_t row_n, struct storage **s_out)
{
	char *name = xstrndup(id, strcspn(id, "/"));
	struct problem p = { 0 };
	cJSON *v = json_parse(row, row_n, row_n, NULL);
	cJSON *doc = cJSON_GetObjectItemCaseSensitive(v, "doc");
	int rc = cJSON_IsObject(doc)
	    ? storage_unseal(c->seal, tenant, name, doc)
	    : -EBADMSG;

	if (rc == 0)
		rc = storage_parse(c->env, tenant, name, doc, &p, s_out);
	if (rc == -EINVAL)
		rc = -EBADMSG;
	if (rc == 0) {
		json_int(v, "version", 1, INT64_MAX / 2048, &(*s_out)->version);
		json_int(v, "replacedAt", 0, INT64_MAX / 2048,
		    &(*s_out)->replaced_s);
	}
	problem_fini(&p);
	cJSON_Delete(v);
	free(name);
	return rc;
}

/* Lend what is ready, if it was made of this very row. */
static const struct storage *
lend(struct storage_cache *c, const char *tenant, const char *id,
    const char *row, size_t n)
{
	const struct storage *s = NULL;
	struct entry *e;

	pthread_mutex_lock(&c->lock);
	e = find(c, tenant, id);
	if (e != NULL && e->row_n == n && memcmp(e->row, row, n) == 0) {
		TAILQ_REMOVE(&c->used, e, link);
		TAILQ_INSERT_HEAD(&c->used, e, link);
		e->users++;
		s = e->s;
	}
	pthread_mutex_unlock(&c->lock);
	return s;
}

int
storage_cache_of(struct storage_cache *c, const char *tenant, const char *id,
    const char *row, size_t n, const struct storage **s_out)
{
	struct storage *s;
	struct entry *e;
	char hex[65];
	int rc;

	*s_out = lend(c, tenant, id, row, n);
	if (*s_out != NULL)
		return 0;
	rc = make(c, tenant, id, row, n, &s);
	if (rc != 0)
		return rc;
	digest_sha256_hex(row, n, hex);
	memcpy(s->row_id, hex, sizeof(s->row_id) - 1);
	pthread_mutex_lock(&c->lock);
	e = find(c, tenant, id);
	if (e != NULL)
		drop(c, e);
	e = xcalloc(1, sizeof(*e));
	e->s = s;
	e->id = xstrdup(id);
	e->row = xstrndup(row, n);
	e->row_n = n;
	e->users = 1;
	e->listed = true;
	TAILQ_INSERT_HEAD(&c->used, e, link);
	if (++c->n > c->max)
		drop(c, TAILQ_LAST(&c->used, entries));
	*s_out = s;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

int
storage_cache_get(struct storage_cache *c, struct store_txn *t,
    const char *tenant, const char *id, const struct storage **s_out)
{
	enum store_kind kind =
	    strchr(id, '/') != NULL ? KIND_REPLACED : KIND_STORAGE;
	char *row;
	size_t n;
	int rc = store_get(t, kind, tenant, id, &row, &n);

	if (rc != 0)
		return rc;
	rc = storage_cache_of(c, tenant, id, row, n, s_out);
	free(row);
	return rc;
}

void
storage_cache_put(struct storage_cache *c, const struct storage *s)
{
	struct entry *e;

	pthread_mutex_lock(&c->lock);
	TAILQ_FOREACH(e, &c->used, link)
	{
		if (e->s == s)
			break;
	}
	if (e == NULL)
		TAILQ_FOREACH(e, &c->lent, link)
		{
			if (e->s == s)
				break;
		}
	assert(e != NULL && e->users > 0);
	if (--e->users == 0 && !e->listed) {
		TAILQ_REMOVE(&c->lent, e, link);
		entry_free(e);
	}
	pthread_mutex_unlock(&c->lock);
}
