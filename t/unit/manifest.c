/*
 * manifest.c - tests of lib/manifest*.c and lib/slices.c
 */
#include "manifest.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "slices.h"
#include "url.h"
#include "xalloc.h"

#define H64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define G64 "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEAD                                                                   \
	"\"v\":1,\"product\":\"cam-x\",\"channel\":\"stable\",\"seq\":12,"     \
	"\"issued\":\"2026-01-02T03:04:05Z\","                                 \
	"\"expires\":\"2026-04-02T03:04:05Z\""
#define FILE_OF(version, sha)                                                  \
	"{\"path\":\"cam-x/stable/" version "/fw.bin\",\"size\":41943163,"     \
	"\"sha256\":\"" sha "\",\"slices\":{\"size\":262144,\"sha256\":\"" H64 \
	"\"}}"
#define RELEASE(version, seq, more)                                            \
	"{\"version\":\"" version "\",\"seq\":" seq more                       \
	",\"files\":[" FILE_OF(version, H64) "]}"

static struct manifest *
good(const char *text)
{
	struct manifest *m = NULL;
	char *why = NULL;

	if (manifest_parse(text, strlen(text), &m, &why) != 0)
		fail_msg("%s: %s", text, why);
	return m;
}

static void
refused(const char *text, const char *why)
{
	struct manifest *m = NULL;
	char *got = NULL;

	if (manifest_parse(text, strlen(text), &m, &got) != -EINVAL)
		fail_msg("accepted: %s", text);
	if (strstr(got, why) == NULL)
		fail_msg("%s: %s, not %s", text, got, why);
	free(got);
	assert_int_equal(manifest_parse(text, strlen(text), &m, NULL), -EINVAL);
	assert_null(m);
}

static void
test_small(void **state)
{
	struct manifest *m =
	    good("{" HEAD ",\"releases\":[],\"new\":{\"a\":1}}");

	assert_string_equal(m->product, "cam-x");
	assert_string_equal(m->channel, "stable");
	assert_int_equal(m->seq, 12);
	assert_int_equal(m->expires - m->issued, 90 * 86400);
	assert_int_equal(m->releases_n, 0);
	manifest_free(m);
	manifest_free(NULL);
}

static void
test_full(void **state)
{
	struct manifest *m = good(
	    "{" HEAD ",\"revoked\":[\"" G64 "\",\"" H64
	    "\"],\"releases\":[" RELEASE("1.0.0", "3",
		"") ","
		    "{\"version\":\"1.4.2\",\"seq\":7,\"hw\":[\"1.0\",\"b\"],"
		    "\"min_from\":\"1.2.0\",\"set\":\"2026-01\",\"percent\":25,"
		    "\"salt\":\"9f\",\"after\":\"1970-01-01T00:01:00Z\","
		    "\"window\":\"23:00-05:30\",\"halted\":true,\"files\":["
		    "{\"component\":\"loader\",\"path\":\"cam-x/beta/1.4.2/a\","
		    "\"size\":1,\"sha256\":\""
		    "aa112233445566778899aabbccddeeff"
		    "00112233445566778899aabbccddeeff\",\"sha1\":"
		    "\"00112233445566778899aabbccddeeff00112233\",\"md5\":"
		    "\"00112233445566778899aabbccddeeff\","
		    "\"slices\":{\"size\":262144,\"sha256\":\"" H64 "\"}}]}]}");
	const struct manifest_release *r = m->releases;
	const struct manifest_file *f;
	uint8_t sha[32];

	assert_int_equal(m->releases_n, 2);
	assert_string_equal(r->version, "1.4.2"); /* the newest first */
	assert_int_equal(r->hw_n, 2);
	assert_string_equal(r->hw[1], "b");
	assert_string_equal(r->min_from, "1.2.0");
	assert_string_equal(r->set, "2026-01");
	assert_int_equal(r->percent, 25);
	assert_string_equal(r->salt, "9f");
	assert_int_equal(r->after, 60);
	assert_int_equal(r->window_from, 23 * 60);
	assert_int_equal(r->window_to, 330);
	assert_true(r->halted);
	assert_false(r->revoked);
	assert_string_equal(r->files[0].component, "loader");
	assert_string_equal(r->files[0].name, "a");
	assert_true(r->files[0].has_sha1 && r->files[0].has_md5);
	assert_int_equal(r->files[0].md5[15], 0xff);
	r = &m->releases[1];
	assert_int_equal(r->percent, 100);
	assert_int_equal(r->window_from, -1);
	assert_string_equal(r->files[0].component, "firmware");
	assert_true(r->revoked);
	assert_int_equal(hex_decode(H64, sha, 32), 0);
	f = manifest_find(m, sha, &r);
	assert_ptr_equal(f, &m->releases[1].files[0]);
	assert_string_equal(r->version, "1.0.0");
	assert_true(manifest_revoked(m, sha));
	sha[31] ^= 1;
	assert_null(manifest_find(m, sha, NULL));
	assert_false(manifest_revoked(m, sha));
	manifest_free(m);
}

