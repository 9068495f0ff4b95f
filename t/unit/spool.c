/*
 * spool.c - tests of the spool: accept, drain, crash, recover, rebuild
 *
 * "Crash" closes nothing: the files of the moment are copied aside
 * and opened as another spool.
 */
#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <event2/event.h>

#include "footer.h"
#include "log.h"
#include "own_folder.h"
#include "row.h"
#include "url.h"
#include "xalloc.h"

struct site {
	struct event_base *base;
	char dir[OWN_FOLDER], spool[80];
	struct spool *w, *d;
	/* of the last call */
	bool called;
	int rc;
	struct spool_item *items;
	size_t n;
	char id[33];
	struct spool_status st;
};

static const struct spool_options options = { .max_size = 64 << 20,
	.index_size = 4 << 20,
	.committers = 4,
	.max_upload = 32 << 20 };

static void
run(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	assert_int_equal(system(cmd), 0);
}

static void
forget(struct site *s)
{
	for (size_t i = 0; i < s->n; i++)
		spool_item_fini(&s->items[i]);
	free(s->items);
	s->items = NULL;
	s->n = 0;
}

static void
wait_called(struct site *s)
{
	for (int i = 0; i < 500 && !s->called; i++) {
		struct timeval tv = { 0, 20000 };

		event_base_loopexit(s->base, &tv);
		event_base_dispatch(s->base);
	}
	assert_true(s->called);
	s->called = false;
}

/* The file of an upload that has ended goes a little later. */
static void
gone_soon(const char *path)
{
	for (int i = 0; i < 500 && access(path, F_OK) == 0; i++)
		usleep(10000);
	assert_int_equal(access(path, F_OK), -1);
}

static void
open_writer(struct site *s)
{
	char *why;

	assert_int_equal(
	    spool_open(s->base, s->spool, SPOOL_WRITER, &options, &s->w, &why),
	    0);
}

/* LMDB allows one environment per process: the writer drains here as well. */
static void
open_drainer(struct site *s)
{
	s->d = s->w;
}

static int
setup(void **state)
{
	struct site *s = xcalloc(1, sizeof(*s));

	log_level = LOG_ERROR;
	own_folder_make(s->dir, "spool");
	snprintf(s->spool, sizeof(s->spool), "%s/spool", s->dir);
	s->base = event_base_new();
	open_writer(s);
	open_drainer(s);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct site *s = *state;

	spool_close(s->w);
	forget(s);
	event_base_free(s->base);
	own_folder_remove(s->dir);
	free(s);
	return 0;
}

static void
on_commit(int rc, const struct spool_item *it, void *arg)
{
	struct site *s = arg;

	s->rc = rc;
	s->called = true;
	if (rc == 0)
		strcpy(s->id, it->id);
}

static void
on_items(int rc, struct spool_item *items, size_t n, void *arg)
{
	struct site *s = arg;

	forget(s);
	s->rc = rc;
	s->called = true;
	s->items = xcalloc(n, sizeof(*items));
	s->n = n;
	for (size_t i = 0; i < n; i++) {
		s->items[i] = items[i];
		/* Copies, as some of them are borrowed. */
		s->items[i].device = xstrdup(items[i].device);
		s->items[i].name = xstrdup(items[i].name);
		s->items[i].type = xstrdup(items[i].type);
		s->items[i].address = xstrdup(items[i].address);
		s->items[i].last_error = xstrdup(items[i].last_error);
		s->items[i].storage = xstrdup(items[i].storage);
		s->items[i].key = xstrdup(items[i].key);
		s->items[i].encoding = xstrdup(items[i].encoding);
		s->items[i].kept = xstrdup(items[i].kept);
	}
}

static void
on_rc(int rc, void *arg)
{
	struct site *s = arg;

	s->rc = rc;
	s->called = true;
}

static void
on_send(int rc, const uint64_t *gone, size_t n, void *arg)
{
	struct site *s = arg;

	s->rc = rc != 0 ? rc : (int)n;
	s->called = true;
}

static void
on_stat(int rc, const struct spool_status *st, void *arg)
{
	struct site *s = arg;

	s->rc = rc;
	s->st = *st;
	s->called = true;
}

