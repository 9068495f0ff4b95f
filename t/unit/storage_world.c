/*
 * storage_world.c - documents of storages, right and wrong, for their tests
 */
#include "storage_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "json.h"
#include "problem.h"

struct sign_env env = { .public_url = (char *)"https://s.example:8443" };

cJSON *
json(const char *s)
{
	cJSON *v = json_parse(s, strlen(s), 1 << 20, NULL);

	assert_non_null(v);
	return v;
}

struct storage *
good(const char *text)
{
	struct problem p = { 0 };
	struct storage *s = NULL;
	cJSON *doc = json(text);

	if (storage_parse(&env, "acme", "default", doc, &p, &s) != 0) {
		char *why = json_line(p.errors);

		fail_msg("%s: %s", text, why);
	}
	cJSON_Delete(doc);
	return s;
}

void
bad(const char *text, const char *pointer)
{
	struct problem p = { 0 };
	struct storage *s = NULL;
	cJSON *doc = json(text);
	const cJSON *e;
	bool found = false;

	assert_int_equal(
	    storage_parse(&env, "acme", "default", doc, &p, &s), -EINVAL);
	assert_int_equal(p.status, 422);
	cJSON_ArrayForEach(e, p.errors)
	{
		found |= strcmp(json_string(e, "pointer"), pointer) == 0;
	}
	if (!found)
		fail_msg("%s: nothing points to %s", text, pointer);
	problem_fini(&p);
	cJSON_Delete(doc);
}

void
has_host(const char *text, const char *host)
{
	struct storage *s = good(text);
	cJSON *hosts = storage_hosts(s);

	assert_string_equal(cJSON_GetArrayItem(hosts, 0)->valuestring, host);
	cJSON_Delete(hosts);
	storage_free(s);
}

void
has_warnings(const char *text, int n)
{
	struct storage *s = good(text);

	if (cJSON_GetArraySize(s->warnings) != n) {
		char *why = json_line(s->warnings);

		fail_msg("%s: %s", text, why);
	}
	storage_free(s);
}
