/*
 * dialect.c - what update clients tell of themselves in headers of their own
 */
#include "dialect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_server.h"
#include "manifest.h"
#include "url.h"

/* x-ESP8266-STA-MAC and its like; NULL: neither chip says it, or nothing. */
static const char *
esp(struct http_request *rq, const char *what)
{
	static const char *const chips[] = { "x-ESP8266-", "x-ESP32-" };
	char name[64];

	for (int i = 0; i < 2; i++) {
		const char *v;

		snprintf(name, sizeof(name), "%s%s", chips[i], what);
		v = http_request_header(rq, name);
		if (v != NULL && *v != '\0')
			return v;
	}
	return NULL;
}

static void
read_esp(struct http_request *rq, struct dialect *d)
{
	const char *md5 = esp(rq, "sketch-md5"), *mode = esp(rq, "mode");
	const char *space = esp(rq, "free-space");
	char *end;

	d->kind = DIALECT_ESP;
	d->id = esp(rq, "STA-MAC");
	d->version = esp(rq, "version");
	if (mode != NULL && strcmp(mode, "sketch") != 0) {
		/* a file system: hash and space are those of the sketch */
		d->component = mode;
		return;
	}
	d->has_md5 = md5 != NULL && strlen(md5) == 32 &&
	    hex_decode(md5, d->md5, 16) == 0;
	if (space == NULL || *space < '0' || *space > '9')
		return;
	errno = 0;
	d->free = strtoull(space, &end, 10);
	if (*end != '\0' || errno != 0)
		d->free = UINT64_MAX;
}

void
dialect_read(struct http_request *rq, struct dialect *d_out)
{
	struct dialect d = { .free = UINT64_MAX };

	if (esp(rq, "STA-MAC") != NULL) {
		read_esp(rq, &d);
	} else if (http_request_header(rq, "RAUC-System-Version") != NULL ||
	    http_request_header(rq, "RAUC-Serial") != NULL) {
		d.kind = DIALECT_RAUC;
		d.id = http_request_header(rq, "RAUC-Serial");
		d.hw = http_request_header(rq, "RAUC-Variant");
		d.version = http_request_header(rq, "RAUC-System-Version");
	}
	*d_out = d;
}

const char *
dialect_version(const struct dialect *d, const struct manifest *m)
{
	if (d->version != NULL || !d->has_md5 || m == NULL)
		return d->version;
	for (size_t i = 0; i < m->releases_n; i++)
		for (size_t k = 0; k < m->releases[i].files_n; k++) {
			const struct manifest_file *f =
			    &m->releases[i].files[k];

			if (f->has_md5 && memcmp(f->md5, d->md5, 16) == 0)
				return m->releases[i].version;
		}
	return NULL;
}
