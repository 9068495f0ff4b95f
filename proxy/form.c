/*
 * form.c - multipart/form-data bodies
 *
 * A delimiter is a line end (CRLF, LF or LF CR), "--", the boundary, and then
 * "--" or blanks and a line end. What might become one is held back until it
 * is one or cannot be one any more, and then is data to the last octet; so at
 * most HOLD octets are kept, and how the body was cut into reads makes no
 * difference. A line among headers waits for the octet behind it, which tells
 * whether the next line goes on with it.
 */
#include "form.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "json.h"
#include "url.h"
#include "xalloc.h"

#define BOUNDARY_MAX 70 /* RFC 2046 section 5.1.1 */
#define PADDING_MAX 64  /* blanks behind it */
#define HOLD (2 + 2 + BOUNDARY_MAX + PADDING_MAX + 2)
#define PARTS_MAX 256
#define LINE_MAX_LEN 2000
#define HEADERS_MAX 8000

enum state {
	LEARN,    /* the boundary, from the first line */
	DATA,     /* of a part or of the preamble */
	LINE_END, /* some of a line end is held */
	MATCH,    /* and some of "--boundary" */
	TAIL,     /* all of it; what follows decides */
	HEADERS,
	EPILOGUE,
};

struct form {
	struct form_events ev;
	void *arg;
	enum state state;
	char delimiter[2 + BOUNDARY_MAX + 1]; /* "--boundary" */
	size_t delimiter_n;
	bool in_part; /* else preamble: data is dropped */
	char hold[HOLD];
	size_t hold_n, eol_n;
	unsigned dashes; /* of TAIL */
	char line[LINE_MAX_LEN + 1];
	size_t line_n, headers_n;
	bool line_whole; /* unless the next one begins with a blank */
	bool lf_cr, skip_cr;
	char *name, *filename, *type;
	unsigned parts;
	int status;
	const char *why;
};

/* A parameter's value at s: what follows it. out: NULL, or it goes there. */
static const char *
take_value(const char *s, char **out)
{
	char *o;

	if (*s != '"') {
		size_t n = strcspn(s, "; \t\r\n");

		if (out != NULL)
			*out = xstrndup(s, n);
		return s + n;
	}
	o = out != NULL ? *out = xmalloc(strlen(s) + 1) : NULL;
	for (s++; *s != '\0' && *s != '"'; s++) {
		/* Only these are escaped: paths have backslashes. */
		if (*s == '\\' && (s[1] == '"' || s[1] == '\\'))
			s++;
		if (o != NULL)
			*o++ = *s;
	}
	if (o != NULL)
		*o = '\0';
	return s;
}

char *
form_parameter(const char *value, const char *name)
{
	size_t n = strlen(name);
	const char *s = value + strcspn(value, ";");
	char *out = NULL;

	while (*s == ';' && out == NULL) {
		bool mine;

		s += 1 + strspn(s + 1, " \t");
		mine = strncasecmp(s, name, n) == 0 &&
		    s[n + strspn(s + n, " \t")] == '=';
		s += strcspn(s, "=;");
		if (*s == '=')
			s = take_value(
			    s + 1 + strspn(s + 1, " \t"), mine ? &out : NULL);
		s += strcspn(s, ";");
	}
	return out;
}

/* The text of an ext-value ("UTF-8''%e2%82%ac", RFC 8187), or NULL. */
static char *
extended(const char *s)
{
	const char *text;
	char *out;
	size_t n;

	if (strncasecmp(s, "UTF-8'", 6) != 0)
		return NULL;
	text = strchr(s + 6, '\'');
	if (text == NULL ||
	    url_decode(text + 1, strlen(text + 1), false, &out, &n) != 0)
		return NULL;
	if (memchr(out, '\0', n) != NULL || !json_utf8(out, n)) {
		free(out);
		return NULL;
	}
	return out;
}

/* What a part says its file is called; NULL: it says nothing. */
static char *
file_name(const char *disposition)
{
	char *star = form_parameter(disposition, "filename*");
	char *name = star != NULL ? extended(star) : NULL;

	if (name == NULL)
		name = form_parameter(disposition, "filename");
	if (name == NULL)
		return star; /* it is a file, whatever it is called */
	free(star);
	return name;
}

static void
set_boundary(struct form *f, const char *s, size_t n)
{
	f->delimiter[0] = f->delimiter[1] = '-';
	memcpy(f->delimiter + 2, s, n);
	f->delimiter_n = n + 2;
}

