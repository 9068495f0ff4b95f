/*
 * feeds.c - tests of agent/manifest_feed.c and manifest_poll.c: which release
 * has a file, and how many manifests are asked for at a time
 */
#include "firmware.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <event2/event.h>

#include "transfer.h"
#include "xalloc.h"

static struct gateway_conf conf;
static struct agent agent;
static struct firmware fw;

static int
setup(void **state)
{
	conf = (struct gateway_conf){ .firmware_origin =
					  (char *)"http://127.0.0.1:9" };
	agent = (struct agent){ .conf = &conf, .base = event_base_new() };
	fw = (struct firmware){ .agent = &agent, .keys_n = 1, .ready = true };
	TAILQ_INIT(&fw.feeds);
	fw.origins = fw_origins_new(&agent);
	return 0;
}

static int
teardown(void **state)
{
	while (!TAILQ_EMPTY(&fw.feeds))
		feed_free(TAILQ_FIRST(&fw.feeds));
	fw_origins_free(fw.origins);
	event_base_free(agent.base);
	return 0;
}

/* ---- which release has it ------------------------------------------------ */

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void
add_release(char *s, size_t n, const char *product, const char *version,
    int seq, const char *const *hashes)
{
	size_t at = strlen(s);

	at += (size_t)snprintf(s + at, n - at,
	    "%s{\"version\":\"%s\",\"seq\":%d,\"files\":[",
	    s[at - 1] == '}' ? "," : "", version, seq);
	for (int i = 0; hashes[i] != NULL; i++)
		at += (size_t)snprintf(s + at, n - at,
		    "%s{\"path\":\"%s/c/%s/%c\",\"component\":\"%c\","
		    "\"size\":9,\"sha256\":\"%s\","
		    "\"slices\":{\"size\":262144,\"sha256\":\"%s\"}}",
		    i > 0 ? "," : "", product, version, hashes[i][0],
		    hashes[i][0], hashes[i], hashes[i]);
	snprintf(s + at, n - at, "]}");
}

struct release {
	const char *version;
	const char *const *hashes;
};

/* Releases, the newest first; revoked: a hash or NULL. */
static struct fw_feed *
feed(const char *product, const char *channel, const struct release *r,
    size_t r_n, const char *revoked)
{
	char s[8192], *why = NULL;
	struct fw_feed *fd = feed_get(&fw, product, channel);

	assert_non_null(fd);
	fd->wanted = true;
	snprintf(s, sizeof(s),
	    "{\"v\":1,\"product\":\"%s\",\"channel\":\"%s\",\"seq\":9,"
	    "\"issued\":\"2026-01-01T00:00:00Z\","
	    "\"expires\":\"2090-01-01T00:00:00Z\",\"releases\":[",
	    product, channel);
	for (size_t i = 0; i < r_n; i++)
		add_release(s, sizeof(s), product, r[i].version, (int)(r_n - i),
		    r[i].hashes);
	snprintf(s + strlen(s), sizeof(s) - strlen(s),
	    "],\"revoked\":[%s%s%s]}", revoked != NULL ? "\"" : "",
	    revoked != NULL ? revoked : "", revoked != NULL ? "\"" : "");
	if (manifest_parse(s, strlen(s), &fd->m, &why) != 0)
		fail_msg("%s\n%s", why, s);
	return fd;
}

static const char *
path_of(int octet, const struct fw_feed **fd_out)
{
	const struct manifest_file *mf;
	uint8_t sha[32];

	memset(sha, octet, 32);
	mf = feeds_find(&fw, sha, fd_out);
	return mf != NULL ? mf->path : "";
}

static const char *const a_and_b[] = { A, B, NULL };
static const char *const only_a[] = { A, NULL };
static const char *const only_b[] = { B, NULL };

/* A file of the revoked release is also in the current one. */
static void
test_shared_file(void **state)
{
	const struct release r[] = { { "2.0.0", a_and_b },
		{ "1.0.0", only_b } };

	feed("cam", "stable", r, 2, A);
	assert_string_equal(path_of(0xbb, NULL), "cam/c/1.0.0/b");
	assert_string_equal(path_of(0xaa, NULL), "");
}

/* Revoked in one channel is revoked in all of its product, in any order. */
static void
test_channels(void **state)
{
	const struct release r[] = { { "1.0.0", only_a } };
	struct fw_feed *fd;

	feed("cam", "stable", r, 1, NULL);
	assert_string_equal(path_of(0xaa, NULL), "cam/c/1.0.0/a");
	fd = feed("cam", "beta", r, 1, A);
	assert_string_equal(path_of(0xaa, NULL), "");
	fd->wanted = false; /* the channel went; what was revoked stays so */
	assert_string_equal(path_of(0xaa, NULL), "");
}

/* Not for another product, which may come first or last. */
static void
test_products(void **state)
{
	const struct release r[] = { { "1.0.0", only_a } };
	const struct fw_feed *fd = NULL;

	feed("cam", "stable", r, 1, A);
	feed("bell", "stable", r, 1, NULL);
	assert_string_equal(path_of(0xaa, &fd), "bell/c/1.0.0/a");
	assert_string_equal(fd->product, "bell");
}

/* ---- how many at a time -------------------------------------------------- */

static unsigned
running(bool news)
{
	const struct fw_feed *fd;
	unsigned n = 0;

	TAILQ_FOREACH(fd, &fw.feeds, link)
	n += fd->get != NULL && fd->get_news == news;
	return n;
}

static void
test_polls(void **state)
{
	struct fw_feed *fd, *late = NULL;
	char name[16];

	for (int i = 0; i < FW_FEEDS_MAX; i++) {
		snprintf(name, sizeof(name), "cam-%d", i);
		fd = feed_get(&fw, name, "stable");
		assert_non_null(fd);
		fd->wanted = true;
		fd->next_ms = i == 300 ? 1 : 2;
		if (i == 300)
			late = fd;
	}
	feeds_poll(&fw);
	assert_int_equal(running(false), 8);
	assert_non_null(late->get); /* the longest due goes first */
	feeds_poll(&fw);
	assert_int_equal(running(false), 8);
	/* What the signer has news of does not wait for those. */
	late = TAILQ_LAST(&fw.feeds, fw_feeds);
	late->known_seq = 7;
	feed_now(late);
	feeds_poll(&fw);
	assert_non_null(late->get);
	assert_int_equal(running(false) + running(true), 9);
	TAILQ_FOREACH(fd, &fw.feeds, link)
	fd->known_seq = 7;
	feeds_poll(&fw);
	assert_int_equal(running(false) + running(true), 16);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_shared_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_channels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_products, setup, teardown),
		cmocka_unit_test_setup_teardown(test_polls, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
