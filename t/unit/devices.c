/*
 * devices.c - counting per device: bounds, silence, reload
 */
#include "../../proxy/devices.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "gateway_conf.h"
#include "json.h"

static struct camera_conf cameras[] = {
	{ .name = "dock", .expect_every_ms = 60000 },
	{ .name = "gate", .expect_every_ms = CONF_NONE },
};
static const struct gateway_conf two = { .cameras = cameras, .cameras_n = 2 };
static const struct gateway_conf one = { .cameras = cameras, .cameras_n = 1 };

static const cJSON *
of(const cJSON *list, const char *name)
{
	const cJSON *v;

	cJSON_ArrayForEach(
	    v, list) if (strcmp(json_string(v, "name"), name) == 0) return v;
	return NULL;
}

static int64_t
num(const cJSON *o, const char *key)
{
	int64_t n = -1;

	json_int(o, key, 0, INT64_MAX, &n);
	return n;
}

static void
test_counts(void **state)
{
	struct devices *d = devices_new(&two, 1000);
	cJSON *list;

	devices_accepted(d, "dock", 500, false, 5000);
	devices_accepted(d, "dock", 500, true, 8000);
	devices_refused(d, "x", "too large", 9000);
	list = devices_json(d, 11000);
	assert_int_equal(cJSON_GetArraySize(list), 3);
	assert_int_equal(num(of(list, "dock"), "uploads"), 1);
	assert_int_equal(num(of(list, "dock"), "bytes"), 500);
	assert_int_equal(num(of(list, "dock"), "last_upload"), 3);
	assert_int_equal(num(of(list, "x"), "refused"), 1);
	assert_int_equal(num(of(list, "x"), "last_refusal"), 2);
	assert_string_equal(
	    json_string(of(list, "x"), "last_refusal_text"), "too large");
	assert_false(json_bool(of(list, "x"), "configured", true));
	assert_true(cJSON_IsNull(
	    cJSON_GetObjectItemCaseSensitive(of(list, "gate"), "last_upload")));
	cJSON_Delete(list);
	devices_free(d);
}

static void
test_silent(void **state)
{
	struct devices *d = devices_new(&two, 1000);
	cJSON *list = devices_json(d, 61000);

	assert_false(json_bool(of(list, "dock"), "silent", true));
	cJSON_Delete(list);
	list = devices_json(d, 121000);
	assert_true(json_bool(of(list, "dock"), "silent", false));
	assert_int_equal(num(of(list, "dock"), "silent_for"), 120);
	assert_false(json_bool(of(list, "gate"), "silent", true));
	cJSON_Delete(list);
	devices_accepted(d, "dock", 1, true, 121000);
	list = devices_json(d, 122000);
	assert_false(json_bool(of(list, "dock"), "silent", true));
	cJSON_Delete(list);
	devices_free(d);
}

static void
test_reload(void **state)
{
	struct devices *d = devices_new(&one, 1000);
	cJSON *list;

	devices_accepted(d, "gate", 7, false, 2000);
	devices_reload(d, &two, 500000);
	list = devices_json(d, 500000);
	assert_int_equal(cJSON_GetArraySize(list), 2);
	assert_true(json_bool(of(list, "gate"), "configured", false));
	assert_int_equal(num(of(list, "gate"), "bytes"), 7);
	cJSON_Delete(list);
	devices_reload(d, &(struct gateway_conf){ 0 }, 500000);
	list = devices_json(d, 900000);
	assert_false(json_bool(of(list, "dock"), "silent", true));
	assert_false(json_bool(of(list, "dock"), "configured", true));
	cJSON_Delete(list);
	devices_free(d);
}

static void
test_rate(void **state)
{
	struct devices *d = devices_new(&two, 1000);

	for (int i = 0; i < 6; i++) /* a minute's worth at once */
		assert_int_equal(devices_too_fast(d, "a", NULL, 6, 1000), 0);
	assert_int_equal(devices_too_fast(d, "a", NULL, 6, 1000), 11);
	assert_int_equal(devices_too_fast(d, "b", NULL, 6, 1000), 0);
	assert_int_equal(devices_too_fast(d, "a", NULL, 6, 6000), 6);
	assert_int_equal(devices_too_fast(d, "a", NULL, 6, 11000), 0);
	assert_int_equal(devices_too_fast(d, "a", NULL, 6, 11000), 11);
	assert_int_equal(devices_too_fast(d, "a", NULL, 60, 21000), 0);
	devices_free(d);
}

/* Ever new names from one address; what it may not is not counted. */
static void
test_rate_of_address(void **state)
{
	struct devices *d = devices_new(&two, 1000);
	char name[32];
	cJSON *list;

	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		assert_int_equal(
		    devices_too_fast(d, name, "10.0.0.1", 6, 1000), 0);
	}
	assert_int_equal(devices_too_fast(d, "a", "10.0.0.1", 6, 1000), 11);
	for (int i = 0; i < 6; i++)
		assert_int_equal(
		    devices_too_fast(d, "a", "10.0.0.2", 6, 1000), 0);
	assert_int_equal(devices_too_fast(d, "a", "10.0.0.3", 6, 1000), 11);
	list = devices_json(d, 1000);
	for (int i = 0; i < cJSON_GetArraySize(list); i++)
		assert_true(
		    cJSON_GetObjectItem(cJSON_GetArrayItem(list, i), "name")
			->valuestring[0] != '\1');
	cJSON_Delete(list);
	devices_free(d);
}

/* Names are claims: the 1,001st is counted with all others. */
static void
test_bounded(void **state)
{
	struct devices *d = devices_new(&two, 1);
	char name[32];
	cJSON *list;

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "cam-%d", i);
		devices_accepted(d, name, 1, false, 10);
	}
	devices_accepted(d, "gate", 1, false, 10);
	list = devices_json(d, 10);
	assert_int_equal(cJSON_GetArraySize(list), 1003);
	assert_int_equal(num(of(list, "other"), "uploads"), 2000);
	assert_int_equal(num(of(list, "cam-999"), "uploads"), 1);
	assert_null(of(list, "cam-1000"));
	assert_int_equal(num(of(list, "gate"), "uploads"), 1);
	cJSON_Delete(list);
	/* sections come and go as often as they like */
	for (int i = 0; i < 5; i++) {
		devices_reload(d, &one, 10);
		devices_reload(d, &two, 10);
	}
	devices_accepted(d, "cam-5000", 1, false, 10);
	list = devices_json(d, 10);
	assert_int_equal(cJSON_GetArraySize(list), 1003);
	cJSON_Delete(list);
	devices_free(d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_silent),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_rate_of_address),
		cmocka_unit_test(test_bounded),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
