/*
 * manifest.c - what a publisher says about one product and channel
 *
 * What must stay true: a manifest is taken whole or not at all, every number
 * and name in it is in range before anyone else sees it, and no path leads out
 * of its product's folder. The text is signed, but the publisher's tool may
 * have faults too, and what is in here decides what thousands of devices do.
 */
#include "manifest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "url.h"
#include "xalloc.h"

#define NAME_MAX_OCTETS 128
#define TEXT_MAX 64 /* hw, set, salt, component */
#define PATH_MAX_OCTETS 319
#define HW_MAX 64

struct reader {
	struct manifest *m;
	char *why;      /* the first fault */
	char where[96]; /* what is being read, for why */
};

static bool __attribute__((format(printf, 2, 3)))
bad(struct reader *r, const char *fmt, ...)
{
	va_list ap;
	char *what;

	if (r->why != NULL)
		return false;
	va_start(ap, fmt);
	if (vasprintf(&what, fmt, ap) < 0)
		what = xstrdup("?");
	va_end(ap);
	r->why = xasprintf("%s%s", r->where, what);
	free(what);
	return false;
}

/* ---- members ------------------------------------------------------------- */

static bool
read_int(struct reader *r, const cJSON *o, const char *key, int64_t min,
    int64_t max, int64_t *out)
{
	int rc = json_int(o, key, min, max, out);

	if (rc == 0)
		return true;
	return rc == -ENOENT ? bad(r, "%s is missing", key)
			     : bad(r,
				   "%s must be a whole number from %lld "
				   "to %lld",
				   key, (long long)min, (long long)max);
}

/* A string; NULL if there is none and it is optional. */
static bool
read_string(struct reader *r, const cJSON *o, const char *key, bool optional,
    const char **out)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	*out = cJSON_GetStringValue(v);
	if (*out != NULL || (v == NULL && optional))
		return true;
	return v == NULL ? bad(r, "%s is missing", key)
			 : bad(r, "%s must be a string", key);
}

static bool
read_time(struct reader *r, const cJSON *o, const char *key, bool optional,
    int64_t *out)
{
	const char *s;

	if (!read_string(r, o, key, optional, &s))
		return false;
	if (s == NULL || clock_parse_rfc3339(s, out) == 0)
		return true;
	return bad(r, "%s must be a time like 2026-01-02T03:04:05Z", key);
}

/* Printable, without blanks: it stands in key=value lines and log lines. */
static bool
text_ok(const char *s, size_t min)
{
	size_t n = strlen(s);

	if (n < min || n > TEXT_MAX)
		return false;
	for (; *s != '\0'; s++)
		if (*s < 0x21 || *s > 0x7e)
			return false;
	return true;
}

static bool
read_text(struct reader *r, const cJSON *o, const char *key, char **out)
{
	const char *s;

	if (!read_string(r, o, key, true, &s))
		return false;
	if (s == NULL)
		return true;
	if (!text_ok(s, 0))
		return bad(r,
		    "%s must be at most %d printable characters "
		    "without blanks",
		    key, TEXT_MAX);
	free(*out);
	*out = xstrdup(s);
	return true;
}

static bool
read_hash(struct reader *r, const cJSON *o, const char *key, bool optional,
    uint8_t *out, size_t n, bool *has_out)
{
	const char *s;

	if (!read_string(r, o, key, optional, &s))
		return false;
	if (has_out != NULL)
		*has_out = s != NULL;
	if (s == NULL || hex_decode(s, out, n) == 0)
		return true;
	return bad(r, "%s must be %zu hexadecimal digits", key, 2 * n);
}

static bool
read_bool(struct reader *r, const cJSON *o, const char *key, bool *out)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	if (v != NULL && !cJSON_IsBool(v))
		return bad(r, "%s must be true or false", key);
	*out = cJSON_IsTrue(v);
	return true;
}

static bool
read_window(struct reader *r, const cJSON *o, struct manifest_release *rel)
{
	const char *s;

	rel->window_from = rel->window_to = -1;
	if (!read_string(r, o, "window", true, &s))
		return false;
	if (s == NULL)
		return true;
	return clock_parse_window(s, &rel->window_from, &rel->window_to) == 0 ||
	    bad(r, "window must be like 01:00-05:00");
}

/* ---- files --------------------------------------------------------------- */

