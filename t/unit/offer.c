/*
 * offer.c - tests of proxy/offer.c: each rule alone and in its order
 */
#include "../../proxy/offer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "manifest.h"

#define NOW 1767409445 /* 2026-01-03T03:04:05Z */
#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct manifest_file files[2] = {
	{ .component = (char *)"firmware", .path = (char *)"p/stable/1/a" },
	{ .component = (char *)"loader", .path = (char *)"p/stable/1/b" },
};
static char *hw[] = { (char *)"1.0", (char *)"1.1" };

static struct manifest_release
release(const char *version, int64_t seq)
{
	struct manifest_release r = { .version = (char *)(uintptr_t)version,
		.seq = seq,
		.files = files,
		.files_n = 1,
		.percent = 100,
		.salt = (char *)"",
		.window_from = -1,
		.window_to = -1 };

	return r;
}

struct site {
	struct manifest m;
	struct manifest_release r[4]; /* the newest first */
	struct offer_ask ask;
};

static struct site
site(void)
{
	struct site s = { .ask = { .id = "cam-1",
			      .hw = "1.0",
			      .version = "1.0.0",
			      .now = NOW } };

	s.r[0] = release("1.4.0", 4);
	s.r[1] = release("1.3.0", 3);
	s.r[2] = release("1.2.0", 2);
	s.r[3] = release("1.0.0", 1);
	s.m.releases_n = 4;
	s.m.expires = NOW + 1000;
	return s;
}

/* "update VERSION", "wait VERSION REASON" or "none REASON" */
static const char *
ask(struct site *s)
{
	static char got[100];
	struct offer o;

	s->m.releases = s->r;
	offer_decide(&s->m, &s->ask, &o);
	if (o.status == OFFER_NONE) {
		assert_null(o.release);
		assert_null(o.file);
		snprintf(got, sizeof(got), "none %s", o.reason);
	} else if (o.status == OFFER_WAIT) {
		snprintf(got, sizeof(got), "wait %s %s", o.release->version,
		    o.reason);
	} else {
		assert_string_equal(o.reason, "update");
		assert_non_null(o.file);
		snprintf(got, sizeof(got), "update %s", o.release->version);
	}
	assert_true(o.retry > 0);
	return got;
}

static void
test_versions(void **state)
{
	struct site s = site();

	assert_string_equal(ask(&s), "update 1.4.0");
	s.ask.version = "1.3.9";
	assert_string_equal(ask(&s), "update 1.4.0");
	s.ask.version = "1.4.0";
	assert_string_equal(ask(&s), "none current");
	s.ask.version = "2.0.0"; /* no downgrade */
	assert_string_equal(ask(&s), "none current");
	s.ask.version = "1.4.0-rc.1"; /* before 1.4.0 */
	assert_string_equal(ask(&s), "update 1.4.0");
	s.ask.version = NULL;
	assert_string_equal(ask(&s), "update 1.4.0");
}

static void
test_seq(void **state)
{
	struct site s = site();

	s.r[0] = release("1.3.0+build7", 4); /* equal but for the build */
	s.ask.version = "1.3.0";
	assert_string_equal(ask(&s), "update 1.3.0+build7");
	s.ask.version = "1.3.0+build7";
	assert_string_equal(ask(&s), "none current");
	s.ask.version = "1.3.0+mine"; /* nobody knows which is newer */
	assert_string_equal(ask(&s), "none unknown-version");
	s.r[0] = release("R5C", 4);
	s.r[1] = release("R5B", 3);
	s.m.releases_n = 2;
	s.ask.version = "R5B";
	assert_string_equal(ask(&s), "update R5C");
	s.ask.version = "R5C";
	assert_string_equal(ask(&s), "none current");
	s.ask.version = "R4";
	assert_string_equal(ask(&s), "none unknown-version");
	/* by version, not by when it was published */
	s = site();
	s.r[0] = release("1.2.9", 9);
	assert_string_equal(ask(&s), "update 1.3.0");
}

