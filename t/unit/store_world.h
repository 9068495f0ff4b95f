/*
 * store_world.h - the database that the tests of a store run over
 *
 * store_world_lmdb.c and store_world_pg.c each are one; a program has one of
 * them. Each test begins with an empty store.
 */
#ifndef STORE_WORLD_H
#define STORE_WORLD_H

#include <stdbool.h>

struct store;

/* False: it is not installed, and the plan that says so is printed. */
bool world_there(void);
/* Of the group. */
int world_begin(void **state);
int world_end(void **state);
/* Of each test. */
int world_setup(void **state);
int world_teardown(void **state);
struct store *world_store(void *state);

#define world_test(fn)                                                         \
	cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)

/* Tests of this database alone. */
#ifdef WORLD_PG
#define WORLD_TESTS                                                            \
	world_test(test_two_stores), world_test(test_met),                     \
	    world_test(test_lost), world_test(test_passed_over),               \
	    world_test(test_schema), world_test(test_bad_uri)
void test_two_stores(void **state);
void test_met(void **state);
void test_lost(void **state);
void test_passed_over(void **state);
void test_schema(void **state);
void test_bad_uri(void **state);
#else
#define WORLD_TESTS world_test(test_full)
void test_full(void **state);
#endif

#endif
