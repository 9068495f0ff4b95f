/*
 * problem.c - what is wrong with a request, for people and programs
 */
#include "problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf_private.h"
#include "json.h"
#include "text.h"
#include "xalloc.h"

void
problem_fini(struct problem *p)
{
	free(p->title);
	free(p->detail);
	free(p->hint);
	cJSON_Delete(p->errors);
	memset(p, 0, sizeof(*p));
}

static char *
format(const char *fmt, va_list ap)
{
	char buf[512];

	vsnprintf(buf, sizeof(buf), fmt, ap);
	return xstrdup(buf);
}

void
problem_set(
    struct problem *p, int status, const char *hint, const char *fmt, ...)
{
	va_list ap;

	if (p->status != 0)
		return;
	p->status = status;
	p->hint = hint != NULL ? xstrdup(hint) : NULL;
	va_start(ap, fmt);
	p->title = format(fmt, ap);
	va_end(ap);
}

void
problem_field(struct problem *p, const char *pointer, const char *hint,
    const char *fmt, ...)
{
	cJSON *e = cJSON_CreateObject();
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = format(fmt, ap);
	va_end(ap);
	json_add_text(e, "pointer", pointer);
	json_add_text(e, "detail", s);
	if (hint != NULL)
		json_add_text(e, "hint", hint);
	if (p->errors == NULL)
		p->errors = cJSON_CreateArray();
	cJSON_AddItemToArray(p->errors, e);
	if (p->status == 0) {
		p->status = 422;
		p->title = xstrdup("The request has fields that are not right");
		p->detail = s;
		p->hint = hint != NULL ? xstrdup(hint) : NULL;
	} else {
		free(s);
	}
}

cJSON *
problem_json(const struct problem *p)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddStringToObject(o, "type", "about:blank");
	json_add_text(
	    o, "title", p->title != NULL ? p->title : "The request failed");
	json_add_int(o, "status", p->status);
	if (p->detail != NULL)
		json_add_text(o, "detail", p->detail);
	if (p->hint != NULL)
		json_add_text(o, "hint", p->hint);
	if (p->retry_after > 0)
		json_add_int(o, "retryAfter", p->retry_after);
	if (p->errors != NULL)
		cJSON_AddItemToObject(
		    o, "errors", cJSON_Duplicate(p->errors, true));
	return o;
}

const char *
problem_meant(const char *word, const char *const *names)
{
	struct conf_guess g;

	conf_guess_init(&g, word);
	for (; *names != NULL; names++)
		conf_guess_try(&g, *names);
	return g.match;
}

char *
problem_pointer(const char *object, const char *name)
{
	struct text t = { 0 };

	text_str(&t, object);
	text_char(&t, '/');
	for (size_t n = 0; *name != '\0' && n < 100; name++, n++) {
		if (*name == '~')
			text_str(&t, "~0");
		else if (*name == '/')
			text_str(&t, "~1");
		else
			text_char(&t, *name);
	}
	return text_steal(&t);
}

void
problem_unknown(const cJSON *doc, const char *const *names, struct problem *p)
{
	const cJSON *e;

	cJSON_ArrayForEach(e, doc)
	{
		size_t i = 0;
		const char *meant;
		char *pointer, *hint;

		while (names[i] != NULL && strcmp(names[i], e->string) != 0)
			i++;
		if (names[i] != NULL)
			continue;
		meant = problem_meant(e->string, names);
		hint =
		    meant != NULL ? xasprintf("Did you mean %s?", meant) : NULL;
		pointer = problem_pointer("", e->string);
		problem_field(p, pointer, hint, "There is no such field.");
		free(pointer);
		free(hint);
	}
}