struct form *
form_new(const char *content_type, const struct form_events *ev, void *arg,
    const char **why_out)
{
	char *b = form_parameter(content_type, "boundary");
	struct form *f;

	if (b != NULL && strlen(b) > BOUNDARY_MAX) {
		free(b);
		*why_out = "the form's boundary has over 70 octets";
		return NULL;
	}
	f = xcalloc(1, sizeof(*f));
	f->ev = *ev;
	f->arg = arg;
	if (b == NULL || *b == '\0') {
		f->state = LEARN;
	} else {
		set_boundary(f, b, strlen(b));
		f->state = MATCH; /* the body may begin with a delimiter */
	}
	free(b);
	return f;
}

static void
forget_part(struct form *f)
{
	free(f->name);
	free(f->filename);
	free(f->type);
	f->name = f->filename = f->type = NULL;
}

void
form_free(struct form *f)
{
	if (f == NULL)
		return;
	forget_part(f);
	free(f);
}

static void
fail(struct form *f, int status, const char *why)
{
	f->status = status;
	f->why = why;
}

static void
give(struct form *f, const char *p, size_t n)
{
	if (f->in_part && n > 0)
		f->ev.data(p, n, f->arg);
}

static void
give_hold(struct form *f)
{
	give(f, f->hold, f->hold_n);
	f->hold_n = f->eol_n = 0;
}

static void
end_part(struct form *f)
{
	if (f->in_part)
		f->ev.end(f->arg);
	f->in_part = false;
	f->hold_n = f->eol_n = 0;
}

/* ---- headers of a part ----------------------------------------------------
 */

