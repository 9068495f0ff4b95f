/*
 * form.c - fuzz target: any octets as a form, and the files taken from it
 *
 * proxy/form.c and proxy/upload_form.c as they are; what stands for the spool
 * here writes down what it is given. The first octet seeds how the body is cut,
 * up to the first LF are the parameters of Content-Type, the rest is the body.
 * Cut anyhow, a body holds the same files; a name is harmless; and the same
 * octets wrapped as the one file of a proper form come out as they went in.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../proxy/form.h"
#include "../../proxy/upload_private.h"
#include "json.h"
#include "xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What a reading has seen; the files' octets with their names as text. */
struct reading {
	struct upload up;
	struct file file;
	char *text;
	size_t n, size;
	int rc;
	bool complete;
};

static void
add(struct reading *r, const char *p, size_t n)
{
	if (r->n + n > r->size) {
		r->size = 2 * (r->n + n);
		r->text = xrealloc(r->text, r->size);
	}
	memcpy(r->text + r->n, p, n);
	r->n += n;
}

/* ---- what upload.c does for the real ones ---------------------------------
 */

void
upload_stop(struct upload *up, int status, const char *error, const char *hint)
{
	assert(!up->refused && status == 413 && error != NULL && hint != NULL);
	up->refused = true;
}

void
upload_stop_full(struct upload *up, int rc, const char *why)
{
	abort(); /* there is always room here */
}

int
upload_file_add(struct upload *up, uint64_t size, const char *name,
    const char *type, const char **why_out)
{
	struct reading *r = (struct reading *)up;

	assert(!up->refused && size == UINT64_MAX);
	assert(name[0] != '\0' && strlen(name) <= 255);
	assert(strchr(name, '/') == NULL && json_utf8(name, strlen(name)));
	assert(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
	for (const char *s = name; *s != '\0'; s++)
		assert((unsigned char)*s >= 0x20 && *s != 0x7f);
	assert(++up->files_n <= FILES_MAX);
	up->into = &r->file;
	add(r, "\n[", 2);
	add(r, name, strlen(name));
	add(r, "]\n", 2);
	return 0;
}

void
upload_file_take(struct file *f, const char *p, size_t n)
{
	assert(n > 0);
	add((struct reading *)f->up, p, n);
}

/* ---------------------------------------------------------------------------
 */

/* In pieces of 1 to `most` octets, each in memory of its own; 0: in one. */
static void
feed(struct reading *r, struct form *f, const char *p, size_t n, unsigned most)
{
	unsigned seed = most * 2654435761u + 1;
	const char *why = NULL;

	while (n > 0 && r->rc == 0) {
		size_t k = n;
		char *piece;

		if (most > 0) {
			seed = seed * 1103515245u + 12345u;
			k = 1 + (seed >> 16) % most;
			k = k < n ? k : n;
		}
		piece = xmalloc(k);
		memcpy(piece, p, k);
		r->rc = form_feed(f, piece, k, &why);
		free(piece);
		assert(r->rc == 0 ? why == NULL : why != NULL);
		p += k;
		n -= k;
	}
	r->complete = form_complete(f);
}

static void
read_form(struct reading *r, const char *type, char *path_name, const char *p,
    size_t n, unsigned most)
{
	const char *why = NULL;
	struct form *f;

	memset(r, 0, sizeof(*r));
	r->up.who.name = path_name;
	r->file.up = &r->up;
	f = form_new(type, &upload_form_events, r, &why);
	if (f == NULL) {
		assert(why != NULL);
		r->rc = -1;
		return;
	}
	feed(r, f, p, n, most);
	form_free(f);
}

static void
compare(const char *type, char *name, const char *p, size_t n, unsigned most)
{
	struct reading a, b;

	read_form(&a, type, name, p, n, 0);
	read_form(&b, type, name, p, n, most);
	assert(a.rc == b.rc && a.complete == b.complete);
	assert(a.up.refused == b.up.refused);
	assert(a.n == b.n && (a.n == 0 || memcmp(a.text, b.text, a.n) == 0));
	free(a.text);
	free(b.text);
}

/* The body as the file of a form whose delimiter it does not hold. */
static void
wrap(char *name, const char *p, size_t n, unsigned most)
{
	static const char type[] = "multipart/form-data; boundary=\"b 0\"";
	static const char head[] = "--b 0\r\nContent-Disposition: form-data; "
				   "filename=f\r\n\r\n";
	static const char tail[] = "\r\n--b 0--\r\n";
	size_t head_n = sizeof(head) - 1, tail_n = sizeof(tail) - 1;
	struct reading r;
	char *form;

	if ((n >= 5 && memcmp(p, "--b 0", 5) == 0) ||
	    memmem(p, n, "\n--b 0", 6) != NULL ||
	    memmem(p, n, "\n\r--b 0", 7) != NULL)
		return;
	form = xmalloc(head_n + n + tail_n);
	memcpy(form, head, head_n);
	memcpy(form + head_n, p, n);
	memcpy(form + head_n + n, tail, tail_n);
	read_form(&r, type, name, form, head_n + n + tail_n, most);
	assert(r.rc == 0 && r.complete && r.up.files_n == 1);
	assert(r.n == 5 + n && memcmp(r.text, "\n[f]\n", 5) == 0);
	assert(n == 0 || memcmp(r.text + 5, p, n) == 0);
	free(r.text);
	free(form);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static char names[][8] = { "", "a.jpg" };
	const uint8_t *lf = memchr(data, '\n', n);
	char *type, *name;
	size_t type_n;
	unsigned most;

	if (lf == NULL || lf == data)
		return 0;
	most = 1 + data[0] % 32;
	name = names[data[0] >> 7];
	/* a header's value holds no NUL: the request parser refuses it */
	type_n = strnlen((const char *)data + 1, (size_t)(lf - data) - 1);
	type = xmalloc(19 + type_n + 1);
	memcpy(type, "multipart/form-data", 19);
	memcpy(type + 19, data + 1, type_n);
	type[19 + type_n] = '\0';
	n -= (size_t)(lf + 1 - data);
	compare(type, name, (const char *)lf + 1, n, most);
	wrap(name, (const char *)lf + 1, n, most);
	free(type);
	return 0;
}
