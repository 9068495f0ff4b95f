/*
 * conf_reader.c - lines of an INI file, each with its number
 *
 * libinih makes the tokens; this is the reader it draws its lines from. Left
 * alone, libinih has no line numbers, cuts long lines, sections and names
 * without a word, takes an indented line as the last value continued, ends a
 * value at " ;" and takes "name: value". So each line is checked here first:
 * a bad one is reported and left out, a good one is handed on without its
 * leading blanks. What is handed on and brings no call of the
 * handler is reported as well, so no line is ever lost in silence.
 */
#include "conf_private.h"

#include <ctype.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "json.h"

#define LINE_MAX_OCTETS 197 /* libinih's 200 less CR, LF and NUL */
#define WORD_MAX_OCTETS 49  /* libinih's room for a section or a name */

struct reader {
	const char *p, *end;
	unsigned line;
	bool pending; /* the line handed on must bring a setting */
	char name[WORD_MAX_OCTETS + 1]; /* of the pending line */
	const struct conf_sink *sink;
};

const char *
conf_excerpt(char out[68], const char *s)
{
	size_t n = strlen(s);

	if (n <= 60) {
		memcpy(out, s, n + 1);
		return out;
	}
	n = 60;
	while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	memcpy(out, s, n);
	strcpy(out + n, "...");
	return out;
}

static void bad(struct reader *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void
bad(struct reader *r, const char *fmt, ...)
{
	char why[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	r->sink->on_bad(r->sink->arg, r->line, why);
}

static bool
blank(char c)
{
	return c == ' ' || c == '\t';
}

/* "..", '..' and the angle quotes that text programs put in their place. */
static bool
typographic(const char *s)
{
	for (; *s != '\0'; s++) {
		const unsigned char *u = (const unsigned char *)s;

		if (u[0] == 0xe2 && u[1] == 0x80 && u[2] >= 0x98 &&
		    u[2] <= 0x9f)
			return true;
		if (u[0] == 0xc2 && (u[1] == 0xab || u[1] == 0xbb))
			return true;
	}
	return false;
}

/* Blanks and marks that cannot be seen: U+00A0, U+200B to U+200F, U+202A to
 * U+202E, U+2060, U+FEFF, and the C1 controls. */
static bool
invisible(const char *s)
{
	for (; *s != '\0'; s++) {
		const unsigned char *u = (const unsigned char *)s;

		if (u[0] == 0xc2 && u[1] >= 0x80 && u[1] <= 0xa0)
			return true;
		if (u[0] == 0xe2 && u[1] == 0x80 &&
		    ((u[2] >= 0x8b && u[2] <= 0x8f) ||
			(u[2] >= 0xaa && u[2] <= 0xae)))
			return true;
		if (u[0] == 0xe2 && u[1] == 0x81 && u[2] == 0xa0)
			return true;
		if (u[0] == 0xef && u[1] == 0xbb && u[2] == 0xbf)
			return true;
	}
	return false;
}

/* Octets that no setting holds. True: reported. */
static bool
bad_octets(struct reader *r, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f) {
			bad(r,
			    "control character (octet 0x%02x) in the line; "
			    "type the line anew",
			    c);
			return true;
		}
	}
	if (!json_utf8(s, n)) {
		bad(r, "a letter is not in UTF-8; save the file as UTF-8");
		return true;
	}
	return false;
}

/* "[title]"; the title goes to out even if the line has a mistake that the
 * meaning survives, so that what follows is checked in its section. */
static bool
take_section(struct reader *r, const char *s, char *out)
{
	const char *close = strchr(s, ']');
	char ex[68];
	size_t n;

	s++;
	if (close == NULL) {
		bad(r, "missing \"]\" in \"[%s\"; write: [%s]",
		    conf_excerpt(ex, s), ex);
		close = s + strlen(s);
	} else if (close[1 + strspn(close + 1, " \t")] != '\0') {
		bad(r, "text after \"]\"; a section stands alone on its line");
	}
	while (s < close && blank(*s))
		s++;
	while (close > s && blank(close[-1]))
		close--;
	n = (size_t)(close - s);
	if (n > WORD_MAX_OCTETS) {
		bad(r, "section longer than %d characters", WORD_MAX_OCTETS);
		n = WORD_MAX_OCTETS;
		while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
			n--;
	}
	memcpy(out, s, n);
	out[n] = '\0';
	if (typographic(out) || strchr(out, '"') != NULL)
		bad(r, "quote found in a section; sections need no quotes");
	else if (invisible(out))
		bad(r,
		    "a blank that is none (U+00A0 or alike); "
		    "type the line anew");
	return true;
}

/* The value's faults that a comment or an editor makes. True: reported. */
static bool
bad_value(struct reader *r, const char *name, const char *v)
{
	size_t n = strlen(v);
	char ex[68];

	if (n == 0) {
		bad(r,
		    "\"%s\" has no value; put # before the line to use the "
		    "default",
		    name);
		return true;
	}
	if (*v == '#' || *v == ';') {
		bad(r,
		    "\"%c\" where the value of \"%s\" should be; a comment "
		    "stands on its own line",
		    *v, name);
		return true;
	}
	for (const char *c = v; *c != '\0'; c++) {
		if (!blank(*c) || (c[1] != '#' && c[1] != ';'))
			continue;
		bad(r,
		    "\" %c\" in the value of \"%s\"; a comment stands on its "
		    "own line",
		    c[1], name);
		return true;
	}
	if (typographic(v)) {
		bad(r, "typographic quote found; settings need no quotes");
		return true;
	}
	if (invisible(v)) {
		bad(r,
		    "a blank that is none (U+00A0 or alike) in the value of "
		    "\"%s\"; type the line anew",
		    name);
		return true;
	}
	if (*v == '"' || *v == '\'') {
		size_t len = n - 1 - (n > 1 && v[n - 1] == *v);
		char bare[256];

		snprintf(bare, sizeof(bare), "%.*s", (int)len, v + 1);
		bad(r, "quotes are not needed; write: %s = %s", name,
		    conf_excerpt(ex, bare));
		return true;
	}
	return false;
}

