/*
 * credential.c - credentials that are fetched: shared, renewed, outlived by
 * none
 */
#include "credential.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <event2/event.h>

#include "clock.h"
#include "json.h"
#include "pool.h"
#include "provider.h"
#include "seal.h"
#include "signer.h"
#include "signer_conf.h"
#include "storage.h"
#include "storage_cache.h"
#include "store.h"
#include "xalloc.h"

#define LIFE_S 1000

/* A provider as S3, but for where its credentials come from. */
static struct provider fake;
static struct {
	unsigned fetches; /* by one thread at a time, read when it is done */
	bool fails, unreachable;
} service;

struct world {
	char dir[32];
	struct signer sg;
	struct signer_conf conf;
	const struct storage *s;
	unsigned told; /* who waited and was told */
};

static int
fake_fetch(const struct storage *s, const char *scope, bool allow_private,
    int64_t now_s, struct credential *out, struct fetch_error *error)
{
	service.fetches++;
	usleep(20000); /* long enough for others to come */
	if (service.fails) {
		snprintf(error->error, sizeof(error->error), "no");
		error->unreachable = service.unreachable;
		return -EACCES;
	}
	out->text[0] = xasprintf("%s %u", scope, service.fetches);
	out->expires_s = now_s + LIFE_S;
	return 0;
}

static int
add_storage(struct store_txn *t, void *arg)
{
	static const char row[] =
	    "{\"version\":1,\"doc\":{\"type\":\"S3\",\"bucket\":\"bkt\","
	    "\"accessKeyId\":\"A\",\"secretAccessKey\":\"S\"}}";

	return store_put(
	    t, KIND_STORAGE, "acme", "default", row, sizeof(row) - 1);
}

static int
take_storage(struct store_txn *t, void *arg)
{
	struct world *w = arg;

	return storage_cache_get(w->sg.cache, t, "acme", "default", &w->s);
}

