/*
 * signer_conf.c - the settings of signer.conf
 */
#include "signer_conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "endpoint.h"
#include "store.h"
#include "xalloc.h"

// clang-format off
#define AT(field) offsetof(struct signer_conf, field)
#define RL CONF_F_RELOAD
static const struct conf_key keys[] = {
	/* section, name, type, at, default, min, max, words, flags, help */
	{ "signer", "address", CONF_ADDR, AT(address), "127.0.0.1:8090", NULL, NULL, NULL, 0,
	  "where gateways and operators call" },
	{ "signer", "metrics_address", CONF_ADDR, AT(metrics_address), NULL, NULL, NULL, NULL, 0,
	  "where /metrics and /health are served as well, without a token" },
	{ "signer", "publish_address", CONF_ADDR, AT(publish_address), NULL, NULL, NULL, NULL, 0,
	  "where publishers of firmware call, apart from gateways" },
	{ "signer", "client_ca_file", CONF_PATH, AT(client_ca_file), NULL, NULL, NULL, NULL, RL,
	  "authorities whose certificates publishers must show there" },
	{ "signer", "public_url", CONF_URL, AT(public_url), NULL, NULL, NULL, NULL, 0,
	  "how gateways reach this signer; from the address if not set" },
	{ "signer", "state_dir", CONF_PATH, AT(state_dir), "/var/lib/edgehaul-signer", NULL, NULL, NULL, 0,
	  "folder of the database and of the key that seals its secrets" },
	{ "signer", "database", CONF_TEXT, AT(database), "lmdb", NULL, NULL, NULL, CONF_F_SECRET,
	  "lmdb, in state_dir, or a postgresql:// URI" },
	{ "signer", "database_size", CONF_BYTES, AT(database_size), "1 GB", "1 MB", "1 TB", NULL, 0,
	  "most that the LMDB database may take" },
	{ "signer", "cert_file", CONF_PATH, AT(cert_file), NULL, NULL, NULL, NULL, RL,
	  "certificate and its chain in PEM, for https" },
	{ "signer", "key_file", CONF_PATH, AT(key_file), NULL, NULL, NULL, NULL, RL,
	  "the certificate's key in PEM" },
	{ "signer", "allow_http", CONF_BOOL, AT(allow_http), "no", NULL, NULL, NULL, 0,
	  "serve plain http on other addresses than loopback" },
	{ "signer", "allow_private", CONF_BOOL, AT(allow_private), "no", NULL, NULL, NULL, RL,
	  "call stores at private and loopback addresses" },
	{ "signer", "threads", CONF_INT, AT(threads), "4", "1", "64", NULL, 0,
	  "threads that sign" },
	{ "signer", "max_connections", CONF_INT, AT(max_connections), "4096", "16", "100000", NULL, RL,
	  "open connections" },

	{ "signer", "rate_limit", CONF_INT, AT(rate_limit), "1000", "1", "1000000", NULL, RL | CONF_F_NONE,
	  "requests a second that a token may make" },
	{ "signer", "audit_keep", CONF_MSEC, AT(audit_keep_ms), "400 d", "1 h", "36500 d", NULL, RL | CONF_F_NONE,
	  "how long records of the audit log are kept" },
	{ "signer", "devices_keep", CONF_MSEC, AT(devices_keep_ms), "90 d", "1 s", "36500 d", NULL, RL | CONF_F_NONE,
	  "how long it is kept what a device runs that is not heard of" },
	{ "signer", "devices_max", CONF_INT, AT(devices_max), "500000", "1", "100000000", NULL, RL,
	  "devices of a tenant of which is kept what they run" },

	{ "file_storage", "dir", CONF_PATH, AT(file_dir), NULL, NULL, NULL, NULL, 0,
	  "folder of the objects of FILE storages; files in state_dir if not set" },
	{ "file_storage", "max_size", CONF_BYTES, AT(file_max_size), "5 GB", "1 KB", "5 TB", NULL, RL,
	  "largest object" },
};
// clang-format on

/* Is HOST:PORT on this machine only? */
static bool
is_loopback(const char *address)
{
	return strncmp(address, "127.", 4) == 0 ||
	    strncmp(address, "[::1]:", 6) == 0 ||
	    strncmp(address, "localhost:", 10) == 0;
}

static void
check_address(const struct signer_conf *c, const char *name,
    const char *address, struct conf_problems *problems)
{
	if (address != NULL && c->cert_file == NULL && !c->allow_http &&
	    !is_loopback(address))
		conf_problem(problems, "signer", name,
		    "tokens would travel in clear: set cert_file and key_file "
		    "for https, or allow_http = yes behind a proxy that does "
		    "TLS");
}

static void
cross(void *conf, struct conf_problems *problems)
{
	struct signer_conf *c = conf;
	struct endpoint e = { 0 };

	if (c->public_url != NULL && endpoint_parse(c->public_url, &e) != 0)
		conf_problem(problems, "signer", "public_url",
		    "public_url: write https://HOST, https://HOST:PORT or "
		    "https://HOST/PREFIX");
	endpoint_fini(&e);
	if ((c->cert_file == NULL) != (c->key_file == NULL))
		conf_problem(problems, "signer",
		    c->cert_file != NULL ? "cert_file" : "key_file",
		    "cert_file and key_file are needed together");
	check_address(c, "address", c->address, problems);
	check_address(c, "publish_address", c->publish_address, problems);
	if (c->client_ca_file != NULL &&
	    (c->publish_address == NULL || c->cert_file == NULL))
		conf_problem(problems, "signer", "client_ca_file",
		    "client certificates are for publish_address, with "
		    "cert_file and key_file");
	if (store_name_wrong(c->database) != NULL)
		conf_problem(problems, "signer", "database", "%s",
		    store_name_wrong(c->database));
	if (c->file_dir == NULL && c->state_dir != NULL)
		c->file_dir = xasprintf("%s/files", c->state_dir);
}

const struct conf_table signer_conf_table = {
	.program = "edgehaul-signer",
	.size = sizeof(struct signer_conf),
	.keys = keys,
	.keys_n = sizeof(keys) / sizeof(keys[0]),
	.cross = cross,
};
