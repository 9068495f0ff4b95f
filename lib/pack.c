/*
 * pack.c - rows of an index: little-endian fields, a version, a CRC
 */
#include "pack.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "xalloc.h"

void
pack_start(struct pack *o, unsigned version)
{
	o->n = 0;
	o->size = 256;
	o->p = xmalloc(o->size);
	pack_int(o, version, 1);
}

void
pack_bytes(struct pack *o, const void *p, size_t n)
{
	if (o->size - o->n < n) {
		o->size = (o->n + n) * 2;
		o->p = xrealloc(o->p, o->size);
	}
	if (n > 0)
		memcpy(o->p + o->n, p, n);
	o->n += n;
}

void
pack_int(struct pack *o, uint64_t v, size_t n)
{
	v = htole64(v);
	pack_bytes(o, &v, n);
}

void
pack_text(struct pack *o, const void *p, size_t n)
{
	pack_int(o, n, 4);
	pack_bytes(o, p, n);
}

void
pack_seal(struct pack *o)
{
	pack_int(o, crc32c(o->p, o->n), 4);
}

void
pack_fini(struct pack *o)
{
	free(o->p);
	o->p = NULL;
}

bool
unpack_open(struct unpack *u, const void *p, size_t n, unsigned version)
{
	uint32_t crc;

	u->p = p;
	u->bad = n < 5;
	if (u->bad)
		return false;
	u->end = u->p + n - 4;
	memcpy(&crc, u->end, 4);
	u->bad =
	    le32toh(crc) != crc32c(p, n - 4) || unpack_int(u, 1) != version;
	return !u->bad;
}

uint64_t
unpack_int(struct unpack *u, size_t n)
{
	uint64_t v = 0;

	unpack_bytes(u, &v, n);
	return le64toh(v);
}

void
unpack_bytes(struct unpack *u, void *out, size_t n)
{
	if (u->bad || (size_t)(u->end - u->p) < n) {
		u->bad = true;
		memset(out, 0, n);
		return;
	}
	memcpy(out, u->p, n);
	u->p += n;
}

char *
unpack_text(struct unpack *u, size_t max, size_t *n_out)
{
	size_t n = (size_t)unpack_int(u, 4);
	char *s;

	if (u->bad || n > max || (size_t)(u->end - u->p) < n) {
		u->bad = true;
		return NULL;
	}
	s = xmalloc(n + 1);
	unpack_bytes(u, s, n);
	s[n] = '\0';
	if (n_out != NULL)
		*n_out = n;
	return s;
}

void
unpack_name(struct unpack *u, char *buf, size_t size)
{
	size_t n = (size_t)unpack_int(u, 4);

	buf[0] = '\0';
	if (u->bad || n >= size) {
		u->bad = true;
		return;
	}
	unpack_bytes(u, buf, n);
	buf[n] = '\0';
}

bool
unpack_done(const struct unpack *u)
{
	return !u->bad && u->p == u->end;
}
