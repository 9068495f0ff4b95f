/*
 * daemon.h - what the three daemons' main() have in common
 *
 * Options, configuration and its reload, signals, limits, the loop. In the
 * foreground, logging to stderr, no root needed.
 */
#ifndef DAEMON_H
#define DAEMON_H

#include <stdbool.h>

#include "conf.h"

struct event_base;

struct daemon_app {
	const char *program;    /* "edgehaul-proxy" */
	const char *summary;    /* one line for --help */
	const char *usage_more; /* further lines of --help, or NULL */
	const char *config;     /* default of --config */
	const struct conf_table *table;
	/* For --check: what else is wrong, of files that the settings name.
	 * NULL: nothing is looked at. 0, or EX_CONFIG after logging why. */
	int (*check)(const void *conf);
	/* Start serving. conf stays the caller's. 0: *self_out is given to the
	 * others; else an exit code (sysexits.h), after logging why. */
	int (*start)(
	    struct event_base *base, const void *conf, void **self_out);
	/* SIGHUP with a clean file: use it from now on; the old conf is freed
	 * when this returns. */
	void (*reload)(void *self, const void *conf);
	/* SIGTERM, SIGINT: take nothing new, finish what is in hand, then
	 * call event_base_loopexit(). After 4 s the loop ends anyway. */
	void (*stop)(void *self);
	void (*free)(void *self);
	/* Arguments that are no options, e.g. "token create"; NULL: none are
	 * taken. The exit code. conf may be NULL if wants_conf is false. */
	int (*command)(const void *conf, int argc, char **argv);
	bool (*command_wants_conf)(const char *name);
};

/* The whole of main(). */
int daemon_main(int argc, char **argv, const struct daemon_app *app);

#endif
