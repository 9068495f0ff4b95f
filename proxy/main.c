/*
 * main.c - edgehaul-proxy: takes uploads on the LAN
 *
 * One event loop; disks are waited for by the spool's threads. The proxy holds
 * no credential and opens no connection: it talks to the agent through the
 * spool, a doorbell and, for the operator, a Unix socket.
 */
#include "proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sysexits.h>
#include <event2/event.h>
#include <openssl/ssl.h>

#include "access.h"
#include "blocks.h"
#include "clock.h"
#include "daemon.h"
#include "devices.h"
#include "doorbell.h"
#include "firmware.h"
#include "gateway_conf.h"
#include "http_server.h"
#include "log.h"
#include "shares.h"
#include "spool.h"
#include "tls.h"
#include "upload.h"
#include "xalloc.h"

// clang-format off
#define DDI "/firmware/ddi/:tenant/controller/v1/:id"
static const struct http_route lan_routes[] = {
	{ "GET HEAD", "/-/status.json", on_status_json },
	{ "GET HEAD", "/-/health",      on_health },
	{ "GET HEAD", "/-/metrics",     on_metrics },
	{ "GET HEAD", "/-/uploads/:id", on_upload_query },
	{ "GET HEAD", "/-/*",           on_page_nothing },
	{ "GET HEAD", "/-",             on_page_nothing },
	{ "PUT POST", "/-/*",           on_reserved_path },
	{ "PUT POST", "/-",             on_reserved_path },
	{ "GET HEAD", "/firmware/b/:sha256", on_blob },
	{ "GET HEAD", "/firmware/b/:sha256/*", on_blob },
	{ "GET HEAD", "/firmware/check", on_firmware_check },
	{ "GET HEAD", DDI, on_ddi_poll },
	{ "GET HEAD", DDI "/deploymentBase/:action", on_ddi_deployment },
	{ "POST",     DDI "/deploymentBase/:action/feedback", on_ddi_feedback },
	{ "GET HEAD", DDI "/cancelAction/:action", on_ddi_cancel },
	{ "POST",     DDI "/cancelAction/:action/feedback", on_ddi_feedback },
	{ "PUT",      DDI "/configData", on_ddi_config },
	{ "GET HEAD", "/firmware/m/:name/*", on_mirror },
	{ "GET HEAD", "/firmware/*",    on_firmware_nothing },
	{ "GET HEAD", "/firmware",      on_firmware_nothing },
	{ "PUT POST", "/firmware/*",    on_reserved_path },
	{ "PUT POST", "/firmware",      on_reserved_path },
	{ "PUT POST", "/*",             on_upload },
};
static const struct http_route control_routes[] = {
	{ "GET HEAD", "/-/status.json", on_status_json },
	{ "GET HEAD", "/-/health",      on_health },
	{ "GET HEAD", "/-/metrics",     on_metrics },
	{ "GET HEAD", "/-/uploads/:id", on_upload_query },
	{ "GET",      "/firmware/devices", on_firmware_devices },
	{ "GET",      "/queue",         on_queue },
	{ "GET",      "/queue/:id",     on_upload_query },
	{ "GET",      "/spool/check",   on_check },
	{ "POST",     "/spool/check",   on_check_start },
};
// clang-format on
#define HOUSEWORK_S 1
#define COLLECT_MAX (4u << 20) /* of all feedback that devices send at once */
#define OWN_FILES 96           /* spool, index, folders, sockets of our own */
#define N(a) (sizeof(a) / sizeof((a)[0]))

static void
on_spool_change(void *arg)
{
	struct proxy *px = arg;

	doorbell_ring(px->bell, px->agent_bell, "ring");
}

static void
on_housework(evutil_socket_t fd, short what, void *arg)
{
	struct proxy *px = arg;

	if (blocks_refresh(px->blocks)) /* a ring may be lost */
		firmware_blocked(px->firmware);
	if (px->conf->max_age_ms != CONF_NONE)
		spool_expire(px->spool, px->conf->max_age_ms);
	devices_look(px->devices, clock_ms());
	firmware_tick(px->firmware);
}

static void
on_ring(const char *msg, size_t n, void *arg)
{
	struct proxy *px = arg;

	if (px->blocks != NULL && strncmp(msg, "blocked ", 8) == 0) {
		if (blocks_told(px->blocks, msg + 8, n - 8) &&
		    px->firmware != NULL)
			firmware_blocked(px->firmware);
	} else if (px->firmware == NULL || !firmware_told(px->firmware, msg))
		page_agent_told(px, msg, n);
}

/* Each upload takes two descriptors, its connection and its file: no more are
 * let in than can be served. */
