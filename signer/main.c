/*
 * main.c - edgehaul-signer: storages, presigned requests, gateways
 *
 * One loop does all of HTTP; threads do what may wait: readers sign, writers
 * change the state, files keep the objects of FILE storages. Credentials never
 * leave the process but as signatures.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include <event2/event.h>
#include <openssl/ssl.h>

#include "api.h"
#include "ca_bundle.h"
#include "command.h"
#include "credential.h"
#include "daemon.h"
#include "file_storage.h"
#include "http_server.h"
#include "limit.h"
#include "log.h"
#include "outgoing.h"
#include "pool.h"
#include "seal.h"
#include "signer.h"
#include "signer_conf.h"
#include "storage_cache.h"
#include "store.h"
#include "tls.h"
#include "updates.h"
#include "watch.h"
#include "xalloc.h"

#define HEAD_MAX (32 * 1024)
#define STORAGES_READY 256
#define FILE_THREADS 4
#define WRITERS 1 /* LMDB has one at a time */
#define SHARED_WRITERS 4
#define TIDY_S 15
#define OUTGOING_THREADS 16 /* each may wait 10 s for somebody */

static const struct http_route routes[] = {
	{ "GET HEAD", "/health", api_on_health },
	{ "GET HEAD PUT DELETE", "/v1/files/*", file_storage_on_request },
	{ "GET HEAD POST PUT DELETE PATCH", "/*", api_on_request },
};

/* Publishers only, where they have an address of their own. */
static const struct http_route publish_routes[] = {
	{ "GET HEAD", "/health", api_on_health },
	{ "GET HEAD POST PUT DELETE", "/v1/firmware/*", api_on_publish },
	{ "GET HEAD POST PUT DELETE", "/v1/firmware", api_on_publish },
	{ "GET HEAD", "/v1/certificates/*", api_on_publish },
};

/* An address of their own: no token, not for everyone. */
static const struct http_route metrics_routes[] = {
	{ "GET HEAD", "/health", api_on_health },
	{ "GET HEAD", "/ready", metrics_on_ready },
	{ "GET HEAD", "/metrics", metrics_on_request },
};

/* ---- starting ------------------------------------------------------------ */

static bool
next_key_exists(const struct signer_conf *c)
{
	char *path = xasprintf("%s/seal.key.next", c->state_dir);
	bool exists = access(path, F_OK) == 0;

	free(path);
	return exists;
}

static int
open_seal(struct signer *sg)
{
	char *path = xasprintf("%s/seal.key", sg->conf->state_dir);
	bool made = access(path, F_OK) != 0;
	int rc = seal_open(path, true, &sg->seal);

	if (rc == 0 && made)
		log_warn("%s made: back it up, apart from the database; "
			 "without it no storage's secrets can be read",
		    path);
	if (rc == 0 && next_key_exists(sg->conf))
		log_error("%s.next is there: a rotation of the key was cut "
			  "off; run edgehaul-signer key rotate again, with the "
			  "signers stopped",
		    path);
	if (rc == -EPERM)
		log_error("%s may be read by others: chmod 600 it", path);
	else if (rc == -EBADMSG)
		log_error("%s is no key: restore it from a backup", path);
	else if (rc != 0)
		log_error("%s: %s", path, strerror(-rc));
	free(path);
	return rc == 0 ? 0 : EX_CANTCREAT;
}

static int
open_state(struct signer *sg)
{
	const struct signer_conf *c = sg->conf;
	char *why = NULL;
	int rc;

	if (mkdir(c->state_dir, 0700) != 0 && errno != EEXIST) {
		log_error("state_dir %s: %s", c->state_dir, strerror(errno));
		return EX_CANTCREAT;
	}
	rc = open_seal(sg);
	if (rc != 0)
		return rc;
	rc = store_open(c->database, c->state_dir, (uint64_t)c->database_size,
	    &sg->store, &why);
	if (rc != 0) {
		log_error("database: %s", why != NULL ? why : strerror(-rc));
		free(why);
		return EX_CANTCREAT;
	}
	rc = store_update(sg->store, signer_note_key, sg);
	if (rc != 0) {
		log_error("database: %s", strerror(-rc));
		return EX_CANTCREAT;
	}
	rc = file_storage_open(sg, &sg->file_storage);
	if (rc != 0) {
		log_error(
		    "[file_storage] dir %s: %s", c->file_dir, strerror(-rc));
		return EX_CANTCREAT;
	}
	return 0;
}

