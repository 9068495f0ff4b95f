/*
 * cache.c - tests of lib/cache*.c
 */
#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "cache_private.h"
#include "digest.h"
#include "manifest.h"
#include "slices.h"
#include "url.h"
#include "xalloc.h"

#define MB (1 << 20)
#define LIMIT (10 * MB)

struct world {
	char dir[64];
	struct cache *c;
};

static int
setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	char *why = NULL;

	strcpy(w->dir, "/tmp/edgehaul-cache-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	if (cache_open(w->dir, LIMIT, true, &w->c, &why) != 0)
		fail_msg("%s", why);
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;
	char *cmd = xasprintf("rm -rf %s", w->dir);

	cache_close(w->c);
	assert_int_equal(system(cmd), 0);
	free(cmd);
	free(w);
	return 0;
}

static void
reopen(struct world *w)
{
	cache_close(w->c);
	w->c = NULL;
	assert_int_equal(cache_open(w->dir, LIMIT, true, &w->c, NULL), 0);
}

/* A blob of size octets, all `fill`; its list to *list (malloc'd). */
static struct cache_blob
blob(unsigned char fill, uint64_t size, uint8_t **list)
{
	struct cache_blob b = { .size = size };
	char *body = xmalloc(size);
	size_t n = slices_count(size);

	memset(body, fill, size);
	digest_sha256(body, size, b.sha256);
	*list = xmalloc(n * 32);
	for (size_t i = 0; i < n; i++)
		digest_sha256(body + i * FIRMWARE_SLICE, slices_length(size, i),
		    *list + 32 * i);
	digest_sha256(*list, n * 32, b.list_sha256);
	strcpy(b.product, "cam-x");
	strcpy(b.channel, "stable");
	strcpy(b.path, "cam-x/stable/1/a");
	free(body);
	return b;
}

static struct cache_blob
add(struct world *w, unsigned char fill, uint64_t size, int rc)
{
	uint8_t *list;
	struct cache_blob b = blob(fill, size, &list);

	assert_int_equal(cache_blob_add(w->c, &b), rc);
	if (rc >= 0)
		assert_int_equal(cache_list_put(w->c, b.sha256, list,
				     slices_count(size) * 32),
		    0);
	free(list);
	return b;
}

static void
write_slice(
    struct world *w, const struct cache_blob *b, unsigned char fill, size_t i)
{
	int fd = cache_blob_open_file(w->c, b->sha256, true);
	size_t n = slices_length(b->size, i);
	char *body = xmalloc(n);

	memset(body, fill, n);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, body, n, (off_t)i * FIRMWARE_SLICE), n);
	close(fd);
	free(body);
}

