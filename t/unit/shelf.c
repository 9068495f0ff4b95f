/*
 * shelf.c - tests of proxy/shelf*.c: what is lent to whom
 */
#include "../../proxy/shelf.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <event2/buffer.h>
#include <event2/event.h>

#include "cache.h"
#include "clock.h"
#include "digest.h"
#include "log.h"
#include "manifest.h"
#include "pool.h"
#include "slices.h"
#include "xalloc.h"

#define SLICES 64
#define SIZE ((uint64_t)SLICES * FIRMWARE_SLICE)
#define WAIT_MS 10000

struct world {
	char dir[64];
	struct event_base *base;
	struct pool *disk, *readers;
	struct cache *cache;
	struct shelf *shelf;
	struct cache_blob b;
	int fd;
	pthread_t toucher;
	atomic_bool over;
};

/* A device: what it was given stays in `out` until it reads. */
struct device {
	struct shelf_reader reader; /* first */
	struct evbuffer *out;
	uint64_t off, end;
	unsigned copies;
	enum shelf_answer last;
};

/* As long as the file is written no slice may leave by sendfile(2). */
static void *
touch_it(void *arg)
{
	struct world *w = arg;

	while (!w->over) {
		futimens(w->fd, NULL);
		usleep(500);
	}
	return NULL;
}

static void
fill(struct world *w)
{
	char *body = xmalloc(FIRMWARE_SLICE);
	uint8_t list[32 * SLICES];
	struct timespec t = { 1, 1 };

	memset(body, 'x', FIRMWARE_SLICE);
	for (int i = 0; i < SLICES; i++)
		digest_sha256(body, FIRMWARE_SLICE, list + 32 * i);
	digest_sha256(list, sizeof(list), w->b.list_sha256);
	w->b.size = SIZE;
	memset(w->b.sha256, 7, 32);
	strcpy(w->b.product, "p");
	strcpy(w->b.channel, "c");
	strcpy(w->b.path, "p/c/1/f");
	assert_int_equal(cache_blob_add(w->cache, &w->b), 0);
	assert_int_equal(
	    cache_list_put(w->cache, w->b.sha256, list, sizeof(list)), 0);
	w->fd = cache_blob_open_file(w->cache, w->b.sha256, true);
	for (int i = 0; i < SLICES; i++)
		assert_int_equal(pwrite(w->fd, body, FIRMWARE_SLICE,
				     (off_t)i * FIRMWARE_SLICE),
		    FIRMWARE_SLICE);
	assert_int_equal(
	    cache_slices_set(w->cache, w->b.sha256, 0, SLICES, &t), 0);
	free(body);
}

static void
on_want(const char *hex, size_t first, size_t count, void *arg)
{
	fail_msg("slice %zu is not missing", first);
}

static int
setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	const struct shelf_calls calls = { .want = on_want };

	strcpy(w->dir, "/tmp/edgehaul-shelf-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(
	    cache_open(w->dir, 2 * SIZE, true, &w->cache, NULL), 0);
	fill(w);
	w->base = event_base_new();
	w->disk = pool_new(w->base, 1);
	w->readers = pool_new(w->base, 2);
	w->shelf = shelf_new(w->disk, w->readers, &w->cache, &calls);
	assert_int_equal(pthread_create(&w->toucher, NULL, touch_it, w), 0);
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;
	char *cmd = xasprintf("rm -rf %s", w->dir);

	w->over = true;
	pthread_join(w->toucher, NULL);
	close(w->fd);
	shelf_stop(w->shelf);
	pool_free(w->readers);
	pool_free(w->disk);
	shelf_free(w->shelf);
	cache_close(w->cache);
	event_base_free(w->base);
	assert_int_equal(system(cmd), 0);
	free(cmd);
	free(w);
	return 0;
}

static void
take(struct device *d)
{
	uint64_t n;

	while (d->off < d->end) {
		d->last =
		    shelf_take(&d->reader, d->off, d->end - d->off, &n, d->out);
		if (d->last != SHELF_COPY && d->last != SHELF_FILE)
			return;
		d->copies += d->last == SHELF_COPY;
		d->off += n;
	}
}

static void
on_ready(struct shelf_reader *r)
{
	take((struct device *)r);
}

static void
device_begin(struct world *w, struct device *d, const char *address,
    uint64_t off, uint64_t n)
{
	memset(d, 0, sizeof(*d));
	d->reader.ready = on_ready;
	d->out = evbuffer_new();
	d->off = off;
	d->end = off + n;
	shelf_open(w->shelf, &d->reader, address, w->b.sha256, w->b.list_sha256,
	    w->b.size);
	take(d);
}

static void
device_end(struct device *d)
{
	shelf_close(&d->reader);
	evbuffer_free(d->out);
}

/* Turn the loop until the device has got so many octets; false: it did not. */
static bool
gets(struct world *w, struct device *d, uint64_t octets)
{
	int64_t until = clock_ms() + WAIT_MS, tick = 0, now;

	while (d->off < octets && (now = clock_ms()) < until) {
		event_base_loop(w->base, EVLOOP_NONBLOCK);
		if (now - tick >= 50)
			shelf_tick(w->shelf, tick = now);
		usleep(200);
	}
	return d->off >= octets;
}

