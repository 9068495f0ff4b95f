/*
 * queue.c - queue ls, queue show, why
 */
#include "ctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "json.h"
#include "xalloc.h"

static int64_t
number(const cJSON *o, const char *key, int64_t dflt)
{
	int64_t v = dflt;

	json_int(o, key, INT64_MIN, INT64_MAX, &v);
	return v;
}

static const char *
text(const cJSON *o, const char *key)
{
	const char *s = json_string(o, key);

	return s != NULL ? s : "";
}

/* next_try_in is in seconds; null: not planned. */
static const char *
next_try(struct small *b, const cJSON *u)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(u, "next_try_in");

	if (strcmp(text(u, "state"), "sending") == 0 || !cJSON_IsNumber(v))
		return "-";
	if (v->valuedouble < 1)
		return "now";
	return format_time(b, (int64_t)(v->valuedouble * 1000));
}

static void
add_upload(struct table *t, const cJSON *u)
{
	struct small size, tries, next;
	char *id = format_text(text(u, "id"), 0);
	char *device = format_text(text(u, "device"), 24);
	char *name = format_text(text(u, "name"), 40);
	char *state = format_text(text(u, "state"), 16);
	char *error = format_text(text(u, "last_error"), 60);
	const char *cells[] = { id, device, name,
		format_size(&size, number(u, "size", 0)), state,
		format_count(&tries, number(u, "attempts", 0)),
		next_try(&next, u), error };

	table_row(t, cells);
	free(id);
	free(device);
	free(name);
	free(state);
	free(error);
}

static void
print_page(const cJSON *uploads, bool first)
{
	static const char *const head[] = { "ID", "DEVICE", "NAME", "SIZE",
		"STATE", "TRIES", "NEXT TRY", "LAST ERROR" };
	struct table *t = table_new(8);
	const cJSON *u;

	if (first)
		table_row(t, head);
	cJSON_ArrayForEach(u, uploads) add_upload(t, u);
	table_print(t, 1u << 3 | 1u << 5 | 1u << 6, stdout);
	table_free(t);
}

static void
print_lines(const cJSON *uploads)
{
	const cJSON *u;

	cJSON_ArrayForEach(u, uploads)
	{
		char *s = json_line(u);

		puts(s);
		free(s);
	}
}

int
ctl_queue_ls(struct ctl *ctl)
{
	struct asker as = { ctl, NULL };
	int64_t after = 0, next;
	bool any = false;
	cJSON *uploads;
	int rc;

	do {
		rc = ask_page(&as, after, &uploads, &next);
		if (rc != 0)
			return rc;
		if (ctl->json)
			print_lines(uploads);
		else if (cJSON_GetArraySize(uploads) > 0)
			print_page(uploads, !any);
		any |= cJSON_GetArraySize(uploads) > 0;
		cJSON_Delete(uploads);
		if (fflush(stdout) != 0)
			return EXIT_IO;
		after = next;
	} while (next >= 0);
	if (!any && !ctl->json)
		puts("Nothing waits.");
	return EXIT_GOOD;
}

static int
unknown_id(const struct ctl *ctl)
{
	fprintf(stderr,
	    "edgehaul: no upload %s waits here. It was delivered, dropped, or "
	    "never taken; the logs know:\n"
	    "  journalctl -u edgehaul-proxy -u edgehaul-agent | grep id=%s\n",
	    ctl->arg, ctl->arg);
	return EXIT_DOWN;
}

/* "next_try_in" to "next try in". */
static void
print_field(const cJSON *v)
{
	char *name = format_text(v->string, 40), *value;

	for (char *c = name; *c != '\0'; c++)
		if (*c == '_')
			*c = ' ';
	if (cJSON_IsString(v)) {
		value = format_text(v->valuestring, 0);
	} else {
		char *line = json_line(v);

		value = format_text(line, 0);
		free(line);
	}
	if (!cJSON_IsNull(v) && *value != '\0')
		printf("%-14s %s\n", name, value);
	free(name);
	free(value);
}

int
ctl_queue_show(struct ctl *ctl)
{
	const cJSON *v;
	cJSON *u = NULL;
	int rc = ask_upload(ctl, ctl->arg, &u);

	if (rc != 0)
		return rc;
	if (u == NULL)
		return unknown_id(ctl);
	if (ctl->json) {
		char *s = json_line(u);

		puts(s);
		free(s);
	} else {
		cJSON_ArrayForEach(v, u) print_field(v);
	}
	cJSON_Delete(u);
	return EXIT_GOOD;
}

/* The second sentence: what happens next. */
static void
print_outlook(const cJSON *u)
{
	const char *state = text(u, "state");
	char *error = format_text(text(u, "last_error"), 0);
	int64_t tries = number(u, "attempts", 0);
	struct small b;

	if (strcmp(state, "sending") == 0)
		printf("It is being sent just now.\n");
	else if (strcmp(state, "held") == 0)
		printf("It is held: %s\n",
		    *error != '\0' ? error : "no reason given");
	else if (strcmp(state, "quarantined") == 0)
		printf("It was put aside and is not tried again: %s\n",
		    *error != '\0' ? error : "no reason given");
	else if (tries == 0)
		printf("It waits for its first try.\n");
	else
		printf("It was tried %" PRId64 " time%s and waits for the next "
		       "(%s).\n",
		    tries, tries == 1 ? "" : "s", next_try(&b, u));
	if (strcmp(state, "waiting") == 0 && *error != '\0')
		printf("Last answer: %s\n", error);
	free(error);
}

int
ctl_why(struct ctl *ctl)
{
	struct small size;
	char *device, *name;
	cJSON *u = NULL;
	int rc;

	if (ctl->json)
		return ctl_queue_show(ctl);
	rc = ask_upload(ctl, ctl->arg, &u);
	if (rc != 0)
		return rc;
	if (u == NULL)
		return unknown_id(ctl);
	device = format_text(text(u, "device"), 0);
	name = format_text(text(u, "name"), 0);
	printf("%s of %s (%s) is safe on this gateway's disk.\n", name, device,
	    format_size(&size, number(u, "size", 0)));
	print_outlook(u);
	free(device);
	free(name);
	cJSON_Delete(u);
	return EXIT_GOOD;
}