static int
put(struct site *s, const char *name, const void *body, size_t n)
{
	struct spool_meta meta = { "cam-1", name, "image/jpeg", "10.0.0.7" };
	struct spool_upload *u;
	const char *why;
	int rc = spool_reserve(s->w, n, &u, &why);

	if (rc != 0)
		return rc;
	for (size_t off = 0; off < n; off += 50000)
		spool_write(u, (const char *)body + off,
		    n - off < 50000 ? n - off : 50000);
	spool_commit(u, &meta, on_commit, s);
	wait_called(s);
	return s->rc;
}

static void
status(struct site *s)
{
	spool_status(s->d, on_stat, s);
	wait_called(s);
	assert_int_equal(s->rc, 0);
}

static void
wait_waiting(struct site *s, uint64_t n)
{
	for (int i = 0; i < 200; i++) {
		status(s);
		if (s->st.waiting == n && s->st.not_indexed == 0)
			return;
		usleep(20000);
	}
	assert_int_equal(s->st.waiting, n);
}

static void
ready(struct site *s, uint64_t after, size_t max)
{
	spool_ready(s->d, after, 0, max, on_items, s);
	wait_called(s);
	assert_int_equal(s->rc, 0);
}

static void
assert_balanced(const struct spool_status *st)
{
	uint64_t ends = st->quarantined + st->waiting;

	for (int i = 0; i < SPOOL_ENDS; i++)
		ends += st->ends[i];
	assert_int_equal(st->accepted, ends);
}

static void
send_first(struct site *s, const char *key)
{
	struct spool_item it = s->items[0];

	it.storage = "default";
	it.key = (char *)key;
	it.encoding = "";
	it.offer_size = it.size;
	memcpy(it.offer_sha256, it.sha256, 32);
	spool_send(s->d, &it, 1, on_send, s);
	wait_called(s);
}

