/*
 * fill.c - a spool with many waiting uploads, made without uploading them
 *
 * fill SPOOL N SIZE index|files : N item files of SIZE octets with footers, as
 * edgehaul-proxy leaves them; with "index" also their rows, with "files" no
 * index at all, so that the next start makes one. SPOOL must not be open.
 * Built by `make contrib/bench/fill`.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/evp.h>
#include <event2/event.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "clock.h"
#include "footer.h"
#include "spool_internal.h"
#include "xalloc.h"

#define BATCH 10000

struct filling {
	struct layout l;
	char *body;
	size_t size;
	uint64_t next, end; /* of the batch */
	uint8_t sha256[32];
	char device[16], name[32];
};

static void
describe(struct filling *f, uint64_t seq)
{
	snprintf(f->device, sizeof(f->device), "cam-%u", (unsigned)(seq % 50));
	snprintf(f->name, sizeof(f->name), "image-%llu.jpg",
	    (unsigned long long)seq);
	memcpy(f->body, &seq, sizeof(seq)); /* no two are the same */
	EVP_Digest(f->body, f->size, f->sha256, NULL, EVP_sha256(), NULL);
}

static int
write_file(struct filling *f, uint64_t seq)
{
	struct footer foot = { .size = f->size,
		.seq = seq,
		.epoch = f->l.epoch,
		.received_wall_ms = clock_wall_ms(),
		.device = f->device,
		.name = f->name,
		.type = (char[]){ "image/jpeg" },
		.address = (char[]){ "127.0.0.1" } };
	struct iovec v[2] = { { f->body, f->size } };
	char name[31], folder[14];
	int fd, rc = 0;

	describe(f, seq);
	memcpy(foot.sha256, f->sha256, 32);
	v[1].iov_base = footer_encode(&foot, &v[1].iov_len);
	layout_dir_name(seq, folder);
	if (mkdirat(f->l.item, folder, 02770) != 0 && errno != EEXIST)
		rc = -errno;
	layout_item_name(seq, name);
	fd = openat(f->l.item, name, O_WRONLY | O_CREAT | O_EXCL, 0660);
	if (fd < 0 ||
	    writev(fd, v, 2) != (ssize_t)(v[0].iov_len + v[1].iov_len))
		rc = -errno;
	if (fd >= 0)
		close(fd);
	free(v[1].iov_base);
	return rc;
}

static int
add_rows(struct index_txn *t, void *arg)
{
	struct filling *f = arg;
	int rc = 0;

	for (; rc == 0 && f->next < f->end; f->next++) {
		struct spool_item it = { .seq = f->next,
			.size = f->size,
			.received_wall_ms = clock_wall_ms(),
			.device = f->device,
			.name = f->name };
		char none[] = "";

		it.type = it.address = it.last_error = it.storage = none;
		it.key = it.encoding = it.kept = none;
		describe(f, f->next);
		memcpy(it.sha256, f->sha256, 32);
		rc = spool_row_add(t, &it, false);
		t->st->upto = f->next;
	}
	return rc;
}

static int
fill_index(struct filling *f, uint64_t n)
{
	char *path = xasprintf("%s/index", f->l.dir);
	struct event_base *base = event_base_new();
	struct index *ix = NULL;
	int rc = index_create(path, f->l.index_size, 0, 0);

	if (rc == 0)
		rc = index_open(base, path, f->l.index_size, &ix);
	for (f->next = 1; rc == 0 && f->next <= n;) {
		f->end = n + 1 - f->next < BATCH ? n + 1 : f->next + BATCH;
		rc = index_update_now(ix, add_rows, f);
	}
	index_close(ix);
	event_base_free(base);
	free(path);
	return rc;
}

int
main(int argc, char **argv)
{
	struct filling f = { .next = 1 };
	uint64_t n;
	char *why = NULL;
	int rc;

	if (argc != 5 || atol(argv[3]) < 8) {
		fputs("fill SPOOL N SIZE index|files\n", stderr);
		return 64;
	}
	n = strtoull(argv[2], NULL, 10);
	f.size = (size_t)atol(argv[3]);
	f.body = xmalloc(f.size);
	for (size_t i = 0; i < f.size; i++)
		f.body[i] = (char)random();
	rc = layout_open(
	    argv[1], true, "writer", n * 700 + (64 << 20), &f.l, &why);
	for (uint64_t seq = 1; rc == 0 && seq <= n; seq++)
		rc = write_file(&f, seq);
	if (rc == 0 && strcmp(argv[4], "index") == 0)
		rc = fill_index(&f, n);
	if (rc != 0)
		fprintf(stderr, "fill: %s\n", why != NULL ? why : strerror(-rc));
	layout_close(&f.l);
	free(f.body);
	return rc == 0 ? 0 : 1;
}
