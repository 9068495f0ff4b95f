/*
 * seeds.c - inputs to begin with for the fuzz targets footer and row
 *
 * `seeds FOLDER` writes FOLDER/footer/N and FOLDER/row/N, in the format of the
 * code that it is built with.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "footer.h"
#include "row.h"
#include "xalloc.h"

static const char *top;

static void
save(const char *kind, unsigned number, const char *before, size_t before_n,
    const void *p, size_t n)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", top, kind);
	mkdir(path, 0777);
	snprintf(path, sizeof(path), "%s/%s/%u", top, kind, number);
	f = fopen(path, "wb");
	if (f == NULL || fwrite(before, 1, before_n, f) != before_n ||
	    fwrite(p, 1, n, f) != n || fclose(f) != 0) {
		perror(path);
		exit(1);
	}
}

static struct footer footers[] = {
	{ .device = "cam-1",
	    .name = "a.jpg",
	    .type = "image/jpeg",
	    .address = "192.0.2.7" },
	{ .size = 100,
	    .seq = 0xa3f17c,
	    .epoch = 0x1122334455667788,
	    .flags = FOOTER_F_BODY_SYNCED,
	    .received_wall_ms = 1767323045123,
	    .device = "T\xc3\xbcr \"1\"",
	    .name = "2026/01/02/a b.jpg",
	    .type = "",
	    .address = "2001:db8::1" },
	{ .size = 65000,
	    .seq = UINT64_MAX,
	    .received_wall_ms = -1,
	    .device = "",
	    .name = "\\u0000\n",
	    .type = "\x01",
	    .address = "" },
};

static void
write_footers(void)
{
	for (unsigned i = 0; i < sizeof(footers) / sizeof(footers[0]); i++) {
		size_t n, size = footers[i].size;
		char before[2] = { (char)(size & 255), (char)(size >> 8) };
		void *p = footer_encode(&footers[i], &n);

		save("footer", i, before, 2, p, n);
		free(p);
	}
}

static void
write_rows(void)
{
	static unsigned char buf[ROW_MAX];
	char empty[] = "", text[] = "cam-1", json[] = "{\"upload\":\"x\"}";
	struct row r = { 0 };
	unsigned i = 0;

	for (unsigned state = 0; state <= SPOOL_QUARANTINED; state++)
		for (unsigned how = 0; how < 4; how++) {
			struct spool_item *it = &r.item;

			it->state = (enum spool_state)state;
			it->size = 48211 * how;
			it->attempts = how;
			it->found = (how & 1) != 0;
			it->offered = (how & 2) != 0;
			it->offer_size = 100;
			it->device = it->name = it->type = it->address = text;
			it->last_error = how == 3 ? json : empty;
			it->storage = it->key = it->encoding =
			    it->offered ? text : empty;
			it->kept = it->offered ? json : empty;
			r.received_clock = 1000;
			r.due_clock = how * 1000;
			save("row", i++, "", 0, buf, row_encode(&r, buf));
		}
}

int
main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: seeds FOLDER\n");
		return 64;
	}
	top = argv[1];
	mkdir(top, 0777);
	write_footers();
	write_rows();
	return 0;
}
