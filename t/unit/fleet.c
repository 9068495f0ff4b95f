/*
 * fleet.c - tests of proxy/fleet*.c: what is counted, kept, and what it costs
 */
#include "../../proxy/fleet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include <event2/event.h>

#include "../../proxy/catalog.h"
#include "cache.h"
#include "clock.h"
#include "json.h"
#include "pool.h"
#include "xalloc.h"

struct world {
	char dir[64];
	struct event_base *base;
	struct pool *disk;
	struct cache *cache;
	struct fleet *f;
	struct catalog cat;
};

static int
setup(void **state)
{
	static char *products[] = { "cam-a", "cam-b", "cam-c", "cam-d" };
	struct world *w = xcalloc(1, sizeof(*w));

	strcpy(w->dir, "/tmp/edgehaul-fleet-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(
	    cache_open(w->dir, 64 << 20, true, &w->cache, NULL), 0);
	w->base = event_base_new();
	w->disk = pool_new(w->base, 1);
	w->f = fleet_new(w->disk, &w->cache);
	w->cat.products = products;
	w->cat.products_n = 4;
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;
	char *cmd = xasprintf("rm -rf %s", w->dir);

	pool_free(w->disk);
	fleet_free(w->f);
	cache_close(w->cache);
	event_base_free(w->base);
	assert_int_equal(system(cmd), 0);
	free(cmd);
	free(w);
	return 0;
}

static struct fleet_device *
asks(struct world *w, const char *id, const char *product, const char *version)
{
	return fleet_asks(
	    w->f, id, "10.0.0.1", product, "stable", "1.0", version, "check");
}

/* "product version n, ..." of the summary. */
static char *
summary(struct fleet *f)
{
	cJSON *o = fleet_summary_json(f);
	const cJSON *e;
	char *text = xstrdup(""), *old;
	int64_t n;

	cJSON_ArrayForEach(e, cJSON_GetObjectItem(o, "versions"))
	{
		json_int(e, "devices", 0, 1 << 20, &n);
		old = text;
		text = xasprintf("%s%s%s %s %d", text, *text ? ", " : "",
		    json_string(e, "product"), json_string(e, "version"),
		    (int)n);
		free(old);
	}
	cJSON_Delete(o);
	return text;
}

static void
sums_to(struct fleet *f, const char *text)
{
	char *s = summary(f);

	assert_string_equal(s, text);
	free(s);
}

static void
test_counts(void **state)
{
	struct world *w = *state;
	struct fleet_device *d;
	char id[16];

	asks(w, "a", "cam-a", "1.0");
	asks(w, "b", "cam-a", "1.1");
	asks(w, "c", "cam-a", "1.1");
	asks(w, "d", "cam-b", NULL);
	sums_to(w->f, "cam-a 1.1 2, cam-a 1.0 1");
	asks(w, "a", "cam-a", "1.1");
	asks(w, "a", "cam-a", "1.1");
	sums_to(w->f, "cam-a 1.1 3");
	d = asks(w, "d", "cam-b", "7");
	fleet_installed(w->f, d, "8", true);
	fleet_installed(w->f, d, "9", false);
	sums_to(w->f, "cam-a 1.1 3, cam-b 8 1");
	asks(w, "a", "cam-b", NULL); /* another product: what it runs is gone */
	sums_to(w->f, "cam-a 1.1 2, cam-b 8 1");
	for (int i = 0; i < FLEET_MAX; i++) {
		snprintf(id, sizeof(id), "n%d", i);
		asks(w, id, "cam-c", "2");
	}
	sums_to(w->f, "cam-c 2 10000");
}

/* "seen/PRODUCT": -1: none. */
static int64_t
seen(struct world *w, const char *product)
{
	char *name = xasprintf("seen/%s", product), *value;
	int64_t n = -1;

	if (cache_meta_get(w->cache, name, &value) == 0) {
		n = atoll(value);
		free(value);
	}
	free(name);
	return n;
}

