/*
 * json.c - cJSON with the limits that hostile text needs
 *
 * cJSON is generous: it takes "01", control characters as blanks, raw newlines
 * in strings and keys that stand twice, and a \u0000 cuts a string short. So
 * a scanner of the strict grammar (RFC 8259) goes over the text first; cJSON
 * builds the tree of what passed, and a walk over the tree refuses keys that
 * stand twice and numbers that are no finite double. Nothing recurses deeper
 * than DEPTH_MAX.
 */
#include "json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "url.h"
#include "xalloc.h"

#define DEPTH_MAX 32
#define EXACT_MAX ((double)(1LL << 53)) /* doubles count by one up to here */

struct scan {
	const unsigned char *p, *end;
	unsigned depth;
	const char *why;
};

/* Octets of the UTF-8 sequence at s (RFC 3629 section 4), 0: there is none. */
static size_t
utf8_len(const unsigned char *s, size_t n)
{
	size_t len;
	unsigned char low = 0x80, high = 0xbf; /* of the second octet */

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f; /* surrogates */
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (len > n || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

static bool
is_ascii8(const unsigned char *p)
{
	uint64_t eight;

	memcpy(&eight, p, sizeof(eight));
	return (eight & 0x8080808080808080) == 0;
}

bool
json_utf8(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + n;

	while (p < end) {
		size_t len;

		while (end - p >= 8 && is_ascii8(p))
			p += 8;
		if (p == end)
			break;
		len = utf8_len(p, (size_t)(end - p));
		if (len == 0)
			return false;
		p += len;
	}
	return true;
}

static bool
fail(struct scan *s, const char *why)
{
	if (s->why == NULL)
		s->why = why;
	return false;
}

static void
skip_blanks(struct scan *s)
{
	while (s->p < s->end &&
	    (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

static bool
take(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return fail(s, "not JSON");
	s->p += n;
	return true;
}

static bool
hex4(struct scan *s, unsigned *out)
{
	unsigned v = 0;

	if (s->end - s->p < 4)
		return fail(s, "a \\u escape needs four digits");
	for (int i = 0; i < 4; i++, s->p++) {
		unsigned char c = *s->p | 0x20;

		if (*s->p >= '0' && *s->p <= '9')
			v = v << 4 | (unsigned)(*s->p - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (unsigned)(c - 'a' + 10);
		else
			return fail(s, "a \\u escape needs four digits");
	}
	*out = v;
	return true;
}

static bool
scan_escape(struct scan *s)
{
	unsigned hi, lo;

	if (s->p == s->end)
		return fail(s, "a string does not end");
	if (*s->p != 'u') {
		if (*s->p == '\0' || strchr("\"\\/bfnrt", *s->p) == NULL)
			return fail(s, "unknown escape in a string");
		s->p++;
		return true;
	}
	s->p++;
	if (!hex4(s, &hi))
		return false;
	if (hi == 0)
		return fail(s, "NUL in a string");
	if (hi < 0xd800 || hi > 0xdfff)
		return true;
	if (hi > 0xdbff || s->end - s->p < 2 || s->p[0] != '\\' ||
	    s->p[1] != 'u')
		return fail(s, "half a surrogate pair in a string");
	s->p += 2;
	if (!hex4(s, &lo))
		return false;
	if (lo < 0xdc00 || lo > 0xdfff)
		return fail(s, "half a surrogate pair in a string");
	return true;
}

static bool
scan_string(struct scan *s)
{
	if (s->p == s->end)
		return fail(s, "ends too early");
	if (*s->p != '"')
		return fail(s, "a string must stand here");
	s->p++;
	while (s->p < s->end) {
		unsigned char c = *s->p++;

		if (c == '"')
			return true;
		if (c < 0x20)
			return fail(s, "control character in a string");
		if (c == '\\' && !scan_escape(s))
			return false;
	}
	return fail(s, "a string does not end");
}

static bool
digits(struct scan *s)
{
	const unsigned char *from = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return s->p > from || fail(s, "not a number");
}

static bool
scan_number(struct scan *s)
{
	if (*s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0')
		s->p++;
	else if (!digits(s))
		return false;
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (!digits(s))
			return false;
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (!digits(s))
			return false;
	}
	return true;
}

static bool scan_value(struct scan *s);

/* What stands between the brackets, both of which it takes. */
static bool
scan_members(struct scan *s, unsigned char close, bool named)
{
	if (++s->depth > DEPTH_MAX)
		return fail(s, "nested deeper than 32");
	s->p++;
	skip_blanks(s);
	if (s->p < s->end && *s->p == close) {
		s->p++;
		s->depth--;
		return true;
	}
	for (;;) {
		skip_blanks(s);
		if (named) {
			if (!scan_string(s))
				return false;
			skip_blanks(s);
			if (!take(s, ":"))
				return false;
		}
		if (!scan_value(s))
			return false;
		skip_blanks(s);
		if (s->p == s->end)
			return fail(s, "ends too early");
		if (*s->p == close)
			break;
		if (!take(s, ","))
			return false;
	}
	s->p++;
	s->depth--;
	return true;
}

static bool
scan_value(struct scan *s)
{
	skip_blanks(s);
	if (s->p == s->end)
		return fail(s, "ends too early");
	switch (*s->p) {
	case '{':
		return scan_members(s, '}', true);
	case '[':
		return scan_members(s, ']', false);
	case '"':
		return scan_string(s);
	case 't':
		return take(s, "true");
	case 'f':
		return take(s, "false");
	case 'n':
		return take(s, "null");
	default:
		if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
			return scan_number(s);
		return fail(s, "not JSON");
	}
}

static int
by_key(const void *a, const void *b)
{
	const cJSON *const *x = a, *const *y = b;

	return strcmp((*x)->string, (*y)->string);
}

/* Does a key stand twice in o? Sorts, so that many keys cost n log n. */
static bool
has_twice(const cJSON *o)
{
	size_t n = (size_t)cJSON_GetArraySize(o), i = 0;
	const cJSON **v, *c;
	bool twice = false;

	if (n < 2)
		return false;
	v = xcalloc(n, sizeof(const cJSON *));
	cJSON_ArrayForEach(c, o) v[i++] = c;
	qsort(v, n, sizeof(const cJSON *), by_key);
	for (i = 1; i < n && !twice; i++)
		twice = by_key(&v[i - 1], &v[i]) == 0;
	free(v);
	return twice;
}

/* What is wrong with the tree, NULL: nothing. Its depth is checked already. */
static const char *
tree_fault(const cJSON *v)
{
	const cJSON *c;
	const char *why = NULL;

	if (cJSON_IsNumber(v) && !isfinite(v->valuedouble))
		return "a number is too large";
	if (cJSON_IsObject(v) && v->child != NULL && has_twice(v))
		return "a key stands twice in one object";
	if (!cJSON_IsObject(v) && !cJSON_IsArray(v))
		return NULL;
	cJSON_ArrayForEach(c, v)
	{
		why = tree_fault(c);
		if (why != NULL)
			break;
	}
	return why;
}

/* The cheap checks; NULL: the text is JSON by the letter. */
static const char *
text_fault(const char *s, size_t n, size_t max)
{
	struct scan sc = { (const unsigned char *)s,
		(const unsigned char *)s + n, 0, NULL };

	if (n > max)
		return "larger than allowed";
	if (memchr(s, '\0', n) != NULL)
		return "NUL in the text";
	if (!json_utf8(s, n))
		return "not UTF-8";
	if (n >= 3 && memcmp(s, "\xef\xbb\xbf", 3) == 0)
		return "begins with a byte order mark: save it without";
	if (!scan_value(&sc))
		return sc.why;
	skip_blanks(&sc);
	return sc.p == sc.end ? NULL : "text after the value";
}

cJSON *
json_parse(const char *s, size_t n, size_t max, const char **why_out)
{
	const char *why = n == 0 ? "empty" : text_fault(s, n, max);
	cJSON *v = NULL;

	if (why == NULL) {
		v = cJSON_ParseWithLength(s, n);
		why = v == NULL ? "not JSON" : tree_fault(v);
	}
	if (why != NULL) {
		cJSON_Delete(v);
		v = NULL;
		if (why_out != NULL)
			*why_out = why;
	}
	return v;
}

const char *
json_string(const cJSON *o, const char *key)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
}

int
json_int(
    const cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
	int64_t whole;

	if (v == NULL)
		return -ENOENT;
	if (cJSON_IsRaw(v)) { /* our own, from json_add_int() */
		char *end;

		errno = 0;
		whole = strtoll(v->valuestring, &end, 10);
		if (errno != 0 || end == v->valuestring || *end != '\0')
			return -EINVAL;
	} else {
		if (!cJSON_IsNumber(v) ||
		    v->valuedouble != trunc(v->valuedouble))
			return -EINVAL;
		if (fabs(v->valuedouble) > EXACT_MAX)
			return -ERANGE;
		whole = (int64_t)v->valuedouble;
	}
	if (whole < min || whole > max)
		return -ERANGE;
	*out = whole;
	return 0;
}

bool
json_bool(const cJSON *o, const char *key, bool dflt)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsBool(v) ? cJSON_IsTrue(v) : dflt;
}

void
json_add_hex(cJSON *o, const char *key, const void *p, size_t n)
{
	char *text = xmalloc(2 * n + 1);

	hex_encode(p, n, text);
	cJSON_AddStringToObject(o, key, text);
	free(text);
}

void
json_add_int(cJSON *o, const char *key, int64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)v);
	cJSON_AddRawToObject(o, key, text);
}

char *
json_line(const cJSON *v)
{
	char *s = cJSON_PrintUnformatted(v);

	return s != NULL ? s : xstrdup("null");
}

void
json_add_text(cJSON *o, const char *key, const char *s)
{
	size_t n = s != NULL ? strlen(s) : 0;
	const unsigned char *p = (const unsigned char *)s;
	char *out, *w;

	if (s == NULL) {
		cJSON_AddNullToObject(o, key);
		return;
	}
	w = out = xmalloc(3 * n + 1);
	for (size_t i = 0; i < n;) {
		size_t len = utf8_len(p + i, n - i);

		if (len != 0) {
			memcpy(w, p + i, len);
			w += len;
			i += len;
		} else {
			memcpy(w, "\xef\xbf\xbd", 3);
			w += 3;
			i++;
		}
	}
	*w = '\0';
	cJSON_AddStringToObject(o, key, out);
	free(out);
}