static void
test_blob(void **state)
{
	struct world *w = *state;
	uint64_t size = 2 * FIRMWARE_SLICE + 7;
	struct cache_blob b = add(w, 'a', size, 0), got;
	struct timespec t = { 5, 6 };
	struct stat st;
	uint8_t *list;
	size_t n;
	int fd;

	assert_int_equal(cache_blob_get(w->c, b.sha256, &got), 0);
	assert_int_equal(got.size, size);
	assert_int_equal(got.slices, 3);
	assert_int_equal(got.filled, 0);
	assert_true(got.have_list);
	assert_string_equal(got.path, "cam-x/stable/1/a");
	cache_blob_free(&got);
	fd = cache_blob_open_file(w->c, b.sha256, false);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, size);
	assert_int_equal(st.st_blocks, 0);
	close(fd);
	assert_int_equal(cache_slices_set(w->c, b.sha256, 1, 2, &t), 0);
	reopen(w);
	assert_int_equal(cache_blob_get(w->c, b.sha256, &got), 0);
	assert_int_equal(got.bitmap[0], 6);
	assert_int_equal(got.filled, FIRMWARE_SLICE + 7);
	assert_int_equal(got.ctime.tv_nsec, 6);
	cache_blob_free(&got);
	assert_int_equal(cache_slices_clear(w->c, b.sha256, 1, 1), 0);
	assert_int_equal(cache_slices_set(w->c, b.sha256, 2, 2, &t), -EINVAL);
	assert_int_equal(cache_slices_set(w->c, b.sha256, 4, 1, &t), -EINVAL);
	assert_int_equal(cache_blob_get(w->c, b.sha256, &got), 0);
	assert_int_equal(got.filled, 7);
	cache_blob_free(&got);
	assert_int_equal(cache_list_get(w->c, b.sha256, &list, &n), 0);
	assert_int_equal(n, 96);
	assert_int_equal(cache_list_put(w->c, b.sha256, list, 64), -EBADMSG);
	list[0] ^= 1;
	assert_int_equal(cache_list_put(w->c, b.sha256, list, 96), -EBADMSG);
	free(list);
	/* The same again finds it; another size under its hash does not. */
	assert_int_equal(cache_blob_add(w->c, &b), 0);
	strcpy(b.path, "cam-x/beta/1/a");
	assert_int_equal(cache_blob_add(w->c, &b), 0);
	assert_int_equal(cache_blob_get(w->c, b.sha256, &got), 0);
	assert_string_equal(got.path, "cam-x/beta/1/a");
	assert_int_equal(got.filled, 7);
	cache_blob_free(&got);
	b.size++;
	assert_int_equal(cache_blob_add(w->c, &b), -EINVAL);
	assert_int_equal(cache_blob_remove(w->c, b.sha256), 0);
	assert_int_equal(cache_blob_remove(w->c, b.sha256), -ENOENT);
	assert_int_equal(cache_blob_get(w->c, b.sha256, &got), -ENOENT);
	assert_int_equal(cache_blob_open_file(w->c, b.sha256, false), -ENOENT);
	assert_int_equal(cache_slices_set(w->c, b.sha256, 0, 1, &t), -ENOENT);
}

static bool
skip_one(const uint8_t sha256[32], void *arg)
{
	return memcmp(sha256, arg, 32) == 0;
}

static void
test_room(void **state)
{
	struct world *w = *state;
	struct cache_blob a = add(w, 'a', 4 * MB, 0),
			  b = add(w, 'b', 4 * MB, 0);
	struct cache_totals t;
	uint8_t who[32];

	add(w, 'c', 2 * MB + 1, -ENOSPC);
	assert_int_equal(cache_short_of(w->c, 3 * MB), MB);
	add(w, 'c', 2 * MB, 0);
	cache_totals(w->c, &t);
	assert_int_equal(t.reserved, LIMIT);
	assert_int_equal(t.blobs, 3);
	assert_int_equal(cache_blob_touch(w->c, a.sha256, 10 * 3600 + 5), 0);
	assert_int_equal(cache_blob_pin(w->c, b.sha256, true), 0);
	assert_int_equal(cache_evict_candidate(w->c, NULL, NULL, who), 0);
	assert_memory_not_equal(who, a.sha256, 32);
	assert_memory_not_equal(who, b.sha256, 32);
	assert_int_equal(cache_blob_remove(w->c, who), 0);
	assert_int_equal(cache_evict_candidate(w->c, NULL, NULL, who), 0);
	assert_memory_equal(who, a.sha256, 32);
	assert_int_equal(
	    cache_evict_candidate(w->c, skip_one, a.sha256, who), -ENOENT);
	cache_totals(w->c, &t);
	assert_int_equal(t.pinned, 4 * MB);
	/* A touch within the hour, or a pin that is there, writes nothing. */
	reopen(w);
	uint64_t txn = cache_last_txn(w->c), room, seen;

	assert_int_equal(cache_blob_touch(w->c, a.sha256, 10 * 3600 + 99), 0);
	assert_int_equal(cache_blob_pin(w->c, b.sha256, true), 0);
	assert_int_equal(cache_meta_put(w->c, "x", "y"), 0);
	assert_int_equal(cache_last_txn(w->c), txn + 1);
	assert_int_equal(cache_meta_put(w->c, "x", "y"), 0);
	assert_int_equal(cache_last_txn(w->c), txn + 1);
	/* The floor of the disk, above what others may free meanwhile. */
	cache_set_floor(w->c, UINT64_C(1) << 60);
	add(w, 'd', 2 * MB, -EDQUOT);
	assert_int_equal(cache_disk_room(w->c), 0);
	/* What was seen holds for a while, and not above another floor. */
	assert_true(cache_disk_room_seen(w->c, 60000, &room));
	assert_int_equal(room, 0);
	cache_set_floor(w->c, 0);
	assert_false(cache_disk_room_seen(w->c, 60000, &room));
	room = cache_disk_room(w->c);
	assert_true(room > 0);
	assert_true(cache_disk_room_seen(w->c, 60000, &seen));
	assert_int_equal(seen, room);
}

