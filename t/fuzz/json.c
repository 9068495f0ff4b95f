/*
 * json.c - fuzz target: any octets as JSON
 *
 * What is accepted is printed and accepted again, and prints the same.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *why = NULL;
	cJSON *v = json_parse((const char *)data, n, 1 << 16, &why), *again;
	char *s, *t;

	assert((v == NULL) == (why != NULL));
	if (v == NULL)
		return 0;
	s = json_line(v);
	assert(json_utf8(s, strlen(s)));
	again = json_parse(s, strlen(s), 1 << 24, NULL);
	assert(again != NULL);
	t = json_line(again);
	assert(strcmp(s, t) == 0);
	free(s);
	free(t);
	cJSON_Delete(v);
	cJSON_Delete(again);
	return 0;
}
