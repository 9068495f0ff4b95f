/*
 * corpus.c - the HTTP corpus against lib/http_server.c
 *
 * Runs each case of t/data/http-corpus (see its README.md; the forms need the
 * gateway's form reader and are left out) against a server with a small upload
 * handler on this loop: whole, and up to 4 KB octet by octet and cut in two at
 * each position. A piece is sent when the one before has been read, so that
 * the server does see the cut.
 *
 * What a case says of silence is checked without waiting: once the loop has
 * nothing more to do, no answer will come.
 */
#include "http_server.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <openssl/sha.h>
#include <cmocka.h>

#include "http_parser.h"
#include "log.h"
#include "url.h"
#include "xalloc.h"

#define SMALL 4096
#define STORED_MAX 8
#define BODY_MAX (1 << 20)

struct stored {
	uint64_t n;
	char sha256[65];
};

/* A case, and what the server has done in the run at hand. */
struct kase {
	char name[128];
	char *req;
	size_t n;
	char answers[8][64];
	unsigned answers_n;
	bool eof, close, no_interim;
	int stored; /* -1: not said */
	struct stored want[STORED_MAX];
	unsigned want_n;
};

struct server {
	struct event_base *base;
	struct http_server *hs;
	char path[64];
	unsigned runs;
	struct stored got[STORED_MAX];
	unsigned got_n;
};

struct upload {
	struct server *s;
	SHA256_CTX *sha;
	uint64_t n;
};

/* ---- the upload handler -------------------------------------------------- */

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* SHA256_* */

static int
on_data(struct http_request *rq, const char *p, size_t n, void *arg)
{
	struct upload *u = arg;

	SHA256_Update(u->sha, p, n);
	u->n += n;
	if (u->n > BODY_MAX)
		http_reply_error(rq, 413, "too large", NULL);
	return 0;
}

static void
on_end(struct http_request *rq, void *arg)
{
	struct upload *u = arg;
	struct stored *s = &u->s->got[u->s->got_n];
	unsigned char sum[32];

	assert_true(u->s->got_n < STORED_MAX);
	SHA256_Final(sum, u->sha);
	hex_encode(sum, sizeof(sum), s->sha256);
	s->n = u->n;
	u->s->got_n++;
	http_reply(rq, 201, "text/plain", "kept\n", 5);
}

static void
on_lost(struct http_request *rq, void *arg)
{
}

static void
on_done(struct http_request *rq, bool ok, void *arg)
{
	struct upload *u = arg;

	free(u->sha);
	free(u);
}

/* No segment of a path may leave the upload space. */
static bool
leaves(const char *path)
{
	for (const char *p = path; (p = strstr(p, "..")) != NULL; p++)
		if (p > path && p[-1] == '/' && (p[2] == '/' || p[2] == '\0'))
			return true;
	return false;
}

static void
on_upload(struct http_request *rq, void *arg)
{
	static const struct http_sink sink = { on_data, on_end, on_lost };
	struct upload *u;

	if (leaves(http_request_path(rq))) {
		http_reply_error(rq, 400, "bad path", NULL);
	} else if (!http_request_has_body(rq)) {
		http_reply_error(rq, 411, "no length", NULL);
	} else if (http_request_length(rq) != UINT64_MAX &&
	    http_request_length(rq) > BODY_MAX) {
		http_reply_error(rq, 413, "too large", NULL);
	} else {
		u = xcalloc(1, sizeof(*u));
		u->s = arg;
		u->sha = xcalloc(1, sizeof(*u->sha));
		SHA256_Init(u->sha);
		http_request_on_done(rq, on_done, u);
		http_request_receive(rq, &sink, u);
	}
}

/* ---- reading a case ------------------------------------------------------ */

static char *
slurp(const char *path, size_t *n_out)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	char *p;

	if (f == NULL)
		fail_msg("%s: %s", path, strerror(errno));
	assert_int_equal(fstat(fileno(f), &st), 0);
	p = xmalloc((size_t)st.st_size + 1);
	*n_out = fread(p, 1, (size_t)st.st_size, f);
	p[*n_out] = '\0';
	fclose(f);
	return p;
}

