/*
 * manifest.c - fuzz target: manifests and versions
 */
#include "manifest.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct manifest *m = NULL;
	char *why = NULL, *text;
	int order, back;

	if (manifest_parse((const char *)data, n, &m, &why) == 0)
		manifest_free(m);
	free(why);
	if (n > 400)
		return 0;
	text = malloc(n + 1);
	memcpy(text, data, n);
	text[n] = '\0';
	if (firmware_version_compare(text, "1.2.3-rc.1", &order) &&
	    (!firmware_version_compare("1.2.3-rc.1", text, &back) ||
		order != -back))
		abort(); /* an order has two sides */
	free(text);
	return 0;
}
