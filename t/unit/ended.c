/*
 * ended.c - what became of uploads is kept until it is told, and bounded
 */
#include "spool.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <lmdb.h>
#include <cmocka.h>
#include <event2/event.h>

#include "log.h"
#include "own_folder.h"
#include "xalloc.h"

struct end {
	uint64_t number, seq;
	unsigned how;
	char reason[64], kept[64], key[64];
};

struct site {
	struct event_base *base;
	char dir[OWN_FOLDER], spool[80];
	struct spool *sp;
	unsigned called;
	size_t rows;
	uint64_t seqs[1000];
	size_t n;
	struct end ends[1000];
	size_t ends_n;
};

static void
open_spool(struct site *s)
{
	struct spool_options o = { .max_size = 64 << 20,
		.index_size = 1 << 20,
		.committers = 4,
		.max_upload = 1 << 20 };
	char *why;

	assert_int_equal(
	    spool_open(s->base, s->spool, SPOOL_WRITER, &o, &s->sp, &why), 0);
}

static int
setup(void **state)
{
	struct site *s = xcalloc(1, sizeof(*s));

	log_level = LOG_ERROR;
	own_folder_make(s->dir, "ended");
	snprintf(s->spool, sizeof(s->spool), "%s/spool", s->dir);
	s->base = event_base_new();
	open_spool(s);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct site *s = *state;

	spool_close(s->sp);
	event_base_free(s->base);
	own_folder_remove(s->dir);
	free(s);
	return 0;
}

static void
wait_calls(struct site *s, unsigned n)
{
	for (int i = 0; i < 1000 && s->called < n; i++) {
		struct timeval tv = { 0, 10000 };

		event_base_loopexit(s->base, &tv);
		event_base_dispatch(s->base);
	}
	assert_int_equal(s->called, n);
	s->called = 0;
}

static void
on_commit(int rc, const struct spool_item *it, void *arg)
{
	struct site *s = arg;

	assert_int_equal(rc, 0);
	s->called++;
	s->seqs[s->n++] = it->seq;
}

static void
on_rc(int rc, void *arg)
{
	struct site *s = arg;

	assert_int_equal(rc, 0);
	s->called++;
}

static void
on_ready(int rc, struct spool_item *items, size_t n, void *arg)
{
	struct site *s = arg;

	s->called = 1;
	s->rows = n;
}

static void
put(struct site *s, size_t n)
{
	struct spool_meta meta = { "cam-1", "a.jpg", "image/jpeg", "10.0.0.7" };

	s->n = 0;
	for (size_t i = 0; i < n; i++) {
		struct spool_upload *u;
		const char *why;
		char body[16];

		snprintf(body, sizeof(body), "%zu", i);
		assert_int_equal(
		    spool_reserve(s->sp, strlen(body), &u, &why), 0);
		spool_write(u, body, strlen(body));
		spool_commit(u, &meta, on_commit, s);
	}
	wait_calls(s, (unsigned)n);
	s->rows = 0;
	for (int i = 0; i < 500 && s->rows < n; i++) {
		spool_ready(s->sp, 0, 0, n + 1, on_ready, s);
		wait_calls(s, 1);
	}
	assert_true(s->rows >= n);
}

static void
on_ended(int rc, struct spool_ended *list, size_t n, void *arg)
{
	struct site *s = arg;

	assert_int_equal(rc, 0);
	s->called = 1;
	s->ends_n = n;
	for (size_t i = 0; i < n; i++) {
		struct end *e = &s->ends[i];

		e->number = list[i].number;
		e->how = list[i].how;
		e->seq = list[i].item.seq;
		snprintf(e->reason, 64, "%s", list[i].item.last_error);
		snprintf(e->kept, 64, "%s", list[i].item.kept);
		snprintf(e->key, 64, "%s", list[i].item.key);
	}
}

static size_t
ended(struct site *s, enum spool_reader reader, uint64_t after, size_t max)
{
	spool_ended(s->sp, reader, after, max, on_ended, s);
	wait_calls(s, 1);
	return s->ends_n;
}

static void
end(struct site *s, size_t i, enum spool_end how, const char *why)
{
	spool_end(s->sp, s->seqs[i], how, why, on_rc, s);
	wait_calls(s, 1);
}

