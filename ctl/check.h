/*
 * check.h - what check and check --live share
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <cjson/cJSON.h>

struct gateway_conf;

/* One look at the world. */
struct look {
	const char *what; /* "disk" */
	bool ok;
	char *text; /* what is, malloc'd */
	char *hint; /* what to do if not ok, malloc'd or NULL */
	int code;   /* exit code if not ok */
};
struct looks {
	struct look *v;
	size_t n;
};
void looks_add(struct looks *l, const char *what, int code, const char *hint,
    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
void looks_fini(struct looks *l);

/*
 * The token in the file, malloc'd, or NULL: *why_out (malloc'd) tells what is
 * wrong; *mine_out: whether this user can know (a file that only the agent's
 * user may read is right, and not for us).
 */
char *token_read(const char *path, char **why_out, bool *mine_out);

/* Disk, daemons, ports. */
void look_at_box(const struct gateway_conf *c, struct looks *l);
/* DNS, clock, signer, token, store. */
void look_at_cloud(const struct gateway_conf *c, struct looks *l);

#endif
