/*
 * naming.c - which device sent an upload, and what it is called
 *
 * The address of a [camera] section is that camera, whatever the path claims
 * (another name there is refused); else /upload/DEVICE/NAME names it; else the
 * address does. A name is only a claim, but where the [camera] of that name has
 * a password, that is asked for and proves it. Names are decoded once and
 * checked afterwards; they label things and are never a path of this host.
 */
#include "naming.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gateway_conf.h"
#include "json.h"
#include "xalloc.h"

#define SEGMENT_MAX 255
#define NAME_MAX_LEN 1000
#define SEGMENTS_MAX 32

static bool
hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
	    (c >= 'A' && c <= 'F');
}

/* Encodings that two programs read differently, in the path as sent. */
static const char *
bad_encoding(const char *target)
{
	for (const char *s = target; *s != '\0' && *s != '?'; s++) {
		if (*s != '%')
			continue;
		if (!hex(s[1]) || !hex(s[2]))
			return "a % that two hex digits do not follow";
		if (strncasecmp(s, "%2f", 3) == 0 ||
		    strncasecmp(s, "%5c", 3) == 0 || strncmp(s, "%00", 3) == 0)
			return "an encoded slash, backslash or NUL";
	}
	return NULL;
}

static const char *
bad_segment(const char *s, size_t n)
{
	if (n > SEGMENT_MAX)
		return "a name of over 255 octets";
	if ((n == 1 && s[0] == '.') || (n == 2 && memcmp(s, "..", 2) == 0) ||
	    (n > 2 && memcmp(s, "..;", 3) == 0))
		return "a \".\" or \"..\"";
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f || s[i] == '\\')
			return "a control character or backslash";
	return NULL;
}

/* The path with empty segments left out; NULL: *why_out. */
static char *
clean_path(const char *path, const char **why_out)
{
	char *out = xmalloc(strlen(path) + 1), *o = out;
	unsigned segments = 0;

	*why_out =
	    json_utf8(path, strlen(path)) ? NULL : "octets that are no UTF-8";
	while (*why_out == NULL && *path != '\0') {
		size_t n = strcspn(path, "/");

		if (n > 0) {
			*why_out = bad_segment(path, n);
			if (++segments > SEGMENTS_MAX)
				*why_out = "over 32 folders";
			if (o != out)
				*o++ = '/';
			memcpy(o, path, n);
			o += n;
		}
		path += n + (path[n] == '/');
	}
	*o = '\0';
	if (*why_out == NULL && o - out > NAME_MAX_LEN)
		*why_out = "over 1000 octets";
	if (*why_out != NULL) {
		free(out);
		return NULL;
	}
	return out;
}

/* "upload/DEVICE/NAME..." to device and name; else all of it is the name. A
 * path that ends in a slash (folder) has none. */
static void
split(char *clean, bool folder, char **device_out, char **name_out)
{
	char *rest, *slash, *end = clean + strlen(clean);

	*device_out = NULL;
	*name_out = folder || strcmp(clean, "upload") == 0 ? end : clean;
	if (strncmp(clean, "upload/", 7) != 0)
		return;
	rest = clean + 7;
	slash = strchr(rest, '/');
	if (slash == NULL && folder) {
		*device_out = rest;
		return;
	}
	if (slash == NULL) {
		*name_out = rest;
		return;
	}
	*slash = '\0';
	*device_out = rest;
	*name_out = folder ? end : slash + 1;
}

/* The section of this name, if a password can tell that it is the one. */
static const struct camera_conf *
claimed(const struct gateway_conf *conf, const char *device)
{
	for (size_t i = 0; device != NULL && i < conf->cameras_n; i++)
		if (conf->cameras[i].user != NULL &&
		    strcmp(conf->cameras[i].name, device) == 0)
			return &conf->cameras[i];
	return NULL;
}

static bool
any_password(const struct gateway_conf *conf)
{
	for (size_t i = 0; i < conf->cameras_n; i++)
		if (conf->cameras[i].user != NULL)
			return true;
	return false;
}

static int
unknown(const char **error_out, const char **hint_out)
{
	*error_out = "this address is not a known camera";
	*hint_out = "add a [camera NAME] section with its address, or with a "
		    "password for its name, or set [listen] known_only = no";
	return 403;
}

int
naming_make(const struct gateway_conf *conf, const char *target,
    const char *path, const char *address, bool name_optional,
    struct naming *n_out, const char **error_out, const char **hint_out)
{
	const struct camera_conf *cam = gateway_conf_camera(conf, address);
	char *clean, *device, *name;

	if (cam == NULL && conf->known_only && !any_password(conf))
		return unknown(error_out, hint_out);
	*hint_out = "send PUT /upload/DEVICE/NAME, percent-encoded UTF-8";
	*error_out = bad_encoding(target);
	if (*error_out != NULL)
		return 400;
	clean = clean_path(path, error_out);
	if (clean == NULL)
		return 400;
	split(clean, path[strlen(path) - 1] == '/', &device, &name);
	if (name[0] == '\0' && !name_optional) {
		free(clean);
		*error_out = "the path has no file name at its end";
		return 400;
	}
	if (cam == NULL && conf->known_only && claimed(conf, device) == NULL) {
		free(clean);
		return unknown(error_out, hint_out);
	}
	if (cam != NULL && device != NULL && strcmp(device, cam->name) != 0) {
		free(clean);
		*error_out = "the path names another device than the address";
		*hint_out = "use the name of the [camera] section that has "
			    "this address";
		return 403;
	}
	n_out->by_address = cam != NULL;
	n_out->camera = cam != NULL ? cam : claimed(conf, device);
	n_out->device = xstrdup(cam != NULL ? cam->name
		: device != NULL            ? device
					    : address);
	n_out->name = xstrdup(name);
	free(clean);
	return 0;
}

void
naming_fini(struct naming *n)
{
	free(n->device);
	free(n->name);
	memset(n, 0, sizeof(*n));
}