static void
header(struct form *f, char *line)
{
	char *value = strchr(line, ':'), *end;

	if (value == NULL)
		return; /* junk */
	end = value;
	while (end > line && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	value += 1 + strspn(value + 1, " \t");
	if (strcasecmp(line, "Content-Disposition") == 0 && f->name == NULL &&
	    f->filename == NULL) {
		f->name = form_parameter(value, "name");
		f->filename = file_name(value);
	} else if (strcasecmp(line, "Content-Type") == 0 && f->type == NULL) {
		f->type = xstrdup(value);
	}
}

static void
begin_part(struct form *f)
{
	struct form_part p = { f->name != NULL ? f->name : "",
		f->filename != NULL ? f->filename : "",
		f->type != NULL ? f->type : "" };

	if (++f->parts > PARTS_MAX) {
		fail(f, -413, "the form has over 256 parts");
		return;
	}
	f->in_part = true;
	/* A delimiter may follow at once: there is no body then. */
	f->state = f->lf_cr ? DATA : MATCH;
	f->skip_cr = f->lf_cr;
	f->ev.begin(&p, f->arg);
	forget_part(f);
}

static void
header_line(struct form *f)
{
	char *s = f->line, *end = s + f->line_n;

	if (*s == '\r' && f->line_n > 1) {
		f->lf_cr = true;
		s++;
	}
	while (end > s && (end[-1] == '\r' || end[-1] == ' '))
		end--;
	*end = '\0';
	f->line_n = 0;
	if (s == end) {
		begin_part(f);
	} else if (strncmp(s, f->delimiter, f->delimiter_n) == 0) {
		/* A delimiter again instead of headers: the same line twice,
		 * or the end. */
		if (strcmp(s + f->delimiter_n, "--") == 0)
			f->state = EPILOGUE;
		forget_part(f);
	} else {
		header(f, s);
	}
}

/* May the line that has ended be continued? Neither the empty one, behind
 * which data comes, nor a delimiter, which may be the last line of all. */
static bool
may_go_on(const struct form *f)
{
	const char *s = f->line + (f->line[0] == '\r');

	return s[strspn(s, " \r")] != '\0' &&
	    strncmp(s, f->delimiter, f->delimiter_n) != 0;
}

/* The octet behind a line: it goes on (a folded header), or it is over. */
static void
decide_line(struct form *f, char next)
{
	f->line_whole = false;
	if (next != ' ' && next != '\t')
		header_line(f);
	else
		while (f->line_n > 0 && f->line[f->line_n - 1] == '\r')
			f->line_n--;
}

static size_t
feed_headers(struct form *f, const char *p, size_t n)
{
	const char *nl = memchr(p, '\n', n);
	size_t used = nl != NULL ? (size_t)(nl - p) + 1 : n;
	size_t len = nl != NULL ? used - 1 : n;

	if (f->line_whole)
		decide_line(f, *p);
	f->headers_n += used;
	if (f->line_n + len > LINE_MAX_LEN || f->headers_n > HEADERS_MAX) {
		fail(f, -400, "a part of the form has too large headers");
		return used;
	}
	if (memchr(p, '\0', len) != NULL) {
		fail(f, -400, "a part of the form has a NUL in its headers");
		return used;
	}
	memcpy(f->line + f->line_n, p, len);
	f->line_n += len;
	if (nl != NULL) {
		f->line[f->line_n] = '\0';
		f->line_whole = may_go_on(f);
		if (!f->line_whole)
			header_line(f);
	}
	return used;
}

/* The first line that is not empty must be "--boundary". */
static size_t
feed_learn(struct form *f, char c)
{
	if (c != '\n') {
		if (f->line_n == sizeof(f->delimiter) - 1 || c == '\0')
			fail(f, -400, "the form has no boundary");
		else
			f->line[f->line_n++] = c;
		return 1;
	}
	while (f->line_n > 0 && isspace((unsigned char)f->line[f->line_n - 1]))
		f->line_n--;
	if (f->line_n == 0)
		return 1;
	if (f->line_n < 3 || f->line[0] != '-' || f->line[1] != '-') {
		fail(f, -400, "the form has no boundary");
		return 1;
	}
	set_boundary(f, f->line + 2, f->line_n - 2);
	f->line_n = f->headers_n = 0;
	f->state = HEADERS;
	return 1;
}

/* ---- data and delimiters --------------------------------------------------
 */

static size_t
feed_data(struct form *f, const char *p, size_t n)
{
	size_t run = 0;

	if (f->skip_cr) {
		f->skip_cr = false;
		if (*p == '\r')
			return 1;
	}
	while (run < n && p[run] != '\n' && p[run] != '\r')
		run++;
	give(f, p, run);
	if (run < n)
		f->state = LINE_END;
	return run;
}

/* Hold the last two octets of a run of CR and LF; earlier ones are data. */
static size_t
feed_line_end(struct form *f, char c)
{
	if (c == '\r' || c == '\n') {
		if (f->hold_n == 2) {
			give(f, f->hold, 1);
			f->hold[0] = f->hold[1];
			f->hold_n = 1;
		}
		f->hold[f->hold_n++] = c;
		return 1;
	}
	if (f->hold_n == 2 && memcmp(f->hold, "\r\n", 2) != 0 &&
	    memcmp(f->hold, "\n\r", 2) != 0) {
		give(f, f->hold, 1); /* two line ends: the last one counts */
		f->hold[0] = f->hold[1];
		f->hold_n = 1;
	}
	if (c == '-' && !(f->hold_n == 1 && f->hold[0] == '\r')) {
		f->eol_n = f->hold_n;
		f->state = MATCH;
		return 0;
	}
	give_hold(f);
	f->state = DATA;
	return 0;
}

static size_t
feed_match(struct form *f, char c)
{
	size_t at = f->hold_n - f->eol_n;

	if (c != f->delimiter[at]) {
		give_hold(f);
		f->state = DATA;
		return 0;
	}
	f->hold[f->hold_n++] = c;
	if (at + 1 == f->delimiter_n) {
		f->dashes = 0;
		f->state = TAIL;
	}
	return 1;
}

/* Behind the boundary: "--" ends the form, a line end begins a part, anything
 * else was data that looks like it. */
static size_t
feed_tail(struct form *f, char c)
{
	if (f->dashes == 0 && c == '\n') {
		end_part(f);
		f->line_n = f->headers_n = 0;
		f->lf_cr = false;
		f->state = HEADERS;
		return 1;
	}
	if (f->hold_n - f->eol_n - f->delimiter_n < PADDING_MAX + 2 &&
	    (c == '-' ||
		(f->dashes == 0 && (c == '\r' || c == ' ' || c == '\t')))) {
		f->hold[f->hold_n++] = c;
		if (c == '-' && ++f->dashes == 2) {
			end_part(f);
			f->state = EPILOGUE;
		}
		return 1;
	}
	give_hold(f);
	f->state = DATA;
	return 0;
}

int
form_feed(struct form *f, const char *p, size_t n, const char **why_out)
{
	while (n > 0 && f->status == 0) {
		size_t used = n;

		switch (f->state) {
		case LEARN:
			used = feed_learn(f, *p);
			break;
		case DATA:
			used = feed_data(f, p, n);
			break;
		case LINE_END:
			used = feed_line_end(f, *p);
			break;
		case MATCH:
			used = feed_match(f, *p);
			break;
		case TAIL:
			used = feed_tail(f, *p);
			break;
		case HEADERS:
			used = feed_headers(f, p, n);
			break;
		case EPILOGUE:
			break;
		}
		p += used;
		n -= used;
	}
	if (f->status != 0)
		*why_out = f->why;
	return f->status;
}

bool
form_complete(const struct form *f)
{
	return f->state == EPILOGUE && f->status == 0;
}