/* Two processes that add at the same time never have more than the limit. */
static void
test_two_processes(void **state)
{
	struct world *w = *state;
	struct cache_totals t;
	pid_t pid[2];
	int st, added = 0;

	cache_close(w->c);
	w->c = NULL;
	for (int p = 0; p < 2; p++) {
		pid[p] = fork();
		if (pid[p] != 0)
			continue;
		struct cache *c;
		int n = 0;

		if (cache_open(w->dir, LIMIT, true, &c, NULL) != 0)
			_exit(99);
		for (int i = 0; i < 40; i++) {
			uint8_t *list;
			struct cache_blob b =
			    blob((unsigned char)(p * 100 + i), MB / 2, &list);
			int rc = cache_blob_add(c, &b);

			if (rc != 0 && rc != -ENOSPC)
				_exit(98);
			n += rc == 0;
			free(list);
		}
		cache_close(c);
		_exit(n);
	}
	for (int p = 0; p < 2; p++) {
		waitpid(pid[p], &st, 0);
		assert_true(WIFEXITED(st) && WEXITSTATUS(st) < 98);
		added += WEXITSTATUS(st);
	}
	assert_int_equal(added, 20);
	assert_int_equal(cache_open(w->dir, LIMIT, true, &w->c, NULL), 0);
	cache_totals(w->c, &t);
	assert_int_equal(t.reserved, LIMIT);
	assert_int_equal(t.blobs, 20);
}

static void
sync_with(int fd_out, int fd_in)
{
	char x = 0;

	if (write(fd_out, &x, 1) != 1 || read(fd_in, &x, 1) != 1)
		_exit(97);
}

/* What one process evicts while the other adds it again is there with its
 * file, or not there. */
static void
test_again_while_removed(void **state)
{
	struct world *w = *state;
	int to[2], from[2], st, lost = 0, there = 0;
	uint8_t *list;
	struct cache_blob b = blob('a', MB, &list), got;
	pid_t pid;

	free(list);
	cache_close(w->c);
	w->c = NULL;
	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	pid = fork();
	if (pid == 0) {
		struct cache *c;

		if (cache_open(w->dir, LIMIT, true, &c, NULL) != 0)
			_exit(99);
		for (int i = 0; i < 100; i++) {
			cache_blob_add(c, &b);
			sync_with(from[1], to[0]);
			cache_blob_remove(c, b.sha256);
			sync_with(from[1], to[0]);
		}
		cache_close(c);
		_exit(0);
	}
	assert_int_equal(cache_open(w->dir, LIMIT, true, &w->c, NULL), 0);
	for (int i = 0; i < 100; i++) {
		sync_with(to[1], from[0]);
		usleep((useconds_t)(i % 20) * 50);
		assert_true(cache_blob_add(w->c, &b) >= 0);
		sync_with(to[1], from[0]);
		if (cache_blob_get(w->c, b.sha256, &got) == 0) {
			int fd = cache_blob_open_file(w->c, b.sha256, true);

			cache_blob_free(&got);
			there++;
			lost += fd < 0;
			close(fd);
		}
	}
	waitpid(pid, &st, 0);
	assert_int_equal(st, 0);
	assert_int_equal(lost, 0);
	assert_true(there > 0);
}