static void
test_hardware(void **state)
{
	struct site s = site();

	s.r[0].hw = hw;
	s.r[0].hw_n = 2;
	assert_string_equal(ask(&s), "update 1.4.0");
	s.ask.hw = "1.1";
	assert_string_equal(ask(&s), "update 1.4.0");
	s.ask.hw = "2";
	assert_string_equal(ask(&s), "update 1.3.0");
	s.ask.hw = NULL;
	assert_string_equal(ask(&s), "update 1.3.0");
	s.m.releases_n = 1;
	assert_string_equal(ask(&s), "none hardware");
}

static void
test_held(void **state)
{
	struct site s = site();

	s.r[0].revoked = true;
	assert_string_equal(ask(&s), "update 1.3.0");
	s.r[1].halted = true;
	assert_string_equal(ask(&s), "update 1.2.0");
	s.r[2].after = NOW + 1;
	assert_string_equal(ask(&s), "none revoked");
	s.ask.now = NOW + 1;
	assert_string_equal(ask(&s), "update 1.2.0");
	s.ask.failed = "1.2.0";
	assert_string_equal(ask(&s), "none revoked");
	s.m.releases_n = 1;
	s.r[0].revoked = false;
	s.r[0].halted = true;
	assert_string_equal(ask(&s), "none halted");
	s.r[0] = release("1.4.0", 4);
	s.ask.failed = "1.4.0";
	assert_string_equal(ask(&s), "none failed-here");
}

/* Who fetches a release over and over and does not run it has a rest. */
static void
test_in_vain(void **state)
{
	struct site s = site();
	struct offer o;

	s.ask.fetched = "1.4.0";
	s.ask.fetched_at = NOW - 100;
	s.ask.fetched_times = OFFER_TRIES - 1;
	assert_string_equal(ask(&s), "update 1.4.0");
	s.ask.fetched_times = OFFER_TRIES;
	assert_string_equal(ask(&s), "update 1.3.0");
	s.m.releases_n = 1;
	assert_string_equal(ask(&s), "none in-vain");
	s.ask.fetched_at = NOW - OFFER_REST + 60;
	offer_decide(&s.m, &s.ask, &o);
	assert_int_equal(o.retry, 60);
	s.ask.now += 60; /* one more try */
	assert_string_equal(ask(&s), "update 1.4.0");
	s.ask.now = NOW;
	s.ask.fetched = "1.2.0";
	assert_string_equal(ask(&s), "update 1.4.0");
	s.ask.fetched = "1.4.0";
	s.ask.version = NULL; /* nobody knows what it runs */
	assert_string_equal(ask(&s), "update 1.4.0");
}

static void
test_stepping_stone(void **state)
{
	struct site s = site();

	s.r[0].min_from = (char *)"1.3.0";
	s.r[1].min_from = (char *)"1.2.0";
	assert_string_equal(ask(&s), "update 1.2.0");
	s.ask.version = "1.2.0";
	assert_string_equal(ask(&s), "update 1.3.0");
	s.ask.version = "1.3.0";
	assert_string_equal(ask(&s), "update 1.4.0");
	s.ask.version = NULL; /* may be too old */
	assert_string_equal(ask(&s), "update 1.2.0");
	s.m.releases_n = 1;
	s.ask.version = "1.0.0";
	assert_string_equal(ask(&s), "none min-from");
	/* no semantic versions: by seq */
	s = site();
	s.r[0] = release("C", 4);
	s.r[0].min_from = (char *)"B";
	s.r[1] = release("B", 3);
	s.r[2] = release("A", 2);
	s.m.releases_n = 3;
	s.ask.version = "A";
	assert_string_equal(ask(&s), "update B");
	s.ask.version = "B";
	assert_string_equal(ask(&s), "update C");
}

static void
test_set(void **state)
{
	struct site s = site();

	s.r[0].set = s.r[1].set = (char *)"2026-01";
	assert_string_equal(ask(&s), "update 1.4.0");
	s.r[1].halted = true; /* the whole set is */
	assert_string_equal(ask(&s), "update 1.2.0");
	s.r[1].halted = false;
	s.r[1].after = NOW + 5;
	assert_string_equal(ask(&s), "update 1.2.0");
}

