/*
 * json.h - cJSON with the limits that hostile text needs
 *
 * json_parse() refuses what cJSON would let pass: depth over 32, more than
 * `max` octets, a key that stands twice in one object, NUL in a string, octets
 * after the value, invalid UTF-8 (RFC 8259 sections 4, 8.1, 9).
 */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>

/*
 * Parse n octets. NULL: *why_out (may be NULL) tells why in words, static.
 * The caller frees the value with cJSON_Delete().
 */
cJSON *json_parse(const char *s, size_t n, size_t max, const char **why_out);
/* The string under key, or NULL if there is none or it is no string. */
const char *json_string(const cJSON *o, const char *key);
/* A whole number in min..max under key into *out; -ENOENT, -ERANGE, -EINVAL. */
int json_int(
    const cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out);
/* The bool under key, or dflt. */
bool json_bool(const cJSON *o, const char *key, bool dflt);
/* Add a number exactly (cJSON keeps doubles: 2^53 and over would be rounded).
 */
void json_add_int(cJSON *o, const char *key, int64_t v);
/* Add n octets as lower-case hexadecimal text. */
void json_add_hex(cJSON *o, const char *key, const void *p, size_t n);
/* One line, malloc'd, never NULL; free(). */
char *json_line(const cJSON *v);
/* Like cJSON_AddStringToObject, which fails on invalid UTF-8 never: replaces
 * what is not UTF-8 by U+FFFD so that the output is always valid JSON. */
void json_add_text(cJSON *o, const char *key, const char *s);
/* Is s[0..n) valid UTF-8 (RFC 3629: no overlongs, no surrogates)? */
bool json_utf8(const char *s, size_t n);

#endif
