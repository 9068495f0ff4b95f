/*
 * manifest.h - what a publisher says about one product and channel
 *
 * The only thing a gateway trusts about firmware (doc/firmware.md). Parsed
 * strictly: a member that is missing, of the wrong type or out of range makes
 * the whole manifest refused, a member that is not known is ignored. The caller
 * has checked the signature first.
 */
#ifndef MANIFEST_H
#define MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>

#define FIRMWARE_SLICE 262144 /* octets of a slice, but the last */
#define FIRMWARE_SIZE_MAX ((uint64_t)1 << 36)
#define MANIFEST_MAX (1 << 20) /* octets of a manifest.json */
#define MANIFEST_RELEASES_MAX 1000
#define MANIFEST_FILES_MAX 32 /* of one release */
#define FIRMWARE_VERSION_MAX 64

struct manifest_file {
	char *component;  /* "firmware" by default */
	char *path;       /* PRODUCT/CHANNEL/VERSION/NAME below the root */
	const char *name; /* the last segment of path */
	uint64_t size;
	uint8_t sha256[32];
	uint8_t sha1[20], md5[16];
	bool has_sha1, has_md5;
	uint8_t slices_sha256[32]; /* of the list at path + ".slices" */
};
struct manifest_release {
	char *version;
	int64_t seq; /* grows within product and channel */
	char **hw;   /* none: any hardware */
	size_t hw_n;
	char *min_from; /* NULL: from any version */
	char *set;      /* NULL; releases of one set go together */
	struct manifest_file *files;
	size_t files_n;
	unsigned percent;           /* 0..100 */
	char *salt;                 /* "" if none */
	int64_t after;              /* Unix seconds; 0: at once */
	int window_from, window_to; /* minutes of the day UTC; -1: any time */
	bool halted, revoked;       /* revoked: one of its files' hashes is */
};
struct manifest {
	char *product, *channel;
	int64_t seq, issued, expires;      /* Unix seconds */
	struct manifest_release *releases; /* by seq, the newest first */
	size_t releases_n;
	uint8_t (*revoked)[32];
	size_t revoked_n;
};

/* *why_out (may be NULL): what is wrong and where, malloc'd. -EINVAL. */
int manifest_parse(
    const char *text, size_t n, struct manifest **m_out, char **why_out);
void manifest_free(struct manifest *m);
/*
 * The file of that content, with its release; NULL. Of the newest release that
 * is not revoked: one is as a whole when any of its files is, and a file may be
 * in several. The file's own hash is not looked at.
 */
const struct manifest_file *manifest_find(const struct manifest *m,
    const uint8_t sha256[32], const struct manifest_release **r_out);
bool manifest_revoked(const struct manifest *m, const uint8_t sha256[32]);

/* [a-z0-9._-]{1,64}, no leading dot. Also channels. */
bool firmware_product_ok(const char *s);
/* [A-Za-z0-9._+-]{1,64}, no leading dot, not "manifest...". */
bool firmware_version_ok(const char *s);
/* A file's name: [A-Za-z0-9._+-]{1,128}, no leading dot, not "*.slices". */
bool firmware_name_ok(const char *s);
/* Of a hardware: 1 to 64 printable characters of ASCII without blanks. */
bool firmware_hw_ok(const char *s);
/*
 * Precedence by Semantic Versioning 2.0.0 section 11 (a leading "v", missing
 * minor or patch, up to 8 parts and zeros before numbers are accepted, build
 * metadata is ignored); false if either is no such version: then only the
 * releases' seq can tell.
 */
bool firmware_version_compare(const char *a, const char *b, int *order_out);

#endif
