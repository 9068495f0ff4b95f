/*
 * main.c - edgehaul-agent: brings uploads from the spool to their stores
 *
 * One event loop; disks are waited for by the spool's threads and by the
 * readers of bodies. The agent listens nowhere but on a Unix socket for the
 * operator. While the spool is not there yet (the proxy makes it), all else
 * runs and the spool is looked for each second.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <event2/event.h>

#include "agent.h"
#include "body.h"
#include "certificates.h"
#include "clock.h"
#include "control.h"
#include "daemon.h"
#include "doorbell.h"
#include "firmware.h"
#include "http_server.h"
#include "image.h"
#include "leftovers.h"
#include "log.h"
#include "report.h"
#include "scheduler.h"
#include "signer_client.h"
#include "spool.h"
#include "status.h"
#include "transfer.h"
#include "updates.h"
#include "xalloc.h"

/* Readers of bodies: more than a disk needs, few enough to be small. */
#define READERS 4
#define KEEP_CONNECTIONS 64
#define MANY 32 /* uploads at a time from which each gets less memory */

static void
on_queue(struct http_request *rq, void *arg)
{
	struct agent *a = arg;

	if (a->spool == NULL)
		http_reply_error(rq, 503, "the spool is not there yet",
		    "start edgehaul-proxy, which makes it");
	else
		control_queue(rq, a->spool);
}

static void
on_queue_item(struct http_request *rq, void *arg)
{
	struct agent *a = arg;

	if (a->spool == NULL)
		http_reply_error(rq, 503, "the spool is not there yet",
		    "start edgehaul-proxy, which makes it");
	else
		control_upload(rq, a->spool);
}

// clang-format off
static const struct http_route control_routes[] = {
	{ "GET HEAD", "/status",    on_status },
	{ "GET",      "/queue",     on_queue },
	{ "GET",      "/queue/:id", on_queue_item },
};
// clang-format on

static void
on_ring(const char *msg, size_t n, void *arg)
{
	struct agent *a = arg;

	if (!firmware_ring(a->firmware, msg) && a->scheduler != NULL)
		scheduler_ring(a->scheduler);
}

static void
on_signer_back(void *arg)
{
	struct agent *a = arg;

	if (a->scheduler != NULL)
		scheduler_signer_back(a->scheduler);
}

/* ---- the spool ----------------------------------------------------------- */

static int
try_open(struct agent *a)
{
	const struct gateway_conf *c = a->conf;
	struct spool_options opt = { .max_size = (uint64_t)c->max_size,
		.index_size = c->index_size > 0 ? (uint64_t)c->index_size : 0,
		.max_upload = (uint64_t)c->max_upload };
	char *dir = gateway_conf_path(c, "spool"), *why = NULL;
	int rc = spool_open(a->base, dir, SPOOL_DRAINER, &opt, &a->spool, &why);

	if (rc != 0 && rc != a->told_rc)
		log_warn("%s: %s; looked for each second", dir,
		    why != NULL         ? why
			: rc == -ENOENT ? "not there yet: edgehaul-proxy makes "
					  "it at its first start"
			: rc == -EBUSY  ? "another edgehaul-agent is using it"
			: rc == -EACCES ? "no permission: the agent's user "
					  "must be in the group of the proxy"
					: strerror(-rc));
	a->told_rc = rc;
	free(why);
	free(dir);
	return rc;
}

static void
on_open_timer(evutil_socket_t fd, short what, void *arg)
{
	struct agent *a = arg;
	struct timeval tv = { 1, 0 };
	char *dir;

	if (try_open(a) != 0) {
		event_add(a->open_timer, &tv);
		return;
	}
	log_info("spool open");
	a->bodies = body_pool_new(a->base, a->spool, READERS,
	    a->conf->parallel > MANY ? BODY_PIECES_MIN : BODY_PIECES);
	dir = gateway_conf_path(a->conf, "spool");
	a->images = images_new(a->base, a->spool, dir);
	free(dir);
	a->scheduler = scheduler_new(a);
	a->updates = updates_new(a);
	a->reports = reports_new(a);
	a->leftovers = leftovers_new(a);
}

/* ---- life ---------------------------------------------------------------- */

static struct signer_settings
signer_set(const struct gateway_conf *c)
{
	struct signer_settings set = { .urls = c->signer_url,
		.token_file = c->token_file,
		.ca_file = c->ca_file,
		.proxy = c->upload_proxy };

	return set;
}