static unsigned
connections_of(const struct gateway_conf *c)
{
	struct rlimit rl;
	uint64_t max = (uint64_t)c->max_connections, fit;

	if (getrlimit(RLIMIT_NOFILE, &rl) != 0 || rl.rlim_cur == RLIM_INFINITY)
		return (unsigned)max;
	fit = rl.rlim_cur > 2 * OWN_FILES ? (rl.rlim_cur - OWN_FILES) / 2
					  : OWN_FILES / 2;
	if (fit >= max)
		return (unsigned)max;
	log_warn("[limits] max_connections = %llu: only %llu fit the limit of "
		 "%llu open files: raise LimitNOFILE= or ulimit -n",
	    (unsigned long long)max, (unsigned long long)fit,
	    (unsigned long long)rl.rlim_cur);
	return (unsigned)fit;
}

static struct http_settings
settings_of(const struct gateway_conf *c)
{
	struct http_settings s;

	http_settings_default(&s);
	s.head_timeout_ms = c->head_timeout_ms;
	s.min_rate = (uint64_t)c->min_rate;
	s.collect_max = COLLECT_MAX;
	s.max_connections = connections_of(c);
	s.max_per_address =
	    c->max_per_address != CONF_NONE ? (unsigned)c->max_per_address : 0;
	s.close_delimited = c->close_delimited;
	return s;
}

static uint64_t
floor_octets(const struct gateway_conf *c)
{
	struct statvfs fs;

	if (!c->free_floor.is_percent)
		return (uint64_t)c->free_floor.bytes;
	if (statvfs(c->state_dir, &fs) != 0)
		return 0;
	return (uint64_t)((double)fs.f_blocks * (double)fs.f_frsize *
	    c->free_floor.percent / 100);
}

static void
on_behind(bool behind, void *arg)
{
	struct proxy *px = arg;

	log_debug("the disk is %s", behind ? "behind" : "in step again");
	if (px->lan != NULL)
		http_server_hold(px->lan, behind);
}

static int
open_spool(struct proxy *px)
{
	const struct gateway_conf *c = px->conf;
	struct spool_options opt = { .max_size = (uint64_t)c->max_size,
		.index_size = c->index_size > 0 ? (uint64_t)c->index_size : 0,
		.sync_single = c->sync_order == SYNC_SINGLE,
		.max_upload = UINT64_MAX, /* upload.c knows the camera's */
		.on_behind = on_behind,
		.behind_arg = px,
		.scrub_pause_ms =
		    c->scrub_pause_ms != CONF_NONE ? c->scrub_pause_ms : 0 };
	char *dir = gateway_conf_path(c, "spool"), *why;
	int rc;

	rc = spool_make_dirs(c->state_dir);
	if (rc != 0)
		log_warn("%s: %s", c->state_dir, strerror(-rc));
	opt.free_floor = floor_octets(c);
	shares_least(c, &opt.share, &opt.share_files);
	rc = spool_open(px->base, dir, SPOOL_WRITER, &opt, &px->spool, &why);
	if (rc == -EBUSY)
		log_error("%s: another edgehaul-proxy is using it: stop that "
			  "one first",
		    dir);
	else if (rc != 0)
		log_error("%s: %s", dir,
		    why != NULL ? why
			: rc == -EACCES || rc == -EPERM
			? "no permission: give "
			  "it to the proxy's user"
			: strerror(-rc));
	free(why);
	free(dir);
	return rc;
}

/* If each upload will ask for its name, be ready for it. */
static void
prepare_names(struct proxy *px)
{
	bool asks = px->conf->on_same_name != SAME_NAME_KEEP_BOTH;

	for (size_t i = 0; i < px->conf->cameras_n; i++)
		asks = asks ||
		    shares_same_name(px->conf, &px->conf->cameras[i]) !=
			SAME_NAME_KEEP_BOTH;
	if (asks)
		spool_prepare_names(px->spool);
}

static int
open_run_dir(struct proxy *px)
{
	char *bell = gateway_conf_path(px->conf, "proxy.bell");
	int rc;

	if (mkdir(px->conf->run_dir, 0770) != 0 && errno != EEXIST)
		log_error("%s: %s: make it, or set [gateway] run_dir",
		    px->conf->run_dir, strerror(errno));
	rc = doorbell_open(px->base, bell, on_ring, px, &px->bell);
	if (rc != 0)
		log_error("%s: %s", bell, strerror(-rc));
	px->agent_bell = gateway_conf_path(px->conf, "agent.bell");
	free(bell);
	return rc;
}

/* Certificate and key, read again on SIGHUP. NULL: said why in the log. */
static struct ssl_ctx_st *
load_tls(const struct gateway_conf *c)
{
	struct ssl_ctx_st *tls = NULL;
	const char *why;

	if (tls_server_ctx(c->cert_file, c->key_file, NULL, &tls, &why) != 0)
		log_error("[listen] cert_file %s, key_file %s: %s",
		    c->cert_file, c->key_file, why);
	return tls;
}