/* PRODUCT/CHANNEL/VERSION/NAME, of this product and this version. */
static bool
path_ok(const char *path, const char *product, const char *version)
{
	char *copy, *part[5], *save = NULL;
	size_t n = 0;
	bool ok;

	if (strlen(path) > PATH_MAX_OCTETS || strstr(path, "//") != NULL ||
	    path[0] == '/')
		return false;
	copy = xstrdup(path);
	for (char *s = strtok_r(copy, "/", &save); s != NULL && n < 5;
	     s = strtok_r(NULL, "/", &save))
		part[n++] = s;
	ok = n == 4 && strlen(part[3]) == strlen(strrchr(path, '/') + 1) &&
	    strcmp(part[0], product) == 0 && firmware_product_ok(part[1]) &&
	    strcmp(part[2], version) == 0 && firmware_name_ok(part[3]);
	free(copy);
	return ok;
}

static bool
read_path(struct reader *r, const cJSON *o, const char *version,
    struct manifest_file *f)
{
	const char *path;

	if (!read_string(r, o, "path", false, &path))
		return false;
	if (!path_ok(path, r->m->product, version))
		return bad(r, "path must be %s/CHANNEL/%s/NAME", r->m->product,
		    version);
	f->path = xstrdup(path);
	f->name = strrchr(f->path, '/') + 1;
	return true;
}

static bool
read_file(struct reader *r, const cJSON *o, const char *version,
    struct manifest_file *f)
{
	const cJSON *slices = cJSON_GetObjectItemCaseSensitive(o, "slices");
	int64_t size, slice;

	f->component = xstrdup("firmware");
	if (!cJSON_IsObject(o))
		return bad(r, "files must be objects");
	if (!read_path(r, o, version, f) ||
	    !read_text(r, o, "component", &f->component) ||
	    !read_int(r, o, "size", 1, FIRMWARE_SIZE_MAX, &size) ||
	    !read_hash(r, o, "sha256", false, f->sha256, 32, NULL) ||
	    !read_hash(r, o, "sha1", true, f->sha1, 20, &f->has_sha1) ||
	    !read_hash(r, o, "md5", true, f->md5, 16, &f->has_md5))
		return false;
	f->size = (uint64_t)size;
	if (f->component[0] == '\0')
		return bad(r, "component must not be empty");
	if (!cJSON_IsObject(slices))
		return bad(r, "slices must be an object");
	if (!read_int(r, slices, "size", 1, INT32_MAX, &slice))
		return false;
	if (slice != FIRMWARE_SLICE)
		return bad(r, "slices.size must be %d", FIRMWARE_SLICE);
	return read_hash(
	    r, slices, "sha256", false, f->slices_sha256, 32, NULL);
}

static bool
read_files(struct reader *r, const cJSON *o, struct manifest_release *rel)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, "files"), *v;
	int n = cJSON_GetArraySize(list);

	if (!cJSON_IsArray(list) || n < 1 || n > MANIFEST_FILES_MAX)
		return bad(
		    r, "files must be a list of 1 to %d", MANIFEST_FILES_MAX);
	rel->files = xcalloc((size_t)n, sizeof(*rel->files));
	cJSON_ArrayForEach(v, list)
	{
		struct manifest_file *f = &rel->files[rel->files_n++];

		if (!read_file(r, v, rel->version, f))
			return false;
		for (size_t i = 0; i + 1 < rel->files_n; i++)
			if (strcmp(rel->files[i].path, f->path) == 0)
				return bad(r, "%s stands twice", f->path);
	}
	return true;
}

/* ---- releases ------------------------------------------------------------ */

static bool
read_hw(struct reader *r, const cJSON *o, struct manifest_release *rel)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, "hw"), *v;
	int n = cJSON_GetArraySize(list);

	if (list == NULL)
		return true;
	if (!cJSON_IsArray(list) || n > HW_MAX)
		return bad(r, "hw must be a list of at most %d", HW_MAX);
	rel->hw = xcalloc((size_t)n + 1, sizeof(*rel->hw));
	cJSON_ArrayForEach(v, list)
	{
		const char *s = cJSON_GetStringValue(v);

		if (s == NULL || !firmware_hw_ok(s))
			return bad(r,
			    "hw must be names of 1 to %d printable "
			    "characters without blanks",
			    TEXT_MAX);
		rel->hw[rel->hw_n++] = xstrdup(s);
	}
	return true;
}