static void
test_refused(void **state)
{
	refused("", "empty");
	refused("[]", "must be an object");
	refused("{" HEAD "}", "releases must be a list");
	refused("{" HEAD ",\"releases\":[1]}", "release 1: releases must be");
	refused("{" HEAD ",\"seq\":13,\"releases\":[]}", "twice");
	refused("{\"v\":2}", "update the gateway");
	refused("{\"v\":1,\"product\":\"Cam\",\"channel\":\"a\"}", "product");
	refused("{\"v\":1,\"product\":\"a\",\"channel\":\"..\"}", "product");
	refused("{\"v\":1,\"product\":\"a\",\"channel\":\"b\",\"seq\":0}",
	    "seq must be");
	refused("{\"v\":1,\"product\":\"a\",\"channel\":\"b\",\"seq\":1,"
		"\"issued\":\"2026-02-30T00:00:00Z\"}",
	    "issued must be a time");
	refused("{\"v\":1,\"product\":\"a\",\"channel\":\"b\",\"seq\":1,"
		"\"issued\":\"2026-02-03T00:00:00Z\","
		"\"expires\":\"2026-02-03T00:00:00Z\",\"releases\":[]}",
	    "expires must be after");
	refused("{" HEAD ",\"releases\":[],\"revoked\":[\"12\"]}", "revoked");
}

