/*
 * body.c - tests of agent/body.c, the readers of bodies
 *
 * The spool's part is played by a file of this test; its octets can be changed
 * behind the reader's back.
 */
#include "body.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <openssl/evp.h>

#define SIZE 1000000

static struct event_base *base;
static struct body_pool *pool;
static struct spool_item item;
static unsigned char octets[SIZE], out[SIZE + 1];
static char path[] = "/tmp/edgehaul-body-XXXXXX";
static int open_error;

/* In place of lib/spool.c. */
int
spool_open_body(struct spool *sp, const struct spool_item *it, int *fd_out)
{
	if (open_error != 0)
		return open_error;
	*fd_out = open(path, O_RDONLY | O_CLOEXEC);
	return *fd_out < 0 ? -errno : 0;
}

void
spool_item_fini(struct spool_item *it)
{
	free(it->device);
	free(it->name);
	free(it->type);
	free(it->address);
	free(it->last_error);
	free(it->storage);
	free(it->key);
	free(it->encoding);
	free(it->kept);
}

static void
file_is(size_t n)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	assert_int_equal(write(fd, octets, n), n);
	close(fd);
}

/* The item of the file's first n octets, as they are now. */
static void
item_is(size_t n)
{
	file_is(n);
	item.size = item.offer_size = n;
	EVP_Digest(octets, n, item.offer_sha256, NULL, EVP_sha256(), NULL);
}

static int
setup(void **state)
{
	int fd = mkstemp(path);

	close(fd);
	for (size_t i = 0; i < SIZE; i++)
		octets[i] = (unsigned char)(i * 2654435761U >> 13);
	item.device = item.name = item.type = item.address = "";
	item.last_error = item.storage = item.key = item.encoding = "";
	item.kept = "";
	base = event_base_new();
	pool = body_pool_new(base, NULL, 3, BODY_PIECES);
	return 0;
}

static int
teardown(void **state)
{
	body_pool_free(pool);
	event_base_free(base);
	libevent_global_shutdown();
	return unlink(path);
}

static void
on_ready(void *arg)
{
	event_base_loopbreak(base);
}

static struct body *
begin(uint64_t offset, uint64_t length, enum recipe_digest kind,
    struct body_hash *before)
{
	struct body_range range = { .offset = offset,
		.length = length,
		.digest = kind,
		.before = before };

	return body_open(pool, &item, &range, on_ready, NULL);
}

/* Read up to max octets by n at a time; what ended it (0, -errno, or 1: max).
 */
static int
drain(struct body *b, size_t n, size_t max, size_t *got_out)
{
	size_t got = 0;
	ssize_t rc = 1;

	while (got < max) {
		rc = body_read(b, out + got, n < max - got ? n : max - got);
		if (rc == -EAGAIN)
			event_base_dispatch(base);
		else if (rc <= 0)
			break;
		else
			got += (size_t)rc;
	}
	*got_out = got;
	return got == max && rc > 0 ? 1 : (int)rc;
}

static void
test_sizes(void **state)
{
	static const size_t sizes[] = { 0, 1, 16383, 16384, 16385, 32767, 32768,
		32769, 49152, 131072, 131073, SIZE };
	uint8_t md5[32], want[16];
	size_t got;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		for (size_t n = 1000; n <= 100000; n *= 10) {
			struct body *b;

			item_is(sizes[i]);
			b = begin(0, sizes[i], DIGEST_MD5, NULL);
			assert_int_equal(drain(b, n, SIZE + 1, &got), 0);
			assert_int_equal(got, sizes[i]);
			assert_memory_equal(out, octets, got);
			assert_int_equal(body_state(b), 1);
			EVP_Digest(octets, got, want, NULL, EVP_md5(), NULL);
			assert_int_equal(body_digest(b, md5), 16);
			assert_memory_equal(md5, want, 16);
			body_close(b);
		}
}

/* However the octets are damaged, the last ones are never given out. */
static void
test_damage(void **state)
{
	static const size_t at[] = { 0, 40000, SIZE - 20000, SIZE - 1 };
	size_t got;

	for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
		struct body *b;

		item_is(SIZE);
		octets[at[i]] ^= 1;
		file_is(SIZE);
		b = begin(0, SIZE, DIGEST_NONE, NULL);
		assert_int_equal(drain(b, 65536, SIZE + 1, &got), -EBADMSG);
		assert_true(got <= SIZE - BODY_WITHHELD);
		assert_int_equal(body_state(b), -EBADMSG);
		assert_int_equal(body_read(b, out, 1), -EBADMSG);
		body_close(b);
		octets[at[i]] ^= 1;
	}
	item_is(100);
	octets[50] ^= 1;
	file_is(100);
	struct body *b = begin(0, 100, DIGEST_NONE, NULL);

	assert_int_equal(drain(b, 10, 1000, &got), -EBADMSG);
	assert_int_equal(got, 0);
	body_close(b);
	octets[50] ^= 1;
}

