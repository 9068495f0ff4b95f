/*
 * upload_form.c - the files in a form
 *
 * Each part that is a file is an upload of its own, below the device of the
 * request; fields, and the XML that tells of an event, are dropped. Nothing is
 * committed here: that waits for the form's last delimiter.
 */
#include "upload_private.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "form.h"
#include "json.h"
#include "xalloc.h"

#define NAME_MAX_N 255

/* Fields are dropped, and so is the XML that describes an event. */
static bool
is_file(const struct form_part *p)
{
	if (strcasestr(p->type, "xml") != NULL)
		return false;
	if (p->filename[0] != '\0')
		return true;
	return p->type[0] != '\0' &&
	    strncasecmp(p->type, "text/plain", 10) != 0;
}

/* Make it a name: what is no UTF-8 (cameras write in what their makers do) and
 * what is no letter becomes '_'. */
static void
tidy(char *s)
{
	size_t n;

	while (*s != '\0') {
		for (n = 1; n < 4 && !json_utf8(s, n) && s[n] != '\0';)
			n++;
		if (!json_utf8(s, n) || (unsigned char)*s < 0x20 || *s == 0x7f)
			*s++ = '_';
		else
			s += n;
	}
}

/* The last segment of what the camera calls the file, made harmless. */
static char *
part_name(const struct upload *up, const struct form_part *p)
{
	const char *s = p->filename[0] != '\0' ? p->filename
	    : up->who.name[0] != '\0'          ? up->who.name
					       : p->name;
	const char *slash = strrchr(s, '/'), *back = strrchr(s, '\\');
	char *name;
	size_t n;

	if (slash != NULL && slash > back)
		s = slash + 1;
	else if (back != NULL)
		s = back + 1;
	name = xstrdup(s);
	tidy(name);
	n = strlen(name);
	if (n > NAME_MAX_N) {
		for (n = NAME_MAX_N; !json_utf8(name, n);)
			n--;
		name[n] = '\0';
	}
	if (name[0] == '\0' || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0) {
		free(name);
		name = xstrdup("upload");
	}
	return name;
}

static void
on_part_begin(const struct form_part *p, void *arg)
{
	struct upload *up = arg;
	const char *why;
	char *name;
	int rc;

	up->into = NULL;
	if (up->refused || !is_file(p))
		return;
	if (up->files_n == FILES_MAX) {
		upload_stop(up, 413, "the form has over 32 files",
		    "send fewer files in one form");
		return;
	}
	name = part_name(up, p);
	rc = upload_file_add(up, UINT64_MAX, name, p->type, &why);
	free(name);
	if (rc != 0)
		upload_stop_full(up, rc, why);
}

static void
on_part_data(const char *p, size_t n, void *arg)
{
	struct upload *up = arg;

	if (!up->refused && up->into != NULL)
		upload_file_take(up->into, p, n);
}

static void
on_part_end(void *arg)
{
	struct upload *up = arg;

	up->into = NULL;
}

const struct form_events upload_form_events = {
	.begin = on_part_begin,
	.data = on_part_data,
	.end = on_part_end,
};