static void
test_refused_release(void **state)
{
	static const struct {
		const char *more, *why;
	} cases[] = {
		{ ",\"hw\":\"1.0\"", "hw must be a list" },
		{ ",\"hw\":[\"a b\"]", "hw must be names" },
		{ ",\"percent\":101", "percent must be" },
		{ ",\"percent\":\"5\"", "percent must be" },
		{ ",\"min_from\":\"../x\"", "min_from must be" },
		{ ",\"after\":\"tomorrow\"", "after must be" },
		{ ",\"window\":\"01:00-01:00\"", "window must be" },
		{ ",\"window\":\"01:00-25:00\"", "window must be" },
		{ ",\"window\":7", "window must be" },
		{ ",\"halted\":1", "halted must be" },
		{ ",\"salt\":\"a\\nb\"", "salt must be" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = xasprintf(
		    "{" HEAD ",\"releases\":[{\"version\":"
		    "\"1\",\"seq\":1%s,\"files\":[" FILE_OF("1", H64) "]}]}",
		    cases[i].more);

		refused(text, cases[i].why);
		free(text);
	}
	refused("{" HEAD ",\"releases\":[" RELEASE("1", "3", "") "," RELEASE(
		    "2", "3", "") "]}",
	    "two releases have seq 3");
	refused("{" HEAD ",\"releases\":[" RELEASE("1", "3", "") "," RELEASE(
		    "1", "4", "") "]}",
	    "two releases have version 1");
	refused("{" HEAD ",\"releases\":[" RELEASE("manifest-1", "3", "") "]}",
	    "version must be");
}

static void
test_refused_file(void **state)
{
	static const struct {
		const char *path, *more, *why;
	} cases[] = {
		{ "cam-y/stable/1/a", ",\"size\":1", "path must be" },
		{ "cam-x/stable/2/a", ",\"size\":1", "path must be" },
		{ "cam-x/../1/a", ",\"size\":1", "path must be" },
		{ "cam-x/stable/1/", ",\"size\":1", "path must be" },
		{ "cam-x/stable/1", ",\"size\":1", "path must be" },
		{ "/cam-x/stable/1/a", ",\"size\":1", "path must be" },
		{ "cam-x//stable/1/a", ",\"size\":1", "path must be" },
		{ "cam-x/stable/1/a/b", ",\"size\":1", "path must be" },
		{ "cam-x/stable/1/a.slices", ",\"size\":1", "path must be" },
		{ "cam-x/stable/1/a", "", "size is missing" },
		{ "cam-x/stable/1/a", ",\"size\":0", "size must be" },
		{ "cam-x/stable/1/a", ",\"size\":1.5", "size must be" },
		{ "cam-x/stable/1/a", ",\"size\":68719476737", "size must" },
		{ "cam-x/stable/1/a", ",\"size\":1,\"md5\":\"0\"", "md5" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = xasprintf("{" HEAD ",\"releases\":[{\"version\":"
				       "\"1\",\"seq\":1,\"files\":[{\"path\":"
				       "\"%s\"%s,\"sha256\":\"" H64 "\","
				       "\"slices\":{\"size\":262144,"
				       "\"sha256\":\"" H64 "\"}}]}]}",
		    cases[i].path, cases[i].more);

		refused(text, cases[i].why);
		free(text);
	}
}

static void
test_versions(void **state)
{
	/* section 11 of the specification, and what vendors write */
	static const char *const rising[] = { "0.9", "1.0.0-alpha",
		"1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
		"1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "v1.0.0", "1.2",
		"1.2.1", "1.02.3", "1.2.3.4", "1.2.3.10", "01.2.4", "1.10", "2",
		"5.51.2.1", "5.60", "2025-12", "2026-01", "2026.01.07",
		"2026.02", "2026.10.01", "2026.10.11",
		"99999999999999999999999.0.0", "100000000000000000000000.0.0" };
	static const char *const none[] = { "", "v", "1.", "1..2", "1.2.x",
		"1.0.0-", "1.0.0-a..b", "1.0.0+", "2024_05", "1.0.0-a_b", "r12",
		"1.2.3.4.5.6.7.8.9" };
	size_t n = sizeof(rising) / sizeof(rising[0]);
	int order;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n; k++) {
			if (!firmware_version_compare(
				rising[i], rising[k], &order))
				fail_msg("%s %s", rising[i], rising[k]);
			assert_int_equal(order, (i > k) - (i < k));
		}
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		if (firmware_version_compare(none[i], "1.0.0", &order))
			fail_msg("%s is a version", none[i]);
	assert_true(firmware_version_compare("1.0.0+a.01", "v1+b", &order));
	assert_int_equal(order, 0);
	assert_true(firmware_version_compare("01.2.0.0-01", "1.02-1", &order));
	assert_int_equal(order, 0);
}

static void
test_slices(void **state)
{
	struct slices_sums s;
	uint64_t size = 2 * FIRMWARE_SLICE + 5;
	char *body = xmalloc(size), hex[65];
	FILE *f = tmpfile();

	assert_int_equal(slices_count(0), 0);
	assert_int_equal(slices_count(1), 1);
	assert_int_equal(slices_count(FIRMWARE_SLICE), 1);
	assert_int_equal(slices_count(FIRMWARE_SLICE + 1), 2);
	assert_int_equal(slices_length(size, 0), FIRMWARE_SLICE);
	assert_int_equal(slices_length(size, 2), 5);
	assert_int_equal(slices_length(size, 3), 0);
	memset(body, 'a', size);
	assert_int_equal(fwrite(body, 1, size, f), size);
	fflush(f);
	assert_int_equal(slices_of_file(fileno(f), &s), 0);
	assert_int_equal(s.size, size);
	assert_int_equal(s.list_n, 96);
	/* head -c 262144 /dev/zero | tr '\0' a | sha256sum, and of 5 "a" */
	hex_encode(s.list + 64, 32, hex);
	assert_string_equal(hex,
	    "ed968e840d10d2d313a870bc131a4e2c311d7ad09bdf32"
	    "b3418147221f51a6e2");
	assert_memory_equal(s.list, s.list + 32, 32);
	assert_true(slices_fit(s.list, 2, body, 5));
	assert_false(slices_fit(s.list, 2, body, 4));
	assert_false(slices_fit(s.list, 0, body, 5));
	assert_true(slices_fit(s.list, 1, body, FIRMWARE_SLICE));
	free(s.list);
	assert_int_equal(ftruncate(fileno(f), 0), 0);
	assert_int_equal(slices_of_file(fileno(f), &s), 0);
	assert_int_equal(s.list_n, 0);
	hex_encode(s.sha256, 32, hex);
	assert_string_equal(hex,
	    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b93"
	    "4ca495991b7852b855");
	assert_true(slices_list_ok(s.list, 0, 0, s.sha256));
	assert_false(slices_list_ok((uint8_t *)body, 31, 5, s.sha256));
	free(s.list);
	free(body);
	fclose(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_refused_release),
		cmocka_unit_test(test_refused_file),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_slices),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
