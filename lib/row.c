/*
 * row.c - a spool item as a row of the index
 */
#include "row.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "xalloc.h"

#define VERSION 1
#define F_OFFERED 1
#define F_FOUND 2
#define TEXTS 9

static void
texts_of(struct spool_item *it, char **out[TEXTS])
{
	out[0] = &it->device;
	out[1] = &it->name;
	out[2] = &it->type;
	out[3] = &it->address;
	out[4] = &it->last_error;
	out[5] = &it->storage;
	out[6] = &it->key;
	out[7] = &it->encoding;
	out[8] = &it->kept;
}

static unsigned char *
put(unsigned char *o, uint64_t v, size_t n)
{
	v = htole64(v);
	memcpy(o, &v, n);
	return o + n;
}

size_t
row_encode(const struct row *r, unsigned char *buf)
{
	struct spool_item *it = (struct spool_item *)&r->item;
	unsigned char *o = buf;
	char **texts[TEXTS];

	texts_of(it, texts);
	*o++ = VERSION;
	*o++ = (unsigned char)it->state;
	*o++ = (unsigned char)((it->offered ? F_OFFERED : 0) |
	    (it->found ? F_FOUND : 0));
	*o++ = 0;
	o = put(o, it->attempts, 4);
	o = put(o, it->size, 8);
	o = put(o, (uint64_t)it->received_wall_ms, 8);
	o = put(o, (uint64_t)r->received_clock, 8);
	o = put(o, (uint64_t)r->due_clock, 8);
	memcpy(o, it->sha256, 32);
	o += 32;
	if (it->offered) {
		o = put(o, it->offer_size, 8);
		memcpy(o, it->offer_sha256, 32);
		o += 32;
	}
	for (int i = 0; i < TEXTS; i++) {
		const char *s = *texts[i] != NULL ? *texts[i] : "";
		size_t n = strlen(s);
		size_t room =
		    (size_t)(buf + ROW_MAX - 4 - o) - 2 * (size_t)(TEXTS - i);

		if (n > ROW_TEXT_MAX)
			n = ROW_TEXT_MAX;
		if (n > room)
			n = room;
		o = put(o, n, 2);
		memcpy(o, s, n);
		o += n;
	}
	return (size_t)(put(o, crc32c(buf, (size_t)(o - buf)), 4) - buf);
}

size_t
row_size(const struct spool_item *it)
{
	char **texts[TEXTS];
	size_t n = 8 + 10 + 4 + 4 + 4 * 8 + 32 + (it->offered ? 40 : 0) + 4;

	texts_of((struct spool_item *)it, texts);
	for (int i = 0; i < TEXTS; i++)
		n += 2 + (*texts[i] != NULL ? strlen(*texts[i]) : 0);
	/* An LMDB page of 4 KiB holds whole rows only. */
	return n + n / 4;
}

struct reader {
	const unsigned char *p, *end;
	bool bad;
};

static uint64_t
get(struct reader *rd, size_t n)
{
	uint64_t v = 0;

	if ((size_t)(rd->end - rd->p) < n) {
		rd->bad = true;
		return 0;
	}
	memcpy(&v, rd->p, n);
	rd->p += n;
	return le64toh(v);
}

static void
get_bytes(struct reader *rd, void *out, size_t n)
{
	if ((size_t)(rd->end - rd->p) < n) {
		rd->bad = true;
		return;
	}
	memcpy(out, rd->p, n);
	rd->p += n;
}

static char *
get_text(struct reader *rd)
{
	size_t n = (size_t)get(rd, 2);

	if (rd->bad || (size_t)(rd->end - rd->p) < n || n > ROW_TEXT_MAX ||
	    memchr(rd->p, '\0', n) != NULL) {
		rd->bad = true;
		return xstrdup("");
	}
	rd->p += n;
	return xstrndup((const char *)rd->p - n, n);
}

int
row_decode(const void *p, size_t n, struct row *r_out)
{
	struct reader rd = { p, p, false };
	struct row r = { 0 };
	unsigned version, state, flags;
	char **texts[TEXTS];
	uint32_t crc;

	if (n < 5 || n > ROW_MAX)
		return -EBADMSG;
	rd.end += n - 4;
	memcpy(&crc, rd.end, 4);
	if (crc32c(p, n - 4) != le32toh(crc))
		return -EBADMSG;
	version = (unsigned)get(&rd, 1);
	state = (unsigned)get(&rd, 1);
	flags = (unsigned)get(&rd, 1);
	get(&rd, 1);
	if (version != VERSION || state > SPOOL_QUARANTINED)
		return -EBADMSG;
	r.item.state = (enum spool_state)state;
	r.item.offered = (flags & F_OFFERED) != 0;
	r.item.found = (flags & F_FOUND) != 0;
	r.item.attempts = (unsigned)get(&rd, 4);
	r.item.size = get(&rd, 8);
	r.item.received_wall_ms = (int64_t)get(&rd, 8);
	r.received_clock = (int64_t)get(&rd, 8);
	r.due_clock = (int64_t)get(&rd, 8);
	get_bytes(&rd, r.item.sha256, 32);
	if (r.item.offered) {
		r.item.offer_size = get(&rd, 8);
		get_bytes(&rd, r.item.offer_sha256, 32);
	}
	texts_of(&r.item, texts);
	for (int i = 0; i < TEXTS; i++)
		*texts[i] = get_text(&rd);
	if (rd.bad || rd.p != rd.end || r.due_clock < 0) {
		spool_item_fini(&r.item);
		return -EBADMSG;
	}
	*r_out = r;
	return 0;
}

int
row_state(const void *p, size_t n)
{
	return n < 2 ? -1 : ((const unsigned char *)p)[1];
}
