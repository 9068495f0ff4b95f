/*
 * store.c - tests that every store must pass, and of tokens and gateways
 */
#include "store.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway.h"
#include "json.h"
#include "problem.h"
#include "token.h"
#include "xalloc.h"

/* $TEST_DATABASE: a postgresql:// URI to run the same tests with. */
struct fixture {
	char dir[64];
	struct store *s;
};

static const char *
database(void)
{
	const char *uri = getenv("TEST_DATABASE");

	return uri != NULL ? uri : "lmdb";
}

static int
on_any(const char *id, const char *doc, size_t n, void *arg)
{
	strcpy(arg, id);
	return 1;
}

/* A database that was used before is emptied, a kind at a time. */
static int
empty(struct store_txn *t, void *arg)
{
	char id[STORE_ID_MAX + 80], *slash;

	for (enum store_kind k = 0; k < KINDS; k++)
		for (;;) {
			id[0] = '\0';
			store_scan(t, k, NULL, NULL, on_any, id);
			slash = strchr(id, '/');
			if (slash == NULL)
				break;
			*slash = '\0';
			if (store_del(t, k, id, slash + 1) != 0)
				return -1;
		}
	return 0;
}

static int
setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/edgehaul-store-XXXXXX");
	if (mkdtemp(f->dir) == NULL ||
	    store_open(database(), f->dir, 16 << 20, &f->s, NULL) != 0 ||
	    store_update(f->s, empty, NULL) != 0)
		return -1;
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	char *cmd = xasprintf("rm -rf %s", f->dir);
	int rc;

	store_close(f->s);
	rc = system(cmd);
	free(cmd);
	free(f);
	return rc;
}

static struct store *
store_of(void **state)
{
	return ((struct fixture *)*state)->s;
}

/* ---- rows ---------------------------------------------------------------- */

struct row {
	enum store_kind kind;
	const char *tenant, *id, *doc;
};

static int
put_row(struct store_txn *t, void *arg)
{
	const struct row *r = arg;

	return store_put(t, r->kind, r->tenant, r->id, r->doc, strlen(r->doc));
}

