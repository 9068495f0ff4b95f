/*
 * worker_magic.c - what kind of file a body is, by its first octets
 *
 * Names and content types are the sender's claims; nothing here believes them.
 * Only comparing: the agent itself calls it, which decodes nothing.
 */
#include "worker_magic.h"

#include <stdbool.h>
#include <string.h>

struct magic {
	unsigned at, n;
	const char *octets;
};

/* Compressed already: recoding these gains nothing. */
// clang-format off
static const struct magic packed[] = {
	{ 0, 8, "\x89PNG\r\n\x1a\n" },
	{ 0, 4, "GIF8" },
	{ 8, 4, "WEBP" },
	{ 4, 4, "ftyp" },               /* MP4, HEIC, AVIF */
	{ 0, 3, "\x1f\x8b\x08" },       /* gzip */
	{ 0, 4, "\x28\xb5\x2f\xfd" },   /* zstd */
	{ 0, 6, "\xfd" "7zXZ\0" },
	{ 0, 3, "BZh" },
	{ 0, 4, "PK\x03\x04" },
	{ 0, 6, "7z\xbc\xaf\x27\x1c" },
	{ 0, 2, "\xff\x0a" },           /* JPEG XL */
	{ 0, 12, "\0\0\0\x0cJXL \r\n\x87\n" },
	{ 0, 4, "\x1a\x45\xdf\xa3" },   /* Matroska, WebM */
	{ 0, 4, "OggS" },
	{ 0, 4, "fLaC" },
	{ 0, 3, "ID3" },
};
// clang-format on

static bool
has(const uint8_t *p, size_t n, const struct magic *m)
{
	return n >= m->at + m->n && memcmp(p + m->at, m->octets, m->n) == 0;
}

enum worker_content
magic_content(const uint8_t *p, size_t n)
{
	if (n >= 3 && p[0] == 0xff && p[1] == 0xd8 && p[2] == 0xff)
		return WORKER_JPEG;
	if (n >= 26 && p[0] == 'B' && p[1] == 'M' && p[6] == 0 && p[7] == 0)
		return WORKER_BMP;
	if (n >= 9 && p[0] == 'P' && (p[1] == '5' || p[1] == '6') &&
	    (p[2] == '\n' || p[2] == ' ' || p[2] == '\r' || p[2] == '\t'))
		return WORKER_PNM;
	for (size_t i = 0; i < sizeof(packed) / sizeof(packed[0]); i++)
		if (has(p, n, &packed[i]))
			return WORKER_PACKED;
	return WORKER_OTHER;
}
