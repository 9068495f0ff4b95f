/*
 * slowget.c - many slow downloaders at once, from one thread
 *
 * slowget PORT PATH N RATE SECONDS : N connections to 127.0.0.1, each from an
 * address of its own (127.1.0.0/16), GET PATH and read RATE octets a second
 * with a small receive buffer. After SECONDS a line: how many were answered
 * 200, other, lost. Exit 1 if one was not 200 or was lost.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define STEP_US 250000
#define BUFFER 8192

struct conn {
	int fd, answered;
};

static int
dial(int port, int i)
{
	struct sockaddr_in to = { .sin_family = AF_INET }, from = to;
	int fd = socket(AF_INET, SOCK_STREAM, 0), size = BUFFER;

	to.sin_port = htons((unsigned short)port);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	from.sin_addr.s_addr =
	    htonl((127u << 24) + (1u << 16) + (unsigned)i + 1);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof(from)) != 0 ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
		perror("slowget");
		exit(1);
	}
	return fd;
}

int
main(int argc, char **argv)
{
	int port, n, ok = 0, other = 0, lost = 0;
	size_t rate;
	double seconds;
	struct conn *c;
	char text[1024], *buf;

	if (argc != 6)
		return 64;
	port = atoi(argv[1]);
	n = atoi(argv[3]);
	rate = strtoul(argv[4], NULL, 10) / (1000000 / STEP_US);
	seconds = atof(argv[5]);
	c = calloc((size_t)n, sizeof(*c));
	buf = malloc(rate + 16);
	snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n",
	    argv[2]);
	for (int i = 0; i < n; i++) {
		c[i].fd = dial(port, i);
		if (write(c[i].fd, text, strlen(text)) < 0)
			lost++;
	}
	for (double t = 0; t < seconds; t += STEP_US / 1e6) {
		usleep(STEP_US);
		for (int i = 0; i < n; i++) {
			ssize_t k;

			if (c[i].fd < 0)
				continue;
			k = recv(c[i].fd, buf, rate, MSG_DONTWAIT);
			if (k == 0 || (k < 0 && errno != EAGAIN)) {
				close(c[i].fd);
				c[i].fd = -1;
				lost++;
			} else if (k > 12 && !c[i].answered) {
				c[i].answered = 1;
				if (memcmp(buf, "HTTP/1.1 200", 12) == 0)
					ok++;
				else
					other++;
			}
		}
	}
	printf("200: %d other: %d lost: %d\n", ok, other, lost);
	return ok == n && other == 0 && lost == 0 ? 0 : 1;
}