static void
test_order_and_mark(void **state)
{
	struct site *s = *state;

	put(s, 4);
	assert_int_equal(ended(s, SPOOL_TELL, 0, 10), 0);
	end(s, 2, SPOOL_DELIVERED, "");
	end(s, 0, SPOOL_DROPPED, "by hand");
	spool_quarantine(s->sp, s->seqs[1], "damaged", on_rc, s);
	wait_calls(s, 1);
	spool_evict(s->sp, s->seqs[3], "replaced", on_rc, s);
	wait_calls(s, 1);
	assert_int_equal(ended(s, SPOOL_TELL, 0, 10), 4);
	assert_int_equal(s->ends[0].seq, s->seqs[2]);
	assert_int_equal(s->ends[0].how, SPOOL_DELIVERED);
	assert_int_equal(s->ends[1].how, SPOOL_DROPPED);
	assert_string_equal(s->ends[1].reason, "by hand");
	assert_int_equal(s->ends[2].how, SPOOL_ENDED_QUARANTINED);
	assert_string_equal(s->ends[2].reason, "damaged");
	assert_int_equal(s->ends[3].how, SPOOL_EVICTED);
	assert_string_equal(s->ends[3].reason, "replaced");
	assert_int_equal(ended(s, SPOOL_TELL, s->ends[1].number, 1), 1);
	assert_int_equal(s->ends[0].seq, s->seqs[1]);
	spool_ended_seen(s->sp, SPOOL_TELL, s->ends[0].number);
	spool_close(s->sp);
	open_spool(s);
	assert_int_equal(ended(s, SPOOL_TELL, 0, 10), 1);
	assert_int_equal(s->ends[0].seq, s->seqs[3]);
}

static void
test_parts(void **state)
{
	struct site *s = *state;
	uint64_t last;

	put(s, 3);
	for (size_t i = 0; i < 3; i++) {
		if (i == 1)
			continue;
		spool_keep(s->sp, s->seqs[i], "{\"part\":2}", on_rc, s);
		wait_calls(s, 1);
	}
	end(s, 0, SPOOL_DELIVERED, "");
	end(s, 1, SPOOL_DROPPED, "");
	assert_int_equal(ended(s, SPOOL_FREE, 0, 10), 0);
	end(s, 2, SPOOL_DROPPED, "");
	assert_int_equal(ended(s, SPOOL_FREE, 0, 10), 1);
	assert_int_equal(s->ends[0].seq, s->seqs[2]);
	assert_string_equal(s->ends[0].kept, "{\"part\":2}");
	/* Beyond it is nothing; who goes back finds it again. */
	last = s->ends[0].number;
	assert_int_equal(ended(s, SPOOL_FREE, last, 10), 0);
	assert_int_equal(ended(s, SPOOL_FREE, last, 10), 0);
	assert_int_equal(ended(s, SPOOL_FREE, 0, 10), 1);
	assert_int_equal(s->ends[0].number, last);
	spool_ended_seen(s->sp, SPOOL_FREE, last);
	assert_int_equal(ended(s, SPOOL_TELL, 0, 10), 3);
	spool_close(s->sp);
	open_spool(s);
	assert_int_equal(ended(s, SPOOL_FREE, 0, 10), 0);
	assert_int_equal(ended(s, SPOOL_TELL, 0, 10), 3);
}

/* The newest stay: 1 MiB / 16 / 512 octets, and one trimming more. */
static void
test_bounded(void **state)
{
	struct site *s = *state;
	uint64_t last;

	for (int round = 0; round < 4; round++) {
		put(s, 200);
		for (size_t i = 0; i < 200; i++)
			spool_end(
			    s->sp, s->seqs[i], SPOOL_DROPPED, "", on_rc, s);
		wait_calls(s, 200);
	}
	last = s->seqs[199];
	assert_in_range(ended(s, SPOOL_TELL, 0, 1000), 128, 128 + 256);
	assert_int_equal(s->ends[s->ends_n - 1].seq, last);
}

/* An index that an older version made gets the table, and loses nothing. */
static void
test_older_index(void **state)
{
	struct site *s = *state;
	char path[128];
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;

	put(s, 2);
	spool_close(s->sp);
	snprintf(path, sizeof(path), "%s/index", s->spool);
	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_set_maxdbs(env, 8), 0);
	assert_int_equal(mdb_env_open(env, path, 0, 0660), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, "end", 0, &dbi), 0);
	assert_int_equal(mdb_drop(txn, dbi, 1), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
	open_spool(s);
	end(s, 0, SPOOL_DELIVERED, "");
	assert_int_equal(ended(s, SPOOL_TELL, 0, 10), 1);
}

/* Who has read from an index that is lost goes on with the new one. */
static void
test_index_anew(void **state)
{
	struct site *s = *state;
	char cmd[128];
	uint64_t last;

	put(s, 3);
	end(s, 0, SPOOL_DROPPED, "");
	spool_quarantine(s->sp, s->seqs[1], "damaged", on_rc, s);
	wait_calls(s, 1);
	end(s, 1, SPOOL_DROPPED, "");
	assert_int_equal(ended(s, SPOOL_TELL, 0, 10), 3);
	last = s->ends[2].number;
	spool_close(s->sp);
	snprintf(cmd, sizeof(cmd), "rm -r %s/index", s->spool);
	assert_int_equal(system(cmd), 0);
	open_spool(s);
	put(s, 1);
	end(s, 0, SPOOL_DELIVERED, "");
	assert_int_equal(ended(s, SPOOL_TELL, last, 10), 1);
	assert_int_equal(s->ends[0].seq, s->seqs[0]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_order_and_mark, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_older_index, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_index_anew, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
