/*
 * minisign.h - signatures of manifests, as stock minisign makes and checks them
 *
 * Ed25519 over BLAKE2b-512 of the file (algorithm "ED"; "Ed" over the file
 * itself is read too), and over signature and trusted comment. Formats:
 * https://jedisct1.github.io/minisign/ "Signature format", "Public key format",
 * "Secret key format". Secret keys are held in wiped memory. All calls work in
 * memory and may take long only where a password is stretched.
 */
#ifndef MINISIGN_H
#define MINISIGN_H

#include <stddef.h>
#include <stdint.h>

#define MINISIGN_COMMENT_MAX 1024
#define MINISIGN_SIGNATURE_MAX 4096 /* octets of a .minisig file */

struct minisign_public {
	uint8_t id[8];
	uint8_t key[32];
};
struct minisign_secret {
	uint8_t id[8];
	uint8_t key[64]; /* seed and public key */
};

/*
 * One public key: the text of a .pub file, or its second line alone. -EINVAL.
 */
int minisign_public_parse(const char *text, struct minisign_public *p_out);
/* The two lines of a .pub file; malloc'd. */
char *minisign_public_text(const struct minisign_public *p);
/*
 * The text of a secret key file; password NULL for one without. -EINVAL,
 * -EACCES: the password is wrong or missing, -EOPNOTSUPP: a derivation that
 * this OpenSSL cannot do.
 */
int minisign_secret_parse(
    const char *text, const char *password, struct minisign_secret *s_out);
/* A new pair; the secret key's file text is malloc'd (wipe, then free). */
int minisign_generate(const char *password, struct minisign_public *p_out,
    char **secret_text_out);
/*
 * Sign data; comment has no CR or LF. The text of a .minisig file, malloc'd.
 */
int minisign_sign(const struct minisign_secret *s, const void *data, size_t n,
    const char *comment, char **signature_out);
/*
 * Check data against the text of a .minisig file. 0, or -EINVAL (it is none),
 * -ENOKEY (made by a key that is not among keys), -EBADMSG (does not fit).
 * comment_out (may be NULL): the trusted comment.
 */
int minisign_verify(const struct minisign_public *keys, size_t keys_n,
    const void *data, size_t n, const char *signature,
    char comment_out[MINISIGN_COMMENT_MAX]);

#endif
