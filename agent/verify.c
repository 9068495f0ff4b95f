/*
 * verify.c - does what the store answered fit what was sent?
 *
 * Before the local copy goes, the store must have told a digest or size that
 * fits. A SHA-256 that the store has found itself is taken first, as that of
 * the body is known. An MD5 is made while the body is sent, unless the
 * storage's last answer had the better one: should it lack that now, or is an
 * object compared that was sent earlier, the file is read once more.
 */
#include "verify.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>

#include "agent.h"
#include "body.h"
#include "delivery.h"
#include "log.h"
#include "transfer.h"
#include "url.h"

bool
verify_digest_fits(
    const char *text, bool base64, const uint8_t *digest, size_t n)
{
	unsigned char want[64];
	size_t len;

	while (isspace((unsigned char)*text))
		text++;
	/* A weak tag; base64 may begin so as well. */
	if (strncmp(text, "W/\"", 3) == 0)
		text += 2;
	if (*text == '"')
		text++;
	len = strcspn(text, "\" \t");
	if (base64) {
		int out = EVP_EncodeBlock(want, digest, (int)n);

		return out > 0 && len == (size_t)out &&
		    memcmp(text, want, len) == 0;
	}
	if (len != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		char two[3] = { text[2 * i], text[2 * i + 1], '\0' };
		unsigned char octet;

		if (hex_decode(two, &octet, 1) != 0 || octet != digest[i])
			return false;
	}
	return true;
}

static void
copy_header(const struct xfer_result *r, const char *name, char out[256])
{
	const char *v = name != NULL ? xfer_header(r->xfer, name) : NULL;

	snprintf(out, 256, "%s", v != NULL && strlen(v) < 256 ? v : "");
}

enum recipe_digest
verify_along(const struct delivery *d)
{
	const struct recipe_verify *v = &d->recipe->verify;

	return v->sha256_header != NULL && d->st->tells_sha256 ? DIGEST_NONE
							       : v->digest;
}

void
verify_note(struct delivery *d, const struct xfer_result *r)
{
	const struct recipe_verify *v = &d->recipe->verify;
	const struct recipe_request *rq = &d->recipe->requests[d->at];

	copy_header(r, v->header, d->seen[0]);
	copy_header(r, v->size_header, d->seen[1]);
	copy_header(r, v->sha256_header, d->seen[2]);
	if (v->sha256_header != NULL)
		d->st->tells_sha256 = d->seen[2][0] != '\0';
	d->sent_n = 0;
	if (rq->body == BODY_FILE) {
		d->sent_n = body_digest(d->body, d->sent);
		if (d->sent_n == sizeof(d->md5) &&
		    rq->length == d->it.offer_size) {
			memcpy(d->md5, d->sent, sizeof(d->md5));
			d->have_md5 = true;
		}
	}
}

/* The file has been read once more. */
static void
on_hashed(void *arg)
{
	struct delivery *d = arg;
	uint8_t digest[32];
	int state = body_state(d->body);

	if (state == 0)
		return;
	if (state < 0) {
		delivery_unreadable(d, state);
		return;
	}
	body_digest(d->body, digest);
	memcpy(d->md5, digest, sizeof(d->md5));
	d->have_md5 = true;
	body_close(d->body);
	d->body = NULL;
	delivery_verdict(d);
}

/* The digest that the header should have; 0: it must be made first. */
static size_t
wanted(struct delivery *d, const uint8_t **out)
{
	if (d->sent_n > 0) {
		*out = d->sent;
		return d->sent_n;
	}
	if (d->recipe->verify.digest == DIGEST_SHA256) {
		*out = d->it.offer_sha256;
		return 32;
	}
	*out = d->md5;
	return d->have_md5 ? 16 : 0;
}

static enum verify_verdict
check_size(struct delivery *d, char *why, size_t n)
{
	const char *name = d->recipe->verify.size_header;
	char *end;
	unsigned long long size;

	if (name == NULL)
		return VERIFY_FITS;
	if (!isdigit((unsigned char)d->seen[1][0])) {
		snprintf(why, n, "the store does not tell the size");
		return VERIFY_UNKNOWN;
	}
	size = strtoull(d->seen[1], &end, 10);
	if (*end == '\0' && size == d->it.offer_size)
		return VERIFY_FITS;
	snprintf(why, n, "the store has %llu octets under this key, not %llu",
	    size, (unsigned long long)d->it.offer_size);
	return VERIFY_DIFFERS;
}

static enum verify_verdict
differs(const char *header, char *why, size_t n)
{
	snprintf(why, n,
	    "the store's %s does not fit: it has other octets under this key",
	    header);
	return VERIFY_DIFFERS;
}

/* By the header that the recipe names for any store. */
static enum verify_verdict
check_digest(struct delivery *d, char *why, size_t n)
{
	const struct recipe_verify *v = &d->recipe->verify;
	struct body_range range = { .length = d->it.offer_size,
		.digest = DIGEST_MD5,
		.hash_only = true,
		.file = delivery_file(d) };
	const uint8_t *digest;
	size_t digest_n;

	if (d->seen[0][0] == '\0') {
		snprintf(why, n, "the store's answer lacks %s to compare",
		    v->header);
		return VERIFY_UNKNOWN;
	}
	digest_n = wanted(d, &digest);
	if (digest_n == 0 && d->lost) {
		/* its octets are not at hand; the key and the size are ours */
		snprintf(why, n, "the store tells no size");
		return v->size_header != NULL ? VERIFY_FITS : VERIFY_UNKNOWN;
	}
	if (digest_n == 0) {
		d->body =
		    body_open(d->agent->bodies, &d->it, &range, on_hashed, d);
		return VERIFY_LATER;
	}
	if (verify_digest_fits(d->seen[0], v->base64, digest, digest_n))
		return VERIFY_FITS;
	return differs(v->header, why, n);
}

enum verify_verdict
verify_answer(struct delivery *d, char *why, size_t n)
{
	const struct recipe_verify *v = &d->recipe->verify;
	enum verify_verdict rc = check_size(d, why, n);

	if (d->ask == ASK_LOOK && v->header == NULL && v->size_header == NULL) {
		snprintf(why, n, "the signer does not say what to compare");
		return VERIFY_UNKNOWN;
	}
	if (rc != VERIFY_FITS)
		return rc;
	if (v->sha256_header != NULL && d->seen[2][0] != '\0')
		return verify_digest_fits(d->seen[2], v->sha256_base64,
			   d->it.offer_sha256, sizeof(d->it.offer_sha256))
		    ? VERIFY_FITS
		    : differs(v->sha256_header, why, n);
	return v->header == NULL ? VERIFY_FITS : check_digest(d, why, n);
}