static void
test_time(void **state)
{
	struct site s = site();
	struct offer o;

	s.m.releases = s.r;
	s.r[0].window_from = 60;
	s.r[0].window_to = 300; /* 01:00-05:00; now is 03:04 */
	assert_string_equal(ask(&s), "update 1.4.0");
	s.r[0].window_from = 240;
	assert_string_equal(ask(&s), "wait 1.4.0 window");
	offer_decide(&s.m, &s.ask, &o);
	assert_int_equal(o.retry, 56 * 60 - 5);
	s.m.releases_n = 1;
	s.r[0].after = NOW + 100;
	offer_decide(&s.m, &s.ask, &o);
	assert_string_equal(ask(&s), "none after");
	assert_int_equal(o.retry, 100);
}

static void
test_window(void **state)
{
	int64_t day = 86400 * 20000;

	assert_int_equal(offer_window(-1, -1, day), 0);
	assert_int_equal(offer_window(60, 60, day), 0);
	assert_int_equal(offer_window(60, 120, day), 3600);
	assert_int_equal(offer_window(60, 120, day + 3600), 0);
	assert_int_equal(offer_window(60, 120, day + 7199), 0);
	assert_int_equal(offer_window(60, 120, day + 7200), 86400 - 3600);
	/* over midnight */
	assert_int_equal(offer_window(1380, 60, day), 0);
	assert_int_equal(offer_window(1380, 60, day + 3600), 79200);
	assert_int_equal(offer_window(1380, 60, day + 82800), 0);
	assert_int_equal(offer_window(0, 1440, day + 86399), 0);
}

static void
test_percent(void **state)
{
	struct site s = site();
	unsigned in[101] = { 0 };
	char id[32];

	for (int i = 0; i < 2000; i++) {
		int first = 0;

		snprintf(id, sizeof(id), "cam-%d", i);
		for (unsigned p = 0; p <= 100; p += 25) {
			int is = offer_percent("salt", id, p);

			assert_int_equal(is, offer_percent("salt", id, p));
			assert_true(is >= first); /* who is in stays in */
			first = is;
			in[p] += (unsigned)is;
		}
	}
	assert_int_equal(in[0], 0);
	assert_int_equal(in[100], 2000);
	assert_in_range(in[25], 400, 600);
	assert_in_range(in[50], 880, 1120);
	assert_in_range(in[75], 1400, 1600);
	/* printf 9f3a:cam-1 | sha256sum: 3960581c of 100000000, 22.4 % */
	assert_int_equal(offer_percent("9f3a", "cam-1", 22), 0);
	assert_int_equal(offer_percent("9f3a", "cam-1", 23), 1);
	assert_int_equal(offer_percent("9f3a", "cam-2", 13), 0);
	assert_int_equal(offer_percent("9f3a", "cam-2", 14), 1);
	assert_int_equal(offer_percent("9f3a", "cam-7", 56), 0);
	assert_int_equal(offer_percent("9f3a", "cam-7", 57), 1);
	s.r[0].percent = 0;
	assert_string_equal(ask(&s), "update 1.3.0");
	s.m.releases_n = 1;
	assert_string_equal(ask(&s), "none percent");
}

static void
test_expired(void **state)
{
	struct site s = site();

	s.m.expires = NOW;
	assert_string_equal(ask(&s), "none expired");
	s.ask.offered = "1.3.0"; /* it goes on with what it was offered */
	assert_string_equal(ask(&s), "update 1.3.0");
	s.r[1].revoked = true;
	assert_string_equal(ask(&s), "none expired");
}

static void
test_components(void **state)
{
	struct site s = site();
	struct offer o;

	s.m.releases = s.r;
	s.r[0].files_n = 2;
	s.ask.component = "loader";
	offer_decide(&s.m, &s.ask, &o);
	assert_int_equal(o.status, OFFER_UPDATE);
	assert_string_equal(o.file->component, "loader");
	s.ask.component = "nothing";
	assert_string_equal(ask(&s), "none no-file");
	offer_decide(NULL, &s.ask, &o);
	assert_int_equal(o.status, OFFER_NONE);
	assert_string_equal(o.reason, "unknown-product");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_seq),
		cmocka_unit_test(test_hardware),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_in_vain),
		cmocka_unit_test(test_stepping_stone),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_percent),
		cmocka_unit_test(test_expired),
		cmocka_unit_test(test_components),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
