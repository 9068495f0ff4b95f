/*
 * http_tls.c - tests of lib/tls.c and of lib/http_server.c under TLS
 *
 * Certificates are made here: a CA, a server's and a client's of that CA, and
 * a client's of nobody's.
 */
#include "http_world.h"

#include <event2/event.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "log.h"
#include "tls.h"
#include "xalloc.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

struct identity {
	EVP_PKEY *key;
	X509 *cert;
	char cert_file[64], key_file[64];
};

struct tls_test {
	struct identity ca, server, client, stranger;
};

static void
identity_make(struct identity *id, const char *cn, const struct identity *ca)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);
	X509_EXTENSION *ext;
	FILE *f;

	id->key = EVP_EC_gen("P-256");
	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(x), (long)(cn[0] + cn[1]));
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_set_pubkey(x, id->key);
	X509_NAME_add_entry_by_txt(
	    name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(
	    x, ca != NULL ? X509_get_subject_name(ca->cert) : name);
	if (ca == NULL) {
		ext = X509V3_EXT_conf_nid(
		    NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
		X509_add_ext(x, ext, -1);
		X509_EXTENSION_free(ext);
	}
	assert_true(
	    X509_sign(x, ca != NULL ? ca->key : id->key, EVP_sha256()) > 0);
	id->cert = x;
	snprintf(id->cert_file, sizeof(id->cert_file), "tls-%s-%d.crt", cn,
	    (int)getpid());
	snprintf(id->key_file, sizeof(id->key_file), "tls-%s-%d.key", cn,
	    (int)getpid());
	f = fopen(id->cert_file, "w");
	PEM_write_X509(f, x);
	fclose(f);
	f = fopen(id->key_file, "w");
	PEM_write_PrivateKey(f, id->key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
}

static void
identity_free(struct identity *id)
{
	unlink(id->cert_file);
	unlink(id->key_file);
	X509_free(id->cert);
	EVP_PKEY_free(id->key);
}

static int
setup(void **state)
{
	struct tls_test *t = xcalloc(1, sizeof(*t));

	identity_make(&t->ca, "ca", NULL);
	identity_make(&t->server, "server", &t->ca);
	identity_make(&t->client, "gate-7", &t->ca);
	identity_make(&t->stranger, "nobody", NULL);
	*state = t;
	return 0;
}

static int
teardown(void **state)
{
	struct tls_test *t = *state;

	identity_free(&t->ca);
	identity_free(&t->server);
	identity_free(&t->client);
	identity_free(&t->stranger);
	free(t);
	return 0;
}

static SSL_CTX *
server_ctx(const struct tls_test *t, const struct identity *id, bool ask)
{
	const char *why = "";
	SSL_CTX *ctx = NULL;

	if (tls_server_ctx(id->cert_file, id->key_file,
		ask ? t->ca.cert_file : NULL, &ctx, &why) != 0)
		fail_msg("%s", why);
	return ctx;
}

/* A client that trusts the CA and shows id, if any. */
static SSL_CTX *
client_ctx(const struct tls_test *t, const struct identity *id)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	SSL_CTX_load_verify_locations(ctx, t->ca.cert_file, NULL);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (id != NULL) {
		SSL_CTX_use_certificate(ctx, id->cert);
		SSL_CTX_use_PrivateKey(ctx, id->key);
	}
	return ctx;
}

static struct world *
tls_world_for(SSL_CTX *ctx, int64_t head_timeout_ms, int *port_out)
{
	struct http_settings set;
	struct world *w;

	http_settings_default(&set);
	set.head_timeout_ms = head_timeout_ms;
	w = world_new(&set);
	assert_int_equal(
	    http_server_listen(w->hs, "tls", "127.0.0.1:0", ctx), 0);
	SSL_CTX_free(ctx); /* the listener has its own */
	*port_out = http_server_port(w->hs, "tls");
	return w;
}

static struct world *
tls_world(SSL_CTX *ctx, int *port_out)
{
	return tls_world_for(ctx, 1000, port_out);
}

static void
test_requests(void **state)
{
	struct tls_test *t = *state;
	SSL_CTX *cc = client_ctx(t, NULL);
	size_t n = 2u << 20;
	char *body = xmalloc(n), head[128];
	int port;
	struct world *w = tls_world(server_ctx(t, &t->server, false), &port);
	struct client *c = client_tls(w, port, cc);

	assert_string_equal(client_ask(c, GET("/hello/x")),
	    "hello x q=(none) peer=127.0.0.1 cn=(none)");
	/* a large body, pipelined with another request */
	for (size_t i = 0; i < n; i++)
		body[i] = (char)(i % 241);
	client_forget(c);
	snprintf(head, sizeof(head),
	    "PUT /put/a HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", n);
	assert_true(client_say(c, head));
	assert_true(client_send(c, body, n));
	assert_true(client_say(c, GET("/hello/y")));
	assert_true(client_sees(c, "hello y"));
	assert_int_equal(w->body_n, n);
	assert_memory_equal(w->body, body, n);
	/* a file, a stream */
	assert_memory_equal(client_ask(c, GET("/file")) + 100, "word", 4);
	assert_true(c->n > FILE_N);
	for (size_t i = 0, at = c->n - FILE_N + 100; at + i < c->n; i++)
		assert_true(c->in[at + i] == (char)(i % 251));
	client_forget(c);
	client_say(c, GET("/stream"));
	assert_true(client_sees_last(c, "\r\n0\r\n\r\n"));
	assert_true(c->n > STREAM_N);
	/* its close is a clean one */
	client_ask(c,
	    "GET /hello/x HTTP/1.1\r\nHost: x\r\n"
	    "Connection: close\r\n\r\n");
	assert_true(client_ends(c));
	assert_false(c->reset);
	client_free(c);
	assert_true(world_has(w, 0));
	free(body);
	SSL_CTX_free(cc);
	world_free(w);
}

static void
test_pause_and_loss(void **state)
{
	struct tls_test *t = *state;
	SSL_CTX *cc = client_ctx(t, NULL);
	int port;
	struct world *w = tls_world(server_ctx(t, &t->server, false), &port);
	struct client *c = client_tls(w, port, cc);

	/* octets that the TLS library holds back must not be forgotten */
	w->pause = true;
	client_say(c,
	    "PUT /put/a HTTP/1.1\r\nHost: x\r\n"
	    "Content-Length: 10\r\n\r\nhello");
	client_say(c, "world");
	world_spin(w, 50);
	assert_int_equal(w->body_n, 5);
	http_request_resume(w->paused);
	world_spin(w, 50);
	assert_string_equal(w->body, "helloworld");
	http_request_resume(w->paused);
	assert_true(client_sees(c, "201 Created"));
	w->pause = false;
	w->log[0] = '\0';
	/* a cut without close_notify is no end of a body */
	client_say(c, "PUT /put/a HTTP/1.0\r\nContent-Length: 10\r\n\r\nhi");
	shutdown(c->fd, SHUT_WR);
	world_spin(w, 50);
	assert_string_equal(w->log, "put lost failed ");
	client_free(c);
	c = client_tls(w, port, cc);
	w->log[0] = '\0';
	client_say(c, GET("/later"));
	client_reset(c);
	assert_string_equal(w->log, "later failed ");
	client_free(c);
	assert_true(world_has(w, 0));
	SSL_CTX_free(cc);
	world_free(w);
}

static void
test_client_certificates(void **state)
{
	struct tls_test *t = *state;
	const struct identity *ids[] = { NULL, &t->client, &t->stranger };
	static const char *const want[] = { "cn=(none)", "cn=gate-7", NULL };
	int port;
	struct world *w = tls_world(server_ctx(t, &t->server, true), &port);

	for (int i = 0; i < 3; i++) {
		SSL_CTX *cc = client_ctx(t, ids[i]);
		struct client *c = client_tls(w, port, cc);
		const char *body = client_ask(c, GET("/hello/x"));

		if (want[i] != NULL)
			assert_non_null(strstr(body, want[i]));
		else
			assert_true(c->closed && c->n == 0);
		client_free(c);
		SSL_CTX_free(cc);
	}
	world_free(w);
}

static void
test_bad_handshakes(void **state)
{
	static const unsigned char h2[] = "\x02h2";
	struct tls_test *t = *state;
	SSL_CTX *cc = client_ctx(t, NULL);
	int port;
	struct world *w = tls_world(server_ctx(t, &t->server, false), &port);
	int plain = w->port;
	struct client *c, *silent;

	w->port = port;
	c = client_tcp(w); /* speaks HTTP to the TLS port */
	client_say(c, GET("/hello/x"));
	assert_true(client_ends(c));
	assert_null(strstr(c->in, "hello"));
	client_free(c);
	silent = client_tcp(w);
	SSL_CTX_set_max_proto_version(cc, TLS1_1_VERSION);
	c = client_tls(w, port, cc);
	assert_true(c->closed);
	client_free(c);
	SSL_CTX_set_max_proto_version(cc, 0);
	SSL_CTX_set_alpn_protos(cc, h2, sizeof(h2) - 1);
	c = client_tls(w, port, cc);
	assert_true(c->closed);
	client_free(c);
	assert_true(client_ends(silent)); /* after head_timeout */
	client_free(silent);
	assert_true(world_has(w, 0));
	w->port = plain;
	SSL_CTX_free(cc);
	world_free(w);
}

static void
test_reload(void **state)
{
	struct tls_test *t = *state;
	SSL_CTX *cc = client_ctx(t, NULL), *next;
	int port;
	struct world *w = tls_world(server_ctx(t, &t->server, false), &port);
	struct client *old = client_tls(w, port, cc), *c;

	next = server_ctx(t, &t->stranger, false);
	assert_int_equal(http_server_set_tls(w->hs, "tls", next), 0);
	assert_true(http_server_set_tls(w->hs, "tcp", next) < 0);
	assert_true(http_server_set_tls(w->hs, "none", next) < 0);
	SSL_CTX_free(next);
	assert_memory_equal(client_ask(old, GET("/hello/x")), "hello x", 7);
	c = client_tls(w, port, cc); /* which does not trust the new one */
	assert_true(c->closed);
	client_free(c);
	client_free(old);
	SSL_CTX_free(cc);
	world_free(w);
}

static void
test_bad_files(void **state)
{
	struct tls_test *t = *state;
	const char *cert = t->server.cert_file, *key = t->server.key_file;
	const struct {
		const char *cert, *key, *ca;
		int want;
		const char *why;
	} rows[] = {
		{ "none.crt", key, NULL, -2, "the certificate file" },
		{ cert, "none.key", NULL, -2, "the key file" },
		{ cert, key, "none.crt", -2, "the client CA" },
		{ key, key, NULL, -22, "the certificate file" },
		{ cert, cert, NULL, -22, "the key file" },
		{ cert, t->ca.key_file, NULL, -22, "the key" },
		{ cert, key, key, -22, "the client CA" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *why = NULL;
		SSL_CTX *ctx = NULL;

		assert_int_equal(tls_server_ctx(rows[i].cert, rows[i].key,
				     rows[i].ca, &ctx, &why),
		    rows[i].want);
		assert_null(ctx);
		assert_non_null(strstr(why, rows[i].why));
	}
}

/* A ClientHello and nothing more. Returns the socket. */
static int
stall(SSL_CTX *ctx, int port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	SSL *ssl = SSL_new(ctx);
	BIO *out = BIO_new(BIO_s_mem());
	char *p;
	long n;

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
	SSL_set_connect_state(ssl);
	SSL_do_handshake(ssl);
	n = BIO_get_mem_data(out, &p);
	assert_true(n > 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(write(fd, p, (size_t)n), n);
	SSL_free(ssl);
	return fd;
}

#define STALLED 200
#define HONEST 150

/* More handshakes than run at a time, and peers that stall in theirs: all of
 * the honest are served. */
static void
test_many_handshakes(void **state)
{
	struct tls_test *t = *state;
	SSL_CTX *cctx = client_ctx(t, NULL);
	struct client *honest[HONEST];
	int fds[STALLED], port;
	struct world *w =
	    tls_world_for(server_ctx(t, &t->server, false), 10000, &port);

	for (size_t i = 0; i < STALLED; i++)
		fds[i] = stall(cctx, port);
	world_spin(w, 50);
	for (size_t i = 0; i < HONEST; i++) {
		honest[i] = client_tls(w, port, cctx);
		assert_true(client_say(honest[i], GET("/hello/x")));
	}
	for (size_t i = 0; i < HONEST; i++)
		assert_true(client_sees(honest[i], "hello"));
	for (size_t i = 0; i < HONEST; i++)
		client_free(honest[i]);
	for (size_t i = 0; i < STALLED; i++)
		close(fds[i]);
	SSL_CTX_free(cctx);
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_pause_and_loss),
		cmocka_unit_test(test_client_certificates),
		cmocka_unit_test(test_bad_handshakes),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_many_handshakes),
	};

	log_level = LOG_ERROR;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
