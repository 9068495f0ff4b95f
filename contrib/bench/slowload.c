/*
 * slowload.c - many slow uploaders at once, from one thread
 *
 * slowload PORT PATH N SIZE SECONDS RAMP : N connections to 127.0.0.1, opened
 * evenly within RAMP seconds. Each sends a PUT of PATH<i>.jpg with SIZE octets,
 * some every half second over SECONDS, then waits for its answer. One line:
 * answers 2xx, other, errors, unfinished, p50 and p99 in ms after the last
 * octet. Exit 1 if one is not a 2xx. Build: gcc -O2 slowload.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define STEP 0.5

struct conn {
	int fd;
	enum { SENDING, SENT, OVER } state;
	char head[256];
	size_t head_n, head_sent, sent;
	double began, next, last; /* last: when its last octet went */
};

static struct conn *conns;
static size_t size;
static double over_seconds;
static char *body;
static double *waits; /* ms after the last octet, of those answered */
static int ok, other, failed;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void
end(struct conn *c, int *counter)
{
	++*counter;
	close(c->fd);
	c->state = OVER;
}

static void
open_one(struct conn *c, int epoll, const struct sockaddr_in *to,
    const char *path, int i)
{
	struct epoll_event ev = { EPOLLIN | EPOLLRDHUP, { .ptr = c } };

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	c->head_n = (size_t)snprintf(c->head, sizeof(c->head),
	    "PUT %s%d.jpg HTTP/1.1\r\nHost: gateway\r\n"
	    "Content-Type: image/jpeg\r\nContent-Length: %zu\r\n"
	    "Connection: close\r\n\r\n",
	    path, i, size);
	c->began = c->next = now();
	if (c->fd < 0 ||
	    (connect(c->fd, (const struct sockaddr *)to, sizeof(*to)) != 0 &&
		errno != EINPROGRESS) ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &ev) != 0)
		end(c, &failed);
}

/* What is due by now. */
static void
send_some(struct conn *c, double t)
{
	size_t want;
	ssize_t k;

	if (c->head_sent < c->head_n) {
		k = send(c->fd, c->head + c->head_sent,
		    c->head_n - c->head_sent, MSG_NOSIGNAL);
		if (k > 0)
			c->head_sent += (size_t)k;
	} else {
		want = (size_t)((t - c->began) / over_seconds * (double)size);
		if (want <= c->sent)
			want = c->sent + 1;
		if (want > size)
			want = size;
		k = send(c->fd, body + c->sent, want - c->sent, MSG_NOSIGNAL);
		if (k > 0)
			c->sent += (size_t)k;
		if (c->sent == size) {
			c->state = SENT;
			c->last = now();
		}
	}
	c->next = t + STEP;
	if (k < 0 && errno != EAGAIN && errno != ENOTCONN)
		end(c, &failed);
}

static void
on_answer(struct conn *c)
{
	char text[1024];
	ssize_t k = recv(c->fd, text, sizeof(text) - 1, 0);

	if (c->state == OVER || (k < 0 && errno == EAGAIN))
		return;
	if (k < 12) {
		end(c, &failed);
		return;
	}
	text[k] = '\0';
	if (atoi(text + 9) / 100 == 2 && c->state == SENT)
		waits[ok] = (now() - c->last) * 1e3;
	end(c, atoi(text + 9) / 100 == 2 && c->state == SENT ? &ok : &other);
}

static void
run(int n, const struct sockaddr_in *to, const char *path, double ramp)
{
	double start = now(), t;
	int epoll = epoll_create1(EPOLL_CLOEXEC), opened = 0;
	struct epoll_event ev[256];

	while (ok + other + failed < n) {
		t = now();
		if (t - start > ramp + 3 * over_seconds + 30)
			break;
		for (; opened < n && t - start >= ramp * opened / n; opened++)
			open_one(&conns[opened], epoll, to, path, opened);
		for (int i = 0; i < opened; i++)
			if (conns[i].state == SENDING && conns[i].next <= t)
				send_some(&conns[i], t);
		for (int i = epoll_wait(epoll, ev, 256, 20); i > 0; i--)
			on_answer(ev[i - 1].data.ptr);
	}
}

int
main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	int n = argc == 7 ? atoi(argv[3]) : 0;

	if (n < 1) {
		fputs("slowload PORT PATH N SIZE SECONDS RAMP\n", stderr);
		return 64;
	}
	to.sin_port = htons((uint16_t)atoi(argv[1]));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	size = (size_t)atoll(argv[4]);
	over_seconds = atof(argv[5]);
	body = malloc(size);
	for (size_t i = 0; i < size; i++)
		body[i] = (char)random();
	conns = calloc((size_t)n, sizeof(*conns));
	waits = calloc((size_t)n, sizeof(*waits));
	run(n, &to, argv[2], atof(argv[6]));
	qsort(waits, (size_t)ok, sizeof(*waits), by_value);
	printf("2xx=%d other=%d errors=%d unfinished=%d p50=%.1f p99=%.1f\n",
	    ok, other, failed, n - ok - other - failed,
	    ok > 0 ? waits[ok / 2] : 0, ok > 0 ? waits[ok * 99 / 100] : 0);
	return ok == n ? 0 : 1;
}
