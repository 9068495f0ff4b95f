/*
 * minisign_tool.c - lib/minisign as a program, for 81-minisign.t
 *
 *	generate PUB SECRET [PASSWORD]
 *	sign SECRET FILE SIGNATURE COMMENT [PASSWORD]
 *	verify FILE SIGNATURE PUB...	prints the trusted comment
 *
 * Exits 0, or prints the error's name on stderr and exits 1.
 */
#include "minisign.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "xalloc.h"

static char *
slurp(const char *path, size_t *n_out)
{
	FILE *f = fopen(path, "rb");
	char *s = xmalloc(8 << 20);

	if (f == NULL) {
		perror(path);
		exit(2);
	}
	*n_out = fread(s, 1, (8 << 20) - 1, f);
	s[*n_out] = '\0';
	fclose(f);
	return s;
}

static void
spew(const char *path, const char *s)
{
	FILE *f = fopen(path, "wb");

	if (f == NULL || fputs(s, f) < 0 || fclose(f) != 0) {
		perror(path);
		exit(2);
	}
}

static int
generate(char **a, int n)
{
	struct minisign_public p;
	char *secret, *text;
	int rc = minisign_generate(n > 2 ? a[2] : NULL, &p, &secret);

	if (rc != 0)
		return rc;
	text = minisign_public_text(&p);
	spew(a[0], text);
	spew(a[1], secret);
	free(text);
	free(secret);
	return 0;
}

static int
sign(char **a, int n)
{
	struct minisign_secret s;
	size_t key_n, file_n;
	char *key = slurp(a[0], &key_n), *file = slurp(a[1], &file_n), *sig;
	int rc = minisign_secret_parse(key, n > 4 ? a[4] : NULL, &s);

	if (rc == 0)
		rc = minisign_sign(&s, file, file_n, a[3], &sig);
	if (rc == 0) {
		spew(a[2], sig);
		free(sig);
	}
	free(key);
	free(file);
	return rc;
}

static int
verify(char **a, int n)
{
	struct minisign_public keys[8];
	char comment[MINISIGN_COMMENT_MAX], *file, *sig;
	size_t file_n, sig_n, keys_n = 0;
	int rc = 0;

	file = slurp(a[0], &file_n);
	sig = slurp(a[1], &sig_n);
	for (int i = 2; rc == 0 && i < n && keys_n < 8; i++) {
		char *text = slurp(a[i], &sig_n);

		rc = minisign_public_parse(text, &keys[keys_n++]);
		free(text);
	}
	if (rc == 0)
		rc = minisign_verify(keys, keys_n, file, file_n, sig, comment);
	if (rc == 0)
		puts(comment);
	free(file);
	free(sig);
	return rc;
}

int
main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(char **a, int n);
		int min;
	} verbs[] = { { "generate", generate, 2 }, { "sign", sign, 4 },
		{ "verify", verify, 3 } };

	for (size_t i = 0; argc > 1 && i < 3; i++) {
		int rc;

		if (strcmp(argv[1], verbs[i].name) != 0 ||
		    argc - 2 < verbs[i].min)
			continue;
		rc = verbs[i].run(argv + 2, argc - 2);
		if (rc != 0)
			fprintf(stderr, "%s\n", strerrorname_np(-rc));
		return rc != 0;
	}
	return 2;
}
