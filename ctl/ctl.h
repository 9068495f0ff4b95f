/*
 * ctl.h - the operator's program: what its commands share
 */
#ifndef CTL_H
#define CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>

struct gateway_conf;

/* Exit codes (sysexits.h); edgehaul(1) lists them. */
enum {
	EXIT_GOOD = 0,
	EXIT_USAGE = 64,
	EXIT_DOWN = 69,   /* a daemon, or what was asked for, is not there */
	EXIT_IO = 74,     /* disk, or an answer that makes no sense */
	EXIT_LATER = 75,  /* too busy; try again */
	EXIT_DENIED = 77, /* the user may not, or a token is refused */
	EXIT_CONFIG = 78,
};

struct ctl {
	const char *config; /* path of gateway.conf */
	bool json, live, changed, defaults, yes;
	const char *arg;           /* ID */
	struct gateway_conf *conf; /* for commands that need it */
};

/* A command prints its results on stdout, complaints on stderr, and returns an
 * exit code. */
int ctl_status(struct ctl *ctl);
int ctl_queue_ls(struct ctl *ctl);
int ctl_queue_show(struct ctl *ctl);
int ctl_why(struct ctl *ctl);
int ctl_check(struct ctl *ctl);
int ctl_show_config(struct ctl *ctl);
int ctl_spool_stat(struct ctl *ctl);
int ctl_spool_check(struct ctl *ctl);
int ctl_spool_rebuild(struct ctl *ctl);
int ctl_firmware_devices(struct ctl *ctl);

/*
 * Load ctl->config. 0, or EXIT_CONFIG after all problems were printed to
 * stderr. conf may be loaded already.
 */
int ctl_load(struct ctl *ctl);

/* ---- client.c: HTTP over a Unix socket ----------------------------------- */

struct answer {
	long status;
	char *body; /* NUL-terminated */
	size_t n;
};
/*
 * GET path from the daemon at socket (a full path), or POST nothing to it. 0:
 * the answer is the caller's, free by answer_fini(). -ENOENT, -ECONNREFUSED:
 * nobody listens. -EACCES. -ETIMEDOUT. -EFBIG, -EPROTO: no sense in the answer.
 */
int client_get(const char *socket, const char *path, struct answer *a_out);
int client_post(const char *socket, const char *path, struct answer *a_out);
void answer_fini(struct answer *a);
/* Is it one of the codes of a daemon that does not run? */
bool client_is_down(int rc);
/*
 * Explain a failed client_get() of "edgehaul-proxy" or "edgehaul-agent" on
 * stderr, with what to do. Returns the exit code that fits.
 */
int client_explain(const char *daemon, const char *socket, int rc);
/*
 * GET path and parse the answer. 0: *v_out (NULL for 404) is the caller's.
 * Else an exit code, explained; quiet leaves the explaining of a daemon that
 * is down (EXIT_DOWN) or not ready (EXIT_LATER) to the caller.
 */
int client_json(const struct ctl *ctl, const char *daemon, const char *path,
    bool quiet, cJSON **v_out);
/* The same with POST and no body. */
int client_post_json(const struct ctl *ctl, const char *daemon,
    const char *path, bool quiet, cJSON **v_out);

/* ---- ask.c: uploads, from the agent or else the proxy -------------------- */

/*
 * One page of the queue. *next_out: what to pass as `after` next, -1: the end.
 * The first page (after 0) chooses who is asked. Exit code.
 */
struct asker {
	const struct ctl *ctl;
	const char *daemon; /* "edgehaul-agent" or "edgehaul-proxy"; NULL */
};
int ask_page(
    struct asker *as, int64_t after, cJSON **uploads_out, int64_t *next_out);
/* One upload; *u_out is NULL if nobody knows the id. Exit code. */
int ask_upload(const struct ctl *ctl, const char *id, cJSON **u_out);

#endif
