/*
 * probe.h - does a storage work? Puts, reads and deletes a small object
 *
 * Blocks: for a thread of the pool for outgoing requests.
 */
#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>
#include <stdint.h>

#define PROBE_SCOPE "edgehaul-probe/"

struct credential;
struct storage;

struct probe_result {
	bool ok;
	char error[400];  /* what is wrong, in words */
	const char *hint; /* what to do; NULL with ok; static */
};

/* now_s: by our clock. The address of the signer itself is always allowed. */
void probe_storage(const struct storage *s, const struct credential *cred,
    bool allow_private, int64_t now_s, struct probe_result *r);

#endif