/* Somebody took the file away: what its row said of it counts no more. */
static void
test_file_gone(void **state)
{
	struct world *w = *state;
	struct cache_blob b = add(w, 'a', MB, 0), got;
	struct timespec t = { 1, 1 };
	char hex[65], *path;

	assert_int_equal(cache_slices_set(w->c, b.sha256, 0, 4, &t), 0);
	assert_int_equal(cache_blob_lost(w->c, b.sha256), 0);
	hex_encode(b.sha256, 32, hex);
	path = xasprintf("%s/blob/%s", w->dir, hex);
	assert_int_equal(unlink(path), 0);
	b = add(w, 'a', MB, 0);
	assert_int_equal(cache_blob_get(w->c, b.sha256, &got), 0);
	assert_int_equal(got.filled, 0);
	cache_blob_free(&got);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(cache_blob_lost(w->c, b.sha256), 1);
	assert_int_equal(cache_blob_get(w->c, b.sha256, &got), -ENOENT);
	assert_int_equal(cache_blob_lost(w->c, b.sha256), -ENOENT);
	free(path);
}

static int
spoil(MDB_txn *txn, void *arg)
{
	struct world *w = arg;
	int rc = 0;

	/* One octet of each row of each table, and a row with a bad key. */
	for (int t = 0; rc == 0 && t < T_COUNT; t++) {
		MDB_cursor *cur;
		MDB_val k, v;

		rc = mdb_cursor_open(txn, w->c->t[t], &cur);
		while (rc == 0 && mdb_cursor_get(cur, &k, &v, MDB_NEXT) == 0) {
			char *copy = xmalloc(v.mv_size);
			MDB_val n = { v.mv_size, copy };

			memcpy(copy, v.mv_data, v.mv_size);
			copy[v.mv_size / 2] ^= 4;
			rc = mdb_cursor_put(cur, &k, &n, MDB_CURRENT);
			free(copy);
		}
		mdb_cursor_close(cur);
		if (rc == 0) {
			MDB_val bad = { 3, "bad" }, none = { 0, "" };

			rc = mdb_put(txn, w->c->t[t], &bad, &none, 0);
		}
	}
	return rc;
}

static int
count_blob(const struct cache_blob *b, void *arg)
{
	++*(int *)arg;
	return 0;
}

static int
count_manifest(const struct cache_manifest *m, void *arg)
{
	++*(int *)arg;
	return 0;
}

static int
count_device(const char *id, const char *json, void *arg)
{
	++*(int *)arg;
	return 0;
}

static struct cache_manifest
manifest(int64_t seq, const char *json, int64_t checked)
{
	struct cache_manifest m = { .product = "cam-x",
		.channel = "stable",
		.seq = seq,
		.checked = checked,
		.etag = "\"e\"",
		.json = (char *)json,
		.signature = "sig",
		.json_n = strlen(json) };

	return m;
}

