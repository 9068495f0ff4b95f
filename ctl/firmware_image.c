/*
 * firmware_image.c - what an image says of itself
 *
 * Version and hardware, where the format has them and they can be read without
 * unpacking: SWUpdate's sw-description (first in the cpio archive), RAUC's
 * manifest where the bundle's signature carries it (formats verity and crypt),
 * and the application descriptor of ESP-IDF. uImage and FIT are recognised but
 * have no version. An image is input like any other: bounded, never trusted.
 */
#include "firmware.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/cms.h>
#include <openssl/err.h>

#include "manifest.h"
#include "xalloc.h"

#define HEAD 65536
#define CMS_MAX (1 << 20)

static void
set_version(struct image_info *info, const char *s, size_t n)
{
	char version[65];

	if (n == 0 || n >= sizeof(version))
		return;
	memcpy(version, s, n);
	version[n] = '\0';
	if (firmware_version_ok(version))
		strcpy(info->version, version);
}

/* ---- SWUpdate ------------------------------------------------------------ */

/* After `name` and a ':' or '=', in libconfig or JSON; NULL. */
static const char *
value_of(const char *s, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = s; (p = strstr(p, name)) != NULL; p += n) {
		const char *v = p + n;

		if (p > s && (isalnum((unsigned char)p[-1]) || p[-1] == '-'))
			continue;
		v += *v == '"';
		v += strspn(v, " \t");
		if (*v == '=' || *v == ':')
			return v + 1 + strspn(v + 1, " \t\r\n");
	}
	return NULL;
}

static void
swu_description(const char *text, struct image_info *info)
{
	const char *version = value_of(text, "version");
	const char *hw = value_of(text, "hardware-compatibility"), *end;

	if (version != NULL && *version == '"')
		set_version(info, version + 1, strcspn(version + 1, "\""));
	if (hw == NULL || (*hw != '[' && *hw != '('))
		return;
	end = hw + strcspn(hw, "])");
	while ((hw = memchr(hw, '"', (size_t)(end - hw))) != NULL) {
		size_t n = strcspn(hw + 1, "\"");

		if (hw + 1 + n >= end || info->hw_n == 16)
			return;
		if (n > 0 && n < sizeof(info->hw[0]))
			snprintf(info->hw[info->hw_n++], sizeof(info->hw[0]),
			    "%.*s", (int)n, hw + 1);
		hw += n + 2;
	}
}

/* "newc" or "crc" of cpio(5): 110 octets of a header, the name, the data. */
static bool
look_swu(const char *head, size_t n, struct image_info *info)
{
	char digits[9] = "", *text;
	unsigned long size, name, at;

	if (n < 128 ||
	    (memcmp(head, "070701", 6) != 0 && memcmp(head, "070702", 6) != 0))
		return false;
	memcpy(digits, head + 54, 8);
	size = strtoul(digits, NULL, 16);
	memcpy(digits, head + 94, 8);
	name = strtoul(digits, NULL, 16);
	if (name != sizeof("sw-description") ||
	    memcmp(head + 110, "sw-description", name) != 0)
		return false;
	info->format = "SWUpdate";
	at = (110 + name + 3) & ~3ul;
	if (size > n - at)
		return true;
	text = xstrndup(head + at, size);
	swu_description(text, info);
	free(text);
	return true;
}

/* ---- RAUC ---------------------------------------------------------------- */

/* version= of [update] in a manifest. */
static void
rauc_manifest(const char *text, struct image_info *info)
{
	const char *at = strstr(text, "[update]"), *end, *v;

	if (at == NULL)
		return;
	end = strstr(at, "\n[");
	v = strstr(at, "\nversion=");
	if (v != NULL && (end == NULL || v < end))
		set_version(info, v + 9, strcspn(v + 9, "\r\n"));
}

/* A CMS structure at the end, its length in the last eight octets. */
static bool
look_rauc(int fd, const char *head, size_t n, struct image_info *info)
{
	struct stat st;
	uint64_t size;
	uint8_t *der;
	const uint8_t *p;
	CMS_ContentInfo *cms = NULL;
	ASN1_OCTET_STRING **content;
	char *text;

	if (n < 4 || memcmp(head, "hsqs", 4) != 0 || fstat(fd, &st) != 0 ||
	    st.st_size < 16 || pread(fd, &size, 8, (off_t)st.st_size - 8) != 8)
		return false;
	size = be64toh(size);
	if (size == 0 || size > CMS_MAX || (off_t)size + 8 > st.st_size)
		return false;
	der = xmalloc(size);
	p = der;
	if (pread(fd, der, size, st.st_size - 8 - (off_t)size) == (ssize_t)size)
		cms = d2i_CMS_ContentInfo(NULL, &p, (long)size);
	free(der);
	ERR_clear_error();
	if (cms == NULL)
		return false;
	info->format = "RAUC";
	content = CMS_get0_content(cms);
	if (content != NULL && *content != NULL) {
		text = xstrndup((const char *)ASN1_STRING_get0_data(*content),
		    (size_t)ASN1_STRING_length(*content));
		rauc_manifest(text, info);
		free(text);
	}
	CMS_ContentInfo_free(cms);
	return true;
}

/* ---- the others ---------------------------------------------------------- */

/* ESP-IDF: esp_image_header_t, a segment's header, then esp_app_desc_t. */
static bool
look_esp(const char *head, size_t n, struct image_info *info)
{
	uint32_t magic;

	if (n < 80 || (uint8_t)head[0] != 0xe9)
		return false;
	memcpy(&magic, head + 32, 4);
	if (le32toh(magic) != 0xabcd5432)
		return false;
	info->format = "ESP-IDF";
	set_version(info, head + 48, strnlen(head + 48, 32));
	return true;
}

void
image_look(int fd, struct image_info *info_out)
{
	char *head = xcalloc(1, HEAD + 1);
	ssize_t n = pread(fd, head, HEAD, 0);
	size_t len = n > 0 ? (size_t)n : 0;

	memset(info_out, 0, sizeof(*info_out));
	if (!look_swu(head, len, info_out) &&
	    !look_rauc(fd, head, len, info_out) &&
	    !look_esp(head, len, info_out) && len >= 4) {
		if (memcmp(head, "\x27\x05\x19\x56", 4) == 0)
			info_out->format = "uImage";
		else if (memcmp(head, "\xd0\x0d\xfe\xed", 4) == 0)
			info_out->format = "FIT";
	}
	free(head);
}

int
file_open(const char *path, int flags, struct stat *st_out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, st_out) != 0)
		rc = -errno;
	else if (!S_ISREG(st_out->st_mode))
		rc = -EINVAL;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}
