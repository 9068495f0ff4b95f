/*
 * recipe.c - fuzz target of agent/recipe.c and answer.c
 *
 * The first octet picks the reader; what a recipe may be is asserted again.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "json.h"
#include "recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check(const struct recipe *r, const struct recipe_rules *rules)
{
	assert(r->requests_n <= RECIPE_REQUESTS_MAX);
	for (size_t i = 0; i < r->requests_n; i++) {
		const struct recipe_request *rq = &r->requests[i];

		assert(rq->origin.tls);
		assert(strpbrk(rq->uri, "\r\n \t#\\") == NULL);
		assert(strpbrk(rq->origin.host, "@/?#%") == NULL);
		assert(rq->offset + rq->length <= rules->size);
		for (size_t k = 0; k < rq->headers_n; k++) {
			assert(strpbrk(rq->headers[k].name, "\r\n: ") == NULL);
			assert(strpbrk(rq->headers[k].value, "\r\n") == NULL);
			assert(strcasecmp(rq->headers[k].name, "host") != 0);
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct recipe_rules rules = { .size = 100000 };
	struct recipe_answers rows;
	struct recipe *r;
	char out[64];
	cJSON *v;

	if (n < 1)
		return 0;
	v = json_parse((const char *)data + 1, n - 1, n, NULL);
	if (v != NULL && data[0] % 2 == 0 &&
	    recipe_parse(v, &rules, &r, out, sizeof(out)) == 0) {
		check(r, &rules);
		recipe_free(r);
	} else if (v != NULL &&
	    recipe_answers_parse(v, &rows, out, sizeof(out)) == 0) {
		recipe_answers_fini(&rows);
	}
	cJSON_Delete(v);
	answer_code((const char *)data + 1, n - 1, out, sizeof(out));
	return 0;
}
