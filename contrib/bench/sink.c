/*
 * sink.c - a store that keeps nothing: for agents and curl to send to
 *
 * sink PORT : answers PUT with 200, as S3 does: with the body's SHA-256 if the
 * request tells one (and with 400 if it is another), else with its MD5 as ETag;
 * GET /after/N with 200 once N bodies have come since the last one that asked, so
 * that nobody need look again and again; anything else with 404. A thread for
 * each connection on 127.0.0.1.
 * Build: gcc -O2 sink.c -lcrypto -lpthread
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <sys/socket.h>

struct peer {
	int fd;
	size_t n; /* octets in buf not yet used */
	char buf[65536 + 1];
};

static bool
more(struct peer *p)
{
	ssize_t k = recv(p->fd, p->buf + p->n, sizeof(p->buf) - 1 - p->n, 0);

	if (k <= 0)
		return false;
	p->n += (size_t)k;
	p->buf[p->n] = '\0';
	return true;
}

static void
used(struct peer *p, size_t n)
{
	memmove(p->buf, p->buf + n, p->n - n + 1);
	p->n -= n;
}

static bool
say(struct peer *p, const char *text)
{
	return send(p->fd, text, strlen(text), MSG_NOSIGNAL) > 0;
}

static bool
take_body(struct peer *p, unsigned long long left, const EVP_MD *kind,
    unsigned char digest[EVP_MAX_MD_SIZE])
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool ok = true;

	EVP_DigestInit_ex(md, kind, NULL);
	while (ok && left > 0) {
		size_t n = p->n < left ? p->n : (size_t)left;

		EVP_DigestUpdate(md, p->buf, n);
		used(p, n);
		left -= n;
		if (left > 0)
			ok = more(p);
	}
	EVP_DigestFinal_ex(md, digest, NULL);
	EVP_MD_CTX_free(md);
	return ok;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t one_more = PTHREAD_COND_INITIALIZER;
static unsigned long bodies, awaited;

static void
count(void)
{
	pthread_mutex_lock(&lock);
	if (++bodies == awaited)
		pthread_cond_signal(&one_more);
	pthread_mutex_unlock(&lock);
}

static void
wait_for(unsigned long n)
{
	pthread_mutex_lock(&lock);
	awaited = n;
	while (bodies < n)
		pthread_cond_wait(&one_more, &lock);
	bodies = awaited = 0;
	pthread_mutex_unlock(&lock);
}

/* 200 with what was found, or 400 if it is not what was told. */
static void
answer_put(const unsigned char *digest, const char *told, char *out, size_t n)
{
	char text[64];

	if (told[0] == '\0') {
		for (int i = 0; i < 16; i++)
			sprintf(text + 2 * i, "%02x", digest[i]);
		snprintf(out, n,
		    "HTTP/1.1 200 OK\r\nETag: \"%s\"\r\nContent-Length: 0\r\n\r\n",
		    text);
		return;
	}
	EVP_EncodeBlock((unsigned char *)text, digest, 32);
	if (strcmp(text, told) == 0)
		snprintf(out, n,
		    "HTTP/1.1 200 OK\r\nETag: \"1-%s\"\r\n"
		    "x-amz-checksum-sha256: %s\r\nContent-Length: 0\r\n\r\n",
		    text, text);
	else
		snprintf(out, n,
		    "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
}

static bool
serve_one(struct peer *p)
{
	static const char checksum[] = "\r\nx-amz-checksum-sha256:";
	unsigned char digest[EVP_MAX_MD_SIZE];
	char *end, *h, told[64] = "", answer[320];
	unsigned long after = 0;
	unsigned long long n = 0;
	bool put;

	while ((end = memmem(p->buf, p->n, "\r\n\r\n", 4)) == NULL)
		if (p->n == sizeof(p->buf) - 1 || !more(p))
			return false;
	end[2] = '\0';
	put = strncmp(p->buf, "PUT ", 4) == 0;
	sscanf(p->buf, "GET /after/%lu", &after);
	if ((h = strcasestr(p->buf, "\r\nContent-Length:")) != NULL)
		n = strtoull(h + 17, NULL, 10);
	if ((h = strcasestr(p->buf, checksum)) != NULL)
		sscanf(h + strlen(checksum), " %63[^\r]", told);
	if (strcasestr(p->buf, "\r\nExpect:") != NULL &&
	    !say(p, "HTTP/1.1 100 Continue\r\n\r\n"))
		return false;
	used(p, (size_t)(end - p->buf) + 4);
	if (!take_body(
		p, n, told[0] != '\0' ? EVP_sha256() : EVP_md5(), digest))
		return false;
	if (after > 0) {
		wait_for(after);
		return say(
		    p, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	}
	if (!put)
		return say(p,
		    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
	answer_put(digest, told, answer, sizeof(answer));
	if (!say(p, answer))
		return false;
	count();
	return true;
}

static void *
serve(void *arg)
{
	struct peer *p = arg;

	while (serve_one(p))
		;
	close(p->fd);
	free(p);
	return NULL;
}

int
main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	at.sin_port = htons((uint16_t)(argc == 2 ? atoi(argv[1]) : 0));
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (argc != 2 || bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
	    listen(fd, 1024) != 0) {
		perror("sink PORT");
		return 64;
	}
	for (;;) {
		struct peer *p = calloc(1, sizeof(*p));
		pthread_t t;

		p->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (p->fd < 0 || pthread_create(&t, NULL, serve, p) != 0)
			return 1;
		pthread_detach(t);
	}
}