static int
expect_row(struct store_txn *t, void *arg)
{
	const struct row *r = arg;
	char *doc;
	size_t n;
	int rc = store_get(t, r->kind, r->tenant, r->id, &doc, &n);

	if (r->doc == NULL) {
		assert_int_equal(rc, -ENOENT);
		return 0;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(n, strlen(r->doc));
	assert_string_equal(doc, r->doc);
	free(doc);
	return 0;
}

static int
put_and_fail(struct store_txn *t, void *arg)
{
	assert_int_equal(put_row(t, arg), 0);
	return -ECANCELED;
}

static int
del_row(struct store_txn *t, void *arg)
{
	const struct row *r = arg;

	return store_del(t, r->kind, r->tenant, r->id);
}

static void
test_rows(void **state)
{
	struct store *s = store_of(state);
	struct row a = { KIND_STORAGE, "acme", "a", "{}" };
	struct row other_tenant = { KIND_STORAGE, "acmf", "a", NULL };
	struct row other_kind = { KIND_GATEWAY, "acme", "a", NULL };
	struct row b = { KIND_STORAGE, "acme", "b", "x" };
	char *id = xmalloc(STORE_ID_MAX + 2);

	assert_int_equal(store_update(s, put_row, &a), 0);
	assert_int_equal(store_view(s, expect_row, &a), 0);
	assert_int_equal(store_view(s, expect_row, &other_tenant), 0);
	assert_int_equal(store_view(s, expect_row, &other_kind), 0);
	a.doc = "{\"longer\":1}";
	assert_int_equal(store_update(s, put_row, &a), 0);
	assert_int_equal(store_view(s, expect_row, &a), 0);
	assert_int_equal(store_update(s, put_and_fail, &b), -ECANCELED);
	b.doc = NULL;
	assert_int_equal(store_view(s, expect_row, &b), 0);
	assert_int_equal(store_update(s, del_row, &a), 0);
	assert_int_equal(store_update(s, del_row, &a), -ENOENT);
	a.doc = NULL;
	assert_int_equal(store_view(s, expect_row, &a), 0);
	memset(id, 'x', STORE_ID_MAX + 1);
	id[STORE_ID_MAX + 1] = '\0';
	b = (struct row){ KIND_STORAGE, "acme", id, "x" };
	assert_int_equal(store_update(s, put_row, &b), -ENAMETOOLONG);
	id[STORE_ID_MAX] = '\0';
	assert_int_equal(store_update(s, put_row, &b), 0);
	assert_int_equal(store_view(s, expect_row, &b), 0);
	free(id);
}

struct scan {
	const char *tenant, *after;
	char seen[256];
	int stop_after;
};

static int
on_row(const char *id, const char *doc, size_t n, void *arg)
{
	struct scan *s = arg;

	strcat(s->seen, id);
	strcat(s->seen, " ");
	return s->stop_after > 0 && --s->stop_after == 0;
}

static int
scan(struct store_txn *t, void *arg)
{
	struct scan *s = arg;

	s->seen[0] = '\0';
	return store_scan(t, KIND_GATEWAY, s->tenant, s->after, on_row, s);
}

static void
expect_scan(struct store *s, const char *tenant, const char *after,
    int stop_after, const char *want)
{
	struct scan sc = {
		.tenant = tenant, .after = after, .stop_after = stop_after
	};

	assert_int_equal(store_view(s, scan, &sc), 0);
	assert_string_equal(sc.seen, want);
}

static void
test_scan(void **state)
{
	static const struct row rows[] = { { KIND_GATEWAY, "ac", "z", "1" },
		{ KIND_GATEWAY, "acme", "b", "1" },
		{ KIND_GATEWAY, "acme", "a", "1" },
		{ KIND_GATEWAY, "acme", "ab", "1" },
		{ KIND_GATEWAY, "acme2", "a", "1" },
		{ KIND_DEVICE, "acme", "a/d", "1" } };
	struct store *s = store_of(state);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(
		    store_update(s, put_row, (void *)(uintptr_t)&rows[i]), 0);
	expect_scan(s, "acme", NULL, 0, "a ab b ");
	expect_scan(s, "acme", "a", 0, "ab b ");
	expect_scan(s, "acme", "aa", 0, "ab b ");
	expect_scan(s, "acme", "b", 0, "");
	expect_scan(s, "acme", NULL, 2, "a ab ");
	expect_scan(s, "none", NULL, 0, "");
	expect_scan(s, NULL, NULL, 0, "ac/z acme/a acme/ab acme/b acme2/a ");
}

/* ---- many threads -------------------------------------------------------- */

static int
count(struct store_txn *t, void *arg)
{
	return store_changed(t, "acme", arg);
}

static void *
count_100(void *arg)
{
	int64_t v;

	for (int i = 0; i < 100; i++)
		if (store_update(arg, count, &v) != 0)
			abort();
	return NULL;
}

static int
version(struct store_txn *t, void *arg)
{
	return store_version(t, "acme", arg);
}

static void
test_threads(void **state)
{
	struct store *s = store_of(state);
	pthread_t threads[4];
	int64_t v;

	assert_int_equal(store_view(s, version, &v), 0);
	assert_int_equal(v, 0);
	for (size_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, count_100, s);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(store_view(s, version, &v), 0);
	assert_int_equal(v, 400);
}

static int
fill(struct store_txn *t, void *arg)
{
	char id[24];
	char *doc = xmalloc(100001);
	int rc;

	memset(doc, 'x', 100000);
	doc[100000] = '\0';
	snprintf(id, sizeof(id), "%d", (*(int *)arg)++);
	rc = store_put(t, KIND_REPORT, "acme", id, doc, 100000);
	free(doc);
	return rc;
}

/* A full state refuses what is new, keeps what it has, and takes deletes. */
static void
test_full(void **state)
{
	struct store *s = store_of(state);
	struct row a = { KIND_STORAGE, "acme", "a", "{}" };
	char id[24];
	struct row first = { KIND_REPORT, "acme", id, NULL };
	int n = 0, rc = 0;

	if (strcmp(database(), "lmdb") != 0)
		return; /* no size of its own */
	assert_int_equal(store_update(s, put_row, &a), 0);
	while (rc == 0 && n < 1000)
		rc = store_update(s, fill, &n);
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(store_view(s, expect_row, &a), 0);
	for (int i = 0; i < 10; i++) {
		snprintf(id, sizeof(id), "%d", i);
		assert_int_equal(store_update(s, del_row, &first), 0);
	}
	assert_int_equal(store_update(s, fill, &n), 0);
}

/* ---- tokens -------------------------------------------------------------- */

struct make {
	enum role role;
	const char *tenant, *gateway;
	int64_t now, expires;
	char *token;
};

static int
make_token(struct store_txn *t, void *arg)
{
	struct make *m = arg;

	return token_create(t, m->tenant, m->role, m->gateway, m->now,
	    m->expires, &m->token, NULL);
}

struct check {
	const char *token;
	int64_t now;
	struct identity who;
};

static int
check_token(struct store_txn *t, void *arg)
{
	struct check *c = arg;

	return token_check(t, c->token, c->now, &c->who);
}

static int
checked(struct store *s, const char *token, int64_t now)
{
	struct check c = { .token = token, .now = now };

	return store_view(s, check_token, &c);
}

static void
test_tokens(void **state)
{
	struct store *s = store_of(state);
	struct make m = { ROLE_ADMIN, "acme", NULL, 1000, 2000, NULL };
	struct check c = { .now = 1500 };
	char *t[3], *changed;

	assert_int_equal(store_update(s, make_token, &m), 0);
	c.token = m.token;
	assert_int_equal(store_view(s, check_token, &c), 0);
	assert_int_equal(c.who.role, ROLE_ADMIN);
	assert_string_equal(c.who.tenant, "acme");
	assert_int_equal(checked(s, m.token, 2000), -EACCES);
	changed = xstrdup(m.token);
	changed[strlen(changed) - 2] ^= 1;
	assert_int_equal(checked(s, changed, 1500), -EACCES);
	assert_int_equal(checked(s, "", 1500), -EACCES);
	assert_int_equal(checked(s, "eh.acme", 1500), -EACCES);
	assert_int_equal(checked(s, "eh...", 1500), -EACCES);
	assert_int_equal(checked(s, "eh.acme.zz.zz", 1500), -EACCES);
	free(changed);
	free(m.token);
	for (int i = 0; i < 3; i++) {
		m = (struct make){ ROLE_GATEWAY, "acme", "gw", 1000 + i, 0,
			NULL };
		assert_int_equal(store_update(s, make_token, &m), 0);
		t[i] = m.token;
	}
	assert_int_equal(checked(s, t[0], 1500), -EACCES);
	assert_int_equal(checked(s, t[1], 1500), 0);
	assert_int_equal(checked(s, t[2], 1500), 0);
	for (int i = 0; i < 3; i++)
		free(t[i]);
	m = (struct make){ ROLE_GATEWAY, "acme", NULL, 1, 0, NULL };
	assert_int_equal(store_update(s, make_token, &m), -EINVAL);
	m = (struct make){ ROLE_ADMIN, "Bad.Name", NULL, 1, 0, NULL };
	assert_int_equal(store_update(s, make_token, &m), -EINVAL);
	m = (struct make){ ROLE_GATEWAY, "acme", "../x", 1, 0, NULL };
	assert_int_equal(store_update(s, make_token, &m), -EINVAL);
}

/* ---- gateways ------------------------------------------------------------ */

static void
test_gateway_doc(void **state)
{
	static const char *const wrong[] = { "{\"prefix\":\"/\"}",
		"{\"prefix\":\"a//b\"}", "{\"prefix\":\"./a\"}",
		"{\"prefix\":7}", "{\"blocked\":\"yes\"}", "{\"bloked\":true}",
		"{\"policy\":{\"maxSize\":-1}}", "{\"policy\":[]}",
		"{\"policy\":{\"storages\":\"x\"}}",
		"{\"policy\":{\"maxsize\":1}}" };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct problem p = { 0 };
		cJSON *doc = json_parse(wrong[i], strlen(wrong[i]), 1000, NULL);

		if (gateway_parse("gw", doc, &p) != NULL || p.status != 422)
			fail_msg("%s was taken", wrong[i]);
		problem_fini(&p);
		cJSON_Delete(doc);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scan, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tokens, setup, teardown),
		cmocka_unit_test(test_gateway_doc),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
