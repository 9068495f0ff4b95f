/*
 * cache.c - fills a gateway's firmware cache by hand, for tests and benches
 *
 *	cache DIR key SECRET             make a key pair; prints the public key
 *	cache DIR manifest SECRET FILE   sign the manifest in FILE, put it
 *	cache DIR blob PRODUCT CHANNEL PATH FILE [FIRST COUNT]
 *	                                 add it; fill all slices, or those
 *	cache DIR row SHA256             prints filled, slices, bitmap in hex
 *	cache DIR meta NAME [VALUE]      prints or puts a small value
 *	cache DIR devices                a line of JSON each
 *
 * DIR is state_dir/cache; proxy and agent may have it open.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <openssl/sha.h>

#include "cache.h"
#include "manifest.h"
#include "minisign.h"
#include "slices.h"
#include "url.h"
#include "xalloc.h"

#define LIMIT ((uint64_t)1 << 40)

static void
die(const char *what, int rc)
{
	fprintf(stderr, "cache: %s: %s\n", what, strerror(rc < 0 ? -rc : rc));
	exit(1);
}

static char *
slurp(const char *path, size_t *n_out)
{
	FILE *f = fopen(path, "re");
	char *s = xmalloc(MANIFEST_MAX + 1);

	if (f == NULL)
		die(path, errno);
	*n_out = fread(s, 1, MANIFEST_MAX, f);
	s[*n_out] = '\0';
	fclose(f);
	return s;
}

static int
put_key(char **av)
{
	struct minisign_public pub;
	char *secret, *text;
	FILE *f;
	int rc = minisign_generate(NULL, &pub, &secret);

	if (rc != 0)
		die("key", rc);
	f = fopen(av[0], "we");
	if (f == NULL || fputs(secret, f) < 0 || fclose(f) != 0)
		die(av[0], errno);
	text = minisign_public_text(&pub);
	fputs(strchr(text, '\n') + 1, stdout);
	free(text);
	free(secret);
	return 0;
}

static int
put_manifest(struct cache *c, char **av)
{
	struct cache_manifest row = { 0 };
	struct minisign_secret key;
	struct manifest *m;
	char *why = NULL, *text, *comment;
	size_t n;
	int rc;

	text = slurp(av[0], &n);
	rc = minisign_secret_parse(text, NULL, &key);
	free(text);
	if (rc != 0)
		die(av[0], rc);
	row.json = slurp(av[1], &row.json_n);
	rc = manifest_parse(row.json, row.json_n, &m, &why);
	if (rc != 0)
		die(why, rc);
	comment = xasprintf("edgehaul product:%s channel:%s seq:%lld",
	    m->product, m->channel, (long long)m->seq);
	rc = minisign_sign(&key, row.json, row.json_n, comment, &row.signature);
	if (rc != 0)
		die("sign", rc);
	snprintf(row.product, sizeof(row.product), "%s", m->product);
	snprintf(row.channel, sizeof(row.channel), "%s", m->channel);
	row.seq = m->seq;
	row.checked = time(NULL);
	rc = cache_manifest_put(c, &row);
	if (rc != 0)
		die("manifest", rc);
	free(comment);
	free(row.json);
	free(row.signature);
	manifest_free(m);
	return 0;
}

/* Copy the slices from in to the blob, sync, set their bits. */
static void
fill(struct cache *c, const uint8_t sha256[32], uint64_t size, int in,
    size_t first, size_t count)
{
	static char data[FIRMWARE_SLICE];
	struct stat st;
	int out = cache_blob_open_file(c, sha256, true), rc;

	if (out < 0)
		die("open", out);
	rc = cache_slices_clear(c, sha256, first, count);
	if (rc != 0)
		die("clear", rc);
	for (size_t i = first; i < first + count; i++) {
		size_t n = slices_length(size, i);
		off_t at = (off_t)i * FIRMWARE_SLICE;

		if (pread(in, data, n, at) != (ssize_t)n ||
		    pwrite(out, data, n, at) != (ssize_t)n)
			die("copy", errno);
	}
	if (fdatasync(out) != 0 || fstat(out, &st) != 0)
		die("sync", errno);
	rc = cache_slices_set(c, sha256, first, count, &st.st_ctim);
	if (rc != 0)
		die("set", rc);
	close(out);
}