static void
read_expect(struct kase *k, char *text)
{
	char *save, *line = strtok_r(text, "\n", &save), *word, *more;

	for (word = strtok_r(line, " ", &more); word != NULL;
	     word = strtok_r(NULL, " ", &more))
		snprintf(k->answers[k->answers_n++], sizeof(k->answers[0]),
		    "%s", word);
	k->stored = -1;
	while ((line = strtok_r(NULL, "\n", &save)) != NULL) {
		if (strncmp(line, "stored: ", 8) == 0)
			k->stored = atoi(line + 8);
		else if (strncmp(line, "body: ", 6) == 0)
			sscanf(line + 6, "%lu %64s", &k->want[k->want_n].n,
			    k->want[k->want_n].sha256),
			    k->want_n++;
		else if (strcmp(line, "then: close") == 0)
			k->close = true;
		else if (strcmp(line, "eof: yes") == 0)
			k->eof = true;
		else if (strcmp(line, "interim: none") == 0)
			k->no_interim = true;
		else if (line[0] != '#')
			fail_msg("%s: unknown line %s", k->name, line);
	}
}

static struct kase *
read_case(const char *dir, const char *file)
{
	struct kase *k = xcalloc(1, sizeof(*k));
	char path[1024], *text;
	size_t n;

	snprintf(k->name, sizeof(k->name), "%.*s", (int)strlen(file) - 4, file);
	snprintf(path, sizeof(path), "%s/%s.req", dir, k->name);
	k->req = slurp(path, &k->n);
	snprintf(path, sizeof(path), "%s/%s.expect", dir, k->name);
	text = slurp(path, &n);
	read_expect(k, text);
	free(text);
	return k;
}

/* ---- a client ------------------------------------------------------------ */

struct client {
	int fd;
	char *in;
	size_t n;
	bool closed;
};

static void
turn(struct server *s)
{
	for (int i = 0; i < 4; i++)
		event_base_loop(s->base, EVLOOP_NONBLOCK);
}

static void
client_read(struct client *c)
{
	char buf[4096];
	ssize_t n;

	while (!c->closed) {
		n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			c->closed = true;
			return;
		}
		c->in = xrealloc(c->in, c->n + (size_t)n + 1);
		memcpy(c->in + c->n, buf, (size_t)n);
		c->n += (size_t)n;
		c->in[c->n] = '\0';
	}
}

static void
client_send(struct server *s, struct client *c, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (k < 0 && errno != EAGAIN)
			return; /* refused early: see what it said */
		if (k > 0) {
			p += k;
			n -= (size_t)k;
		}
		turn(s);
		client_read(c);
	}
}

static void
client_open(struct server *s, struct client *c)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	memset(c, 0, sizeof(*c));
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", s->path);
	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(c->fd, (struct sockaddr *)&un, sizeof(un)), 0);
}

/* ---- judging ------------------------------------------------------------- */

static bool
meets(int status, const char *alternatives)
{
	char text[64], *save, *w;

	snprintf(text, sizeof(text), "%s", alternatives);
	for (w = strtok_r(text, "|", &save); w != NULL;
	     w = strtok_r(NULL, "|", &save))
		if (strcmp(w, "close") == 0
			? status == 0
			: (w[1] == 'x' ? status / 100 == w[0] - '0'
				       : atoi(w) == status))
			return true;
	return false;
}

/* Split off one answer at *at: its status, 0 for none, -1 for no answer. */
static int
next_answer(const struct client *c, size_t *at)
{
	const char *p, *end, *length;
	int status;

	if (*at >= c->n)
		return 0;
	p = c->in + *at;
	end = strstr(p, "\r\n\r\n");
	if (end == NULL || sscanf(p, "HTTP/1.1 %3d ", &status) != 1)
		return -1;
	end += 4;
	if (status >= 200) {
		length = strstr(p, "Content-Length: ");
		if (length == NULL || length > end)
			return -1;
		end += atoi(length + 16);
	}
	*at = (size_t)(end - c->in);
	return *at <= c->n ? status : -1;
}

