/*
 * api.c - REST calls: from the loop to a thread and back
 *
 * A call lives from its head until both its request is over (rq NULL) and no
 * thread works on it (running false). Its fields are the loop's while it does
 * not run, the thread's while it does; rq is the loop's always.
 */
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <event2/event.h>

#include "clock.h"
#include "etag.h"
#include "http_server.h"
#include "json.h"
#include "limit.h"
#include "log.h"
#include "pool.h"
#include "signer.h"
#include "signer_conf.h"
#include "store.h"
#include "updates.h"
#include "xalloc.h"

static const struct api_route *const families[] = { api_sign_routes,
	api_updates_routes, api_report_routes, api_storage_routes,
	api_gateway_routes, api_token_routes, api_audit_routes,
	api_firmware_routes, api_release_routes, api_manifest_routes,
	api_running_routes };
#define FAMILIES (sizeof(families) / sizeof(families[0]))

/* ---- answering ----------------------------------------------------------- */

/* Gateways set their clocks by it (RFC 9110 section 6.6.1). */
static void
reply_date(struct http_request *rq)
{
	time_t now = time(NULL);
	char text[40];
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	http_reply_header(rq, "Date", text);
}

void
api_reply_problem(struct http_request *rq, struct problem *p)
{
	cJSON *v = problem_json(p);
	char *text = json_line(v), seconds[16];

	reply_date(rq);
	if (p->retry_after > 0) {
		snprintf(seconds, sizeof(seconds), "%d", p->retry_after);
		http_reply_header(rq, "Retry-After", seconds);
	}
	if (p->status == 401)
		http_reply_header(rq, "WWW-Authenticate", "Bearer");
	http_reply(
	    rq, p->status, "application/problem+json", text, strlen(text));
	free(text);
	cJSON_Delete(v);
	problem_fini(p);
}

static void
call_free(struct api_call *c)
{
	for (size_t i = 0; i < API_PARAMS; i++)
		free(c->param[i]);
	free(c->token);
	free(c->if_match);
	free(c->if_none_match);
	free(c->after);
	free(c->limit);
	if (c->body != NULL)
		explicit_bzero(c->body, c->body_n);
	free(c->body);
	cJSON_Delete(c->json);
	cJSON_Delete(c->answer);
	if (c->text != NULL)
		explicit_bzero(c->text, strlen(c->text));
	free(c->text);
	free(c->text_type);
	free(c->etag);
	free(c->changed_tenant);
	if (c->patience != NULL)
		event_free(c->patience);
	problem_fini(&c->problem);
	api_wants_fini(c);
	free(c);
}

void
api_maybe_free(struct api_call *c)
{
	if (c->rq == NULL && !c->running && c->fetching == 0)
		call_free(c);
}

static void
count_answer(struct api_call *c)
{
	int status = c->problem.status != 0 ? c->problem.status
	    : c->status != 0                ? c->status
					    : 200;

	atomic_fetch_add(&c->sg->metrics.answers[status / 100 % 6], 1);
}

static void
call_reply(struct api_call *c)
{
	char *text;

	http_reply_header(c->rq, "Cache-Control", "no-store");
	count_answer(c);
	if (c->problem.status != 0) {
		api_reply_problem(c->rq, &c->problem);
		return;
	}
	reply_date(c->rq);
	if (c->etag != NULL)
		http_reply_header(c->rq, "ETag", c->etag);
	if (c->status == 0)
		c->status = 200;
	if (c->text != NULL) {
		http_reply(
		    c->rq, c->status, c->text_type, c->text, strlen(c->text));
	} else if (c->answer != NULL) {
		text = json_line(c->answer);
		http_reply(
		    c->rq, c->status, "application/json", text, strlen(text));
		explicit_bzero(text, strlen(text));
		free(text);
	} else {
		http_reply(c->rq, c->status, NULL, NULL, 0);
	}
}

static void
on_rq_done(struct http_request *rq, bool ok, void *arg)
{
	struct api_call *c = arg;

	c->rq = NULL;
	updates_forget(c->sg->updates, c);
	api_maybe_free(c);
}

/* ---- running ------------------------------------------------------------- */