static int
put_blob(struct cache *c, int ac, char **av)
{
	struct cache_blob b = { .last_use = time(NULL) };
	struct slices_sums sums;
	int fd = open(av[3], O_RDONLY | O_CLOEXEC), rc;
	size_t first = 0, count;

	if (fd < 0)
		die(av[3], errno);
	rc = slices_of_file(fd, &sums);
	if (rc != 0)
		die(av[3], rc);
	count = slices_count(sums.size);
	memcpy(b.sha256, sums.sha256, 32);
	b.size = sums.size;
	SHA256(sums.list, sums.list_n, b.list_sha256);
	snprintf(b.product, sizeof(b.product), "%s", av[0]);
	snprintf(b.channel, sizeof(b.channel), "%s", av[1]);
	snprintf(b.path, sizeof(b.path), "%s", av[2]);
	rc = cache_blob_add(c, &b);
	if (rc < 0)
		die("add", rc);
	rc = cache_list_put(c, b.sha256, sums.list, sums.list_n);
	if (rc != 0)
		die("list", rc);
	if (ac > 5) {
		first = strtoul(av[4], NULL, 10);
		count = strtoul(av[5], NULL, 10);
	}
	if (count > 0)
		fill(c, b.sha256, b.size, fd, first, count);
	close(fd);
	free(sums.list);
	return 0;
}

static int
show_row(struct cache *c, char **av)
{
	struct cache_blob b;
	uint8_t sha256[32];
	char *hex;
	int rc = hex_decode(av[0], sha256, 32);

	if (rc == 0)
		rc = cache_blob_get(c, sha256, &b);
	if (rc != 0)
		die(av[0], rc);
	hex = xmalloc(2 * (b.slices / 8 + 1) + 1);
	hex_encode(b.bitmap, (b.slices + 7) / 8, hex);
	printf("%llu %zu %s\n", (unsigned long long)b.filled, b.slices, hex);
	free(hex);
	cache_blob_free(&b);
	return 0;
}

static int
meta(struct cache *c, int ac, char **av)
{
	char *value = NULL;
	int rc = ac > 1 ? cache_meta_put(c, av[0], av[1])
			: cache_meta_get(c, av[0], &value);

	if (rc != 0)
		die(av[0], rc);
	if (value != NULL)
		puts(value);
	free(value);
	return 0;
}

static int
on_device(const char *id, const char *json, void *arg)
{
	puts(json);
	return 0;
}

int
main(int argc, char **argv)
{
	struct cache *c;
	char *why = NULL, **av = argv + 3;
	int ac = argc - 3, rc;
	const char *what = argc > 2 ? argv[2] : "";

	if (strcmp(what, "key") == 0 && ac == 1)
		return put_key(av);
	if (argc < 3)
		die("usage: see the top of its source", EINVAL);
	rc = cache_open(argv[1], LIMIT, true, &c, &why);
	if (rc != 0)
		die(why != NULL ? why : argv[1], rc);
	if (strcmp(what, "manifest") == 0 && ac == 2)
		rc = put_manifest(c, av);
	else if (strcmp(what, "blob") == 0 && (ac == 4 || ac == 6))
		rc = put_blob(c, ac, av);
	else if (strcmp(what, "row") == 0 && ac == 1)
		rc = show_row(c, av);
	else if (strcmp(what, "meta") == 0 && ac >= 1)
		rc = meta(c, ac, av);
	else if (strcmp(what, "devices") == 0)
		rc = cache_device_each(c, NULL, on_device, NULL);
	else
		die(what, EINVAL);
	cache_close(c);
	return rc != 0;
}
