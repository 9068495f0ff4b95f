/*
 * image_policy.c - tests of agent/image_policy.c
 */
#include "image_policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define WAY 7

/* n bodies of which each try ends so; how many were tried? */
static unsigned
bodies(struct image_habit *h, unsigned n, enum worker_outcome o)
{
	unsigned tried = 0;

	for (unsigned i = 0; i < n; i++)
		if (image_habit_try(h, WAY)) {
			tried++;
			image_habit_learn(h, WAY, o);
		}
	return tried;
}

static void
test_gains(void **state)
{
	struct image_habit h = { 0 };

	assert_int_equal(bodies(&h, 1000, WORKER_SMALLER), 1000);
}

static void
test_no_gain(void **state)
{
	static const enum worker_outcome none[] = { WORKER_PLAIN,
		WORKER_NO_GAIN, WORKER_UNSUPPORTED, WORKER_TOO_LARGE,
		WORKER_DIFFERS };

	for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		struct image_habit h = { 0 };

		/* three, then after 1, 2, 4 ... 64 others one more each */
		assert_int_equal(bodies(&h, HABIT_TRIES, none[i]), HABIT_TRIES);
		for (unsigned rest = 1; rest <= HABIT_REST; rest *= 2) {
			assert_int_equal(bodies(&h, rest, none[i]), 0);
			assert_int_equal(bodies(&h, 1, none[i]), 1);
		}
		assert_int_equal(bodies(&h, HABIT_REST, none[i]), 0);
		assert_int_equal(bodies(&h, 65 * 100, none[i]), 100);
	}
}

static void
test_gain_ends_it(void **state)
{
	struct image_habit h = { 0 };

	bodies(&h, 5000, WORKER_NO_GAIN);
	while (!image_habit_try(&h, WAY))
		;
	image_habit_learn(&h, WAY, WORKER_SMALLER);
	assert_int_equal(bodies(&h, 100, WORKER_SMALLER), 100);
	/* and a lone miss among gains is no habit */
	for (int i = 0; i < 20; i++) {
		assert_int_equal(bodies(&h, 2, WORKER_NO_GAIN), 2);
		assert_int_equal(bodies(&h, 1, WORKER_SMALLER), 1);
	}
}

/* Settings have changed: what was found does not hold for these. */
static void
test_other_way(void **state)
{
	struct image_habit h = { 0 };

	bodies(&h, 100, WORKER_NO_GAIN);
	assert_true(image_habit_try(&h, WAY + 1));
	image_habit_learn(&h, WAY, WORKER_TIMEOUT); /* a late one */
	assert_true(image_habit_try(&h, WAY + 1));
	assert_true(image_habit_try(&h, WAY));
}

static void
test_tells_nothing(void **state)
{
	static const unsigned none[] = { WORKER_FAILED, WORKER_NONE,
		WORKER_DAMAGED, WORKER_OUTCOMES, WORKER_OUTCOMES + 1 };

	for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		struct image_habit h = { 0 };

		assert_int_equal(
		    bodies(&h, 100, (enum worker_outcome)none[i]), 100);
	}
}

static void
test_costly(void **state)
{
	struct image_habit h = { 0 };

	assert_int_equal(bodies(&h, 1, WORKER_TIMEOUT), 1);
	assert_int_equal(bodies(&h, 1, WORKER_TIMEOUT), 0);
	assert_int_equal(bodies(&h, 1, WORKER_DIED), 1);
	assert_int_equal(bodies(&h, 8, WORKER_DIED), 0);
	/* a try may end after others have begun to rest */
	image_habit_learn(&h, WAY, WORKER_DIED);
	assert_int_equal(bodies(&h, HABIT_REST, WORKER_DIED), 0);
	assert_int_equal(bodies(&h, 1, WORKER_DIED), 1);
}

static void
test_claims(void **state)
{
	struct image_claims c = { 0 };
	uint32_t jpg = image_claim("a.b.jpg", "image/jpeg");
	enum worker_content kind;

	assert_int_equal(jpg, image_claim("other.jpg", "image/jpeg"));
	assert_int_not_equal(jpg, image_claim("a.csv", "image/jpeg"));
	assert_int_not_equal(jpg, image_claim("a.jpg", "text/csv"));
	assert_int_not_equal(image_claim("", ""), 0);
	assert_false(image_claims_kind(&c, jpg, &kind));
	image_claims_learn(&c, jpg, WORKER_PACKED);
	assert_true(image_claims_kind(&c, jpg, &kind));
	assert_int_equal(kind, WORKER_PACKED);
	image_claims_learn(&c, jpg, WORKER_OTHER); /* the last one counts */
	assert_true(image_claims_kind(&c, jpg, &kind));
	assert_int_equal(kind, WORKER_OTHER);
	image_claims_learn(&c, jpg + CLAIMS, WORKER_BMP);
	assert_false(image_claims_kind(&c, jpg, &kind));
}

static void
test_budget(void **state)
{
	struct image_budget b = { 0 };
	int64_t now = 5000000, used = 0, wait;

	/* a burst is there at once: half of one processor for 10 s */
	while ((wait = image_budget_wait(&b, 50, 1, now)) == 0) {
		image_budget_spend(&b, 50000);
		used += 50000;
	}
	assert_int_equal(used, BUDGET_BURST_MS * 500);
	assert_int_equal(wait, 1);
	/* then the share and no more */
	for (int64_t end = now + 100000; now < end; now++)
		while (image_budget_wait(&b, 50, 1, now) == 0) {
			image_budget_spend(&b, 50000);
			used += 50000;
		}
	assert_in_range(used, 5000000 + 49900000, 5000000 + 50100000);
	/* the wait told is the wait needed */
	image_budget_spend(&b, 3000000);
	wait = image_budget_wait(&b, 50, 1, now);
	assert_in_range(wait, 5900, 6200);
	assert_int_not_equal(image_budget_wait(&b, 50, 1, now + wait - 2), 0);
	assert_int_equal(image_budget_wait(&b, 50, 1, now + wait), 0);
	/* a long rest is forgotten but for the burst, and never overflows */
	now = INT64_MAX / 2;
	assert_int_equal(image_budget_wait(&b, 100, 64, now), 0);
	image_budget_spend(&b, BUDGET_BURST_MS * 6400 * 10);
	assert_int_equal(image_budget_wait(&b, 100, 64, now), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gains),
		cmocka_unit_test(test_no_gain),
		cmocka_unit_test(test_gain_ends_it),
		cmocka_unit_test(test_other_way),
		cmocka_unit_test(test_tells_nothing),
		cmocka_unit_test(test_costly),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_budget),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
