/*
 * slices.c - the list of a file's slice hashes
 */
#include "slices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/evp.h>

#include "digest.h"
#include "manifest.h"
#include "xalloc.h"

size_t
slices_count(uint64_t size)
{
	return (size_t)((size + FIRMWARE_SLICE - 1) / FIRMWARE_SLICE);
}

size_t
slices_length(uint64_t size, size_t i)
{
	uint64_t from = (uint64_t)i * FIRMWARE_SLICE;

	if (from >= size)
		return 0;
	return size - from < FIRMWARE_SLICE ? (size_t)(size - from)
					    : FIRMWARE_SLICE;
}

bool
slices_list_ok(
    const uint8_t *list, size_t n, uint64_t size, const uint8_t sha256[32])
{
	uint8_t md[32];

	if (n != slices_count(size) * 32)
		return false;
	digest_sha256(list, n, md);
	return memcmp(md, sha256, sizeof(md)) == 0;
}

bool
slices_fit(const uint8_t *list, size_t i, const void *data, size_t n)
{
	uint8_t md[32];

	digest_sha256(data, n, md);
	return memcmp(md, list + 32 * i, sizeof(md)) == 0;
}

/* Read a whole slice, less only at the end of the file. */
static ssize_t
read_slice(int fd, uint8_t *buf, uint64_t at)
{
	size_t have = 0;

	while (have < FIRMWARE_SLICE) {
		ssize_t n = pread(
		    fd, buf + have, FIRMWARE_SLICE - have, (off_t)(at + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

struct hashing {
	EVP_MD_CTX *whole[3];
	uint8_t *buf;
};

static bool
hashing_init(struct hashing *h)
{
	const EVP_MD *kinds[3] = { EVP_sha256(), EVP_sha1(), EVP_md5() };
	bool ok = true;

	h->buf = xmalloc(FIRMWARE_SLICE);
	for (int i = 0; i < 3; i++) {
		h->whole[i] = EVP_MD_CTX_new();
		ok = ok && h->whole[i] != NULL &&
		    EVP_DigestInit_ex(h->whole[i], kinds[i], NULL) == 1;
	}
	return ok;
}

static void
hashing_fini(struct hashing *h)
{
	for (int i = 0; i < 3; i++)
		EVP_MD_CTX_free(h->whole[i]);
	free(h->buf);
}

/* One slice into all sums; its length, 0 at the end, or -errno. */
static ssize_t
add_slice(struct hashing *h, int fd, struct slices_sums *s)
{
	ssize_t n = read_slice(fd, h->buf, s->size);

	if (n <= 0)
		return n;
	for (int i = 0; i < 3; i++)
		if (EVP_DigestUpdate(h->whole[i], h->buf, (size_t)n) != 1)
			return -EIO;
	if (s->size >= FIRMWARE_SIZE_MAX)
		return -EFBIG;
	if (s->list_n % 4096 == 0)
		s->list = xrealloc(s->list, s->list_n + 4096);
	digest_sha256(h->buf, (size_t)n, s->list + s->list_n);
	s->list_n += 32;
	s->size += (uint64_t)n;
	return n;
}

int
slices_of_file(int fd, struct slices_sums *out)
{
	struct slices_sums s = { 0 };
	struct hashing h;
	ssize_t n = hashing_init(&h) ? 1 : -EIO;

	while (n > 0)
		n = add_slice(&h, fd, &s);
	if (n == 0 &&
	    (EVP_DigestFinal_ex(h.whole[0], s.sha256, NULL) != 1 ||
		EVP_DigestFinal_ex(h.whole[1], s.sha1, NULL) != 1 ||
		EVP_DigestFinal_ex(h.whole[2], s.md5, NULL) != 1))
		n = -EIO;
	hashing_fini(&h);
	if (n < 0) {
		free(s.list);
		return (int)n;
	}
	*out = s;
	return 0;
}
