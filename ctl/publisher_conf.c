/*
 * publisher_conf.c - the settings of publisher.conf
 */
#include "publisher_conf.h"

#include <string.h>

#include "manifest.h"

// clang-format off
#define AT(field) offsetof(struct publisher_conf, field)
#define S "publisher"
static const struct conf_key keys[] = {
	/* section, name, type, at, default, min, max, words, flags, help */
	{ S, "url", CONF_URL, AT(url), NULL, NULL, NULL, NULL, 0,
	  "the signer, at its publish_address if it has one" },
	{ S, "token_file", CONF_PATH, AT(token_file), NULL, NULL, NULL, NULL, 0,
	  "file with a token of role publisher" },
	{ S, "ca_file", CONF_PATH, AT(ca_file), NULL, NULL, NULL, NULL, 0,
	  "authorities of the signer's certificate, PEM; the system's if not set" },
	{ S, "client_cert_file", CONF_PATH, AT(client_cert_file), NULL, NULL, NULL, NULL, 0,
	  "certificate to show to the signer, PEM" },
	{ S, "client_key_file", CONF_PATH, AT(client_key_file), NULL, NULL, NULL, NULL, 0,
	  "its private key, PEM" },
	{ S, "key_file", CONF_PATH, AT(key_file), NULL, NULL, NULL, NULL, 0,
	  "secret key that signs manifests, of minisign or edgehaul firmware keygen" },
	{ S, "password_file", CONF_PATH, AT(password_file), NULL, NULL, NULL, NULL, 0,
	  "file with the password of key_file" },
	{ S, "other_keys", CONF_TEXT, AT(other_keys), NULL, NULL, NULL, NULL, 0,
	  "public keys (or files of them) of others who sign manifests of these products" },
	{ S, "channel", CONF_TEXT, AT(channel), "stable", NULL, NULL, NULL, 0,
	  "channel of releases where --channel names none" },
	{ S, "expires", CONF_MSEC, AT(expires_ms), "90 d", "1 h", "730 d", NULL, 0,
	  "how long gateways begin new rollouts without a newer manifest" },
	{ S, "state_dir", CONF_PATH, AT(state_dir), NULL, NULL, NULL, NULL, 0,
	  "folder for what is under way; ~/.local/state/edgehaul if not set" },
	{ S, "drop_dir", CONF_PATH, AT(drop_dir), NULL, NULL, NULL, NULL, 0,
	  "folder that edgehaul firmware drop takes files from" },
	{ S, "drop_keys", CONF_TEXT, AT(drop_keys), NULL, NULL, NULL, NULL, 0,
	  "public keys (or files of them) that sign files for it; that of key_file if not set" },
	{ S, "drop_interval", CONF_MSEC, AT(drop_interval_ms), "10 s", "100 ms", "1 d", NULL, 0,
	  "how often it looks" },
	{ S, "allow_http", CONF_BOOL, AT(allow_http), "no", NULL, NULL, NULL, 0,
	  "plain http to signer and store, beyond this machine" },
};
// clang-format on

static void
cross(void *conf, struct conf_problems *problems)
{
	struct publisher_conf *c = conf;

	if ((c->client_cert_file == NULL) != (c->client_key_file == NULL))
		conf_problem(problems, S,
		    c->client_cert_file != NULL ? "client_cert_file"
						: "client_key_file",
		    "client_cert_file and client_key_file are needed "
		    "together");
	if (c->channel != NULL && !firmware_product_ok(c->channel))
		conf_problem(problems, S, "channel",
		    "1 to 64 of a-z 0-9 . _ - and no leading dot");
}

const struct conf_table publisher_conf_table = {
	.program = "edgehaul firmware",
	.size = sizeof(struct publisher_conf),
	.keys = keys,
	.keys_n = sizeof(keys) / sizeof(keys[0]),
	.cross = cross,
};
