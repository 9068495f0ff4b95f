/*
 * store_world_pg.c - tests of a store: over a PostgreSQL of their own
 *
 * One server for all tests, its tables dropped before each; what only this
 * database can do wrong is tested here.
 */
#include "store_world.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <libpq-fe.h>

#include "clock.h"
#include "log.h"
#include "store.h"
#include "xalloc.h"

#define START_MS 60000

static struct {
	char dir[64], *uri;
	pid_t pid;
	PGconn *conn; /* of the tests themselves */
} server;

/* ---- the server ------------------------------------------------------------
 */

static char *
script(void)
{
	const char *top = getenv("TOP_SRCDIR");

	return xasprintf(
	    "%s/t/lib/backends/postgresql", top != NULL ? top : ".");
}

bool
world_there(void)
{
	char *path = script(), *cmd = xasprintf("bash '%s' there", path);
	bool there = system(cmd) == 0;

	free(cmd);
	free(path);
	if (there)
		return true;
	if (getenv("EDGEHAUL_REQUIRED") != NULL)
		printf("1..1\nnot ok 1 - ");
	else
		printf("1..0 # SKIP ");
	printf("postgresql not installed (Debian: postgresql)\n");
	return false;
}

static int
free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) != 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) != 0)
		abort();
	close(fd);
	return ntohs(a.sin_port);
}

static void
run_server(const char *port)
{
	char *path = script(), *db = xasprintf("%s/db", server.dir);
	char *log = xasprintf("%s/log", server.dir);

	prctl(PR_SET_PDEATHSIG, SIGQUIT);
	if (freopen(log, "w", stderr) == NULL ||
	    freopen("/dev/null", "w", stdout) == NULL)
		_exit(126);
	execlp("bash", "bash", path, "run", db, port, (char *)NULL);
	_exit(127);
}

int
world_begin(void **state)
{
	int64_t until_ms = clock_ms() + START_MS;
	char *port = xasprintf("%d", free_port());

	log_level = LOG_ERROR;
	strcpy(server.dir, "/tmp/edgehaul-store-XXXXXX");
	if (mkdtemp(server.dir) == NULL || chmod(server.dir, 0755) != 0)
		return -1;
	server.uri =
	    xasprintf("postgresql://postgres@127.0.0.1:%s/postgres", port);
	server.pid = fork();
	if (server.pid == 0)
		run_server(port);
	free(port);
	for (;;) {
		server.conn = PQconnectdb(server.uri);
		if (PQstatus(server.conn) == CONNECTION_OK)
			return 0;
		PQfinish(server.conn);
		server.conn = NULL;
		if (clock_ms() > until_ms)
			return -1;
		usleep(50000);
	}
}

int
world_end(void **state)
{
	char *cmd = xasprintf("rm -rf %s", server.dir);
	int rc;

	PQfinish(server.conn);
	kill(server.pid, SIGQUIT);
	waitpid(server.pid, NULL, 0);
	rc = system(cmd);
	free(cmd);
	free(server.uri);
	return rc;
}

static int
sql(const char *statement)
{
	PGresult *res = PQexec(server.conn, statement);
	ExecStatusType s = PQresultStatus(res);

	PQclear(res);
	return s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK ? 0 : -1;
}

static int
drop_tables(void)
{
	return sql("SET client_min_messages = error; "
		   "DROP TABLE IF EXISTS edgehaul_rows, edgehaul_schema");
}

/* Break all connections but the tests' own. */
static void
break_all(void)
{
	assert_int_equal(
	    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
		"WHERE pid <> pg_backend_pid() AND application_name = "
		"'edgehaul-signer'"),
	    0);
}

/* ---- the store of a test ---------------------------------------------------
 */

static struct store *
open_store(void)
{
	struct store *s = NULL;
	char *why = NULL;

	if (store_open(server.uri, "", 0, &s, &why) != 0)
		printf("# %s\n", why);
	free(why);
	return s;
}