static void
reload_tls(struct proxy *px)
{
	struct ssl_ctx_st *tls;

	if (px->conf->tls_address == NULL || (tls = load_tls(px->conf)) == NULL)
		return;
	http_server_set_tls(px->lan, "lan-tls", tls);
	SSL_CTX_free(tls);
}

static int
listen_tls(struct proxy *px)
{
	struct ssl_ctx_st *tls;
	int rc;

	if (px->conf->tls_address == NULL)
		return 0;
	tls = load_tls(px->conf);
	if (tls == NULL)
		return -EINVAL;
	rc = http_server_listen(px->lan, "lan-tls", px->conf->tls_address, tls);
	if (rc != 0)
		log_error("[listen] tls_address %s: %s", px->conf->tls_address,
		    strerror(-rc));
	SSL_CTX_free(tls);
	return rc;
}

static int
listen_all(struct proxy *px)
{
	struct http_settings s = settings_of(px->conf);
	char *path = gateway_conf_path(px->conf, "proxy.sock");
	char *address = xasprintf("unix:%s", path);
	int rc;

	px->lan = http_server_new(px->base, &s, lan_routes, N(lan_routes), px);
	px->control = http_server_new(
	    px->base, &s, control_routes, N(control_routes), px);
	rc = http_server_listen(px->control, "control", address, NULL);
	if (rc != 0)
		log_error("%s: %s", address, strerror(-rc));
	if (rc == 0) {
		rc =
		    http_server_listen(px->lan, "lan", px->conf->address, NULL);
		if (rc != 0)
			log_error("[listen] address %s: %s", px->conf->address,
			    strerror(-rc));
	}
	if (rc == 0)
		rc = listen_tls(px);
	free(address);
	free(path);
	return rc;
}

static void
proxy_free(void *self)
{
	struct proxy *px = self;

	if (px == NULL)
		return;
	if (px->housework != NULL)
		event_free(px->housework);
	http_server_free(px->lan);
	px->lan = NULL;
	http_server_free(px->control);
	firmware_free(px->firmware);
	spool_close(px->spool);
	access_free(px->access);
	blocks_free(px->blocks);
	devices_free(px->devices);
	doorbell_close(px->bell);
	refusals_fini(&px->refusals);
	free(px->agent_bell);
	free(px->agent_status);
	free(px);
}

static int
proxy_start(struct event_base *base, const void *conf, void **self_out)
{
	struct proxy *px = xcalloc(1, sizeof(*px));
	int rc;

	px->base = base;
	px->conf = conf;
	TAILQ_INIT(&px->standing);
	px->started_ms = clock_ms();
	px->access = access_new(conf);
	px->devices = devices_new(conf, px->started_ms);
	rc = open_run_dir(px);
	if (rc == 0)
		rc = open_spool(px);
	if (rc == 0) {
		struct timeval every = { HOUSEWORK_S, 0 };

		px->blocks = blocks_new(px->conf->state_dir);
		px->firmware = firmware_new(px);
		spool_on_change(px->spool, on_spool_change, px);
		prepare_names(px);
		px->housework =
		    event_new(base, -1, EV_PERSIST, on_housework, px);
		event_add(px->housework, &every);
		rc = listen_all(px);
	}
	if (rc != 0) {
		proxy_free(px);
		return rc == -EACCES || rc == -EPERM    ? EX_NOPERM
		    : rc == -EBUSY || rc == -EADDRINUSE ? EX_TEMPFAIL
							: EX_IOERR;
	}
	*self_out = px;
	return 0;
}

static void
proxy_reload(void *self, const void *conf)
{
	struct proxy *px = self;
	struct http_settings s = settings_of(conf);
	uint64_t octets, files;

	px->conf = conf;
	http_server_settings(px->lan, &s);
	shares_least(conf, &octets, &files);
	spool_set_share(px->spool, octets, files);
	prepare_names(px);
	access_free(px->access);
	px->access = access_new(conf);
	devices_reload(px->devices, conf, clock_ms());
	firmware_reload(px->firmware);
	reload_tls(px);
}

static void
on_drained(void *arg)
{
	struct proxy *px = arg;

	event_base_loopexit(px->base, NULL);
}

static void
proxy_stop(void *self)
{
	struct proxy *px = self;

	http_server_drain(px->lan, on_drained, px);
}

int
main(int argc, char **argv)
{
	static const struct daemon_app app = {
		.program = "edgehaul-proxy",
		.summary = "takes uploads on the LAN and keeps them safe",
		.config = SYSCONFDIR "/edgehaul/gateway.conf",
		.table = &gateway_conf_table,
		.start = proxy_start,
		.reload = proxy_reload,
		.stop = proxy_stop,
		.free = proxy_free,
	};

	return daemon_main(argc, argv, &app);
}
