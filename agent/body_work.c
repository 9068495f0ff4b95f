/*
 * body_work.c - what a thread does with bodies: open, read, hash
 *
 * A body that is all of an upload and fits into one piece is read, hashed and
 * compared at once; several such are taken together, so that handing them over
 * costs less for each. What is larger goes by pieces: the hash of the upload's
 * octets so far goes along, and the range's own digest.
 * Nothing of the pool's lock is seen here: a body belongs to the thread that
 * has it.
 */
#include "body_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "read_at.h"
#include "spool.h"
#include "xalloc.h"

struct body_hash {
	EVP_MD_CTX *sha;
	uint64_t at; /* octets of the upload it covers */
};

/* ---- digests ------------------------------------------------------------- */

static EVP_MD_CTX *
md_new(const EVP_MD *md)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	if (c == NULL || EVP_DigestInit_ex(c, md, NULL) != 1)
		abort(); /* out of memory, as in xalloc.c */
	return c;
}

/* A copy of from, or, if that is NULL, one that has seen nothing. */
static struct body_hash *
hash_new(const struct body_pool *p, const struct body_hash *from)
{
	struct body_hash *h = xcalloc(1, sizeof(*h));

	h->sha = md_new(p->sha256);
	if (from != NULL) {
		if (EVP_MD_CTX_copy_ex(h->sha, from->sha) != 1)
			abort(); /* out of memory, as in xalloc.c */
		h->at = from->at;
	}
	return h;
}

void
body_hash_free(struct body_hash *h)
{
	if (h == NULL)
		return;
	EVP_MD_CTX_free(h->sha);
	free(h);
}

uint64_t
body_hash_at(const struct body_hash *h)
{
	return h->at;
}

/* ---- reading ------------------------------------------------------------- */

static int
open_file(struct body *b)
{
	if (b->fd >= 0)
		return 0;
	return b->other ? -EIO : spool_open_body(b->pool->sp, &b->it, &b->fd);
}

/* ---- by pieces ----------------------------------------------------------- */

/* Back to the range's start, or to where hashing must begin. */
static void
begin(struct body *b)
{
	const struct body_pool *p = b->pool;
	struct body_hash *h = hash_new(p, b->base);

	body_hash_free(b->hash);
	b->hash = h;
	b->at = h->at;
	EVP_MD_CTX_free(b->range);
	b->range = b->kind == DIGEST_NONE
	    ? NULL
	    : md_new(b->kind == DIGEST_MD5 ? p->md5 : p->sha256);
}

/* At the end: does the whole fit? */
static int
finish(struct body *b)
{
	uint8_t whole[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	struct body_hash *h;

	if (b->range != NULL) {
		EVP_DigestFinal_ex(b->range, b->digest, &n);
		b->digest_n = n;
	}
	if (b->end != b->it.offer_size)
		return 1;
	/* the original may go on or be taken */
	h = hash_new(b->pool, b->hash);
	EVP_DigestFinal_ex(h->sha, whole, NULL);
	body_hash_free(h);
	return memcmp(whole, b->it.offer_sha256, 32) == 0 ? 1 : -EBADMSG;
}

static void
next_piece(struct body_work *w)
{
	struct body *b = w->b;
	bool ours = b->at >= b->offset;
	uint64_t left = (ours ? b->end : b->offset) - b->at;
	size_t n = left < BODY_PIECE ? (size_t)left : BODY_PIECE;
	char *data = xmalloc(n + 1);

	w->rc = open_file(b);
	if (w->rc == 0)
		w->rc = read_at(b->fd, data, n, (off_t)b->at);
	if (w->rc != 0) {
		free(data);
		return;
	}
	b->at += n;
	EVP_DigestUpdate(b->hash->sha, data, n);
	b->hash->at += n;
	if (ours && b->range != NULL)
		EVP_DigestUpdate(b->range, data, n);
	if (b->at == b->offset && b->offset > 0 &&
	    (b->base == NULL || b->base->at < b->offset)) {
		body_hash_free(b->base);
		b->base = hash_new(b->pool, b->hash);
	}
	if (!ours || b->hash_only || n == 0)
		free(data);
	else
		w->piece = (struct body_piece){ .data = data, .n = n };
	if (b->at == b->end)
		w->state = finish(b);
}

/* ---- whole bodies -------------------------------------------------------- */

static void
read_whole(struct body_work *w)
{
	struct body *b = w->b;
	size_t n = (size_t)b->it.offer_size;

	w->piece.n = n;
	if (w->piece.data == NULL)
		w->piece.data =
		    xmalloc(w->piece.size > 0 ? w->piece.size : n + 1);
	w->rc = open_file(b);
	if (w->rc == 0)
		w->rc = read_at(b->fd, w->piece.data, n, 0);
	if (b->fd >= 0 && !b->other) { /* a rewind opens it again */
		close(b->fd);
		b->fd = -1;
	}
}

static void
digest(const EVP_MD *md, const struct body_piece *p, uint8_t *out)
{
	if (EVP_Digest(p->data, p->n, out, NULL, md, NULL) != 1)
		abort(); /* out of memory, as in xalloc.c */
}

static void
check_whole(struct body_work *w)
{
	struct body *b = w->b;
	uint8_t sha[32];

	if (w->rc != 0)
		return;
	digest(b->pool->sha256, &w->piece, sha);
	w->state = memcmp(sha, b->it.offer_sha256, 32) == 0 ? 1 : -EBADMSG;
	if (b->kind == DIGEST_SHA256) {
		memcpy(b->digest, sha, b->digest_n = 32);
	} else if (b->kind == DIGEST_MD5 && w->state == 1) {
		digest(b->pool->md5, &w->piece, b->digest);
		b->digest_n = 16;
	}
}

void
body_work(struct body_work *w, size_t n)
{
	assert(n == 1 || (w[0].b->whole && n <= BODY_TOGETHER));
	if (!w[0].b->whole) {
		if (w[0].restart)
			begin(w[0].b);
		next_piece(&w[0]);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		read_whole(&w[i]);
		check_whole(&w[i]);
	}
	for (size_t i = 0; i < n; i++)
		if (w[i].rc != 0 || w[i].b->hash_only || w[i].piece.n == 0) {
			free(w[i].piece.data);
			w[i].piece = (struct body_piece){ 0 };
		}
}