static void
turn(struct world *w, int ms)
{
	int64_t until = clock_ms() + ms;

	while (clock_ms() < until) {
		event_base_loop(w->base, EVLOOP_NONBLOCK);
		usleep(200);
	}
}

/* Many connections of one host that read nothing do not hold up others. */
static void
test_share(void **state)
{
	struct world *w = *state;
	struct device bad[40], good;
	int64_t until = clock_ms() + WAIT_MS;
	unsigned lent = 0;

	for (int i = 0; i < 40; i++)
		device_begin(w, &bad[i], "10.0.0.66",
		    (uint64_t)i * FIRMWARE_SLICE, 4 * FIRMWARE_SLICE);
	turn(w, 300);
	device_begin(w, &good, "10.0.0.5", 0, SIZE);
	for (uint64_t i = 1; i <= SLICES; i++) {
		assert_true(gets(w, &good, i * FIRMWARE_SLICE));
		evbuffer_drain(good.out, evbuffer_get_length(good.out));
	}
	for (int i = 0; i < 40; i++)
		lent += bad[i].copies;
	assert_true(lent > 0 && lent <= 8);
	/* When it reads at last it is served as well. */
	assert_true(bad[0].last == SHELF_BUSY || bad[39].last == SHELF_BUSY);
	for (int left = 40; left > 0 && clock_ms() < until;) {
		left = 40;
		for (int i = 0; i < 40; i++) {
			evbuffer_drain(
			    bad[i].out, evbuffer_get_length(bad[i].out));
			left -= bad[i].off == bad[i].end;
		}
		turn(w, 1);
	}
	for (int i = 0; i < 40; i++)
		assert_int_equal(bad[i].off, bad[i].end);
	for (int i = 0; i < 40; i++)
		device_end(&bad[i]);
	device_end(&good);
}

/* Its own connection has one at most, whatever it asks for. */
static void
test_one_each(void **state)
{
	struct world *w = *state;
	struct device d;

	device_begin(w, &d, "10.0.0.5", 0, SIZE);
	turn(w, 300);
	assert_int_equal(d.copies, 1);
	assert_int_equal(d.last, SHELF_BUSY);
	/* gone before its copy was sent */
	shelf_close(&d.reader);
	evbuffer_free(d.out);
	/* a probe is copied: nothing is lent for it */
	for (int i = 0; i < 100; i++) {
		device_begin(w, &d, "10.0.0.5",
		    (uint64_t)(i % SLICES) * FIRMWARE_SLICE, 8192);
		assert_true(gets(w, &d, d.end));
		assert_null(d.reader.loan);
		device_end(&d);
	}
}

/* As many devices as may download at one time all get on, though none of them
 * reads and each has several connections. */
static void
test_many(void **state)
{
	struct world *w = *state;
	struct device d[16][8];
	char address[32];

	for (int i = 0; i < 16; i++) {
		unsigned copies = 0;

		snprintf(address, sizeof(address), "10.0.0.%d", 10 + i);
		for (int k = 0; k < 8; k++)
			device_begin(w, &d[i][k], address,
			    (uint64_t)(i + 2 * k) * FIRMWARE_SLICE,
			    2 * FIRMWARE_SLICE);
		turn(w, 50);
		for (int k = 0; k < 8; k++)
			copies += d[i][k].copies;
		assert_true(copies >= 1);
	}
	for (int i = 0; i < 16; i++)
		for (int k = 0; k < 8; k++)
			device_end(&d[i][k]);
}

/* Does its first octet leave from the file? */
static bool
from_file(struct world *w)
{
	struct device d;
	bool file;

	device_begin(w, &d, "10.0.0.9", 0, 1);
	file = d.last == SHELF_FILE;
	device_end(&d);
	return file;
}

/* A slice that the scrub is about to read is compared anew before it leaves:
 * what the scrub brings into memory was not compared. */
static void
test_scrub(void **state)
{
	struct world *w = *state;
	int64_t until = clock_ms() + WAIT_MS;
	struct device d;
	bool was, again;

	w->over = true;
	pthread_join(w->toucher, NULL);
	turn(w, 50); /* it is written no more */
	device_begin(w, &d, "10.0.0.5", 0, 1);
	do /* without a tick: the first one scrubs the first slice */
		turn(w, 10);
	while (!from_file(w) && clock_ms() < until);
	was = from_file(w);
	shelf_tick(w->shelf, clock_ms());
	do
		turn(w, 10);
	while (!(again = !from_file(w)) && clock_ms() < until);
	device_end(&d);
	assert_int_equal(pthread_create(&w->toucher, NULL, touch_it, w), 0);
	assert_true(was);
	assert_true(again);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_share),
		TEST(test_one_each),
		TEST(test_many),
		TEST(test_scrub),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