/* An errno of the store as an answer. */
static void
store_problem(struct problem *p, int rc)
{
	switch (rc) {
	case -ENOSPC:
		problem_set(p, 507,
		    "Raise [signer] database_size or delete what is old.",
		    "The signer's database is full");
		break;
	case -EBADMSG:
		problem_set(p, 500,
		    "Restore the database or the key from a backup; a storage "
		    "that cannot be unsealed has to be set anew.",
		    "A row of the signer's database cannot be read");
		break;
	default:
		problem_set(p, 503, "Try again; it is in the signer's log.",
		    "The signer's database does not answer");
		p->retry_after = 5;
	}
}

static int
authenticate(struct store_txn *t, struct api_call *c)
{
	int rc;

	if (c->route->roles == 0)
		return 0;
	if (c->token == NULL) {
		problem_set(&c->problem, 401,
		    "Send Authorization: Bearer TOKEN; make one by "
		    "edgehaul-signer token create.",
		    "A token is needed");
		return -EACCES;
	}
	rc = token_check(t, c->token, c->now_s, &c->who);
	if (rc == -EACCES) {
		problem_set(&c->problem, 401,
		    "It may have been ended, have expired, or be of another "
		    "signer; make a new one.",
		    "The token is not known");
		return rc;
	}
	if (rc == 0 && (c->who.role & c->route->roles) == 0) {
		problem_set(&c->problem, 403, "Use a token of a role that may.",
		    "A token of role %s may not do this",
		    role_name(c->who.role));
		return -EACCES;
	}
	if (rc == 0 && c->who.role == ROLE_PUBLISHER && !c->certified &&
	    c->sg->conf->client_ca_file != NULL) {
		problem_set(&c->problem, 403,
		    "Call [signer] publish_address, with a certificate.",
		    "Publishers are not served at this address");
		return -EACCES;
	}
	return rc;
}

static int
parse_body(struct api_call *c)
{
	const char *why = NULL;

	if (c->route->body_max == 0 || c->json != NULL)
		return 0;
	c->json = json_parse(c->body != NULL ? c->body : "", c->body_n,
	    c->route->body_max, &why);
	if (c->json == NULL) {
		problem_set(&c->problem, 400, why, "The body is no JSON");
		return -EINVAL;
	}
	if (!cJSON_IsObject(c->json)) {
		problem_field(
		    &c->problem, "", NULL, "The body must be a JSON object.");
		return -EINVAL;
	}
	return 0;
}

static void
forget_answer(struct api_call *c)
{
	cJSON_Delete(c->answer);
	free(c->text);
	free(c->text_type);
	free(c->etag);
	free(c->changed_tenant);
	c->answer = NULL;
	c->text = c->text_type = c->etag = c->changed_tenant = NULL;
	c->changed = c->park = false;
	c->status = 0;
	api_wants_fini(c);
	problem_fini(&c->problem);
}

static int
in_txn(struct store_txn *t, void *arg)
{
	struct api_call *c = arg;
	int rc;

	forget_answer(c);
	rc = authenticate(t, c);
	if (rc == 0)
		rc = parse_body(c);
	if (rc == 0)
		rc = c->route->fn(t, c);
	if (rc == 0 && c->problem.status != 0)
		rc = -ECANCELED;
	return rc;
}

static void
run(void *arg)
{
	struct api_call *c = arg;
	int rc = c->route->kind == API_WRITE
	    ? store_update(c->sg->store, in_txn, c)
	    : store_view(c->sg->store, in_txn, c);

	if (rc != 0) {
		c->changed = false;
		c->park = false;
		if (c->problem.status == 0) {
			log_error("%s %s failed: %s", c->route->method,
			    c->route->path, strerror(-rc));
			store_problem(&c->problem, rc);
		}
	} else if (c->answer != NULL && c->route->then == NULL) {
		/* Here, so that the loop has less to do and to hold. */
		c->text = json_line(c->answer);
		c->text_type = xstrdup("application/json");
		cJSON_Delete(c->answer);
		c->answer = NULL;
	}
}

/* ---- back on the loop ---------------------------------------------------- */

static void
run_then(void *arg)
{
	struct api_call *c = arg;

	c->route->then(c);
}