static void
test_damaged_rows(void **state)
{
	struct world *w = *state;
	struct cache_blob b = add(w, 'a', 9 * MB, 0), got;
	struct cache_manifest m = manifest(7, "{}", 1000), mgot;
	struct timespec t = { 1, 1 };
	int n = 0;
	size_t list_n;
	uint8_t *list;
	char *value;

	assert_int_equal(cache_slices_set(w->c, b.sha256, 0, 1, &t), 0);
	assert_int_equal(cache_manifest_put(w->c, &m), 0);
	assert_int_equal(cache_device_put(w->c, "cam-1", "{}"), 0);
	assert_int_equal(cache_meta_put(w->c, "products", "[]"), 0);
	assert_int_equal(db_update(w->c->db, spoil, w), 0);
	assert_int_equal(cache_blob_get(w->c, b.sha256, &got), -ENOENT);
	assert_int_equal(
	    cache_list_get(w->c, b.sha256, &list, &list_n), -ENOENT);
	assert_int_equal(
	    cache_manifest_get(w->c, "cam-x", "stable", &mgot), -ENOENT);
	assert_int_equal(cache_meta_get(w->c, "products", &value), -ENOENT);
	assert_int_equal(cache_each_blob(w->c, count_blob, &n), 0);
	assert_int_equal(cache_each_manifest(w->c, count_manifest, &n), 0);
	assert_int_equal(cache_device_each(w->c, NULL, count_device, &n), 0);
	assert_int_equal(n, 0);
	/* All can be written again. */
	b = add(w, 'a', 9 * MB, 1);
	assert_int_equal(cache_manifest_put(w->c, &m), 0);
	assert_int_equal(cache_blob_get(w->c, b.sha256, &got), 0);
	assert_int_equal(got.filled, 0);
	cache_blob_free(&got);
}

static void
test_manifests(void **state)
{
	struct world *w = *state;
	struct cache_manifest m = manifest(7, "{\"a\":1}", 1000), got;
	uint64_t txn;

	assert_int_equal(cache_manifest_put(w->c, &m), 0);
	m = manifest(6, "{}", 2000);
	assert_int_equal(cache_manifest_put(w->c, &m), -ESTALE);
	m = manifest(7, "{\"a\":2}", 2000);
	assert_int_equal(cache_manifest_put(w->c, &m), -EBADMSG);
	txn = cache_last_txn(w->c);
	m = manifest(7, "{\"a\":1}", 1000 + CACHE_CHECKED_S - 1);
	assert_int_equal(cache_manifest_put(w->c, &m), 0);
	assert_int_equal(cache_last_txn(w->c), txn);
	m.checked++;
	assert_int_equal(cache_manifest_put(w->c, &m), 0);
	assert_int_equal(cache_last_txn(w->c), txn + 1);
	m = manifest(8, "{}", 900);
	assert_int_equal(cache_manifest_put(w->c, &m), 0);
	reopen(w);
	assert_int_equal(cache_manifest_get(w->c, "cam-x", "stable", &got), 0);
	assert_int_equal(got.seq, 8);
	assert_string_equal(got.json, "{}");
	assert_string_equal(got.signature, "sig");
	assert_string_equal(got.etag, "\"e\"");
	cache_manifest_free(&got);
	assert_int_equal(
	    cache_manifest_get(w->c, "cam-x", "beta", &got), -ENOENT);
	assert_int_equal(
	    cache_manifest_get(w->c, "../x", "beta", &got), -ENOENT);
	strcpy(m.product, "A/b");
	assert_int_equal(cache_manifest_put(w->c, &m), -EINVAL);
}

static int
last_of(const char *id, const char *json, void *arg)
{
	char *last = arg;

	assert_true(strcmp(last, id) < 0);
	strcpy(last, id);
	return 0;
}

