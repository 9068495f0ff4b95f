/*
 * answer.c - what a store's answer means, and values out of its body
 *
 * Stores answer errors in XML or JSON. The bodies are bounded by who receives
 * them; they are scanned for one tag or member, not parsed as a whole, and what
 * is taken out is bounded and free of controls.
 */
#include "recipe.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "xalloc.h"

static int
parse_row(const cJSON *v, struct recipe_answer *row, char *why, size_t n)
{
	static const struct {
		const char *name;
		enum recipe_do what;
	} verbs[] = {
		{ "retry", DO_RETRY },
		{ "sign", DO_SIGN },
		{ "wait", DO_WAIT },
		{ "quarantine", DO_QUARANTINE },
		{ "verify", DO_VERIFY },
		{ "done", DO_DONE },
		{ "start", DO_START },
	};
	const char *what = json_string(v, "do"), *code = json_string(v, "code");
	int64_t status = 0;
	int rc = json_int(v, "status", 100, 599, &status);

	if (what == NULL || (rc != 0 && rc != -ENOENT)) {
		snprintf(why, n, "a row of answers is malformed");
		return -EINVAL;
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (strcmp(verbs[i].name, what) == 0) {
			row->what = verbs[i].what;
			row->status = (int)status;
			row->code = code != NULL && *code != '\0'
			    ? xstrdup(code)
			    : NULL;
			return 0;
		}
	snprintf(why, n, "a row of answers has an unknown \"do\"");
	return -EINVAL;
}

int
recipe_answers_parse(
    const cJSON *v, struct recipe_answers *out, char *why, size_t n)
{
	struct recipe_answers a = { 0 };
	int count = cJSON_GetArraySize(v);
	const cJSON *e;

	if (!cJSON_IsArray(v) || count > 256) {
		snprintf(why, n, "answers is no list of at most 256 rows");
		return -EINVAL;
	}
	a.rows = xcalloc((size_t)count + 1, sizeof(*a.rows));
	cJSON_ArrayForEach(e, v)
	{
		if (parse_row(e, &a.rows[a.n], why, n) != 0) {
			recipe_answers_fini(&a);
			return -EINVAL;
		}
		a.n++;
	}
	*out = a;
	return 0;
}

void
recipe_answers_fini(struct recipe_answers *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->rows[i].code);
	free(a->rows);
	*a = (struct recipe_answers){ 0 };
}

int
recipe_answers_find(const struct recipe_answers *a, int status,
    const char *code, bool only_code, enum recipe_do *out)
{
	for (size_t i = 0; i < a->n; i++) {
		const struct recipe_answer *row = &a->rows[i];

		if (row->status != 0 && row->status != status)
			continue;
		if (row->code == NULL ? only_code
				      : strcmp(row->code, code) != 0)
			continue;
		*out = row->what;
		return 0;
	}
	return -ENOENT;
}

/* One character of XML text at p; *len: how many octets it took. */
static char
xml_char(const char *p, size_t n, size_t *len)
{
	static const struct {
		const char *entity;
		char c;
	} entities[] = {
		{ "&amp;", '&' },
		{ "&lt;", '<' },
		{ "&gt;", '>' },
		{ "&quot;", '"' },
		{ "&#34;", '"' },
		{ "&apos;", '\'' },
		{ "&#39;", '\'' },
	};

	for (size_t i = 0; i < sizeof(entities) / sizeof(*entities); i++) {
		*len = strlen(entities[i].entity);
		if (*len <= n && memcmp(p, entities[i].entity, *len) == 0)
			return entities[i].c;
	}
	*len = 1;
	return *p;
}

/* Copy XML text of n octets. */
static int
copy_xml(const char *p, size_t n, char *out, size_t size)
{
	size_t used = 0, len;

	for (; n > 0; p += len, n -= len) {
		char c = xml_char(p, n, &len);

		if ((unsigned char)c < 0x20 || c == 0x7f || used + 1 >= size)
			return -EINVAL;
		out[used++] = c;
	}
	out[used] = '\0';
	return 0;
}

static int
xml_text(const char *body, size_t n, const char *tag, char *out, size_t size)
{
	size_t tag_n = strlen(tag);
	const char *p = body, *end = body + n, *close;

	while ((p = memchr(p, '<', (size_t)(end - p))) != NULL) {
		p++;
		if ((size_t)(end - p) <= tag_n || memcmp(p, tag, tag_n) != 0 ||
		    p[tag_n] != '>')
			continue;
		p += tag_n + 1;
		close = memchr(p, '<', (size_t)(end - p));
		if (close == NULL || (size_t)(end - close) < tag_n + 3 ||
		    close[1] != '/' || memcmp(close + 2, tag, tag_n) != 0)
			return -EINVAL;
		return copy_xml(p, (size_t)(close - p), out, size);
	}
	return -ENOENT;
}

static int
json_text(const char *body, size_t n, const char *tag, char *out, size_t size)
{
	cJSON *v = json_parse(body, n, n, NULL);
	const cJSON *o = v;
	const char *s;
	int rc = -ENOENT;

	if (json_string(o, tag) == NULL) /* {"error": {"code": ...}} */
		o = cJSON_GetObjectItemCaseSensitive(v, "error");
	s = json_string(o, tag);
	if (s != NULL)
		rc = copy_xml(s, 0, out, size); /* empties out */
	if (s != NULL && strlen(s) < size) {
		strcpy(out, s);
		for (char *p = out; *p != '\0'; p++)
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				rc = -EINVAL;
	} else if (s != NULL) {
		rc = -EINVAL;
	}
	cJSON_Delete(v);
	return rc;
}

int
answer_text(const char *body, size_t n, const char *tag, char *out, size_t size)
{
	size_t i = 0;
	int rc;

	while (i < n && isspace((unsigned char)body[i]))
		i++;
	rc = i < n && body[i] == '{' ? json_text(body, n, tag, out, size)
				     : xml_text(body, n, tag, out, size);
	if (rc != 0)
		out[0] = '\0';
	return rc;
}

void
answer_code(const char *body, size_t n, char *out, size_t size)
{
	if (answer_text(body, n, "Code", out, size) != 0)
		answer_text(body, n, "code", out, size);
}
