/*
 * command.h - what edgehaul-signer does besides serving
 */
#ifndef COMMAND_H
#define COMMAND_H

struct signer_conf;

/* "token create --tenant T --role R [--gateway ID] [--expires P90D]": prints
 * the token. The exit code. */
int command_token(const struct signer_conf *conf, int argc, char **argv);
/* "key rotate": seals all secrets with a new key. The exit code. */
int command_key(const struct signer_conf *conf, int argc, char **argv);
/* "sign --storage FILE ...": prints {method, uri, headers, expiresAt}. */
int command_sign(int argc, char **argv);

#endif