static void
judge(const struct kase *k, const struct server *s, const struct client *c,
    const char *how)
{
	unsigned kept = 0, interim = 0;
	size_t at = 0;
	int status;

	for (unsigned i = 0; i < k->answers_n; i++) {
		while ((status = next_answer(c, &at)) >= 100 && status < 200)
			interim++;
		if (status == 0 && !c->closed)
			fail_msg("%s %s: no answer %u", k->name, how, i + 1);
		if (!meets(status, k->answers[i]))
			fail_msg("%s %s: answer %u is %d, not %s", k->name, how,
			    i + 1, status, k->answers[i]);
		kept += status / 100 == 2;
	}
	if (next_answer(c, &at) != 0)
		fail_msg("%s %s: more answers than requests", k->name, how);
	if (interim > 0 && k->no_interim)
		fail_msg("%s %s: unasked 1xx", k->name, how);
	if (k->close && !c->closed)
		fail_msg("%s %s: not closed", k->name, how);
	if (s->got_n != (k->stored >= 0 ? (unsigned)k->stored : kept))
		fail_msg("%s %s: %u kept", k->name, how, s->got_n);
	for (unsigned i = 0; i < k->want_n; i++)
		if (s->got[i].n != k->want[i].n ||
		    strcmp(s->got[i].sha256, k->want[i].sha256) != 0)
			fail_msg("%s %s: body %u differs", k->name, how, i);
}

/* Send in pieces of `piece` octets, or cut in two at `cut`. */
static void
run(struct server *s, const struct kase *k, size_t piece, size_t cut,
    const char *how)
{
	struct client c;
	size_t at = 0;

	s->got_n = 0;
	s->runs++;
	client_open(s, &c);
	turn(s);
	while (at < k->n) {
		size_t n = cut > at ? cut - at : cut > 0 ? k->n - at : piece;

		if (n > k->n - at)
			n = k->n - at;
		client_send(s, &c, k->req + at, n);
		at += n;
	}
	if (k->eof)
		shutdown(c.fd, SHUT_WR);
	for (int i = 0; i < 3; i++) {
		turn(s);
		client_read(&c);
	}
	judge(k, s, &c, how);
	close(c.fd);
	free(c.in);
	turn(s);
	assert_int_equal(http_server_connections(s->hs), 0);
}

static void
test_corpus(void **state)
{
	struct server *s = *state;
	char dir[512], how[32];
	struct dirent **list;
	int n, ran = 0;

	snprintf(dir, sizeof(dir), "%s/t/data/http-corpus",
	    getenv("TOP_SRCDIR") != NULL ? getenv("TOP_SRCDIR") : ".");
	n = scandir(dir, &list, NULL, alphasort);
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		const char *file = list[i]->d_name;
		struct kase *k;

		if (strstr(file, ".req") == NULL ||
		    strstr(file, "multipart") != NULL) {
			free(list[i]);
			continue;
		}
		k = read_case(dir, file);
		run(s, k, k->n, 0, "whole");
		if (k->n <= SMALL) {
			run(s, k, 1, 0, "octet by octet");
			for (size_t cut = 1; cut < k->n; cut++) {
				snprintf(how, sizeof(how), "cut at %zu", cut);
				run(s, k, 0, cut, how);
			}
		}
		ran++;
		free(k->req);
		free(k);
		free(list[i]);
	}
	free(list);
	print_message("# %d cases, %u runs\n", ran, s->runs);
	assert_true(ran >= 47);
}

static int
setup(void **state)
{
	static const struct http_route routes[] = {
		{ "PUT POST", "/*", on_upload },
	};
	struct server *s = xcalloc(1, sizeof(*s));
	struct http_settings set;
	char address[80];

	log_level = LOG_ERROR;
	http_settings_default(&set);
	s->base = event_base_new();
	s->hs = http_server_new(s->base, &set, routes, 1, s);
	snprintf(s->path, sizeof(s->path), "corpus-%d.sock", (int)getpid());
	snprintf(address, sizeof(address), "unix:%s", s->path);
	*state = s;
	return http_server_listen(s->hs, "lan", address, NULL);
}

static int
teardown(void **state)
{
	struct server *s = *state;

	http_server_free(s->hs);
	event_base_free(s->base);
	free(s);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_corpus) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
