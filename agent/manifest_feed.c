/*
 * manifest_feed.c - products and channels, and whose manifests they take
 *
 * What must stay true: a manifest that comes out of feed_verify() was signed by
 * one of the publisher's keys for this very product and channel; nothing else
 * becomes a feed's.
 */
#include "firmware.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "xalloc.h"

/* ---- feeds --------------------------------------------------------------- */

struct fw_feed *
feed_find(struct firmware *f, const char *product, const char *channel)
{
	struct fw_feed *fd;

	TAILQ_FOREACH(fd, &f->feeds, link)
	if (strcmp(fd->product, product) == 0 &&
	    strcmp(fd->channel, channel) == 0)
		return fd;
	return NULL;
}

struct fw_feed *
feed_get(struct firmware *f, const char *product, const char *channel)
{
	struct fw_feed *fd = feed_find(f, product, channel);
	size_t n = 0;

	if (fd != NULL)
		return fd;
	TAILQ_FOREACH(fd, &f->feeds, link)
	n++;
	if (n >= FW_FEEDS_MAX || !firmware_product_ok(product) ||
	    !firmware_product_ok(channel))
		return NULL;
	fd = xcalloc(1, sizeof(*fd));
	fd->fw = f;
	strcpy(fd->product, product);
	strcpy(fd->channel, channel);
	TAILQ_INSERT_TAIL(&f->feeds, fd, link);
	return fd;
}

void
feed_free(struct fw_feed *fd)
{
	TAILQ_REMOVE(&fd->fw->feeds, fd, link);
	manifest_get_leave(fd->get);
	manifest_free(fd->m);
	free(fd->storage);
	free(fd->json);
	free(fd->signature);
	free(fd);
}

void
feed_distrust(struct fw_feed *fd)
{
	manifest_get_leave(fd->get);
	fd->get = NULL;
	manifest_free(fd->m);
	fd->m = NULL;
	fd->etag[0] = '\0';
}

bool
feeds_revoked(
    const struct firmware *f, const char *product, const uint8_t sha256[32])
{
	const struct fw_feed *fd;

	TAILQ_FOREACH(fd, &f->feeds, link)
	if (fd->m != NULL && strcmp(fd->product, product) == 0 &&
	    manifest_revoked(fd->m, sha256))
		return true;
	return false;
}

const struct manifest_file *
feeds_find(
    struct firmware *f, const uint8_t sha256[32], const struct fw_feed **fd_out)
{
	const struct manifest_file *mf, *best = NULL;
	struct fw_feed *fd;
	const struct manifest_release *rel;

	TAILQ_FOREACH(fd, &f->feeds, link)
	{
		if (fd->m == NULL || !fd->wanted)
			continue;
		mf = manifest_find(fd->m, sha256, &rel);
		if (mf == NULL || (best != NULL && rel->revoked) ||
		    feeds_revoked(f, fd->product, sha256))
			continue;
		best = mf;
		if (fd_out != NULL)
			*fd_out = fd;
		if (!rel->revoked)
			break;
	}
	return best;
}

/* ---- is it ours? --------------------------------------------------------- */

/* Words of the trusted comment, where it has them, must be the manifest's. */
static bool
comment_fits(const char *comment, const struct manifest *m)
{
	char *mine, *copy = xstrdup(comment), *save = NULL;
	bool ok = true;

	for (char *s = strtok_r(copy, " ", &save); s != NULL;
	     s = strtok_r(NULL, " ", &save)) {
		mine = strncmp(s, "product:", 8) == 0
		    ? xasprintf("product:%s", m->product)
		    : strncmp(s, "channel:", 8) == 0
		    ? xasprintf("channel:%s", m->channel)
		    : strncmp(s, "seq:", 4) == 0
		    ? xasprintf("seq:%" PRId64, m->seq)
		    : NULL;
		ok = ok && (mine == NULL || strcmp(mine, s) == 0);
		free(mine);
	}
	free(copy);
	return ok;
}

int
feed_verify(struct firmware *f, const char *product, const char *channel,
    const char *json, size_t json_n, const char *signature,
    struct manifest **m_out, char *why, size_t n)
{
	char comment[MINISIGN_COMMENT_MAX], *words = NULL;
	struct manifest *m;
	int rc = minisign_verify(
	    f->keys, f->keys_n, json, json_n, signature, comment);

	if (rc != 0) {
		snprintf(why, n, "%s",
		    rc == -ENOKEY
			? "signed by a key that is not in publisher_key"
			: rc == -EINVAL ? "its signature is none"
					: "its signature does not fit");
		return rc == -ENOKEY ? rc : -EBADMSG;
	}
	if (manifest_parse(json, json_n, &m, &words) != 0) {
		snprintf(why, n, "signed, but no manifest: %s", words);
		free(words);
		return -EINVAL;
	}
	if (strcmp(m->product, product) == 0 &&
	    strcmp(m->channel, channel) == 0 && comment_fits(comment, m)) {
		*m_out = m;
		return 0;
	}
	snprintf(why, n, "it is that of %s/%s seq %" PRId64, m->product,
	    m->channel, m->seq);
	manifest_free(m);
	return -EXDEV;
}

bool
feed_restore(struct firmware *f, const struct cache_manifest *c)
{
	struct fw_feed *fd;
	struct manifest *m;
	char why[200];
	int rc = feed_verify(f, c->product, c->channel, c->json, c->json_n,
	    c->signature, &m, why, sizeof(why));

	if (rc != 0) {
		log_warn("firmware %s/%s: what is kept is not trusted: %s",
		    c->product, c->channel, why);
		return false;
	}
	fd = feed_get(f, c->product, c->channel);
	if (fd == NULL || (fd->m != NULL && fd->m->seq >= m->seq)) {
		manifest_free(m);
		return fd != NULL;
	}
	manifest_free(fd->m);
	free(fd->json);
	fd->m = m;
	fd->json = xmalloc(c->json_n + 1);
	memcpy(fd->json, c->json, c->json_n + 1);
	fd->json_n = c->json_n;
	free(fd->signature);
	fd->signature = xstrdup(c->signature);
	fd->checked = c->checked;
	snprintf(fd->etag, sizeof(fd->etag), "%s", c->etag);
	return true;
}