static void
ran_then(void *arg)
{
	struct api_call *c = arg;

	c->running = false;
	if (c->rq == NULL)
		api_maybe_free(c);
	else
		call_reply(c);
}

static void
ran(void *arg)
{
	struct api_call *c = arg;
	struct signer *sg = c->sg;

	c->running = false;
	updates_ran(sg->updates, c);
	if (c->rq != NULL && c->wants_n > 0 && api_fetch_wanted(c))
		return;
	if (c->changed)
		signer_changed(sg, c->who.tenant);
	if (c->changed_tenant != NULL)
		signer_changed(sg, c->changed_tenant);
	if (c->rq == NULL) {
		api_maybe_free(c);
	} else if (c->route->then != NULL && c->problem.status == 0) {
		c->running = true;
		pool_run_for(sg->outgoing, c->who.tenant, c->route->path,
		    run_then, ran_then, c);
	} else if (c->park &&
	    c->generation != updates_generation(sg->updates)) {
		api_again(c); /* something changed while it looked */
	} else if (c->park && !sg->stopping) {
		updates_park(sg->updates, c);
	} else {
		call_reply(c);
	}
}

void
api_again(struct api_call *c)
{
	struct pool *p =
	    c->route->kind == API_WRITE ? c->sg->writers : c->sg->readers;

	c->running = true;
	c->generation = updates_generation(c->sg->updates);
	pool_run(p, run, ran, c);
}

/* ---- routing ------------------------------------------------------------- */

/* Match a path; params (API_PARAMS of them) are malloc'd. */
static bool
match(const char *pattern, const char *path, char **params)
{
	size_t n = 0;

	while (*pattern != '\0' && *path != '\0') {
		size_t len = strcspn(path + 1, "/") + 1;
		size_t want = strcspn(pattern + 1, "/") + 1;

		if (pattern[1] == ':') {
			if (len == 1 || n == API_PARAMS)
				break;
			params[n++] = xstrndup(path + 1, len - 1);
		} else if (len != want || memcmp(path, pattern, len) != 0) {
			break;
		}
		path += len;
		pattern += want;
	}
	if (*pattern == '\0' && *path == '\0')
		return true;
	while (n > 0) {
		free(params[--n]);
		params[n] = NULL;
	}
	return false;
}

/* NULL: p tells 404, or 405 with the methods in allow. */
static const struct api_route *
find_route(const char *method, const char *path, char **params, char *allow,
    size_t allow_n, struct problem *p)
{
	allow[0] = '\0';
	for (size_t f = 0; f < FAMILIES; f++)
		for (const struct api_route *r = families[f]; r->method != NULL;
		     r++) {
			if (!match(r->path, path, params))
				continue;
			if (strcmp(r->method, method) == 0 ||
			    (strcmp(method, "HEAD") == 0 &&
				strcmp(r->method, "GET") == 0))
				return r;
			for (size_t i = 0; i < API_PARAMS; i++) {
				free(params[i]);
				params[i] = NULL;
			}
			snprintf(allow + strlen(allow), allow_n - strlen(allow),
			    "%s%s", allow[0] != '\0' ? ", " : "", r->method);
		}
	if (allow[0] != '\0')
		problem_set(p, 405, allow, "There is no such method here");
	else
		problem_set(p, 404,
		    "See the API's document, doc/signer-api.yaml.",
		    "There is nothing here");
	return NULL;
}

static char *
copy(const char *s)
{
	return s != NULL ? xstrdup(s) : NULL;
}

static void
take_token(struct api_call *c, const char *authorization)
{
	if (authorization == NULL || strlen(authorization) < 8 ||
	    strncasecmp(authorization, "Bearer ", 7) != 0)
		return;
	authorization += 7 + strspn(authorization + 7, " ");
	c->token = xstrdup(authorization);
}

static void
on_body(struct http_request *rq, const char *body, size_t n, void *arg)
{
	struct api_call *c = arg;

	c->body = xmalloc(n + 1);
	memcpy(c->body, body, n);
	c->body[n] = '\0';
	c->body_n = n;
	api_again(c);
}

