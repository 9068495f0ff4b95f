/*
 * credential.h - short-lived credentials that a provider fetches
 *
 * A user delegation key of Azure, a role session of AWS. Kept in memory only,
 * by storage and scope (the prefix it is cut down to), bounded, renewed before
 * they end. Any number of callers share one fetch; one that fails is not tried
 * again for a while, nor for other scopes if the service is what failed, and
 * only who needs it learns of it.
 */
#ifndef CREDENTIAL_H
#define CREDENTIAL_H

#include <stdbool.h>
#include <stdint.h>

struct credentials;
struct signer;
struct storage;

#define CREDENTIAL_TEXTS 8

struct credential {
	int64_t expires_s;            /* Unix seconds */
	char *text[CREDENTIAL_TEXTS]; /* the provider knows which is which */
	unsigned users;               /* of credential.c */
};

/* Why a fetch failed, for people. */
struct fetch_error {
	char error[320];
	const char *hint; /* static, or NULL */
	bool unreachable; /* no answer, or one of trouble: true of any scope */
};

struct credentials *credentials_new(struct signer *sg);
/* After the pools are gone. */
void credentials_free(struct credentials *c);

/*
 * Any thread. 0: *cred_out, for credential_put(); *renew_out: fetch another
 * soon. -EAGAIN: there is none yet, credentials_fetch() it. -EBUSY: fetching
 * failed; error_out tells, to be tried again in *retry_s_out.
 */
int credentials_get(struct credentials *c, const struct storage *s,
    const char *scope, int64_t now_s, const struct credential **cred_out,
    bool *renew_out, struct fetch_error *error_out, int *retry_s_out);
void credential_put(struct credentials *c, const struct credential *cred);
/* When credentials end that were asked for until asked_s: earlier, if `when` of
 * the answer (RFC 3339, UTC; NULL: it tells nothing) says so. Unix seconds. */
int64_t credential_ends(const char *when, int64_t asked_s);
/*
 * On the loop: fetch it unless that is under way; done (may be NULL) is called
 * on the loop when there is news, whether it worked or not.
 */
void credentials_fetch(struct credentials *c, const char *tenant,
    const char *name, const char *scope, void (*done)(void *arg), void *arg);
/*
 * On an outgoing thread: fetch it now, for this call and those to come. *cred
 * is what the caller has of credentials_get() (NULL: none) and is replaced; if
 * there was one, a failure leaves it and is none. credential_put() it.
 */
int credentials_renew(struct credentials *c, const struct storage *s,
    const char *scope, const struct credential **cred,
    struct fetch_error *error_out);
/* On an outgoing thread: fetch one for oneself; credential_drop() it. */
int credential_fetch_now(const struct storage *s, const char *scope,
    bool allow_private, int64_t now_s, struct credential *out,
    struct fetch_error *error_out);
void credential_drop(struct credential *cred);

#endif
