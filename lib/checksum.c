/*
 * checksum.c - digests that a sender gives with a body
 *
 * What must stay true: what was announced in a kind that we know is compared,
 * each of them, and none counts as right for lack of a library's help.
 */
#include "checksum.h"

#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>

#include "xalloc.h"

static const struct {
	size_t size;
	const EVP_MD *(*md)(void);
} kinds[CHECKSUM_KINDS] = {
	[CHECKSUM_SHA256] = { 32, EVP_sha256 },
	[CHECKSUM_SHA512] = { 64, EVP_sha512 },
	[CHECKSUM_SHA1] = { 20, EVP_sha1 },
	[CHECKSUM_MD5] = { 16, EVP_md5 },
};

struct checksum_run {
	struct checksums want;
	EVP_MD_CTX *md[CHECKSUM_KINDS];
	bool failed;
};

size_t
checksum_size(enum checksum_kind kind)
{
	return kinds[kind].size;
}

bool
checksum_differs(
    const struct checksums *want, enum checksum_kind kind, const uint8_t *sum)
{
	return (want->has & 1U << kind) != 0 &&
	    memcmp(want->sum[kind], sum, kinds[kind].size) != 0;
}

struct checksum_run *
checksum_begin(const struct checksums *want, unsigned mask)
{
	struct checksum_run *r;

	if ((want->has & mask) == 0)
		return NULL;
	r = xcalloc(1, sizeof(*r));
	r->want = *want;
	r->want.has &= mask;
	for (int i = 0; i < CHECKSUM_KINDS; i++) {
		if ((r->want.has & 1U << i) == 0)
			continue;
		r->md[i] = EVP_MD_CTX_new();
		if (r->md[i] == NULL ||
		    EVP_DigestInit_ex(r->md[i], kinds[i].md(), NULL) != 1)
			r->failed = true;
	}
	return r;
}

void
checksum_update(struct checksum_run *r, const void *p, size_t n)
{
	for (int i = 0; r != NULL && !r->failed && i < CHECKSUM_KINDS; i++)
		if (r->md[i] != NULL && EVP_DigestUpdate(r->md[i], p, n) != 1)
			r->failed = true;
}

bool
checksum_fits(struct checksum_run *r)
{
	uint8_t sum[EVP_MAX_MD_SIZE];

	if (r == NULL)
		return true;
	for (int i = 0; !r->failed && i < CHECKSUM_KINDS; i++)
		if (r->md[i] != NULL &&
		    (EVP_DigestFinal_ex(r->md[i], sum, NULL) != 1 ||
			checksum_differs(&r->want, (enum checksum_kind)i, sum)))
			r->failed = true;
	return !r->failed;
}

void
checksum_free(struct checksum_run *r)
{
	if (r == NULL)
		return;
	for (int i = 0; i < CHECKSUM_KINDS; i++)
		EVP_MD_CTX_free(r->md[i]);
	free(r);
}
