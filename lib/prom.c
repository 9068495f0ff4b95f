/*
 * prom.c - metrics as Prometheus reads them (text format 0.0.4)
 */
#include "prom.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define PREFIX "edgehaul_"

void
prom_family(
    struct text *t, const char *name, const char *type, const char *help)
{
	text_str(t, "# HELP " PREFIX);
	text_str(t, name);
	text_char(t, ' ');
	text_str(t, help);
	text_str(t, "\n# TYPE " PREFIX);
	text_str(t, name);
	text_char(t, ' ');
	text_str(t, type);
	text_char(t, '\n');
}

/* Backslash, double quote and line feed are escaped, nothing else. */
static void
label_value(struct text *t, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '\\' || *s == '"' || *s == '\n')
			text_char(t, '\\');
		text_char(t, *s == '\n' ? 'n' : *s);
	}
}

static void
sample(struct text *t, const char *name, const char *number, va_list labels)
{
	const char *label;
	char before = '{';

	text_str(t, PREFIX);
	text_str(t, name);
	while ((label = va_arg(labels, const char *)) != NULL) {
		text_char(t, before);
		text_str(t, label);
		text_str(t, "=\"");
		label_value(t, va_arg(labels, const char *));
		text_char(t, '"');
		before = ',';
	}
	if (before == ',')
		text_char(t, '}');
	text_char(t, ' ');
	text_str(t, number);
	text_char(t, '\n');
}

void
prom_sample(struct text *t, const char *name, const char *number, ...)
{
	va_list labels;

	va_start(labels, number);
	sample(t, name, number, labels);
	va_end(labels);
}

void
prom_u64(struct text *t, const char *name, uint64_t v, ...)
{
	char number[21];
	va_list labels;

	snprintf(number, sizeof(number), "%" PRIu64, v);
	va_start(labels, v);
	sample(t, name, number, labels);
	va_end(labels);
}