static int
setup(void **state)
{
	static const uint8_t key[32] = { 1 };
	struct world *w = xcalloc(1, sizeof(*w));

	strcpy(w->dir, "/tmp/credential-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	w->sg.conf = &w->conf;
	w->sg.base = event_base_new();
	w->sg.seal = seal_new(key);
	w->sg.cache = storage_cache_new(w->sg.seal, &w->sg.env, 8);
	w->sg.outgoing = pool_new(w->sg.base, 4);
	w->sg.credentials = credentials_new(&w->sg);
	assert_int_equal(
	    store_open("lmdb", w->dir, 1 << 20, &w->sg.store, NULL), 0);
	assert_int_equal(store_update(w->sg.store, add_storage, NULL), 0);
	assert_int_equal(store_view(w->sg.store, take_storage, w), 0);
	fake = *w->s->provider;
	fake.fetch = fake_fetch;
	((struct storage *)(uintptr_t)w->s)->provider = &fake;
	memset(&service, 0, sizeof(service));
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;
	char *rm = xasprintf("rm -r %s", w->dir);

	pool_free(w->sg.outgoing);
	credentials_free(w->sg.credentials);
	storage_cache_put(w->sg.cache, w->s);
	storage_cache_free(w->sg.cache);
	store_close(w->sg.store);
	seal_close(w->sg.seal);
	event_base_free(w->sg.base);
	assert_int_equal(system(rm), 0);
	free(rm);
	free(w);
	return 0;
}

static void
on_told(void *arg)
{
	struct world *w = arg;

	w->told++;
}

/* Ask for it n times at once, and wait until all are told. */
static void
fetch(struct world *w, const char *scope, unsigned n)
{
	w->told = 0;
	for (unsigned i = 0; i < n; i++)
		credentials_fetch(
		    w->sg.credentials, "acme", "default", scope, on_told, w);
	while (w->told < n)
		event_base_loop(w->sg.base, EVLOOP_ONCE);
}

/* What credentials_get() says in so many seconds; the text is the caller's. */
static int
get(struct world *w, const char *scope, int64_t in_s, char **text, bool *renew)
{
	const struct credential *cred;
	struct fetch_error error;
	int retry_s = 0, rc;

	rc = credentials_get(w->sg.credentials, w->s, scope,
	    clock_wall_ms() / 1000 + in_s, &cred, renew, &error, &retry_s);
	if (rc == 0) {
		*text = xstrdup(cred->text[0]);
		credential_put(w->sg.credentials, cred);
	}
	if (rc == -EBUSY) {
		assert_string_equal(error.error, "no");
		assert_in_range(retry_s, 1, 10);
	}
	return rc;
}

static void
gets(struct world *w, const char *scope, int64_t in_s, const char *want,
    bool want_renew)
{
	char *text;
	bool renew;

	assert_int_equal(get(w, scope, in_s, &text, &renew), 0);
	assert_string_equal(text, want);
	assert_int_equal(renew, want_renew);
	free(text);
}

static void
gets_none(struct world *w, const char *scope, int64_t in_s, int want)
{
	char *text;
	bool renew;

	assert_int_equal(get(w, scope, in_s, &text, &renew), want);
}

static void
test_share(void **state)
{
	struct world *w = *state;

	gets_none(w, "a/", 0, -EAGAIN);
	fetch(w, "a/", 20);
	assert_int_equal(service.fetches, 1);
	gets(w, "a/", 0, "a/ 1", false);
	gets_none(w, "b/", 0, -EAGAIN); /* of another scope */
	fetch(w, "b/", 1);
	gets(w, "b/", 0, "b/ 2", false);
	gets(w, "a/", 0, "a/ 1", false);
}

static void
test_renew(void **state)
{
	struct world *w = *state;
	const struct credential *held;
	struct fetch_error error;
	bool renew;
	int retry_s;

	fetch(w, "a/", 1);
	gets(w, "a/", LIFE_S * 3 / 4 - 2, "a/ 1", false);
	gets(w, "a/", LIFE_S * 3 / 4 + 1, "a/ 1", true);
	gets_none(w, "a/", LIFE_S - 29, -EAGAIN); /* too little is left */
	gets_none(w, "a/", LIFE_S + 1, -EAGAIN);
	assert_int_equal(
	    credentials_get(w->sg.credentials, w->s, "a/",
		clock_wall_ms() / 1000, &held, &renew, &error, &retry_s),
	    0);
	fetch(w, "a/", 3);
	gets(w, "a/", 0, "a/ 2", false);
	assert_string_equal(held->text[0], "a/ 1"); /* until it is given back */
	credential_put(w->sg.credentials, held);
}

static void
test_failure(void **state)
{
	struct world *w = *state;

	fetch(w, "a/", 1);
	service.fails = true;
	fetch(w, "a/", 1);
	gets(w, "a/", 0, "a/ 1", false); /* to its end */
	gets(w, "a/", LIFE_S * 3 / 4 + 1, "a/ 1", true);
	gets_none(w, "a/", LIFE_S - 29, -EAGAIN); /* and then once more */
	fetch(w, "b/", 1);
	gets_none(w, "b/", 0, -EBUSY);
	gets_none(w, "b/", 11, -EAGAIN);
	gets_none(w, "c/", 0, -EAGAIN); /* refused for b/ says nothing of c/ */
	service.fails = false;
	fetch(w, "b/", 1);
	gets(w, "b/", 0, "b/ 4", false);
}

static void
test_unreachable(void **state)
{
	struct world *w = *state;

	fetch(w, "a/", 1);
	service.fails = service.unreachable = true;
	fetch(w, "b/", 1);
	assert_int_equal(service.fetches, 2);
	gets_none(w, "b/", 0, -EBUSY);
	gets_none(w, "c/", 0, -EBUSY); /* it would not answer for c/ either */
	fetch(w, "c/", 5);
	assert_int_equal(service.fetches, 2); /* and is not asked */
	gets(w, "a/", 0, "a/ 1", false);
	gets_none(w, "c/", 11, -EAGAIN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_share, setup, teardown),
		cmocka_unit_test_setup_teardown(test_renew, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failure, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_unreachable, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