static void
test_devices(void **state)
{
	struct world *w = *state;
	const size_t n = CACHE_DEVICES_MAX + 300;
	char *ids[500], last[201] = "";
	const char *jsons[500];
	int count = 0;

	for (size_t at = 0; at < n; at += 100) {
		for (size_t i = 0; i < 100; i++) {
			ids[i] = xasprintf("dev-%06zu", at + i);
			jsons[i] = "{\"id\":\"x\"}";
		}
		assert_int_equal(cache_device_put_many(w->c,
				     (const char *const *)ids, jsons, 100),
		    0);
		for (size_t i = 0; i < 100; i++)
			free(ids[i]);
	}
	assert_int_equal(cache_device_each(w->c, "", count_device, &count), 0);
	assert_true(count <= CACHE_DEVICES_MAX);
	assert_true(count > CACHE_DEVICES_MAX - 200);
	assert_int_equal(cache_device_each(w->c, NULL, last_of, last), 0);
	count = 0;
	assert_int_equal(
	    cache_device_each(w->c, "dev-010296", count_device, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(cache_device_put(w->c, "", "{}"), -EINVAL);
}

/* The index is lost: what fits the list is taken over, what does not is not. */
static void
test_adopt(void **state)
{
	struct world *w = *state;
	struct cache_blob b = add(w, 'a', 3 * FIRMWARE_SLICE + 100, 0), got;
	struct timespec t = { 1, 1 };
	char *path;
	uint64_t size;
	size_t n;
	FILE *f;

	write_slice(w, &b, 'a', 0);
	write_slice(w, &b, 'x', 1);
	write_slice(w, &b, 'a', 3);
	assert_int_equal(cache_slices_set(w->c, b.sha256, 0, 1, &t), 0);
	assert_false(cache_orphan(w->c, b.sha256, &size));
	cache_close(w->c);
	path = xasprintf("%s/index/data.mdb", w->dir);
	f = fopen(path, "r+");
	assert_non_null(f);
	for (int i = 0; i < 8192; i++)
		fputc('?', f);
	fclose(f);
	free(path);
	w->c = NULL;
	assert_int_equal(
	    cache_open(w->dir, LIMIT, false, &w->c, NULL), -EBADMSG);
	assert_int_equal(cache_open(w->dir, LIMIT, true, &w->c, NULL), 0);
	assert_true(cache_orphan(w->c, b.sha256, &size));
	assert_int_equal(size, b.size);
	assert_int_equal(cache_adopt(w->c, b.sha256, 0, 4, &n), -ENOENT);
	b = add(w, 'a', 3 * FIRMWARE_SLICE + 100, 1);
	assert_int_equal(cache_adopt(w->c, b.sha256, 0, 5, &n), -EINVAL);
	assert_int_equal(cache_adopt(w->c, b.sha256, 0, 4, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(cache_blob_get(w->c, b.sha256, &got), 0);
	assert_int_equal(got.bitmap[0], 9);
	assert_int_equal(got.filled, FIRMWARE_SLICE + 100);
	assert_true(got.ctime.tv_sec > 1);
	cache_blob_free(&got);
}

/* Files that no row knows count, and go before anything is refused. */
static void
test_orphans(void **state)
{
	struct world *w = *state;
	char *path = xasprintf("%s/blob/%064d", w->dir, 7);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	assert_int_equal(posix_fallocate(fd, 0, 8 * MB), 0);
	close(fd);
	add(w, 'a', 2 * MB - MB / 8, 0);
	assert_int_equal(access(path, F_OK), 0);
	add(w, 'b', MB, 0);
	assert_int_equal(access(path, F_OK), -1);
	free(path);
}

/* The other process made the index anew. */
static void
test_made_anew(void **state)
{
	struct world *w = *state;
	struct cache *other;
	char *index = xasprintf("%s/index", w->dir), *cmd, *value;

	assert_int_equal(cache_meta_put(w->c, "a", "1"), 0);
	cmd = xasprintf("rm -r %s", index);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(cache_open(w->dir, LIMIT, true, &other, NULL), 0);
	assert_int_equal(cache_meta_put(other, "a", "2"), 0);
	w->c->looked_ms = -10000;
	assert_int_equal(cache_meta_get(w->c, "a", &value), 0);
	assert_string_equal(value, "2");
	free(value);
	cache_close(other);
	free(cmd);
	free(index);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_blob),
		TEST(test_room),
		TEST(test_two_processes),
		TEST(test_again_while_removed),
		TEST(test_file_gone),
		TEST(test_damaged_rows),
		TEST(test_manifests),
		TEST(test_devices),
		TEST(test_adopt),
		TEST(test_orphans),
		TEST(test_made_anew),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
