/*
 * key.h - the name an upload gets in the store, from `key_template`
 */
#ifndef KEY_H
#define KEY_H

#include <stddef.h>
#include <stdint.h>

/* With the prefix that the signer adds, of up to 256 octets, every store takes
 * 1,024 octets, and 254 between two slashes. */
#define KEY_MAX 768
#define KEY_SEGMENT_MAX 254

struct key_values {
	const char *device, *gateway, *name, *id, *sha256;
	int64_t received_s; /* UTC, Unix seconds, corrected if that is known */
};

/*
 * The key, malloc'd, never empty: valid UTF-8, no empty, "." or ".." segment,
 * no control or backslash, at most KEY_MAX octets and KEY_SEGMENT_MAX in a
 * segment, whatever the values hold: the name is shortened until it fits.
 * Words: device gateway name ext id sha256 date time.
 */
char *key_expand(const char *template, const struct key_values *v);

#endif
