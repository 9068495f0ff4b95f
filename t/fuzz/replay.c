/*
 * replay.c - run a fuzz target over given files, without a fuzzer
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int
replay(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *p = NULL;
	size_t n = 0, size = 0, k;

	if (f == NULL) {
		perror(path);
		return 1;
	}
	do {
		if (n == size) {
			size = size > 0 ? 2 * size : 65536;
			p = realloc(p, size);
			if (p == NULL)
				abort();
		}
		k = fread(p + n, 1, size - n, f);
		n += k;
	} while (k > 0);
	fclose(f);
	LLVMFuzzerTestOneInput(p, n);
	free(p);
	return 0;
}

int
main(int argc, char **argv)
{
	int rc = 0;

	for (int i = 1; i < argc; i++)
		rc |= replay(argv[i]);
	return rc;
}
