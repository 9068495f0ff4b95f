/*
 * manifest_version.c - precedence of versions (Semantic Versioning 2.0.0,
 * section 11)
 *
 * More is taken than the specification allows: any number of parts up to
 * CORE_MAX, and zeros before numbers, as in 5.51.2.1 and 2026.01.07. Were they
 * not comparable, a slip of the pen such as 1.02.0 could follow 1.3.0.
 *
 * Numbers may have any length: they are compared as digits, never as machine
 * words, so no version can overflow into an older one.
 */
#include "manifest.h"

#include <string.h>

#define CORE_MAX 8
#define DIGITS "0123456789"
#define ALNUM DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-"

struct part {
	const char *s;
	size_t n;
};
struct version {
	struct part core[CORE_MAX];
	const char *pre; /* "" if none, up to '+' or the end */
	size_t pre_n;
};

static bool
number_ok(struct part p)
{
	return p.n > 0 && strspn(p.s, DIGITS) >= p.n;
}

static struct part
without_zeros(struct part p)
{
	while (p.n > 0 && p.s[0] == '0') {
		p.s++;
		p.n--;
	}
	return p;
}

static int
number_compare(struct part a, struct part b)
{
	a = without_zeros(a);
	b = without_zeros(b);
	if (a.n != b.n)
		return a.n < b.n ? -1 : 1;
	return memcmp(a.s, b.s, a.n);
}

static struct part
next_part(const char **s, const char *end)
{
	struct part p = { *s, 0 };

	while (p.s + p.n < end && p.s[p.n] != '.')
		p.n++;
	*s = p.s + p.n < end ? p.s + p.n + 1 : NULL;
	return p;
}

/* Identifiers between dots, none empty. */
static bool
identifiers_ok(const char *s, size_t n)
{
	const char *end = s + n;

	while (s != NULL) {
		struct part p = next_part(&s, end);

		if (p.n == 0 || strspn(p.s, ALNUM) < p.n)
			return false;
	}
	return true;
}

static bool
parse(const char *s, struct version *v)
{
	static const struct part zero = { "0", 1 };
	const char *plus, *end;
	size_t i = 0;

	if (s[0] == 'v' || s[0] == 'V')
		s++;
	plus = strchr(s, '+');
	if (plus != NULL && !identifiers_ok(plus + 1, strlen(plus + 1)))
		return false;
	end = plus != NULL ? plus : s + strlen(s);
	v->pre = memchr(s, '-', (size_t)(end - s));
	v->pre_n = v->pre != NULL ? (size_t)(end - ++v->pre) : 0;
	if (v->pre != NULL) {
		if (!identifiers_ok(v->pre, v->pre_n))
			return false;
		end = v->pre - 1;
	}
	for (; s != NULL; i++) {
		struct part p = next_part(&s, end);

		if (i == CORE_MAX || !number_ok(p))
			return false;
		v->core[i] = p;
	}
	for (; i < CORE_MAX; i++)
		v->core[i] = zero;
	return true;
}

static int
identifier_compare(struct part a, struct part b)
{
	bool x = strspn(a.s, DIGITS) >= a.n, y = strspn(b.s, DIGITS) >= b.n;
	int order;

	if (x != y)
		return x ? -1 : 1; /* numbers go below */
	if (x)
		return number_compare(a, b);
	order = memcmp(a.s, b.s, a.n < b.n ? a.n : b.n);
	return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

static int
pre_compare(const struct version *a, const struct version *b)
{
	const char *s = a->pre, *t = b->pre;

	if (s == NULL || t == NULL)
		return (s == NULL) - (t == NULL); /* none is the release */
	while (s != NULL && t != NULL) {
		struct part p = next_part(&s, a->pre + a->pre_n);
		struct part q = next_part(&t, b->pre + b->pre_n);
		int order = identifier_compare(p, q);

		if (order != 0)
			return order;
	}
	return (s != NULL) - (t != NULL);
}

bool
firmware_version_compare(const char *a, const char *b, int *order_out)
{
	struct version x, y;
	int order = 0;

	if (!parse(a, &x) || !parse(b, &y))
		return false;
	for (int i = 0; i < CORE_MAX && order == 0; i++)
		order = number_compare(x.core[i], y.core[i]);
	if (order == 0)
		order = pre_compare(&x, &y);
	*order_out = (order > 0) - (order < 0);
	return true;
}