static int
open_tls(const struct signer_conf *c, const char *client_ca, SSL_CTX **ctx_out)
{
	const char *why;
	int rc;

	*ctx_out = NULL;
	if (c->cert_file == NULL)
		return 0;
	rc =
	    tls_server_ctx(c->cert_file, c->key_file, client_ca, ctx_out, &why);
	if (rc != 0)
		log_error("cert_file %s, key_file %s%s%s: %s", c->cert_file,
		    c->key_file, client_ca != NULL ? ", client_ca_file " : "",
		    client_ca != NULL ? client_ca : "", why);
	return rc;
}

/* The certificate, and with it the authority of publishers' ones. */
static int
signer_check(const void *conf)
{
	const struct signer_conf *c = conf;
	SSL_CTX *tls;
	int rc = open_tls(c, c->client_ca_file, &tls);

	SSL_CTX_free(tls);
	return rc != 0 ? EX_CONFIG : 0;
}

/* Where gateways reach us: as set, else where we listen. */
static char *
public_url(const struct signer *sg)
{
	const struct signer_conf *c = sg->conf;
	const char *colon = strrchr(c->address, ':');
	size_t n;

	if (c->public_url != NULL) {
		for (n = strlen(c->public_url);
		     n > 0 && c->public_url[n - 1] == '/';)
			n--;
		return xstrndup(c->public_url, n);
	}
	n = colon != NULL ? (size_t)(colon - c->address) : strlen(c->address);
	return xasprintf("%s://%.*s:%d",
	    c->cert_file != NULL ? "https" : "http", (int)n, c->address,
	    http_server_port(sg->http, "api"));
}

static void
http_settings(const struct signer_conf *c, struct http_settings *s)
{
	http_settings_default(s);
	s->head_max = HEAD_MAX;
	s->max_connections = (unsigned)c->max_connections;
	s->max_per_address = 0; /* gateways stand behind proxies */
	s->idle_timeout_ms = 65000;
	s->problems = true;
}

static int
listen_publish(struct signer *sg, const struct http_settings *s)
{
	const struct signer_conf *c = sg->conf;
	SSL_CTX *tls;
	int rc;

	if (open_tls(c, c->client_ca_file, &tls) != 0)
		return EX_CONFIG;
	sg->publish_http = http_server_new(sg->base, s, publish_routes,
	    sizeof(publish_routes) / sizeof(publish_routes[0]), sg);
	rc = http_server_listen(
	    sg->publish_http, "publish", c->publish_address, tls);
	SSL_CTX_free(tls);
	if (rc != 0)
		log_error("cannot listen on %s: %s", c->publish_address,
		    strerror(-rc));
	return rc == 0 ? 0 : EX_UNAVAILABLE;
}

static int
listen_all(struct signer *sg)
{
	const struct signer_conf *c = sg->conf;
	struct http_settings s;
	SSL_CTX *tls;
	int rc;

	if (open_tls(c, NULL, &tls) != 0)
		return EX_CONFIG;
	http_settings(c, &s);
	sg->http = http_server_new(
	    sg->base, &s, routes, sizeof(routes) / sizeof(routes[0]), sg);
	rc = http_server_listen(sg->http, "api", c->address, tls);
	if (tls != NULL)
		sg->certificate_ends_s = ca_bundle_file_ends(c->cert_file);
	SSL_CTX_free(tls);
	if (rc == 0)
		sg->env.public_url = public_url(sg);
	else
		log_error("cannot listen on %s: %s", c->address, strerror(-rc));
	if (rc == 0 && c->metrics_address != NULL) {
		sg->metrics_http = http_server_new(sg->base, &s, metrics_routes,
		    sizeof(metrics_routes) / sizeof(metrics_routes[0]), sg);
		rc = http_server_listen(
		    sg->metrics_http, "metrics", c->metrics_address, NULL);
		if (rc != 0)
			log_error("cannot listen on %s: %s", c->metrics_address,
			    strerror(-rc));
	}
	if (rc == 0 && c->publish_address != NULL)
		return listen_publish(sg, &s);
	return rc == 0 ? 0 : EX_UNAVAILABLE;
}

/* What a busy time has left in the heap goes back when it is over. */
static void
on_tidy(evutil_socket_t fd, short what, void *arg)
{
	struct signer *sg = arg;

	if (pool_busy(sg->readers) + pool_busy(sg->writers) +
		pool_busy(sg->files) ==
	    0)
		malloc_trim(0);
}

