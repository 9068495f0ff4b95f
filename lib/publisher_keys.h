/*
 * publisher_keys.h - whose manifests a gateway trusts
 */
#ifndef PUBLISHER_KEYS_H
#define PUBLISHER_KEYS_H

#include <stddef.h>

#include "minisign.h"

#define PUBLISHER_KEYS_MAX 16

/*
 * Read the setting publisher_key: blank separated keys, or files with one each.
 * NULL: none, *n_out is 0. Reads files. -EINVAL, -E2BIG or -errno of a file:
 * *why_out (malloc'd) says which and what to do.
 */
int publisher_keys_load(const char *list,
    struct minisign_public keys[PUBLISHER_KEYS_MAX], size_t *n_out,
    char **why_out);

#endif