/* "name = value" with no blanks at its ends. True: libinih may have it. */
static bool
check_setting(struct reader *r, const char *s)
{
	size_t n = strcspn(s, "=:");
	const char *v = s + n;
	char ex[68], fix[68];

	if (typographic(s) && strchr(s, '=') == NULL) {
		bad(r, "typographic quote found; settings need no quotes");
		return false;
	}
	while (n > 0 && blank(s[n - 1]))
		n--;
	if (*v != '=') {
		size_t word = strcspn(s, " \t:");

		v = s + word + strspn(s + word, " \t:");
		snprintf(r->name, sizeof(r->name), "%.*s",
		    word < sizeof(r->name) ? (int)word : 0, s);
		bad(r, "no \"=\" in \"%s\"; write: %s = %s",
		    conf_excerpt(ex, s),
		    word < sizeof(r->name) ? r->name : "setting",
		    *v != '\0' ? conf_excerpt(fix, v) : "value");
		return false;
	}
	if (n == 0) {
		bad(r, "no name before \"=\"; write: setting = value");
		return false;
	}
	if (n > WORD_MAX_OCTETS) {
		bad(r, "unknown setting: its name is longer than %d characters",
		    WORD_MAX_OCTETS);
		return false;
	}
	memcpy(r->name, s, n);
	r->name[n] = '\0';
	if (typographic(r->name) || strpbrk(r->name, "\"'") != NULL) {
		bad(r, "quote found before \"=\"; settings need no quotes");
		return false;
	}
	if (invisible(r->name)) {
		bad(r,
		    "a blank that is none (U+00A0 or alike); type the line "
		    "anew");
		return false;
	}
	v++;
	v += strspn(v, " \t");
	return !bad_value(r, r->name, v);
}

/* A line without its blanks, in `s` of n octets. True: goes to libinih. */
static bool
check_line(struct reader *r, const char *s, size_t n, char *out)
{
	char title[WORD_MAX_OCTETS + 1];

	out[0] = '\0';
	if (n == 0 || *s == '#' || *s == ';' || bad_octets(r, s, n))
		return false;
	if (n > LINE_MAX_OCTETS) {
		bad(r, "line longer than %d characters; shorten the value",
		    LINE_MAX_OCTETS);
		return false;
	}
	memcpy(out, s, n);
	out[n] = '\0';
	if (*s == '[') {
		take_section(r, out, title);
		r->sink->on_section(r->sink->arg, r->line, title);
		sprintf(out, "[%s]", title);
		return true;
	}
	r->pending = check_setting(r, out);
	return r->pending;
}

/* The next line of the text in `*s` without its end; false: there is none. */
static bool
next_line(struct reader *r, const char **s, size_t *n)
{
	const char *nl;

	if (r->p >= r->end)
		return false;
	nl = memchr(r->p, '\n', (size_t)(r->end - r->p));
	*s = r->p;
	*n = (size_t)((nl != NULL ? nl : r->end) - r->p);
	r->p = nl != NULL ? nl + 1 : r->end;
	r->line++;
	while (*n > 0 && blank(**s)) {
		(*s)++;
		(*n)--;
	}
	while (*n > 0 && (blank((*s)[*n - 1]) || (*s)[*n - 1] == '\r'))
		(*n)--;
	return true;
}

static void
end_pending(struct reader *r)
{
	if (r->pending)
		bad(r, "the line is not understood; write: setting = value");
	r->pending = false;
}

/* ini_reader: fgets() for libinih. */
static char *
on_read(char *str, int num, void *stream)
{
	struct reader *r = stream;
	char line[LINE_MAX_OCTETS + 4];
	const char *s;
	size_t n;

	end_pending(r);
	for (;;) {
		if (!next_line(r, &s, &n))
			return NULL;
		if (check_line(r, s, n, line))
			break;
	}
	n = strlen(line);
	if (n + 2 > (size_t)num) { /* a libinih built with less room */
		r->pending = false;
		bad(r, "line longer than %d characters; shorten the value",
		    num - 3);
		n = 0;
	}
	memcpy(str, line, n);
	strcpy(str + n, "\n");
	return str;
}

/* ini_handler */
static int
on_token(void *user, const char *section, const char *name, const char *value)
{
	struct reader *r = user;

	if (r->pending && name != NULL && value != NULL)
		r->sink->on_setting(r->sink->arg, r->line, name, value);
	r->pending = false;
	return 1;
}

unsigned
conf_read_text(const char *buf, size_t n, const struct conf_sink *sink)
{
	struct reader r = { buf, buf + n, 0, false, "", sink };

	if (n >= 2 &&
	    (memcmp(buf, "\xff\xfe", 2) == 0 ||
		memcmp(buf, "\xfe\xff", 2) == 0)) {
		r.line = 1;
		bad(&r, "the file is in UTF-16; save it as UTF-8");
		return 1;
	}
	if (n >= 3 && memcmp(buf, "\xef\xbb\xbf", 3) == 0)
		r.p += 3;
	ini_parse_stream(on_read, &r, on_token, &r);
	end_pending(&r);
	return r.line;
}
