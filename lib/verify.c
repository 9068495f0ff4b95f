/*
 * verify.c - is a spool file what its footer says?
 *
 * The pages are dropped before, so that the disk is read and not what memory
 * remembers of it, and afterwards, so that a long check does not push out what
 * others need.
 */
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/evp.h>

#include "footer.h"
#include "layout.h"
#include "xalloc.h"

#define PIECE (256 * 1024)

int
verify_open(int dir, const char *name)
{
	int fd, rc = layout_open_file(dir, name, &fd);

	if (rc != 0)
		return rc;
	/* Reading leaves no mark; only its owner may ask for that. */
	fcntl(fd, F_SETFL, O_NOATIME);
	return fd;
}

static int
hash_body(int fd, const struct footer *f, uint8_t sum[32],
    bool (*go_on)(size_t n, void *arg), void *arg)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	char *buf = xmalloc(PIECE);
	uint64_t off = 0;
	int rc = 0;

	EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	while (rc == 0 && off < f->size) {
		size_t want =
		    f->size - off < PIECE ? (size_t)(f->size - off) : PIECE;
		ssize_t n = pread(fd, buf, want, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			rc = n < 0 ? -errno : -EBADMSG;
			break;
		}
		EVP_DigestUpdate(md, buf, (size_t)n);
		off += (uint64_t)n;
		if (go_on != NULL && !go_on((size_t)n, arg))
			rc = -ECANCELED;
	}
	EVP_DigestFinal_ex(md, sum, NULL);
	EVP_MD_CTX_free(md);
	free(buf);
	return rc;
}

int
verify_file(int fd, uint64_t seq, bool (*go_on)(size_t n, void *arg), void *arg,
    const char **why_out)
{
	struct footer f;
	uint8_t sum[32];
	int rc;

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	rc = footer_read(fd, &f);
	if (rc != 0) {
		*why_out = "its footer is damaged";
		return rc;
	}
	rc = hash_body(fd, &f, sum, go_on, arg);
	*why_out = "its body is damaged";
	if (rc == 0 && memcmp(sum, f.sha256, 32) != 0)
		rc = -EBADMSG;
	if (rc == 0 && f.seq != seq) {
		*why_out = "its footer is that of another upload";
		rc = -EBADMSG;
	}
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	footer_fini(&f);
	return rc;
}
