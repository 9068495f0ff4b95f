/*
 * store.c - tests that every store must pass, and of tokens and gateways
 *
 * Built once for each database; which one is the world's matter
 * (store_world.h).
 */
#include "store.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway.h"
#include "json.h"
#include "problem.h"
#include "running.h"
#include "store_world.h"
#include "token.h"
#include "xalloc.h"

static struct store *
store_of(void **state)
{
	return world_store(*state);
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

/* ---- octets and long lists ------------------------------------------------
 */

/* Order and equality are of octets: no collation, no normal form. */
static void
test_octets(void **state)
{
	static const char *const ids[] = { "B", "a", "a b", "a'b", "a-b", "aB",
		"a\\b", "e\xcc\x81", "\xc3\xa9", "\xff\xfe" };
	struct store *s = store_of(state);
	struct row r = { KIND_GATEWAY, "acme", NULL, NULL };
	char want[256] = "", *doc = xmalloc(256);

	for (int i = 0; i < 255; i++)
		doc[i] = (char)(i + 1);
	doc[255] = '\0';
	for (size_t i = sizeof(ids) / sizeof(ids[0]); i-- > 0;) {
		r.id = ids[i];
		r.doc = doc + i;
		assert_int_equal(store_update(s, put_row, &r), 0);
	}
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		r.id = ids[i];
		r.doc = doc + i;
		assert_int_equal(store_view(s, expect_row, &r), 0);
		strcat(want, ids[i]);
		strcat(want, " ");
	}
	expect_scan(s, "acme", NULL, 0, want);
	expect_scan(s, "acme", "\xc3\xa9", 0, "\xff\xfe ");
	free(doc);
}

#define MANY 300

static int
put_many(struct store_txn *t, void *arg)
{
	char id[16];
	int rc = 0;

	for (int i = 0; i < MANY && rc == 0; i++) {
		snprintf(id, sizeof(id), "%04d", i * 7 % MANY);
		rc = store_put(
		    t, KIND_AUDIT, i % 2 ? "acme" : "other", id, "{}", 2);
	}
	return rc;
}

static int
count_row(const char *id, const char *doc, size_t n, void *arg)
{
	struct scan *s = arg;

	assert_true(strcmp(s->seen, id) < 0);
	assert_string_equal(doc, "{}");
	assert_int_equal(n, 2);
	snprintf(s->seen, sizeof(s->seen), "%s", id);
	s->stop_after++;
	return 0;
}

static int
count_rows(struct store_txn *t, void *arg)
{
	struct scan *s = arg;

	s->seen[0] = '\0';
	s->stop_after = 0;
	return store_scan(t, KIND_AUDIT, s->tenant, s->after, count_row, s);
}

static void
test_many(void **state)
{
	struct store *s = store_of(state);
	struct scan all = { .tenant = NULL }, one = { .tenant = "acme" };
	char last[256];

	assert_int_equal(store_update(s, put_many, NULL), 0);
	assert_int_equal(store_view(s, count_rows, &all), 0);
	assert_int_equal(all.stop_after, MANY);
	assert_int_equal(store_view(s, count_rows, &one), 0);
	assert_int_equal(one.stop_after, MANY / 2);
	strcpy(last, one.seen);
	one.after = last;
	assert_int_equal(store_view(s, count_rows, &one), 0);
	assert_int_equal(one.stop_after, 0);
}

/* A view sees one moment, a change what it has put itself. */
static int
put_then_look(struct store_txn *t, void *arg)
{
	struct row r = { KIND_META, "", "x", "1" }, none = r;
	struct scan sc = { .tenant = "acme" };

	assert_int_equal(put_row(t, &r), 0);
	assert_int_equal(expect_row(t, &r), 0);
	r.doc = "2";
	assert_int_equal(put_row(t, &r), 0);
	assert_int_equal(expect_row(t, &r), 0);
	none.doc = NULL;
	assert_int_equal(del_row(t, &none), 0);
	assert_int_equal(expect_row(t, &none), 0);
	r = (struct row){ KIND_GATEWAY, "acme", "g", "1" };
	assert_int_equal(put_row(t, &r), 0);
	assert_int_equal(scan(t, &sc), 0);
	assert_string_equal(sc.seen, "g ");
	return 0;
}

static int
look_again(struct store_txn *t, void *arg)
{
	struct row r = { KIND_GATEWAY, "acme", "g", "1" };

	assert_int_equal(expect_row(t, &r), 0);
	r.doc = "changed";
	assert_int_equal(store_update(arg, put_row, &r), 0);
	r.doc = "1";
	return expect_row(t, &r);
}

