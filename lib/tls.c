/*
 * tls.c - TLS contexts for listeners
 *
 * Where client certificates are asked for there is no resumption: who the peer
 * is and whether its CA is still trusted is then found anew for each
 * connection. Renegotiation and compression are off. A key that wants a
 * passphrase is refused: nobody sits at the gateway to type it.
 */
#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stddef.h>
#include <unistd.h>

static int
no_passphrase(char *buf, int size, int writing, void *arg)
{
	return -1;
}

static int
select_alpn(SSL *ssl, const unsigned char **out, unsigned char *n_out,
    const unsigned char *in, unsigned n, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, n_out, ours, sizeof(ours) - 1, in,
		n) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static void
set_up(SSL_CTX *ctx)
{
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20");
	SSL_CTX_set_options(ctx,
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
		SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	/* By tickets alone: what is kept for clients must have a bound. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
}

/* Ask clients for a certificate of one of the CAs in the file. */
static int
ask_clients(SSL_CTX *ctx, const char *client_ca)
{
	static const unsigned char id[] = "edgehaul";
	STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(client_ca);

	if (names == NULL ||
	    SSL_CTX_load_verify_locations(ctx, client_ca, NULL) != 1) {
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return -1;
	}
	SSL_CTX_set_client_CA_list(ctx, names); /* takes it */
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_verify_depth(ctx, 3);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1);
	return 0;
}

static int
readable(const char *path, const char *text, const char **why)
{
	if (access(path, R_OK) == 0)
		return 0;
	*why = text;
	return errno == EACCES ? -EACCES : -ENOENT;
}

/* Read the files into ctx. NULL, or what is wrong. */
static const char *
load(SSL_CTX *ctx, const char *cert_file, const char *key_file,
    const char *client_ca)
{
	if (SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1)
		return "the certificate file holds no usable certificate";
	if (SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1)
		return "the key file holds no key without a passphrase that "
		       "fits the certificate";
	if (SSL_CTX_check_private_key(ctx) != 1)
		return "the key does not fit the certificate";
	if (client_ca != NULL && ask_clients(ctx, client_ca) != 0)
		return "the client CA file holds no usable certificate";
	return NULL;
}

int
tls_server_ctx(const char *cert_file, const char *key_file,
    const char *client_ca, SSL_CTX **ctx_out, const char **why_out)
{
	const char *why;
	SSL_CTX *ctx;
	int rc;

	rc = readable(cert_file, "the certificate file cannot be read", &why);
	if (rc == 0)
		rc = readable(key_file, "the key file cannot be read", &why);
	if (rc == 0 && client_ca != NULL)
		rc = readable(
		    client_ca, "the client CA file cannot be read", &why);
	if (rc != 0) {
		*why_out = why;
		return rc;
	}
	ERR_clear_error();
	ctx = SSL_CTX_new(TLS_server_method());
	if (ctx == NULL) {
		*why_out = "OpenSSL gives no context";
		return -ENOMEM;
	}
	set_up(ctx);
	why = load(ctx, cert_file, key_file, client_ca);
	ERR_clear_error();
	if (why != NULL) {
		SSL_CTX_free(ctx);
		*why_out = why;
		return -EINVAL;
	}
	*ctx_out = ctx;
	return 0;
}