static int64_t
rate_of(const struct gateway_conf *c)
{
	return c->rate_limit == CONF_NONE ? 0 : c->rate_limit;
}

static int
open_run_dir(struct agent *a)
{
	char *bell = gateway_conf_path(a->conf, "agent.bell");
	char *sock = gateway_conf_path(a->conf, "agent.sock");
	char *address = xasprintf("unix:%s", sock);
	struct http_settings s;
	int rc;

	if (mkdir(a->conf->run_dir, 0770) != 0 && errno != EEXIST)
		log_error("%s: %s: make it, or set [gateway] run_dir",
		    a->conf->run_dir, strerror(errno));
	a->proxy_bell = gateway_conf_path(a->conf, "proxy.bell");
	rc = doorbell_open(a->base, bell, on_ring, a, &a->bell);
	if (rc != 0)
		log_error("%s: %s", bell, strerror(-rc));
	http_settings_default(&s);
	s.max_connections = 32;
	a->control = http_server_new(a->base, &s, control_routes,
	    sizeof(control_routes) / sizeof(*control_routes), a);
	if (rc == 0) {
		rc = http_server_listen(a->control, "control", address, NULL);
		if (rc != 0)
			log_error("%s: %s", address, strerror(-rc));
	}
	free(address);
	free(sock);
	free(bell);
	return rc;
}

static void
agent_free(void *self)
{
	struct agent *a = self;

	event_free(a->open_timer);
	status_end(a);
	http_server_free(a->control);
	if (a->scheduler != NULL)
		scheduler_stop(a->scheduler);
	updates_stop(a->updates);
	reports_stop(a->reports);
	leftovers_stop(a->leftovers);
	firmware_free(a->firmware);
	a->firmware = NULL;
	body_pool_free(a->bodies);
	images_free(a->images);
	a->images = NULL;
	spool_close(a->spool); /* its last callbacks */
	updates_free(a->updates);
	reports_free(a->reports);
	leftovers_free(a->leftovers);
	scheduler_free(a->scheduler);
	certificates_free(a->certificates);
	signer_free(a->signer);
	xfers_free(a->stores);
	uplink_fini(&a->uplink);
	storages_fini(&a->storages);
	doorbell_close(a->bell);
	free(a->proxy_bell);
	free(a);
	xfers_global_fini();
}

static int
agent_start(struct event_base *base, const void *conf, void **self_out)
{
	struct agent *a;
	struct signer_settings set = signer_set(conf);
	struct timeval at_once = { 0, 0 };
	const char *why;

	if (xfers_global_init(&why) != 0) {
		log_error("%s", why);
		return EX_SOFTWARE;
	}
	a = xcalloc(1, sizeof(*a));
	a->base = base;
	a->conf = conf;
	a->begun_ms = clock_ms();
	TAILQ_INIT(&a->storages);
	uplink_init(&a->uplink, base, rate_of(a->conf));
	a->stores = xfers_new(base, KEEP_CONNECTIONS);
	a->signer = signer_new(base, &set, on_signer_back, a);
	a->certificates = certificates_new(a->signer);
	a->open_timer = evtimer_new(base, on_open_timer, a);
	if (open_run_dir(a) != 0) {
		agent_free(a);
		return EX_IOERR;
	}
	a->firmware = firmware_new(a);
	event_add(a->open_timer, &at_once);
	status_begin(a);
	*self_out = a;
	return 0;
}

static void
agent_reload(void *self, const void *conf)
{
	struct agent *a = self;
	struct signer_settings set = signer_set(conf);

	a->conf = conf;
	uplink_set_rate(&a->uplink, rate_of(a->conf));
	signer_settings(a->signer, &set);
	if (a->firmware != NULL)
		firmware_reload(a->firmware);
	else
		a->firmware = firmware_new(a);
	if (a->scheduler != NULL) {
		updates_again(a->updates);
		scheduler_ring(a->scheduler);
	}
}

/* Nothing is waited for: what is under way is sent again after the next
 * start, under the same key. */
static void
agent_stop(void *self)
{
	struct agent *a = self;

	event_base_loopexit(a->base, NULL);
}

int
main(int argc, char **argv)
{
	static const struct daemon_app app = {
		.program = "edgehaul-agent",
		.summary = "brings uploads from the spool to their stores",
		.config = SYSCONFDIR "/edgehaul/gateway.conf",
		.table = &gateway_conf_table,
		.start = agent_start,
		.reload = agent_reload,
		.stop = agent_stop,
		.free = agent_free,
	};

	return daemon_main(argc, argv, &app);
}
