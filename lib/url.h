/*
 * url.h - percent-encoding (RFC 3986 section 2) and hexadecimal
 */
#ifndef URL_H
#define URL_H

#include <stddef.h>
#include <stdbool.h>

/*
 * Encode n octets of s: all but A-Z a-z 0-9 - . _ ~ and the octets in `keep`
 * (for example "/") become %XX with upper-case digits. malloc'd.
 */
char *url_encode(const char *s, size_t n, const char *keep);
/*
 * Decode %XX once. A '%' that no two hex digits follow stays as it is when
 * lenient, else -EINVAL. *out is malloc'd and NUL-terminated, *n_out its length
 * (it may hold NULs: the caller decides).
 */
int url_decode(
    const char *s, size_t n, bool lenient, char **out, size_t *n_out);
/* 2n lower-case digits and a NUL to out. */
void hex_encode(const void *p, size_t n, char *out);
/* Exactly 2n digits to n octets; -EINVAL. */
int hex_decode(const char *s, void *out, size_t n);

#endif