/* Until a value has come, or was taken back; writes are 2 s apart. */
static void
comes(struct world *w, const char *product, bool taken_back)
{
	int64_t until = clock_ms() + 20000, n = -1;

	while ((n < 0 || (n == 0) != taken_back) && clock_ms() < until) {
		struct timespec t = { 0, 20000000 };

		fleet_tick(w->f, &w->cat);
		while (pool_busy(w->disk) > 0)
			event_base_loop(w->base, EVLOOP_ONCE);
		n = seen(w, product);
		nanosleep(&t, NULL);
	}
	assert_true(taken_back ? n == 0 : n > 0);
}

/* What only devices ask for that ask for everything is taken back. */
static void
test_seen(void **state)
{
	struct world *w = *state;

	asks(w, "good", "cam-a", "1");
	asks(w, "greedy", "cam-b", "1");
	asks(w, "x", "cam-unknown", "1");
	comes(w, "cam-b", false);
	assert_true(seen(w, "cam-a") > 0);
	assert_int_equal(seen(w, "cam-unknown"), -1);
	asks(w, "greedy", "cam-c", "1");
	asks(w, "greedy", "cam-a", "1");
	comes(w, "cam-b", true);
	assert_true(seen(w, "cam-a") > 0);
}

static int
on_row(const char *id, const char *json, void *arg)
{
	struct fleet_device *d = fleet_parse(id, json);

	assert_non_null(d);
	fleet_adopt(arg, d);
	return 0;
}

/* Over a restart. */
static void
test_rows(void **state)
{
	struct world *w = *state;
	struct fleet *again = fleet_new(w->disk, &w->cache);
	struct fleet_device *d;
	uint8_t hash[32] = { 1, 2, 3 };

	d = asks(w, "a", "cam-a", "1.0");
	fleet_offered(w->f, d, "1.2", hash);
	fleet_installed(w->f, d, "1.1", false);
	fleet_fetched(w->f, "10.0.0.1", "cam-a", "stable", "1.2", hash, true);
	fleet_flush(w->f);
	while (pool_busy(w->disk) > 0)
		event_base_loop(w->base, EVLOOP_ONCE);
	assert_int_equal(cache_device_each(w->cache, NULL, on_row, again), 0);
	d = fleet_find(again, "a");
	assert_non_null(d);
	assert_string_equal(d->failed, "1.1");
	assert_string_equal(d->offered, "1.2");
	assert_memory_equal(d->fetched, hash, 32);
	assert_int_equal(d->full, 1);
	sums_to(again, "cam-a 1.0 1");
	/* one that has asked meanwhile knows better */
	fleet_adopt(again,
	    fleet_parse("a", "{\"address\":\"1.2.3.4\",\"version\":\"0\"}"));
	sums_to(again, "cam-a 1.0 1");
	assert_null(fleet_parse("a", "{\"address\":7}"));
	assert_null(fleet_parse("a", "nothing"));
	assert_null(fleet_parse("a\n", "{\"address\":\"1.2.3.4\"}"));
	fleet_free(again);
}

static double
cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The least of some tries. */
static double
cost(struct fleet *f)
{
	double best = 1e9;

	for (int i = 0; i < 9; i++) {
		double t = cpu_ms();

		cJSON_Delete(fleet_summary_json(f));
		t = cpu_ms() - t;
		best = t < best ? t : best;
	}
	return best;
}

/* status.json costs no more with all devices than with few. */
static void
test_cost(void **state)
{
	struct world *w = *state;
	char id[16], version[16];
	double few = 0, all;

	for (int i = 0; i < FLEET_MAX; i++) {
		snprintf(id, sizeof(id), "n%d", i);
		snprintf(version, sizeof(version), "1.%d", i % 100);
		asks(w, id, "cam-c", version);
		if (i == 99)
			few = cost(w->f);
	}
	all = cost(w->f);
	print_message(
	    "# 100 devices: %.3f ms, %d: %.3f ms\n", few, FLEET_MAX, all);
	assert_true(all < 5 * few);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_counts),
		TEST(test_seen),
		TEST(test_rows),
		TEST(test_cost),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
