/*
 * footer.c - what stands behind a body in its spool file
 */
#include "footer.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/evp.h>

#include "crc32c.h"
#include "json.h"
#include "read_at.h"
#include "xalloc.h"

#define VERSION 1

static const char magic[4] = "EDGH";

/* Offsets in the trailer. */
enum {
	AT_SHA = 0,
	AT_SIZE = 32,
	AT_SEQ = 40,
	AT_EPOCH = 48,
	AT_META = 56,
	AT_VERSION = 60,
	AT_FLAGS = 62,
	AT_CRC = 64,
	AT_MAGIC = 68
};

static void
put64(unsigned char *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, 8);
}

static void
put32(unsigned char *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, 4);
}

static void
put16(unsigned char *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, 2);
}

static uint64_t
get64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return le64toh(v);
}

static uint32_t
get32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return le32toh(v);
}

static uint16_t
get16(const unsigned char *p)
{
	uint16_t v;

	memcpy(&v, p, 2);
	return le16toh(v);
}

void *
footer_encode(const struct footer *f, size_t *n_out)
{
	cJSON *o = cJSON_CreateObject();
	unsigned char *buf, *t;
	char *line;
	size_t n;

	json_add_text(o, "device", f->device);
	json_add_text(o, "name", f->name);
	json_add_text(o, "type", f->type);
	json_add_text(o, "address", f->address);
	json_add_int(o, "received", f->received_wall_ms);
	line = json_line(o);
	cJSON_Delete(o);
	n = strlen(line);
	buf = xmalloc(n + FOOTER_TRAILER);
	memcpy(buf, line, n);
	free(line);
	t = buf + n;
	memcpy(t + AT_SHA, f->sha256, 32);
	put64(t + AT_SIZE, f->size);
	put64(t + AT_SEQ, f->seq);
	put64(t + AT_EPOCH, f->epoch);
	put32(t + AT_META, (uint32_t)n);
	put16(t + AT_VERSION, VERSION);
	put16(t + AT_FLAGS, (uint16_t)f->flags);
	put32(t + AT_CRC, crc32c(buf, n + AT_CRC));
	memcpy(t + AT_MAGIC, magic, 4);
	*n_out = n + FOOTER_TRAILER;
	return buf;
}

static char *
text_of(const cJSON *o, const char *key)
{
	const char *s = json_string(o, key);

	return xstrdup(s != NULL ? s : "");
}

static int
decode_meta(const char *s, size_t n, struct footer *f)
{
	cJSON *o = json_parse(s, n, FOOTER_META_MAX, NULL);

	if (o == NULL)
		return -EBADMSG;
	if (json_int(o, "received", INT64_MIN, INT64_MAX,
		&f->received_wall_ms) != 0) {
		cJSON_Delete(o);
		return -EBADMSG;
	}
	f->device = text_of(o, "device");
	f->name = text_of(o, "name");
	f->type = text_of(o, "type");
	f->address = text_of(o, "address");
	cJSON_Delete(o);
	return 0;
}

int
footer_decode(const void *p, size_t n, uint64_t file_size, struct footer *f_out)
{
	const unsigned char *t = (const unsigned char *)p + n - FOOTER_TRAILER;
	struct footer f = { 0 };
	uint32_t meta;
	int rc;

	if (n < FOOTER_TRAILER || memcmp(t + AT_MAGIC, magic, 4) != 0 ||
	    get16(t + AT_VERSION) != VERSION)
		return -EBADMSG;
	meta = get32(t + AT_META);
	if (meta > FOOTER_META_MAX || meta + FOOTER_TRAILER > n ||
	    crc32c(t - meta, meta + AT_CRC) != get32(t + AT_CRC))
		return -EBADMSG;
	f.size = get64(t + AT_SIZE);
	if (file_size < meta + FOOTER_TRAILER ||
	    f.size != file_size - meta - FOOTER_TRAILER)
		return -EBADMSG;
	f.seq = get64(t + AT_SEQ);
	f.epoch = get64(t + AT_EPOCH);
	f.flags = get16(t + AT_FLAGS);
	memcpy(f.sha256, t + AT_SHA, 32);
	rc = decode_meta((const char *)t - meta, meta, &f);
	if (rc == 0)
		*f_out = f;
	return rc;
}

int
footer_read(int fd, struct footer *f_out)
{
	unsigned char buf[1024], *big = NULL, *p = buf;
	struct stat st;
	size_t n;
	int rc;

	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < FOOTER_TRAILER)
		return -EBADMSG;
	n = st.st_size < (off_t)sizeof(buf) ? (size_t)st.st_size : sizeof(buf);
	rc = read_at(fd, buf, n, st.st_size - (off_t)n);
	if (rc == 0 &&
	    get32(buf + n - FOOTER_TRAILER + AT_META) + FOOTER_TRAILER > n) {
		/* Longer metadata than usual, or garbage: decode tells. */
		n = FOOTER_META_MAX + FOOTER_TRAILER;
		if (st.st_size < (off_t)n)
			n = (size_t)st.st_size;
		p = big = xmalloc(n);
		rc = read_at(fd, big, n, st.st_size - (off_t)n);
	}
	if (rc == 0)
		rc = footer_decode(p, n, (uint64_t)st.st_size, f_out);
	free(big);
	return rc;
}

int
footer_verify_body(int fd, const struct footer *f)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	char *buf = xmalloc(64 * 1024);
	uint8_t sum[32];
	uint64_t off = 0;
	int rc = 0;

	EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	while (rc == 0 && off < f->size) {
		size_t n = f->size - off < 64 * 1024 ? (size_t)(f->size - off)
						     : 64 * 1024;

		rc = read_at(fd, buf, n, (off_t)off);
		EVP_DigestUpdate(md, buf, n);
		off += n;
	}
	EVP_DigestFinal_ex(md, sum, NULL);
	EVP_MD_CTX_free(md);
	free(buf);
	if (rc == 0 && memcmp(sum, f->sha256, 32) != 0)
		rc = -EBADMSG;
	return rc;
}

void
footer_fini(struct footer *f)
{
	free(f->device);
	free(f->name);
	free(f->type);
	free(f->address);
	memset(f, 0, sizeof(*f));
}
