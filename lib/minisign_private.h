/*
 * minisign_private.h - what the halves of minisign share
 */
#ifndef MINISIGN_PRIVATE_H
#define MINISIGN_PRIVATE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Line `line` (from 0) of text, without CR and LF, malloc'd. NULL: there is
 * none, or it has over max octets.
 */
char *minisign_line(const char *text, size_t line, size_t max);
/*
 * The first line that is no comment, as base64 of exactly n octets; -EINVAL.
 */
int minisign_octets(const char *line, void *out, size_t n);

#endif
