/*
 * leftovers.c - tests of agent/leftover_list.c
 */
#include "leftover_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "xalloc.h"

#define RECORDS 1000
#define READ 32

/* Records of a spool: numbers from 1 on, each of a storage. */
struct site {
	struct leftover_list l;
	const char *storage[RECORDS + 1];
	bool done[RECORDS + 1];
	uint64_t n;
};

static int
setup(void **state)
{
	struct site *s = calloc(1, sizeof(*s));

	leftover_list_init(&s->l);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct site *s = *state;

	leftover_list_fini(&s->l);
	free(s);
	return 0;
}

static void
add(struct site *s, const char *storage, int n)
{
	while (n-- > 0)
		s->storage[++s->n] = storage;
}

/* As the agent does: read until there is nothing new. */
static void
read_all(struct site *s)
{
	uint64_t from, last;

	for (int round = 0; round < 2 * RECORDS; round++) {
		from = leftover_list_from(&s->l);
		leftover_list_begin(&s->l, from);
		last = from;
		while (last < s->n && last - from < READ) {
			struct spool_item it = { 0 };

			it.storage = xstrdup(s->storage[++last]);
			leftover_list_offer(&s->l, last, 0, &it);
			spool_item_fini(&it);
		}
		leftover_list_end(&s->l, last, last - from < READ);
		if (last == from)
			return;
	}
	fail_msg("no end of reading");
}

static unsigned
in_memory(const struct site *s)
{
	const struct leftover_shop *shop;
	unsigned n = 0;

	TAILQ_FOREACH(shop, &s->l.shops, link)
	n += shop->n;
	return n;
}

static void
done(struct site *s, struct leftover *x)
{
	assert_false(s->done[x->number]);
	s->done[x->number] = true;
	leftover_list_done(&s->l, x, true);
}

/* A dead storage is first, and last; all of the other's go out. */
static void
test_dead(void **state)
{
	struct site *s = *state;
	struct leftover *x;
	int64_t now = 1;
	unsigned good = 0, tried = 0;

	add(s, "dead", 300);
	for (int i = 0; i < 50; i++) {
		add(s, "good", 1);
		add(s, "dead", 5);
	}
	for (int i = 0; i < 400 && good < 50; i++, now += 100) {
		read_all(s);
		while ((x = leftover_list_next(&s->l, now)) != NULL) {
			if (strcmp(x->it.storage, "dead") == 0) {
				tried++;
				leftover_list_again(&s->l, x, true, now);
			} else {
				good++;
				done(s, x);
			}
		}
		assert_in_range(in_memory(s), 0, 2 * LEFTOVERS_SHARE);
	}
	assert_int_equal(good, 50);
	/* Its own back-off holds, not one for each upload. */
	assert_in_range(tried, 1, (unsigned)now / 1000 + 1);
	assert_int_equal(leftover_list_mark(&s->l), 0);
}

/* It comes back: each once, in order, and the mark gets to the end. */
static void
test_back(void **state)
{
	struct site *s = *state;
	struct leftover *x;
	int64_t now = 1;
	uint64_t last = 0;

	add(s, "good", 3);
	add(s, "dead", 100);
	add(s, "good", 3);
	add(s, "dead", 1);
	for (; now < 100000; now += 100) {
		read_all(s);
		while ((x = leftover_list_next(&s->l, now)) != NULL)
			if (strcmp(x->it.storage, "good") == 0 || now > 50000)
				done(s, x);
			else
				leftover_list_again(&s->l, x, true, now);
		assert_true(leftover_list_mark(&s->l) >= last);
		last = leftover_list_mark(&s->l);
		assert_true(now > 50000 || last == 3);
		for (uint64_t i = 1; i <= last; i++)
			assert_true(s->done[i]);
	}
	assert_int_equal(last, s->n);
	assert_int_equal(in_memory(s), 0);
	/* What comes later is read from there. */
	add(s, "dead", 1);
	read_all(s);
	x = leftover_list_next(&s->l, now);
	assert_non_null(x);
	assert_int_equal(x->number, s->n);
}

/* One that is refused is no reason to wait for the others of its storage. */
static void
test_refused(void **state)
{
	struct site *s = *state;
	struct leftover *x;

	add(s, "good", 2);
	read_all(s);
	x = leftover_list_next(&s->l, 1);
	assert_int_equal(x->number, 1);
	assert_null(leftover_list_next(&s->l, 1)); /* one of a storage */
	leftover_list_again(&s->l, x, false, 1);
	x = leftover_list_next(&s->l, 1);
	assert_int_equal(x->number, 2);
	done(s, x);
	assert_null(leftover_list_next(&s->l, 1));
	assert_non_null(leftover_list_next(&s->l, 700000));
}

static void
test_parallel(void **state)
{
	static const char *const names[] = { "a", "b", "c", "d", "e", "f" };
	struct site *s = *state;
	struct leftover *x[6];

	for (int i = 0; i < 6; i++)
		add(s, names[i], 2);
	read_all(s);
	for (int i = 0; i < LEFTOVERS_PARALLEL; i++) {
		x[i] = leftover_list_next(&s->l, 1);
		assert_string_equal(x[i]->it.storage, names[i]);
	}
	assert_null(leftover_list_next(&s->l, 1));
	done(s, x[0]); /* round robin: not a again */
	assert_string_equal(leftover_list_next(&s->l, 1)->it.storage, "e");
	done(s, x[1]);
	assert_string_equal(leftover_list_next(&s->l, 1)->it.storage, "f");
	done(s, x[2]);
	assert_string_equal(leftover_list_next(&s->l, 1)->it.storage, "a");
}

/* More storages than there is room for share the last. */
static void
test_many(void **state)
{
	struct site *s = *state;
	static char names[100][8];
	struct leftover *x;
	unsigned n = 0;

	for (int i = 0; i < 100; i++) {
		snprintf(names[i], sizeof(names[i]), "s-%d", i);
		add(s, names[i], 2);
	}
	do {
		read_all(s);
		assert_in_range(s->l.shops_n, 1, LEFTOVERS_SHOPS);
		while ((x = leftover_list_next(&s->l, 1)) != NULL) {
			done(s, x);
			n++;
		}
	} while (leftover_list_mark(&s->l) < s->n);
	assert_int_equal(n, 200);
}

/* What the spool has forgotten meanwhile is not waited for. */
static void
test_forgotten(void **state)
{
	struct site *s = *state;
	struct leftover *x;

	add(s, "good", LEFTOVERS_SHARE + 3);
	read_all(s);
	assert_int_equal(leftover_list_mark(&s->l), 0);
	while ((x = leftover_list_next(&s->l, 1)) != NULL)
		done(s, x);
	assert_int_equal(leftover_list_mark(&s->l), LEFTOVERS_SHARE);
	leftover_list_begin(&s->l, leftover_list_from(&s->l));
	leftover_list_end(&s->l, 0, true);
	assert_int_equal(leftover_list_mark(&s->l), s->n);
	assert_int_equal(leftover_list_from(&s->l), s->n);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(test_dead), T(test_back),
		T(test_refused), T(test_parallel), T(test_many),
		T(test_forgotten) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