int
world_setup(void **state)
{
	if (drop_tables() != 0)
		return -1;
	*state = open_store();
	return *state != NULL ? 0 : -1;
}

int
world_teardown(void **state)
{
	store_close(*state);
	return 0;
}

struct store *
world_store(void *state)
{
	return state;
}

/* ---- rows ------------------------------------------------------------------
 */

static int
set(struct store_txn *t, void *arg)
{
	return store_put(t, KIND_META, "", "x", arg, strlen(arg));
}

struct seen {
	char doc[32];
};

static int
look(struct store_txn *t, void *arg)
{
	struct seen *s = arg;
	char *doc;
	size_t n;
	int rc = store_get(t, KIND_META, "", "x", &doc, &n);

	if (rc == 0) {
		snprintf(s->doc, sizeof(s->doc), "%s", doc);
		free(doc);
	}
	return rc;
}

static void
expect(struct store *s, const char *want)
{
	struct seen seen = { "" };

	assert_int_equal(store_view(s, look, &seen), 0);
	assert_string_equal(seen.doc, want);
}

static int
add_one(struct store_txn *t, void *arg)
{
	int64_t v;

	return store_changed(t, "acme", &v);
}

static void *
add_50(void *arg)
{
	for (int i = 0; i < 50; i++)
		if (store_update(arg, add_one, NULL) != 0)
			abort();
	return NULL;
}

static int
read_number(struct store_txn *t, void *arg)
{
	return store_version(t, "acme", arg);
}

/* What one signer does the other sees at once, and none of it is lost. */
void
test_two_stores(void **state)
{
	struct store *a = *state, *b = open_store();
	pthread_t threads[4];
	int64_t v = 0;
	char text[8];

	assert_non_null(b);
	assert_true(a->ops->shared);
	for (int i = 0; i < 20; i++) {
		snprintf(text, sizeof(text), "%d", i);
		assert_int_equal(store_update(i % 2 ? a : b, set, text), 0);
		expect(i % 2 ? b : a, text);
	}
	for (size_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, add_50, i % 2 ? a : b);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(store_view(b, read_number, &v), 0);
	assert_int_equal(v, 200);
	store_close(b);
}

/* ---- two that meet ---------------------------------------------------------
 */

struct meeting {
	struct store *s;
	const char *mine, *other;
	pthread_barrier_t *both;
	unsigned runs;
	bool was_there;
};

/* Each puts its row if the other's is missing: only one may find that. */
static int
put_if_alone(struct store_txn *t, void *arg)
{
	struct meeting *m = arg;
	char *doc;
	size_t n;
	int rc = store_get(t, KIND_META, "", m->other, &doc, &n);

	m->was_there = rc == 0;
	if (rc == 0)
		free(doc);
	else if (rc != -ENOENT)
		return rc;
	if (m->runs++ == 0)
		pthread_barrier_wait(m->both); /* both have looked */
	return m->was_there ? 0 : store_put(t, KIND_META, "", m->mine, "1", 1);
}

static void *
meet(void *arg)
{
	struct meeting *m = arg;

	if (store_update(m->s, put_if_alone, m) != 0)
		abort();
	return NULL;
}

void
test_met(void **state)
{
	pthread_barrier_t both;
	struct meeting a = { *state, "a", "b", &both, 0, false };
	struct meeting b = { *state, "b", "a", &both, 0, false };
	pthread_t thread;

	pthread_barrier_init(&both, NULL, 2);
	pthread_create(&thread, NULL, meet, &a);
	meet(&b);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&both);
	assert_int_equal(a.runs + b.runs, 3); /* one was run again */
	assert_true(a.was_there != b.was_there);
}

/* ---- connections that break ------------------------------------------------
 */

struct breaking {
	unsigned runs, breaks;
	const char *text;
};

