/*
 * signer_conf.h - signer.conf
 */
#ifndef SIGNER_CONF_H
#define SIGNER_CONF_H

#include "conf.h"

struct signer_conf {
	/* [signer] */
	char *address, *metrics_address, *public_url;
	char *publish_address, *client_ca_file;
	char *state_dir, *database;
	int64_t database_size;
	char *cert_file, *key_file;
	bool allow_private, allow_http;
	int64_t threads, max_connections, rate_limit, audit_keep_ms;
	int64_t devices_keep_ms, devices_max;
	/* [file_storage] */
	char *file_dir;
	int64_t file_max_size;
};

extern const struct conf_table signer_conf_table;

#endif
