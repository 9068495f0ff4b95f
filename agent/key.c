/*
 * key.c - the name an upload gets in the store, from `key_template`
 *
 * Names come from cameras: what could be read as a path that leads elsewhere,
 * or what some store refuses, becomes "_". A name may hold slashes, which stay;
 * a device's may not. The key is computed once and kept with the upload.
 */
#include "key.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "xalloc.h"

enum word { DEVICE, GATEWAY, NAME, EXT, ID, SHA256, DATE, TIME, WORDS };
static const char *const words[WORDS] = { "device", "gateway", "name", "ext",
	"id", "sha256", "date", "time" };

struct text {
	char *s;
	size_t n, size;
};

static void
add(struct text *t, const char *s, size_t n)
{
	if (t->n + n + 1 > t->size) {
		t->size = (t->n + n + 1) * 2;
		t->s = xrealloc(t->s, t->size);
	}
	memcpy(t->s + t->n, s, n);
	t->n += n;
	t->s[t->n] = '\0';
}

/* The word of a template at "{": WORDS if it is none. *end_out: behind "}". */
static enum word
word_at(const char *p, const char **end_out)
{
	size_t n = strcspn(p + 1, "}");

	if (p[1 + n] != '}')
		return WORDS;
	*end_out = p + n + 2;
	for (unsigned w = 0; w < WORDS; w++)
		if (strlen(words[w]) == n && memcmp(words[w], p + 1, n) == 0)
			return (enum word)w;
	return WORDS;
}

/* Add a value: controls, backslashes and what is no UTF-8 become "_". */
static void
add_clean(struct text *t, const char *s, size_t n, bool slashes)
{
	for (size_t i = 0, len; i < n; i += len) {
		unsigned char c = (unsigned char)s[i];

		len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
		if (len > n - i || !json_utf8(s + i, len)) {
			len = 1;
			add(t, "_", 1);
		} else if (c < 0x20 || c == 0x7f || c == '\\' ||
		    (c == '/' && !slashes) ||
		    (c == 0xc2 && (unsigned char)s[i + 1] < 0xa0)) {
			add(t, "_", 1);
		} else {
			add(t, s + i, len);
		}
	}
}

/* The last path segment's extension without its dot, or "". */
static const char *
extension(const char *name)
{
	const char *slash = strrchr(name, '/');
	const char *base = slash != NULL ? slash + 1 : name;
	const char *dot = strrchr(base, '.');

	return dot == NULL || dot == base || strlen(dot) > 16 ? "" : dot + 1;
}

/* At most max octets of the name: its start and its extension. */
static void
add_name(struct text *t, const char *name, size_t max)
{
	const char *ext = extension(name);
	size_t n = strlen(name), cut;

	if (n == 0) {
		add(t, "file", 4);
		return;
	}
	if (n <= max) {
		add_clean(t, name, n, true);
		return;
	}
	cut = max - strlen(ext) - 1;
	while (cut > 0 && ((unsigned char)name[cut] & 0xc0) == 0x80)
		cut--; /* not inside a character */
	add_clean(t, name, cut, true);
	if (*ext != '\0') {
		add(t, ".", 1);
		add_clean(t, ext, strlen(ext), false);
	}
}

static void
add_word(struct text *t, enum word w, const struct key_values *v, size_t max)
{
	const char *plain[WORDS] = { [DEVICE] = v->device,
		[GATEWAY] = v->gateway,
		[EXT] = extension(v->name),
		[ID] = v->id,
		[SHA256] = v->sha256 };
	char stamp[21];

	if (w == NAME) {
		add_name(t, v->name, max);
	} else if (w == TIME) {
		clock_basic(v->received_s, stamp); /* 20260102T030405Z */
		add(t, stamp + 9, strlen(stamp) > 15 ? 6 : 0);
	} else if (w == DATE) {
		clock_rfc3339(v->received_s, stamp); /* 2026-01-02T... */
		add(t, stamp, strcspn(stamp, "T"));
	} else {
		add_clean(t, plain[w], strlen(plain[w]), false);
	}
}

/* Drop empty segments, make "." and ".." harmless. In place. */
static void
clean_segments(char *key)
{
	char *out = key, *p = key;

	while (*p != '\0') {
		size_t n = strcspn(p, "/");
		bool dots = (n == 1 && p[0] == '.') ||
		    (n == 2 && p[0] == '.' && p[1] == '.');

		if (n > 0) {
			if (out != key)
				*out++ = '/';
			memmove(out, p, n);
			if (dots)
				memset(out, '_', n);
			out += n;
		}
		p += n;
		if (*p == '/')
			p++;
	}
	*out = '\0';
}

static char *
expand(const char *template, const struct key_values *v, size_t name_max)
{
	struct text t = { 0 };
	const char *p = template, *end;

	add(&t, "", 0);
	while (*p != '\0') {
		size_t n = strcspn(p, "{");

		add_clean(&t, p, n, true);
		p += n;
		if (*p == '{') {
			enum word w = word_at(p, &end);

			if (w == WORDS) { /* the configuration was checked */
				add(&t, "_", 1);
				p++;
			} else {
				add_word(&t, w, v, name_max);
				p = end;
			}
		}
	}
	clean_segments(t.s);
	return t.s;
}

static bool
fits(const char *key)
{
	if (key[0] == '\0' || strlen(key) > KEY_MAX)
		return false;
	while (*key != '\0') {
		size_t n = strcspn(key, "/");

		if (n > KEY_SEGMENT_MAX)
			return false;
		key += n + (key[n] == '/');
	}
	return true;
}

char *
key_expand(const char *template, const struct key_values *v)
{
	static const size_t lengths[] = { 500, 180, 64 }; /* of the name */

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		char *key = expand(template, v, lengths[i]);

		if (fits(key))
			return key;
		free(key);
	}
	return xstrdup(v->id);
}