static int
set_and_break(struct store_txn *t, void *arg)
{
	struct breaking *b = arg;
	struct seen seen;
	int rc = store_put(t, KIND_META, "", "x", b->text, strlen(b->text));

	if (b->runs++ < b->breaks) {
		break_all();
		rc = look(t, &seen);
	}
	return rc;
}

void
test_lost(void **state)
{
	struct store *s = *state;
	struct breaking once = { 0, 1, "once" }, always = { 0, 99, "always" };
	char was[] = "was";
	int64_t began;

	assert_int_equal(store_update(s, set, was), 0);
	break_all(); /* one that lies idle */
	expect(s, "was");
	break_all();
	assert_int_equal(store_update(s, set_and_break, &once), 0);
	assert_int_equal(once.runs, 2);
	expect(s, "once");
	began = clock_ms();
	assert_int_equal(store_update(s, set_and_break, &always), -ETIMEDOUT);
	assert_true(always.runs < 5);
	assert_true(clock_ms() - began < 5000);
	expect(s, "once");
}

/* A function that passes over an error: the transaction is not committed. */
static int
pass_over(struct store_txn *t, void *arg)
{
	struct breaking *b = arg;

	b->runs++;
	assert_int_equal(store_put(t, KIND_META, "", "x", "half", 4), 0);
	break_all();
	assert_int_not_equal(store_put(t, KIND_META, "", "y", "1", 1), 0);
	return 0;
}

void
test_passed_over(void **state)
{
	struct store *s = *state;
	struct breaking b = { 0 };
	char was[] = "was";

	assert_int_equal(store_update(s, set, was), 0);
	assert_int_equal(store_update(s, pass_over, &b), -ETIMEDOUT);
	assert_true(b.runs > 1);
	expect(s, "was");
	/* A table that somebody dropped is not a row that is missing. */
	assert_int_equal(sql("DROP TABLE edgehaul_rows"), 0);
	assert_int_equal(store_view(s, look, &(struct seen){ "" }), -EIO);
}

/* ---- tables ----------------------------------------------------------------
 */

static void *
open_and_close(void *arg)
{
	struct store *s = open_store();

	store_close(s);
	return s;
}

void
test_schema(void **state)
{
	struct store *s;
	pthread_t threads[4];
	char *why = NULL;
	void *ok;

	/* Many that start at once over nothing. */
	assert_int_equal(drop_tables(), 0);
	for (size_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, open_and_close, NULL);
	for (size_t i = 0; i < 4; i++) {
		pthread_join(threads[i], &ok);
		assert_non_null(ok);
	}
	/* What is half made is finished: as a crash between steps leaves it. */
	assert_int_equal(sql("DROP TABLE edgehaul_rows; "
			     "UPDATE edgehaul_schema SET version = 0"),
	    0);
	s = open_store();
	assert_non_null(s);
	assert_int_equal(store_update(s, add_one, NULL), 0);
	store_close(s);
	/* A newer one's are left alone. */
	assert_int_equal(sql("UPDATE edgehaul_schema SET version = 99"), 0);
	assert_int_equal(store_open(server.uri, "", 0, &s, &why), -EPROTO);
	assert_non_null(strstr(why, "version 99"));
	free(why);
}

/* No part of the URI is in what is told. */
void
test_bad_uri(void **state)
{
	static const char *const uris[] = {
		"postgresql://u:sEcret%zz@127.0.0.1/x",
		"postgresql://u:sEcret@127.0.0.1:1/x",
		"postgresql://u:sEcret@127.0.0.1:1/x?nonsense=1",
	};

	for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
		struct store *s;
		char *why = NULL;

		if (i == 1) /* away, not wrong: it would wait for seconds */
			log_level = (enum log_level) - 1;
		assert_int_equal(store_open(uris[i], "", 0, &s, &why),
		    i == 1 ? -ETIMEDOUT : -EINVAL);
		assert_non_null(why);
		assert_null(strstr(why, "sEcret"));
		free(why);
	}
	log_level = LOG_ERROR;
}