static bool
read_versions(struct reader *r, const cJSON *o, struct manifest_release *rel)
{
	const char *version, *from;

	if (!read_string(r, o, "version", false, &version))
		return false;
	if (!firmware_version_ok(version))
		return bad(r, "version must be 1 to %d of A-Z a-z 0-9 . _ + -",
		    FIRMWARE_VERSION_MAX);
	rel->version = xstrdup(version);
	snprintf(r->where, sizeof(r->where), "release %s: ", version);
	if (!read_string(r, o, "min_from", true, &from))
		return false;
	if (from != NULL && !firmware_version_ok(from))
		return bad(r, "min_from must be a version");
	rel->min_from = from != NULL ? xstrdup(from) : NULL;
	return true;
}

static bool
read_release(struct reader *r, const cJSON *o, struct manifest_release *rel)
{
	int64_t percent = 100;

	rel->salt = xstrdup("");
	if (!cJSON_IsObject(o))
		return bad(r, "releases must be objects");
	if (!read_versions(r, o, rel) ||
	    !read_int(r, o, "seq", 1, INT64_C(1) << 53, &rel->seq) ||
	    !read_hw(r, o, rel) || !read_text(r, o, "set", &rel->set) ||
	    !read_text(r, o, "salt", &rel->salt) ||
	    !read_time(r, o, "after", true, &rel->after) ||
	    !read_window(r, o, rel) || !read_bool(r, o, "halted", &rel->halted))
		return false;
	if (cJSON_HasObjectItem(o, "percent") &&
	    !read_int(r, o, "percent", 0, 100, &percent))
		return false;
	rel->percent = (unsigned)percent;
	if (!read_files(r, o, rel))
		return false;
	for (size_t i = 0; i < rel->files_n; i++)
		rel->revoked = rel->revoked ||
		    manifest_revoked(r->m, rel->files[i].sha256);
	return true;
}

static int
newest_first(const void *a, const void *b)
{
	const struct manifest_release *x = a, *y = b;

	return (x->seq < y->seq) - (x->seq > y->seq);
}

static int
by_version(const void *a, const void *b)
{
	const struct manifest_release *const *x = a, *const *y = b;

	return strcmp((*x)->version, (*y)->version);
}

/* Each seq and each version once. The releases are in order. */
static bool
all_different(struct reader *r)
{
	struct manifest *m = r->m;
	const struct manifest_release **v =
	    xcalloc(m->releases_n + 1, sizeof(const struct manifest_release *));
	bool ok = true;

	r->where[0] = '\0';
	for (size_t i = 0; i < m->releases_n; i++) {
		v[i] = &m->releases[i];
		if (i > 0 && v[i]->seq == v[i - 1]->seq)
			ok = bad(r, "two releases have seq %lld",
			    (long long)v[i]->seq);
	}
	qsort(v, m->releases_n, sizeof(v[0]), by_version);
	for (size_t i = 1; i < m->releases_n; i++)
		if (strcmp(v[i]->version, v[i - 1]->version) == 0)
			ok = bad(
			    r, "two releases have version %s", v[i]->version);
	free(v);
	return ok;
}

static bool
read_releases(struct reader *r, const cJSON *root)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "releases");
	struct manifest *m = r->m;
	const cJSON *v;
	int n = cJSON_GetArraySize(list);

	if (!cJSON_IsArray(list) || n > MANIFEST_RELEASES_MAX)
		return bad(r, "releases must be a list of at most %d",
		    MANIFEST_RELEASES_MAX);
	m->releases = xcalloc((size_t)n + 1, sizeof(*m->releases));
	cJSON_ArrayForEach(v, list)
	{
		snprintf(r->where, sizeof(r->where),
		    "release %zu: ", m->releases_n + 1);
		if (!read_release(r, v, &m->releases[m->releases_n++]))
			return false;
	}
	qsort(m->releases, m->releases_n, sizeof(*m->releases), newest_first);
	return all_different(r);
}

/* ---- the whole ----------------------------------------------------------- */

static int
by_hash(const void *a, const void *b)
{
	return memcmp(a, b, 32);
}

static bool
read_revoked(struct reader *r, const cJSON *root)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "revoked");
	struct manifest *m = r->m;
	const cJSON *v;

	if (list == NULL)
		return true;
	if (!cJSON_IsArray(list))
		return bad(r, "revoked must be a list");
	m->revoked =
	    xcalloc((size_t)cJSON_GetArraySize(list) + 1, sizeof(*m->revoked));
	cJSON_ArrayForEach(v, list)
	{
		const char *s = cJSON_GetStringValue(v);

		if (s == NULL ||
		    hex_decode(s, m->revoked[m->revoked_n], 32) != 0)
			return bad(r,
			    "revoked must be SHA-256 of 64 "
			    "hexadecimal digits");
		m->revoked_n++;
	}
	qsort(m->revoked, m->revoked_n, sizeof(*m->revoked), by_hash);
	return true;
}