static void
test_moment(void **state)
{
	struct store *s = store_of(state);
	struct row r = { KIND_GATEWAY, "acme", "g", "changed" };

	assert_int_equal(store_update(s, put_then_look, NULL), 0);
	assert_int_equal(store_view(s, look_again, s), 0);
	assert_int_equal(store_view(s, expect_row, &r), 0);
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

/* ---- what devices run ---------------------------------------------------- */

struct telling {
	const char *gateway, *at;
	int from, to; /* devices d FROM to d TO - 1 */
	int64_t max;
	int accepted, dropped;
};

static int
tell(struct store_txn *t, void *arg)
{
	struct telling *w = arg;
	struct running r;
	int rc = 0;

	running_begin(&r, t, "acme", w->gateway, w->max);
	for (int i = w->from; rc == 0 && i < w->to; i++) {
		char device[16];
		cJSON *row = cJSON_CreateObject();

		snprintf(device, sizeof(device), "d%05d", i);
		json_add_text(row, "reportedAt", w->at);
		rc = running_put(&r, device, row);
		cJSON_Delete(row);
	}
	if (rc == 0)
		rc = running_end(&r);
	w->accepted = r.accepted;
	w->dropped = r.dropped;
	return rc;
}

static void
expect_told(struct store *s, struct telling w, int accepted, int dropped)
{
	assert_int_equal(store_update(s, tell, &w), 0);
	assert_int_equal(w.accepted, accepted);
	assert_int_equal(w.dropped, dropped);
}

static int
delete_gateway(struct store_txn *t, void *arg)
{
	return running_delete_gateway(t, "acme", arg);
}

#define OLD "2026-01-01T00:00:00Z"
#define NEW "2026-03-01T00:00:00Z"
#define BETWEEN 1769904000 /* 2026-02-01 */

static void
test_running_bounds(void **state)
{
	struct store *s = store_of(state);
	char gw[] = "a";

	expect_told(s, (struct telling){ "a", NEW, 0, 3, 5 }, 3, 0);
	expect_told(s, (struct telling){ "b", NEW, 0, 3, 5 }, 2, 1);
	/* Those that are known are still told. */
	expect_told(s, (struct telling){ "a", NEW, 0, 4, 5 }, 3, 1);
	/* "a" is no prefix of "ab". */
	expect_told(s, (struct telling){ "ab", NEW, 0, 1, 6 }, 1, 0);
	assert_int_equal(store_update(s, delete_gateway, gw), 0);
	expect_told(s, (struct telling){ "c", NEW, 0, 9, 6 }, 3, 6);
	expect_told(s, (struct telling){ "ab", NEW, 0, 1, 6 }, 1, 0);
}

#ifndef WORLD_PG /* many rows, and nothing of a database */
static void
test_running_of_one(void **state)
{
	struct store *s = store_of(state);

	expect_told(s,
	    (struct telling){ "a", NEW, 0, RUNNING_GATEWAY_MAX - 1, 1 << 20 },
	    RUNNING_GATEWAY_MAX - 1, 0);
	expect_told(s,
	    (struct telling){ "a", NEW, RUNNING_GATEWAY_MAX - 2,
		RUNNING_GATEWAY_MAX + 2, 1 << 20 },
	    2, 2);
	expect_told(s, (struct telling){ "b", NEW, 0, 1, 1 << 20 }, 1, 0);
}

#endif

/* More than a page of each, and rows of a version that did not count them. */
static void
test_running_age(void **state)
{
	struct store *s = store_of(state);
	struct row tenant = { KIND_TENANT, "acme", "", "{}" };
	struct row uncounted = { KIND_RUNNING, "acme", "0/d", "{}" };
	atomic_bool stop = true;
	uint64_t n;

	assert_int_equal(store_update(s, put_row, &tenant), 0);
	assert_int_equal(store_update(s, put_row, &uncounted), 0);
	expect_told(s, (struct telling){ "a", OLD, 0, 1500, 9999 }, 1500, 0);
	expect_told(s, (struct telling){ "b", NEW, 0, 1500, 9999 }, 1500, 0);
	expect_told(s, (struct telling){ "a", NEW, 100, 200, 9999 }, 100, 0);
	expect_told(s, (struct telling){ "c", NEW, 0, 1, 3001 }, 0, 1);
	assert_int_equal(running_age(s, BETWEEN, &stop, &n), 0);
	assert_int_equal(n, 0); /* the signer is to end */
	stop = false;
	assert_int_equal(running_age(s, BETWEEN, &stop, &n), 0);
	assert_int_equal(n, 1401); /* the one without a time, too */
	expect_told(s, (struct telling){ "c", NEW, 0, 9, 1603 }, 3, 6);
	assert_int_equal(running_age(s, BETWEEN, &stop, &n), 0);
	assert_int_equal(n, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(test_running_bounds),
#ifndef WORLD_PG
		world_test(test_running_of_one),
#endif
		world_test(test_running_age),
		world_test(test_rows),
		world_test(test_scan),
		world_test(test_threads),
		world_test(test_octets),
		world_test(test_many),
		world_test(test_moment),
		world_test(test_tokens),
		cmocka_unit_test(test_gateway_doc),
		WORLD_TESTS,
	};

	if (!world_there())
		return 0;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, world_begin, world_end);
}
