/*
 * limit.h - how many requests a token may make
 *
 * A bucket for each token in a table of fixed size: memory does not grow with
 * made-up tokens. Tokens that fall into one bucket share it. The loop's.
 */
#ifndef LIMIT_H
#define LIMIT_H

#include <stdint.h>

struct limit;

struct limit *limit_new(void);
void limit_free(struct limit *l);
/*
 * Take one request of the token at now_ms; per_s requests a second, twice as
 * many at once. 0, or seconds after which to try again.
 */
int limit_take(
    struct limit *l, const char *token, int64_t per_s, int64_t now_ms);

#endif
