/*
 * tls.h - TLS contexts for listeners
 */
#ifndef TLS_H
#define TLS_H

struct ssl_ctx_st;

/*
 * A server context from PEM files: the certificate with its chain, leaf first,
 * and its key. With client_ca, clients are asked for a certificate of one of
 * these CAs: a bad one ends the handshake, none does not, so that a client
 * without (enrolment, a bearer token) can be served; what needs one looks at
 * http_request_peer_name(). TLS 1.2 and up, ALPN http/1.1.
 *
 * 0: the caller frees *ctx_out by SSL_CTX_free(); listeners take references of
 * their own. -ENOENT, -EACCES, -EINVAL: *why_out tells in words, static, which
 * file is at fault. To reload, make a new one and http_server_set_tls() it.
 */
int tls_server_ctx(const char *cert_file, const char *key_file,
    const char *client_ca, struct ssl_ctx_st **ctx_out, const char **why_out);

#endif