static void
signer_free(void *self)
{
	struct signer *sg = self;

	sg->stopping = true;
	if (sg->tidy != NULL)
		event_free(sg->tidy);
	http_server_free(sg->http);
	http_server_free(sg->metrics_http);
	http_server_free(sg->publish_http);
	pool_free(sg->readers);
	pool_free(sg->writers);
	pool_free(sg->files);
	pool_free(sg->outgoing);
	credentials_free(sg->credentials);
	updates_free(sg->updates);
	watch_free(sg->watch);
	file_storage_close(sg->file_storage);
	storage_cache_free(sg->cache);
	store_close(sg->store);
	seal_close(sg->seal);
	free(sg->sealed_by);
	limit_free(sg->limit);
	free(sg->env.public_url);
	outgoing_fini();
	free(sg);
}

static int
signer_start(struct event_base *base, const void *conf, void **self_out)
{
	struct signer *sg = xcalloc(1, sizeof(*sg));
	int rc;

	sg->base = base;
	sg->conf = conf;
	sg->limit = limit_new();
	outgoing_init();
	rc = open_state(sg);
	if (rc == 0) {
		seal_derive(sg->seal, "file-uri", &sg->env.file_key);
		sg->cache =
		    storage_cache_new(sg->seal, &sg->env, STORAGES_READY);
		sg->updates = updates_new(sg);
		sg->readers = pool_new(base, (unsigned)sg->conf->threads);
		sg->writers = pool_new(
		    base, sg->store->ops->shared ? SHARED_WRITERS : WRITERS);
		sg->files = pool_new(base, FILE_THREADS);
		sg->outgoing = pool_new(base, OUTGOING_THREADS);
		sg->credentials = credentials_new(sg);
		sg->tidy = event_new(base, -1, EV_PERSIST, on_tidy, sg);
		event_add(sg->tidy, &(struct timeval){ TIDY_S, 0 });
		rc = listen_all(sg);
	}
	if (rc != 0) {
		signer_free(sg);
		return rc;
	}
	sg->watch = watch_new(sg); /* env.public_url is known now */
	*self_out = sg;
	return 0;
}

/* ---- running ------------------------------------------------------------- */

static void
signer_reload(void *self, const void *conf)
{
	struct signer *sg = self;
	struct http_settings s;
	SSL_CTX *tls;

	sg->conf = conf;
	http_settings(conf, &s);
	http_server_settings(sg->http, &s);
	if (open_tls(conf, NULL, &tls) == 0 && tls != NULL) {
		http_server_set_tls(sg->http, "api", tls);
		sg->certificate_ends_s =
		    ca_bundle_file_ends(sg->conf->cert_file);
	}
	SSL_CTX_free(tls);
	if (sg->publish_http == NULL)
		return;
	http_server_settings(sg->publish_http, &s);
	if (open_tls(conf, sg->conf->client_ca_file, &tls) == 0 && tls != NULL)
		http_server_set_tls(sg->publish_http, "publish", tls);
	SSL_CTX_free(tls);
}

static void
on_drained(void *arg)
{
	struct signer *sg = arg;

	event_base_loopexit(sg->base, NULL);
}

static void
on_publish_drained(void *arg)
{
	struct signer *sg = arg;

	http_server_drain(sg->http, on_drained, sg);
}

static void
signer_stop(void *self)
{
	struct signer *sg = self;

	sg->stopping = true;
	outgoing_stop();
	updates_stop(sg->updates);
	if (sg->publish_http != NULL)
		http_server_drain(sg->publish_http, on_publish_drained, sg);
	else
		on_publish_drained(sg);
}

static int
signer_command(const void *conf, int argc, char **argv)
{
	if (strcmp(argv[0], "token") == 0)
		return command_token(conf, argc, argv);
	if (strcmp(argv[0], "key") == 0)
		return command_key(conf, argc, argv);
	if (strcmp(argv[0], "sign") == 0)
		return command_sign(argc, argv);
	fprintf(stderr, "edgehaul-signer: there is no command %s; see --help\n",
	    argv[0]);
	return EX_USAGE;
}

static bool
wants_conf(const char *name)
{
	return strcmp(name, "token") == 0 || strcmp(name, "key") == 0;
}

int
main(int argc, char **argv)
{
	static const struct daemon_app app = {
		.program = "edgehaul-signer",
		.summary = "presigned requests for edgehaul gateways",
		.usage_more =
		    "  token create --tenant T --role root|admin|publisher|"
		    "gateway [--gateway ID]\n"
		    "  key rotate   seal all secrets with a new key\n"
		    "  sign --storage FILE.json --method PUT --key KEY   sign "
		    "offline\n",
		.config = "/etc/edgehaul/signer.conf",
		.table = &signer_conf_table,
		.check = signer_check,
		.start = signer_start,
		.reload = signer_reload,
		.stop = signer_stop,
		.free = signer_free,
		.command = signer_command,
		.command_wants_conf = wants_conf,
	};

	return daemon_main(argc, argv, &app);
}
