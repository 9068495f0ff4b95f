/*
 * daemon.c - what the three daemons' main() have in common
 *
 * What must stay true: a file with a problem changes nothing; every problem is
 * told in one run, and the exit code is 78 so that a supervisor does not try
 * the same file again and again.
 */
#include "daemon.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include <event2/event.h>

#include "config.h"
#include "log.h"

#define STOP_S 4

struct daemon {
	const struct daemon_app *app;
	struct event_base *base;
	const char *path;
	void *conf, *self;
	bool stopping;
};

static void
usage(const struct daemon_app *app, FILE *f)
{
	fprintf(f,
	    "%s - %s\n\n"
	    "usage: %s [--config FILE] [--check]\n"
	    "  --config FILE   settings (default %s)\n"
	    "  --check         tell what is wrong with them and end: 0 or 78\n"
	    "  --log-level L   error, warn, info or debug\n"
	    "  --version, --help\n%s",
	    app->program, app->summary, app->program, app->config,
	    app->usage_more != NULL ? app->usage_more : "");
}

static void *
load(const struct daemon_app *app, const char *path)
{
	struct conf_problems *p = conf_problems_new();
	void *conf = NULL;

	if (conf_load(app->table, path, p, &conf) != 0) {
		for (size_t i = 0; i < conf_problems_count(p); i++)
			log_error("%s", conf_problems_get(p, i));
		conf = NULL;
	}
	conf_problems_free(p);
	return conf;
}

static void
tell_restart(const char *name, void *arg)
{
	log_warn("reload: %s is used from the next start on", name);
}

static void
on_hup(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	void *conf = load(d->app, d->path);

	if (conf == NULL) {
		log_error("reload refused: the settings of before stay in use");
		return;
	}
	conf_needs_restart(d->app->table, d->conf, conf, tell_restart, NULL);
	d->app->reload(d->self, conf);
	conf_free(d->app->table, d->conf);
	d->conf = conf;
	log_info("reloaded %s", d->path);
}

static void
on_term(evutil_socket_t sig, short what, void *arg)
{
	struct daemon *d = arg;
	struct timeval tv = { STOP_S, 0 };

	if (d->stopping) {
		event_base_loopbreak(d->base);
		return;
	}
	d->stopping = true;
	log_info("stopping signal=%d", (int)sig);
	event_base_loopexit(d->base, &tv);
	d->app->stop(d->self);
}

static void
raise_limits(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	rl = (struct rlimit){ 0, 0 };
	setrlimit(RLIMIT_CORE, &rl); /* secrets stay out of core files */
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	/* Many threads, small heaps: two arenas, and freed pages kept for the
	 * next body instead of faulted in again. */
	mallopt(M_ARENA_MAX, 2);
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
	mallopt(M_TRIM_THRESHOLD, 2 << 20);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* too large a file is an error of write() */
	umask(0007);
}

static int
serve(struct daemon *d)
{
	struct event *hup, *term, *intr;
	int rc;

	raise_limits();
	d->base = event_base_new();
	if (d->base == NULL) {
		log_error("no event loop: %s", strerror(errno));
		return EX_OSERR;
	}
	rc = d->app->start(d->base, d->conf, &d->self);
	if (rc == 0) {
		hup = evsignal_new(d->base, SIGHUP, on_hup, d);
		term = evsignal_new(d->base, SIGTERM, on_term, d);
		intr = evsignal_new(d->base, SIGINT, on_term, d);
		event_add(hup, NULL);
		event_add(term, NULL);
		event_add(intr, NULL);
		log_info("ready program=%s version=%s pid=%d", d->app->program,
		    PACKAGE_VERSION, (int)getpid());
		event_base_dispatch(d->base);
		event_free(hup);
		event_free(term);
		event_free(intr);
		d->app->free(d->self);
		log_info("stopped");
	}
	event_base_free(d->base);
	libevent_global_shutdown();
	return rc;
}

static int
run(struct daemon *d, bool check, int argc, char **argv)
{
	bool has_command = argc > 0;
	int rc;

	if (has_command && d->app->command == NULL) {
		fprintf(stderr, "%s: \"%s\" is not an option; see --help\n",
		    d->app->program, argv[0]);
		return EX_USAGE;
	}
	if (has_command && d->app->command_wants_conf != NULL &&
	    !d->app->command_wants_conf(argv[0]))
		return d->app->command(NULL, argc, argv);
	d->conf = load(d->app, d->path);
	if (d->conf == NULL)
		return EX_CONFIG;
	if (check) {
		rc = d->app->check != NULL ? d->app->check(d->conf) : 0;
		if (rc == 0)
			printf("%s: ok\n", d->path);
	} else if (has_command) {
		rc = d->app->command(d->conf, argc, argv);
	} else {
		rc = serve(d);
	}
	conf_free(d->app->table, d->conf);
	return rc;
}

int
daemon_main(int argc, char **argv, const struct daemon_app *app)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check", no_argument, NULL, 'k' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct daemon d = { .app = app, .path = app->config };
	bool check = false;
	int c, level;

	/* "+": what follows a command is the command's. */
	while ((c = getopt_long(argc, argv, "+c:hv", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			d.path = optarg;
			break;
		case 'k':
			check = true;
			break;
		case 'l':
			level = log_level_parse(optarg);
			if (level < 0) {
				fprintf(stderr,
				    "%s: --log-level is error, warn, info or "
				    "debug\n",
				    app->program);
				return EX_USAGE;
			}
			log_level = (enum log_level)level;
			break;
		case 'v':
			printf("%s %s (libevent %s)\n", app->program,
			    PACKAGE_VERSION, event_get_version());
			return 0;
		case 'h':
			usage(app, stdout);
			return 0;
		default:
			usage(app, stderr);
			return EX_USAGE;
		}
	}
	return run(&d, check, argc - optind, argv + optind);
}
