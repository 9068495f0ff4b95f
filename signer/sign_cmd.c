/*
 * sign_cmd.c - edgehaul-signer sign: sign one request offline
 *
 * For trying a configuration: takes a storage as PUT /v1/storages takes it,
 * calls nobody, and prints what the client has to send.
 */
#include "command.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#include "clock.h"
#include "duration.h"
#include "json.h"
#include "problem.h"
#include "provider.h"
#include "seal.h"
#include "storage.h"
#include "xalloc.h"

#define FILE_MAX (256 * 1024)

static const char usage[] =
    "usage: edgehaul-signer sign --storage FILE.json --method PUT [--key KEY]\n"
    "           [--header 'Name: value'] [--query NAME=VALUE]\n"
    "           [--at 20260102T030405Z] [--expires PT15M]\n"
    "  prints {method, uri, headers, expiresAt}; without --key the bucket or\n"
    "  container itself is meant; --header and --query may be repeated\n";

struct args {
	const char *storage, *method, *key;
	struct pair headers[SIGV4_PAIRS_MAX], query[SIGV4_PAIRS_MAX];
	char *owned[2 * SIGV4_PAIRS_MAX];
	size_t headers_n, query_n, owned_n;
	int64_t at, expires; /* expires 0: the storage's */
};

/* "Name: value" or "name=value" into a pair. */
static int
take_pair(struct args *a, const char *s, char sep, struct pair *list, size_t *n)
{
	const char *mark = strchr(s, sep), *value;

	if (mark == NULL || mark == s || *n == SIGV4_PAIRS_MAX)
		return -EINVAL;
	value = mark + 1;
	if (sep == ':' && *value == ' ')
		value++;
	a->owned[a->owned_n] = xstrndup(s, (size_t)(mark - s));
	list[(*n)++] = (struct pair){ a->owned[a->owned_n++], value };
	return 0;
}

/* A slip of the pen would be signed for in vain. */
static bool
is_method(const char *s)
{
	static const char *const methods[] = { "PUT", "GET", "HEAD", "POST",
		"DELETE" };

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strcmp(s, methods[i]) == 0)
			return true;
	return false;
}

static int
take_option(struct args *a, int c, const char *value)
{
	switch (c) {
	case 's':
		a->storage = value;
		return 0;
	case 'm':
		a->method = value;
		return is_method(value) ? 0 : -EINVAL;
	case 'k':
		a->key = value;
		return 0;
	case 'h':
		return take_pair(a, value, ':', a->headers, &a->headers_n);
	case 'q':
		return take_pair(a, value, '=', a->query, &a->query_n);
	case 'a':
		return clock_parse_basic(value, &a->at);
	case 'e':
		return duration_parse(value, &a->expires) == 0 && a->expires > 0
		    ? 0
		    : -ERANGE;
	default:
		return -EINVAL;
	}
}

static int
parse(int argc, char **argv, struct args *a)
{
	static const struct option options[] = {
		{ "storage", required_argument, NULL, 's' },
		{ "method", required_argument, NULL, 'm' },
		{ "key", required_argument, NULL, 'k' },
		{ "header", required_argument, NULL, 'h' },
		{ "query", required_argument, NULL, 'q' },
		{ "at", required_argument, NULL, 'a' },
		{ "expires", required_argument, NULL, 'e' },
		{ NULL, 0, NULL, 0 },
	};
	int c, i = 0;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, &i)) != -1) {
		if (take_option(a, c, optarg) == 0)
			continue;
		if (c != '?')
			fprintf(stderr,
			    "edgehaul-signer: --%s cannot be '%s'\n",
			    options[i].name, optarg);
		return -EINVAL;
	}
	return optind == argc && a->storage != NULL && a->method != NULL
	    ? 0
	    : -EINVAL;
}

static cJSON *
read_storage(const char *path)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char *buf = xmalloc(FILE_MAX);
	const char *why = "it cannot be read";
	cJSON *v = NULL;
	size_t n;

	if (f != NULL) {
		n = fread(buf, 1, FILE_MAX, f);
		v = json_parse(buf, n, FILE_MAX - 1, &why);
		if (f != stdin)
			fclose(f);
	}
	if (v == NULL)
		fprintf(stderr, "edgehaul-signer: %s: %s\n", path, why);
	explicit_bzero(buf, FILE_MAX);
	free(buf);
	return v;
}

static void
print_problem(const struct problem *p)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, p->errors)
	{
		const char *hint = json_string(e, "hint");

		fprintf(stderr, "edgehaul-signer: %s: %s %s\n",
		    json_string(e, "pointer"), json_string(e, "detail"),
		    hint != NULL ? hint : "");
	}
	if (p->errors == NULL)
		fprintf(stderr, "edgehaul-signer: %s\n", p->title);
}

static void
print_warnings(const struct storage *s)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, s->warnings)
	{
		fprintf(
		    stderr, "edgehaul-signer: warning: %s\n", e->valuestring);
	}
}

static int
print_signed(const struct storage *s, const struct args *a)
{
	struct sign_request r = {
		.method = a->method,
		.key = a->key,
		.headers = a->headers,
		.headers_n = a->headers_n,
		.query = a->query,
		.query_n = a->query_n,
		.at = a->at,
		.expires = a->expires != 0 ? a->expires : s->expires_s,
	};
	struct text uri = { 0 };
	int rc = s->provider->sign(s, &r, &uri);
	cJSON *o, *h;
	char when[21], *line;

	if (rc != 0) {
		fprintf(stderr,
		    rc == -ERANGE
			? "edgehaul-signer: --expires is out of the range "
			  "that this type of storage takes\n"
			: "edgehaul-signer: the key, a header or a query "
			  "parameter cannot be signed\n");
		text_fini(&uri);
		return EX_DATAERR;
	}
	o = cJSON_CreateObject();
	json_add_text(o, "method", a->method);
	json_add_text(o, "uri", uri.s);
	h = cJSON_AddObjectToObject(o, "headers");
	for (size_t i = 0; i < a->headers_n; i++)
		json_add_text(h, a->headers[i].name, a->headers[i].value);
	clock_rfc3339(r.at + r.expires, when);
	json_add_text(o, "expiresAt", when);
	line = json_line(o);
	printf("%s\n", line);
	free(line);
	cJSON_Delete(o);
	text_fini(&uri);
	return 0;
}

int
command_sign(int argc, char **argv)
{
	struct args a = { .at = clock_wall_ms() / 1000 };
	struct sign_env env = { .public_url = (char *)"http://127.0.0.1:8090" };
	struct problem p = { 0 };
	struct storage *s;
	cJSON *doc;
	int rc = EX_USAGE;

	if (parse(argc, argv, &a) != 0) {
		fputs(usage, stderr);
		goto out;
	}
	rc = EX_DATAERR;
	doc = read_storage(a.storage);
	if (doc == NULL)
		goto out;
	hmac_key_init(&env.file_key, "", 0);
	if (storage_parse(&env, "offline", "offline", doc, &p, &s) != 0) {
		print_problem(&p);
	} else {
		print_warnings(s);
		rc = print_signed(s, &a);
		storage_free(s);
	}
	cJSON_Delete(doc);
out:
	problem_fini(&p);
	for (size_t i = 0; i < a.owned_n; i++)
		free(a.owned[i]);
	return rc;
}
