/*
 * key.h - the name an upload gets in the store, from `key_template`
 */
#ifndef KEY_H
#define KEY_H

#include <stddef.h>
#include <stdint.h>

/* With the prefix that the signer adds every store takes 1,024 octets. */
#define KEY_MAX 900

struct key_values {
	const char *device, *gateway, *name, *id, *sha256;
	int64_t received_s; /* UTC, Unix seconds, corrected if that is known */
};

/*
 * The key, malloc'd, never empty: valid UTF-8, no empty, "." or ".." segment,
 * no control or backslash, at most KEY_MAX octets, whatever the values hold.
 * Words: device gateway name ext id sha256 date time.
 */
char *key_expand(const char *template, const struct key_values *v);

#endif
