/*
 * seal.h - secrets at rest: AES-256-GCM under one key file
 *
 * The key is 32 random octets in a file of mode 0600, made at first start. Who
 * loses it loses the storages' credentials, not more: they are set anew.
 */
#ifndef SEAL_H
#define SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "digest.h"

struct seal;

/*
 * Read the key from path, or make it if make (durably). -errno; -EPERM: others
 * may read the file; -EBADMSG: it is no key.
 */
int seal_open(const char *path, bool make, struct seal **out);
/* With a key given, for tests and offline signing. */
struct seal *seal_new(const uint8_t key[32]);
void seal_close(struct seal *s);
/* Sixteen hex digits that tell one key from another. */
const char *seal_key_id(const struct seal *s);

/* base64 text of version, nonce, ciphertext, tag; `about` is authenticated and
 * must be the same when opened. malloc'd. */
char *seal_text(const struct seal *s, const char *about, const char *plain);
/* *plain_out is malloc'd. -EBADMSG: another key, another `about`, damage. */
int seal_untext(const struct seal *s, const char *about, const char *sealed,
    char **plain_out);
/* 16 hex digits that change with the secret and tell nothing of it. */
void seal_fingerprint(const struct seal *s, const char *secret, char out[17]);
/* A key for another use, derived from this one. */
void seal_derive(const struct seal *s, const char *use, struct hmac_key *out);

#endif
