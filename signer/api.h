/*
 * api.h - REST calls: from the loop to a thread and back
 *
 * A call is copied out of its request, checked and run on a thread inside one
 * transaction of the store, and answered from the loop. A handler sees no
 * socket and may run again, so it keeps nothing of an earlier run but what
 * stands in the call.
 */
#ifndef API_H
#define API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>

#include "problem.h"
#include "token.h"

struct event;
struct gateway;
struct http_request;
struct signer;
struct store_txn;

#define API_PARAMS 3
#define API_WANTS 16
#define API_ROUNDS 2
#define API_PATIENCE_MS 3000

struct api_call {
	/* The question. */
	struct signer *sg;
	const struct api_route *route;
	char *param[API_PARAMS]; /* of the route's ":name"s, in order */
	char *token, *if_match, *if_none_match;
	char *after, *limit; /* of the query; NULL: not given */
	char *body;
	size_t body_n;
	int64_t now_s; /* when it came */
	struct identity who;
	bool certified; /* it came in at the publishers' address */
	cJSON *json;    /* the body, if the route wants one */
	/* The answer. */
	struct problem problem;
	int status;             /* 0: 200 */
	cJSON *answer;          /* NULL: none */
	char *text, *text_type; /* instead of answer */
	char *etag;
	bool changed;         /* gateways of who.tenant see a change */
	char *changed_tenant; /* of another tenant, or NULL */
	bool park;            /* a long poll: ask again on a change */
	int64_t version;      /* what a long poll has seen */
	/* Credentials that it needs: fetched, then it runs again. */
	struct {
		char *name, *scope;
		bool background; /* it could go on without */
	} wants[API_WANTS];
	size_t wants_n;
	unsigned rounds;
	/* Of api.c. */
	struct http_request *rq; /* NULL: gone */
	bool running;
	unsigned fetching;      /* of wants, still under way */
	struct event *patience; /* how long it waits for them; or NULL */
	unsigned generation;    /* of updates when it was sent to run */
	void *parked;
	bool woken; /* it has waited, and runs again */
};

/* 0, or -errno; with c->problem set the transaction is dropped and it is the
 * answer. */
typedef int (*api_fn)(struct store_txn *t, struct api_call *c);

enum api_kind { API_READ, API_WRITE };

struct api_route {
	const char *method, *path; /* "/v1/storages/:name" */
	unsigned roles;            /* enum role bits; 0: without a token */
	enum api_kind kind;
	api_fn fn;
	size_t body_max; /* 0: no JSON body */
	/* After fn has succeeded, outside of a transaction, on a thread that
	 * may call other servers. May be NULL. */
	void (*then)(struct api_call *c);
};

/* The routes of each family, ended by a NULL method. */
extern const struct api_route api_storage_routes[], api_sign_routes[],
    api_report_routes[], api_updates_routes[], api_gateway_routes[],
    api_token_routes[], api_audit_routes[], api_firmware_routes[],
    api_release_routes[], api_manifest_routes[], api_running_routes[];

/* Handler of the http server for all of "/v1/" but files. */
void api_on_request(struct http_request *rq, void *signer);
/* The same at the publishers' own address. */
void api_on_publish(struct http_request *rq, void *signer);
void api_on_health(struct http_request *rq, void *signer);
/* Answer at once, from the loop: a problem. Takes what p holds. */
void api_reply_problem(struct http_request *rq, struct problem *p);
/* Run a parked call again. On the loop. */
void api_again(struct api_call *c);
/* Free it if its request is over and nothing works for it. On the loop. */
void api_maybe_free(struct api_call *c);
/* True: it waits for the credentials it wants, and runs again. On the loop. */
bool api_fetch_wanted(struct api_call *c);
void api_wants_fini(struct api_call *c);

/* ---- for handlers -------------------------------------------------------- */

/* Check If-Match and If-None-Match against the row's version (0: no row). */
int api_precondition(struct api_call *c, int64_t version);
/* ETag of a version. */
void api_etag(struct api_call *c, int64_t version);
/* Set 404 and return -ENOENT. */
int api_not_found(struct api_call *c, const char *what, const char *hint);
/* The gateway that calls; 403 and -EACCES if it is blocked or was deleted. */
int api_gateway(struct store_txn *t, struct api_call *c, struct gateway *g_out);
/* Rows of a list's page, by the query's limit: 1 to 1000; without one 100.
 * -EINVAL: it is none, and the problem tells. */
int api_page_size(struct api_call *c, int64_t *n_out);
/* Close a page: `after` of the next one, or NULL if this is the last. */
void api_page_next(struct api_call *c, const char *after);
/* Ask for a credential of a storage to be fetched. The call runs again when it
 * is there, or in API_PATIENCE_MS without: other uploads of it need not wait.
 */
void api_want(
    struct api_call *c, const char *name, const char *scope, bool background);
/* Add to the audit log: before and after may be NULL, and hold no secret. */
int api_audit(struct store_txn *t, struct api_call *c, const char *tenant,
    const char *action, const char *object, const cJSON *before,
    const cJSON *after);

#endif