/* Too many requests of this token: answered. */
static bool
refuse_limited(struct api_call *c)
{
	struct signer *sg = c->sg;
	int64_t most = sg->conf->rate_limit;
	int wait;

	if (c->token == NULL || most == CONF_NONE)
		return false;
	wait = limit_take(sg->limit, c->token, most, clock_ms());
	if (wait == 0)
		return false;
	atomic_fetch_add(&sg->metrics.limited, 1);
	problem_set(&c->problem, 429, "Ask for several uploads in one request.",
	    "This token makes too many requests");
	c->problem.retry_after = wait;
	call_reply(c);
	return true;
}

static void
start_call(struct http_request *rq, void *signer, bool publisher)
{
	struct problem p = { 0 };
	char *params[API_PARAMS] = { NULL }, allow[64];
	const struct api_route *r = find_route(http_request_method(rq),
	    http_request_path(rq), params, allow, sizeof(allow), &p);
	struct api_call *c;

	if (r == NULL) {
		if (allow[0] != '\0')
			http_reply_header(rq, "Allow", allow);
		api_reply_problem(rq, &p);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->sg = signer;
	c->route = r;
	c->rq = rq;
	c->certified = publisher;
	memcpy(c->param, params, sizeof(params));
	c->now_s = clock_wall_ms() / 1000;
	take_token(c, http_request_header(rq, "Authorization"));
	c->if_match = copy(http_request_header(rq, "If-Match"));
	c->if_none_match = copy(http_request_header(rq, "If-None-Match"));
	c->after = copy(http_request_query_get(rq, "after"));
	c->limit = copy(http_request_query_get(rq, "limit"));
	http_request_on_done(rq, on_rq_done, c);
	if (refuse_limited(c))
		return;
	if (r->body_max != 0)
		http_request_collect(rq, r->body_max, on_body, c);
	else
		api_again(c);
}

/*
 * Where publishers have to show a certificate, the token alone is not enough,
 * neither here nor at the other address.
 */
void
api_on_publish(struct http_request *rq, void *signer)
{
	const struct signer *sg = signer;
	struct problem p = { 0 };

	if (sg->conf->client_ca_file != NULL &&
	    http_request_peer_name(rq) == NULL) {
		problem_set(&p, 403,
		    "[publisher] client_cert_file and client_key_file name "
		    "one.",
		    "A certificate is needed here");
		api_reply_problem(rq, &p);
		return;
	}
	start_call(rq, signer, true);
}

void
api_on_request(struct http_request *rq, void *signer)
{
	start_call(rq, signer, false);
}

void
api_on_health(struct http_request *rq, void *signer)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddTrueToObject(o, "ok");
	http_reply_json(rq, 200, o);
}

/* ---- for handlers -------------------------------------------------------- */

void
api_etag(struct api_call *c, int64_t version)
{
	free(c->etag);
	c->etag = xasprintf("\"%lld\"", (long long)version);
}

/* What cannot be read is refused, as its sender relies on it. */
static bool
readable(struct api_call *c, const char *name, const char *list)
{
	if (list == NULL || etag_readable(list))
		return true;
	problem_set(&c->problem, 400,
	    "Send the ETag as it was received, with its quotation marks, or *.",
	    "%s is no list of entity tags", name);
	return false;
}

int
api_precondition(struct api_call *c, int64_t version)
{
	bool exists = version != 0;
	char tag[32];

	snprintf(tag, sizeof(tag), "\"%lld\"", (long long)version);
	if (!readable(c, "If-Match", c->if_match) ||
	    !readable(c, "If-None-Match", c->if_none_match))
		return -ECANCELED;
	if (c->if_match != NULL &&
	    (!exists || !etag_listed(c->if_match, true, tag)))
		problem_set(&c->problem, 412,
		    "GET it again and apply your change to what it is now.",
		    exists ? "It has been changed meanwhile"
			   : "There is none of this name");
	else if (c->if_none_match != NULL && exists &&
	    etag_listed(c->if_none_match, false, tag))
		problem_set(&c->problem, 412,
		    "Take another name, or leave out If-None-Match.",
		    "There is one of this name already");
	return c->problem.status == 0 ? 0 : -ECANCELED;
}

int
api_not_found(struct api_call *c, const char *what, const char *hint)
{
	problem_set(&c->problem, 404, hint, "There is no such %s", what);
	return -ENOENT;
}
