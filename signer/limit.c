/*
 * limit.c - how many requests a token may make
 *
 * Levels are in thousandths of a request, so that whole numbers do.
 */
#include "limit.h"

#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "xalloc.h"

#define BUCKETS 8192

struct bucket {
	int64_t level; /* thousandths that are left */
	int64_t at_ms; /* 0: never used */
};
struct limit {
	struct bucket buckets[BUCKETS];
};

struct limit *
limit_new(void)
{
	return xcalloc(1, sizeof(struct limit));
}

void
limit_free(struct limit *l)
{
	free(l);
}

int
limit_take(struct limit *l, const char *token, int64_t per_s, int64_t now_ms)
{
	uint8_t md[DIGEST_LEN];
	int64_t most = per_s * 2000;
	struct bucket *b;

	digest_sha256(token, strlen(token), md);
	b = &l->buckets[(md[0] << 8 | md[1]) % BUCKETS];
	if (b->at_ms == 0)
		b->level = most;
	else if (now_ms - b->at_ms >= 2000)
		b->level = most;
	else
		b->level += (now_ms - b->at_ms) * per_s;
	if (b->level > most)
		b->level = most;
	b->at_ms = now_ms;
	if (b->level < 1000)
		return 1;
	b->level -= 1000;
	return 0;
}
