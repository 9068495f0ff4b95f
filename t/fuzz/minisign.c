/*
 * minisign.c - fuzz target: keys and signatures as text
 */
#include "minisign.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct minisign_public p = { .id = { 1 } };
	struct minisign_secret s;
	char *text = malloc(n + 1), comment[MINISIGN_COMMENT_MAX];

	memcpy(text, data, n);
	text[n] = '\0';
	minisign_public_parse(text, &p);
	minisign_secret_parse(text, NULL, &s);
	if (minisign_verify(&p, 1, "x", 1, text, comment) == 0)
		abort(); /* nobody signed it */
	free(text);
	return 0;
}