static void
test_accept_and_deliver(void **state)
{
	struct site *s = *state;
	char *body = xmalloc(3000000), sha[65];
	struct stat sb;
	char path[200];
	uint64_t seq;
	int fd;

	memset(body, 'x', 3000000);
	assert_int_equal(put(s, "a.jpg", "hello", 5), 0);
	spool_find(s->w, s->id, on_items, s); /* maybe before its row */
	wait_called(s);
	assert_int_equal(s->n, 1);
	assert_string_equal(s->items[0].name, "a.jpg");
	assert_int_equal(put(s, "big.bin", body, 3000000), 0);
	assert_int_equal(put(s, "empty", "", 0), 0);
	wait_waiting(s, 3);
	assert_balanced(&s->st);
	ready(s, 0, 10);
	assert_int_equal(s->n, 3);
	hex_encode(s->items[0].sha256, 32, sha);
	assert_string_equal(sha,
	    "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
	assert_string_equal(s->items[0].type, "image/jpeg");
	assert_string_equal(s->items[0].address, "10.0.0.7");
	assert_int_equal(spool_open_body(s->d, &s->items[1], &fd), 0);
	assert_int_equal(pread(fd, body, 1000, 2999000), 1000);
	assert_int_equal(body[999], 'x');
	close(fd);
	seq = s->items[0].seq;
	snprintf(path, sizeof(path), "%s/item/%013llx/%016llx", s->spool,
	    (unsigned long long)seq >> 12, (unsigned long long)seq);
	assert_int_equal(stat(path, &sb), 0);
	send_first(s, "k/a.jpg");
	assert_int_equal(s->rc, 0);
	send_first(s, "k/again");
	assert_int_equal(s->rc, 1); /* not waiting any more */
	ready(s, 0, 10);
	assert_int_equal(s->n, 2);
	spool_end(s->d, seq, SPOOL_DELIVERED, "", on_rc, s);
	wait_called(s);
	assert_int_equal(s->rc, 0);
	gone_soon(path);
	status(s);
	assert_int_equal(s->st.ends[SPOOL_DELIVERED], 1);
	assert_int_equal(s->st.delivered_bytes, 5);
	assert_int_equal(s->st.waiting, 2);
	assert_balanced(&s->st);
	spool_end(s->d, seq, SPOOL_DELIVERED, "", on_rc, s);
	wait_called(s);
	assert_int_equal(s->rc, -ENOENT);
	free(body);
}

static void
test_defer_and_offer(void **state)
{
	struct site *s = *state;
	uint64_t seq;

	assert_int_equal(put(s, "a", "1", 1), 0);
	wait_waiting(s, 1);
	ready(s, 0, 10);
	seq = s->items[0].seq;
	send_first(s, "first");
	spool_defer(s->d, seq, 300, true, "store answered 503", on_rc, s);
	wait_called(s);
	ready(s, 0, 10);
	assert_int_equal(s->n, 0);
	assert_in_range(spool_next_due_ms(s->d), 1, 300);
	spool_ready(s->d, seq, 100000, 10, on_items, s);
	wait_called(s);
	assert_int_equal(s->n, 1); /* ahead of its time */
	usleep(320000);
	ready(s, seq, 10); /* deferred ones come whatever `after` is */
	assert_int_equal(s->n, 1);
	assert_int_equal(s->items[0].attempts, 1);
	assert_string_equal(s->items[0].last_error, "store answered 503");
	assert_string_equal(s->items[0].key, "first");
	send_first(s, "second");
	spool_keep(s->d, seq, "{\"uploadId\":\"7\"}", on_rc, s);
	wait_called(s);
	spool_requeue(s->d, on_rc, s);
	wait_called(s);
	ready(s, seq, 10);
	assert_int_equal(s->n, 1);
	assert_string_equal(s->items[0].key, "first"); /* never changes */
	assert_string_equal(s->items[0].kept, "{\"uploadId\":\"7\"}");
	status(s);
	assert_int_equal(s->st.sending, 0);
	assert_balanced(&s->st);
}

static void
test_hold_and_quarantine(void **state)
{
	struct site *s = *state;
	char path[200];
	uint64_t a, b;

	assert_int_equal(put(s, "a", "1", 1), 0);
	assert_int_equal(put(s, "b", "2", 1), 0);
	wait_waiting(s, 2);
	ready(s, 0, 10);
	a = s->items[0].seq;
	b = s->items[1].seq;
	spool_hold(s->d, a, "device blocked", on_rc, s);
	wait_called(s);
	spool_quarantine(s->d, b, "cannot be read back", on_rc, s);
	wait_called(s);
	ready(s, 0, 10);
	assert_int_equal(s->n, 0);
	status(s);
	assert_int_equal(s->st.held, 1);
	assert_int_equal(s->st.quarantined, 1);
	assert_balanced(&s->st);
	spool_list(s->d, 0, 10, on_items, s);
	wait_called(s);
	assert_int_equal(s->n, 2);
	assert_int_equal(s->items[1].state, SPOOL_QUARANTINED);
	snprintf(path, sizeof(path), "%s/quarantine/%s.json", s->spool,
	    s->items[1].id);
	assert_int_equal(access(path, R_OK), 0);
	spool_release_device(s->d, "cam-1", on_rc, s);
	wait_called(s);
	ready(s, b, 10);
	assert_int_equal(s->n, 1);
	spool_end(s->d, b, SPOOL_DROPPED, "", on_rc, s);
	wait_called(s);
	gone_soon(path);
	status(s);
	assert_balanced(&s->st);
}

static void
test_too_large_and_full(void **state)
{
	struct site *s = *state;
	struct spool_upload *u[3];
	const char *why;

	assert_int_equal(put(s, "a", "x", 33 << 20), -EFBIG);
	assert_int_equal(spool_reserve(s->w, 31 << 20, &u[0], &why), 0);
	assert_int_equal(spool_reserve(s->w, 31 << 20, &u[1], &why), 0);
	assert_int_equal(spool_reserve(s->w, 31 << 20, &u[2], &why), -ENOSPC);
	assert_non_null(strstr(why, "spool full"));
	spool_abort(u[0]);
	spool_abort(u[1]);
	for (int i = 0; i < 200 && put(s, "b", "1", 1) == -ENOSPC; i++)
		usleep(10000);
	assert_int_equal(put(s, "b", "1", 1), 0);
}

/* What a kill -9 leaves: the same files, found by new daemons. */
static void
crash(struct site *s)
{
	run("cp -a %s %s.crash", s->spool, s->spool);
	spool_close(s->w);
	run("rm -rf %s && mv %s.crash %s", s->spool, s->spool, s->spool);
}

static void
flip(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	char c;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static void
test_recovery(void **state)
{
	struct site *s = *state;
	char ids[3][33], path[200];

	assert_int_equal(put(s, "indexed", "0", 1), 0);
	wait_waiting(s, 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(put(s, "fresh", "12345", 5), 0);
		strcpy(ids[i], s->id);
	}
	crash(s); /* before the rows came, mostly */
	/* the last one is torn: nobody may be told of half a file */
	snprintf(path, sizeof(path), "%s/item/%.13s/%s", s->spool, ids[2] + 16,
	    ids[2] + 16);
	if (access(path, R_OK) == 0)
		flip(path, 2);
	snprintf(
	    path, sizeof(path), "touch %s/incoming/0000000000000009", s->spool);
	run("%s", path);
	open_writer(s);
	open_drainer(s);
	snprintf(path, sizeof(path), "%s/incoming/0000000000000009", s->spool);
	assert_int_equal(access(path, R_OK), -1);
	status(s);
	assert_in_range(s->st.waiting, 3, 4);
	assert_balanced(&s->st);
	for (int i = 0; i < 2; i++) {
		spool_find(s->d, ids[i], on_items, s);
		wait_called(s);
		assert_int_equal(s->n, 1);
		assert_string_equal(s->items[0].name, "fresh");
	}
	assert_int_equal(put(s, "later", "1", 1), 0);
	assert_string_not_equal(s->id, ids[0]);
	assert_string_not_equal(s->id, ids[1]);
}

static void
check_rebuilt(struct site *s, uint64_t n)
{
	open_writer(s);
	open_drainer(s);
	for (int i = 0; i < 200; i++) {
		status(s);
		if (!s->st.rebuilding)
			break;
		usleep(20000);
	}
	wait_waiting(s, n);
	assert_balanced(&s->st);
	ready(s, 0, 100);
	assert_int_equal(s->n, n);
}

static void
test_lost_index(void **state)
{
	struct site *s = *state;
	char first[33];

	for (int i = 0; i < 20; i++)
		assert_int_equal(put(s, "f", "12345", 5), 0);
	strcpy(first, s->id);
	wait_waiting(s, 20);
	spool_close(s->w);
	run("rm -rf %s/index", s->spool);
	check_rebuilt(s, 20);
	assert_true(s->items[0].found);
	assert_int_equal(put(s, "new", "1", 1), 0);
	assert_memory_equal(s->id, first, 16); /* the same epoch */
	wait_waiting(s, 21);
	spool_close(s->w);
	run("head -c 300000 /dev/urandom > %s/index/data.mdb", s->spool);
	check_rebuilt(s, 21);
	spool_close(s->w);
	run("rm %s/format; rm -rf %s/index", s->spool, s->spool);
	check_rebuilt(s, 21);
	assert_memory_equal(s->items[0].id, first, 16);
}

static void
test_sweep(void **state)
{
	struct site *s = *state;
	char from[200], name[40];
	uint64_t seq;

	assert_int_equal(put(s, "f", "12345", 5), 0);
	wait_waiting(s, 1);
	ready(s, 0, 10);
	seq = s->items[0].seq;
	snprintf(name, sizeof(name), "%013llx/%016llx",
	    (unsigned long long)seq >> 12, (unsigned long long)seq);
	snprintf(from, sizeof(from), "%s/item/%s", s->spool, name);
	run("cp -a %s %s/kept", from, s->dir);
	spool_end(s->d, seq, SPOOL_DELIVERED, "", on_rc, s);
	wait_called(s);
	spool_close(s->w);
	assert_int_equal(access(from, F_OK), -1); /* what was left to do */
	run("cp -a %s/kept %s", s->dir, from);    /* the unlink was missed */
	open_writer(s);
	open_drainer(s);
	for (int i = 0; i < 300 && access(from, R_OK) == 0; i++)
		usleep(10000);
	assert_int_equal(access(from, R_OK), -1);
	status(s);
	assert_int_equal(s->st.waiting, 0);
}

static void
test_roles_and_formats(void **state)
{
	struct site *s = *state;
	struct spool *other;
	char *why = NULL;

	assert_int_equal(
	    spool_open(s->base, s->spool, SPOOL_WRITER, &options, &other, &why),
	    -EBUSY);
	assert_int_equal(spool_open(s->base, "/tmp/eh-no-such-spool",
			     SPOOL_DRAINER, &options, &other, &why),
	    -ENOENT);
	spool_close(s->w);
	s->d = s->w = NULL;
	run("sed -i s/edgehaul-spool.1/edgehaul-spool\\ 9/ %s/format",
	    s->spool);
	assert_int_equal(
	    spool_open(s->base, s->spool, SPOOL_WRITER, &options, &other, &why),
	    -EPROTO);
	assert_non_null(strstr(why, "format 9"));
	free(why);
}

static void
test_idle_writes_nothing(void **state)
{
	struct site *s = *state;
	struct stat a, b;
	char path[200];

	assert_int_equal(put(s, "f", "1", 1), 0);
	wait_waiting(s, 1);
	ready(s, 0, 10);
	ready(s, s->items[0].seq, 10); /* nothing there */
	usleep(1200000);               /* the sweep, the ticks */
	ready(s, 100, 10);
	snprintf(path, sizeof(path), "%s/index/data.mdb", s->spool);
	assert_int_equal(stat(path, &a), 0);
	for (int i = 0; i < 5; i++) {
		ready(s, 100, 10);
		assert_int_equal(s->n, 0);
		usleep(200000);
	}
	assert_int_equal(stat(path, &b), 0);
	assert_int_equal(a.st_mtim.tv_nsec, b.st_mtim.tv_nsec);
	assert_int_equal(a.st_mtim.tv_sec, b.st_mtim.tv_sec);
}

static void
test_row_and_footer(void **state)
{
	unsigned char buf[ROW_MAX];
	struct row r = { .item = { .state = SPOOL_HELD,
			     .size = 7,
			     .attempts = 3,
			     .offered = true,
			     .offer_size = 6,
			     .device = "d",
			     .name = "n",
			     .key = "k",
			     .last_error = "e" },
		.received_clock = 5,
		.due_clock = 9 };
	struct footer f = { .size = 3,
		.seq = 77,
		.epoch = 5,
		.device = "d",
		.name = "n\xff",
		.type = "",
		.address = "a" },
		      g;
	size_t n = row_encode(&r, buf), fn;
	struct row out;
	unsigned char *fb;

	assert_int_equal(row_decode(buf, n, &out), 0);
	assert_string_equal(out.item.key, "k");
	assert_int_equal(out.item.offer_size, 6);
	assert_int_equal(out.due_clock, 9);
	spool_item_fini(&out.item);
	for (size_t i = 0; i < n; i++) { /* each flipped octet, each length */
		buf[i] ^= 0x40;
		assert_int_equal(row_decode(buf, n, &out), -EBADMSG);
		buf[i] ^= 0x40;
		assert_int_equal(row_decode(buf, i, &out), -EBADMSG);
	}
	fb = footer_encode(&f, &fn);
	assert_int_equal(footer_decode(fb, fn, fn + 3, &g), 0);
	assert_int_equal(g.seq, 77);
	assert_string_equal(g.address, "a");
	footer_fini(&g);
	assert_int_equal(footer_decode(fb, fn, fn + 4, &g), -EBADMSG);
	for (size_t i = 0; i < fn; i++) {
		fb[i] ^= 0x40;
		assert_int_equal(footer_decode(fb, fn, fn + 3, &g), -EBADMSG);
		fb[i] ^= 0x40;
	}
	free(fb);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_accept_and_deliver, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_defer_and_offer, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_hold_and_quarantine, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_too_large_and_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recovery, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_lost_index, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_roles_and_formats, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_idle_writes_nothing, setup, teardown),
		cmocka_unit_test(test_row_and_footer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