static void
test_short_file(void **state)
{
	struct body *b;
	size_t got;

	item_is(SIZE);
	file_is(SIZE / 2);
	b = begin(0, SIZE, DIGEST_NONE, NULL);
	assert_int_equal(drain(b, 65536, SIZE + 1, &got), -EBADMSG);
	body_close(b);
	open_error = -EMFILE;
	b = begin(0, SIZE, DIGEST_NONE, NULL);
	assert_int_equal(drain(b, 65536, SIZE + 1, &got), -EMFILE);
	assert_int_equal(got, 0);
	body_close(b);
	open_error = 0;
}

static void
test_rewind(void **state)
{
	struct body *b;
	size_t got;

	item_is(SIZE);
	b = begin(0, SIZE, DIGEST_SHA256, NULL);
	for (size_t n = 1; n < SIZE; n *= 10) {
		assert_int_equal(drain(b, 5000, n, &got), 1);
		assert_memory_equal(out, octets, got);
		body_rewind(b);
	}
	assert_int_equal(drain(b, 5000, SIZE + 1, &got), 0);
	assert_int_equal(got, SIZE);
	assert_memory_equal(out, octets, SIZE);
	/* After the end as well, and what has changed since is found. */
	octets[7] ^= 1;
	file_is(SIZE);
	body_rewind(b);
	assert_int_equal(body_state(b), 0);
	assert_int_equal(drain(b, 5000, SIZE + 1, &got), -EBADMSG);
	body_close(b);
	octets[7] ^= 1;
}

/* Parts in order, each going on with the digest of those before. */
static void
test_parts(void **state)
{
	struct body_hash *h = NULL;
	uint8_t digest[32], want[32];
	size_t got;

	item_is(SIZE);
	for (size_t at = 0; at < SIZE; at += 300000) {
		size_t n = SIZE - at < 300000 ? SIZE - at : 300000;
		struct body *b = begin(at, n, DIGEST_SHA256, h);

		assert_int_equal(drain(b, 7000, n / 2, &got), 1);
		body_rewind(b);
		assert_int_equal(drain(b, 7000, SIZE + 1, &got), 0);
		assert_int_equal(got, n);
		assert_memory_equal(out, octets + at, n);
		EVP_Digest(octets + at, n, want, NULL, EVP_sha256(), NULL);
		assert_int_equal(body_digest(b, digest), 32);
		assert_memory_equal(digest, want, 32);
		h = body_take_hash(b);
		body_close(b);
	}
	body_hash_free(h);
}

/* The last part alone, as after a restart: what is before it is read too. */
static void
test_last_part(void **state)
{
	struct body *b;
	size_t got;

	item_is(SIZE);
	b = begin(900000, 100000, DIGEST_NONE, NULL);
	assert_int_equal(drain(b, 7000, SIZE + 1, &got), 0);
	assert_int_equal(got, 100000);
	assert_memory_equal(out, octets + 900000, got);
	body_close(b);
	octets[5] ^= 1;
	file_is(SIZE);
	b = begin(900000, 100000, DIGEST_NONE, NULL);
	assert_int_equal(drain(b, 7000, SIZE + 1, &got), -EBADMSG);
	assert_true(got <= 100000 - BODY_WITHHELD);
	body_close(b);
	octets[5] ^= 1;
}

static void
test_hash_only(void **state)
{
	struct body_range range = {
		.length = SIZE, .digest = DIGEST_MD5, .hash_only = true
	};
	uint8_t md5[32], want[16];
	struct body *b;

	item_is(SIZE);
	b = body_open(pool, &item, &range, on_ready, NULL);
	event_base_dispatch(base);
	assert_int_equal(body_state(b), 1);
	EVP_Digest(octets, SIZE, want, NULL, EVP_md5(), NULL);
	assert_int_equal(body_digest(b, md5), 16);
	assert_memory_equal(md5, want, 16);
	body_close(b);
}

/* Closed at any moment, with many at once. */
static void
test_close(void **state)
{
	struct body *b[20];
	size_t got;

	item_is(SIZE);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 20; i++)
			b[i] = begin(0, SIZE, DIGEST_MD5, NULL);
		for (int i = 0; i < 20; i++) {
			if (i % 3 == 0)
				drain(b[i], 4096, (size_t)i * 5000 + 1, &got);
			if (i % 4 == 0)
				body_rewind(b[i]);
			body_close(b[i]);
		}
	}
	event_base_loop(base, EVLOOP_NONBLOCK);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_short_file),
		cmocka_unit_test(test_rewind),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_last_part),
		cmocka_unit_test(test_hash_only),
		cmocka_unit_test(test_close),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
