/*
 * index_state.c - the index's own row, and the spool's clock that stands in it
 */
#include "index_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "crc32c.h"
#include "db.h"
#include "url.h"

static uint32_t
state_crc(const struct index_state *st)
{
	size_t from = offsetof(struct index_state, accepted);

	return crc32c((const char *)st + from, sizeof(*st) - from);
}

int
index_state_read(MDB_txn *txn, const MDB_dbi *dbis, struct index_state *out)
{
	MDB_val k = { 5, "state" }, v;
	int rc = db_errno(mdb_get(txn, dbis[INDEX_META], &k, &v));

	if (rc != 0)
		return rc == -ENOENT ? -EBADMSG : rc;
	if (v.mv_size != sizeof(*out))
		return -EBADMSG;
	memcpy(out, v.mv_data, sizeof(*out));
	if (out->version != INDEX_STATE_VERSION || out->crc != state_crc(out))
		return -EBADMSG;
	return 0;
}

int
index_state_write(MDB_txn *txn, const MDB_dbi *dbis, struct index_state *st)
{
	MDB_val k = { 5, "state" }, v = { sizeof(*st), st };

	st->version = INDEX_STATE_VERSION;
	st->crc = state_crc(st);
	return db_errno(mdb_put(txn, dbis[INDEX_META], &k, &v, 0));
}

static void
read_boot_id(uint8_t boot[16])
{
	char text[64], hex[33];
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	size_t m = 0;

	if (fd >= 0)
		close(fd);
	memset(boot, 0, 16);
	for (ssize_t i = 0; i < n && m < 32; i++)
		if (text[i] != '-')
			hex[m++] = text[i];
	hex[m] = '\0';
	if (m == 32)
		hex_decode(hex, boot, 16);
}

void
index_clock_init(struct index_clock *c)
{
	read_boot_id(c->boot);
	c->opened_ms = clock_ms();
}

int64_t
index_clock_now(const struct index_clock *c, const struct index_state *st)
{
	int64_t since = memcmp(st->boot, c->boot, 16) == 0 ? st->clock_boot_ms
							   : c->opened_ms;

	return st->clock_ms + (clock_ms() - since);
}

void
index_clock_stamp(
    const struct index_clock *c, struct index_state *st, int64_t now)
{
	st->clock_ms = now;
	st->clock_boot_ms = clock_ms();
	memcpy(st->boot, c->boot, 16);
}
