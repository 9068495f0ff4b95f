/*
 * client.c - questions to the daemons, over their Unix sockets
 *
 * Who may ask is decided by the mode and group of the socket. An answer is
 * bounded in size and time: this is a tool for bad days, when a daemon may be
 * stuck. The environment's proxies are for the internet, not for these.
 */
#include "ctl.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "gateway_conf.h"
#include "json.h"
#include "xalloc.h"

#define ANSWER_MAX (32 << 20)

static size_t
on_body(char *p, size_t one, size_t n, void *arg)
{
	struct answer *a = arg;

	if (a->n + n > ANSWER_MAX)
		return 0;
	a->body = xrealloc(a->body, a->n + n + 1);
	memcpy(a->body + a->n, p, n);
	a->n += n;
	a->body[a->n] = '\0';
	return n;
}

static int
curl_errno(CURL *h, CURLcode code)
{
	long os = 0;

	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_CONNECT:
		curl_easy_getinfo(h, CURLINFO_OS_ERRNO, &os);
		return os > 0 ? -(int)os : -ECONNREFUSED;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_WRITE_ERROR:
		return -EFBIG;
	case CURLE_COULDNT_RESOLVE_HOST: /* the path does not fit */
		return -ENAMETOOLONG;
	default:
		return -EPROTO;
	}
}

static int
call(const char *socket, const char *path, bool post, struct answer *a_out)
{
	struct answer a = { 0 };
	CURL *h = curl_easy_init();
	char *url;
	int rc;

	if (h == NULL)
		return -ENOMEM;
	url = xasprintf("http://localhost%s", path);
	curl_easy_setopt(h, CURLOPT_URL, url);
	curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, socket);
	curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 3L);
	curl_easy_setopt(h, CURLOPT_TIMEOUT, 15L);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, &a);
	if (post)
		curl_easy_setopt(h, CURLOPT_COPYPOSTFIELDS, "");
	rc = curl_errno(h, curl_easy_perform(h));
	if (rc == 0) {
		curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &a.status);
		if (a.body == NULL)
			a.body = xstrdup("");
		*a_out = a;
	} else {
		free(a.body);
	}
	curl_easy_cleanup(h);
	free(url);
	return rc;
}

int
client_get(const char *socket, const char *path, struct answer *a_out)
{
	return call(socket, path, false, a_out);
}

int
client_post(const char *socket, const char *path, struct answer *a_out)
{
	return call(socket, path, true, a_out);
}

void
answer_fini(struct answer *a)
{
	free(a->body);
}

bool
client_is_down(int rc)
{
	return rc == -ENOENT || rc == -ECONNREFUSED || rc == -ENOTDIR;
}

int
client_explain(const char *daemon, const char *socket, int rc)
{
	fprintf(stderr, "edgehaul: ");
	if (client_is_down(rc)) {
		fprintf(stderr,
		    "%s does not run (nobody listens on %s). What it has "
		    "taken is safe on disk.\n"
		    "Start it: systemctl start %s; why it ended: "
		    "journalctl -u %s\n",
		    daemon, socket, daemon, daemon);
		return EXIT_DOWN;
	}
	if (rc == -EACCES || rc == -EPERM) {
		fprintf(stderr,
		    "you may not talk to %s (%s). Join the group of that "
		    "file, or use sudo.\n",
		    daemon, socket);
		return EXIT_DENIED;
	}
	if (rc == -ETIMEDOUT || rc == -EAGAIN) {
		fprintf(stderr,
		    "%s does not answer in time. Try again; if it stays so: "
		    "systemctl restart %s\n",
		    daemon, daemon);
		return EXIT_LATER;
	}
	if (rc == -ENAMETOOLONG) {
		fprintf(stderr,
		    "%s: the path is too long; shorten [gateway] "
		    "run_dir\n",
		    socket);
		return EXIT_CONFIG;
	}
	fprintf(stderr, "the answer of %s makes no sense: %s\n", daemon,
	    strerror(-rc));
	return EXIT_IO;
}

/* Tell what a daemon said with a status of no success. */
static int
explain_status(const char *daemon, const struct answer *a)
{
	cJSON *v = json_parse(a->body, a->n, ANSWER_MAX, NULL);
	const char *error = json_string(v, "error");
	const char *hint = json_string(v, "hint");
	char *e = format_text(error != NULL ? error : "no reason given", 300);
	char *t = format_text(hint != NULL ? hint : "", 300);

	fprintf(stderr, "edgehaul: %s answered %ld: %s%s%s\n", daemon,
	    a->status, e, *t != '\0' ? ". " : "", t);
	free(e);
	free(t);
	cJSON_Delete(v);
	if (a->status == 503 || a->status == 429)
		return EXIT_LATER;
	return a->status == 403 || a->status == 401 ? EXIT_DENIED : EXIT_IO;
}

static int
call_json(const struct ctl *ctl, const char *daemon, const char *path,
    bool post, bool quiet, cJSON **v_out)
{
	char *socket = gateway_conf_path(ctl->conf,
	    strcmp(daemon, "edgehaul-proxy") == 0 ? "proxy.sock"
						  : "agent.sock");
	struct answer a;
	const char *why;
	int rc = call(socket, path, post, &a);

	if (rc != 0) {
		rc = quiet && client_is_down(rc)
		    ? EXIT_DOWN
		    : client_explain(daemon, socket, rc);
		free(socket);
		return rc;
	}
	free(socket);
	if (a.status == 404) {
		*v_out = NULL;
	} else if (a.status == 503 && quiet) {
		rc = EXIT_LATER;
	} else if (a.status != 200) {
		rc = explain_status(daemon, &a);
	} else {
		*v_out = json_parse(a.body, a.n, ANSWER_MAX, &why);
		if (*v_out == NULL) {
			fprintf(stderr,
			    "edgehaul: the answer of %s makes no "
			    "sense: %s\n",
			    daemon, why);
			rc = EXIT_IO;
		}
	}
	answer_fini(&a);
	return rc;
}

int
client_json(const struct ctl *ctl, const char *daemon, const char *path,
    bool quiet, cJSON **v_out)
{
	return call_json(ctl, daemon, path, false, quiet, v_out);
}

int
client_post_json(const struct ctl *ctl, const char *daemon, const char *path,
    bool quiet, cJSON **v_out)
{
	return call_json(ctl, daemon, path, true, quiet, v_out);
}