static bool
read_names(struct reader *r, const cJSON *root)
{
	const char *product, *channel;

	if (!read_string(r, root, "product", false, &product) ||
	    !read_string(r, root, "channel", false, &channel))
		return false;
	if (!firmware_product_ok(product) || !firmware_product_ok(channel))
		return bad(r,
		    "product and channel must be 1 to 64 of "
		    "a-z 0-9 . _ -");
	r->m->product = xstrdup(product);
	r->m->channel = xstrdup(channel);
	return true;
}

static bool
read_all(struct reader *r, const cJSON *root)
{
	struct manifest *m = r->m;
	int64_t v;

	if (!cJSON_IsObject(root))
		return bad(r, "must be an object");
	if (!read_int(r, root, "v", 1, INT32_MAX, &v))
		return false;
	if (v != 1)
		return bad(r, "v %lld is not known here: update the gateway",
		    (long long)v);
	if (!read_names(r, root) ||
	    !read_int(r, root, "seq", 1, INT64_C(1) << 53, &m->seq) ||
	    !read_time(r, root, "issued", false, &m->issued) ||
	    !read_time(r, root, "expires", false, &m->expires))
		return false;
	if (m->expires <= m->issued)
		return bad(r, "expires must be after issued");
	return read_revoked(r, root) && read_releases(r, root);
}

int
manifest_parse(
    const char *text, size_t n, struct manifest **m_out, char **why_out)
{
	struct reader r = { .m = xcalloc(1, sizeof(*r.m)) };
	const char *why = "?";
	cJSON *root = json_parse(text, n, MANIFEST_MAX, &why);
	bool ok = root != NULL ? read_all(&r, root) : bad(&r, "%s", why);

	cJSON_Delete(root);
	if (ok) {
		*m_out = r.m;
		return 0;
	}
	manifest_free(r.m);
	if (why_out != NULL)
		*why_out = r.why;
	else
		free(r.why);
	return -EINVAL;
}

static void
release_fini(struct manifest_release *rel)
{
	for (size_t i = 0; i < rel->files_n; i++) {
		free(rel->files[i].component);
		free(rel->files[i].path);
	}
	for (size_t i = 0; i < rel->hw_n; i++)
		free(rel->hw[i]);
	free(rel->files);
	free(rel->hw);
	free(rel->version);
	free(rel->min_from);
	free(rel->set);
	free(rel->salt);
}

void
manifest_free(struct manifest *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->releases_n; i++)
		release_fini(&m->releases[i]);
	free(m->releases);
	free(m->revoked);
	free(m->product);
	free(m->channel);
	free(m);
}

const struct manifest_file *
manifest_find(const struct manifest *m, const uint8_t sha256[32],
    const struct manifest_release **r_out)
{
	const struct manifest_file *found = NULL;

	for (size_t i = 0; i < m->releases_n; i++) {
		const struct manifest_release *rel = &m->releases[i];

		for (size_t k = 0; k < rel->files_n; k++) {
			if (memcmp(rel->files[k].sha256, sha256, 32) != 0 ||
			    (found != NULL && rel->revoked))
				continue;
			found = &rel->files[k];
			if (r_out != NULL)
				*r_out = rel;
			if (!rel->revoked)
				return found;
		}
	}
	return found;
}

bool
manifest_revoked(const struct manifest *m, const uint8_t sha256[32])
{
	return m->revoked_n > 0 &&
	    bsearch(sha256, m->revoked, m->revoked_n, 32, by_hash) != NULL;
}

static bool
only(const char *s, size_t max, const char *set)
{
	size_t n = strlen(s);

	return n >= 1 && n <= max && s[0] != '.' && strspn(s, set) == n;
}

bool
firmware_hw_ok(const char *s)
{
	return text_ok(s, 1);
}

#define LOWER "abcdefghijklmnopqrstuvwxyz0123456789._-"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ+"

bool
firmware_product_ok(const char *s)
{
	return only(s, 64, LOWER);
}

bool
firmware_version_ok(const char *s)
{
	return only(s, FIRMWARE_VERSION_MAX, LOWER UPPER) &&
	    strncmp(s, "manifest", 8) != 0;
}

bool
firmware_name_ok(const char *s)
{
	size_t n = strlen(s);

	return only(s, NAME_MAX_OCTETS, LOWER UPPER) &&
	    (n < 7 || strcmp(s + n - 7, ".slices") != 0);
}
