/*
 * publisher_conf.h - publisher.conf, of the workstation that publishes firmware
 */
#ifndef PUBLISHER_CONF_H
#define PUBLISHER_CONF_H

#include "conf.h"

struct publisher_conf {
	/* [publisher] */
	char *url;        /* of the signer, or its publish_address */
	char *token_file; /* role publisher */
	char *ca_file, *client_cert_file, *client_key_file;
	char *key_file;      /* the secret key of minisign */
	char *password_file; /* NULL: EDGEHAUL_KEY_PASSWORD, or asked for */
	char *other_keys;    /* public keys of fellow publishers; NULL */
	char *channel;
	int64_t expires_ms; /* how long a manifest is good */
	char *state_dir;    /* what a killed publish left; NULL: of the user */
	char *drop_dir;
	char *drop_keys; /* public keys; NULL: key_file's own */
	int64_t drop_interval_ms;
	bool allow_http;
};

extern const struct conf_table publisher_conf_table;

#endif
