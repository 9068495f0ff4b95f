/*
 * worker_main.c - edgehaul-image: shrinks one body after the other, in a cage
 *
 * Started by edgehaul-agent, never by hand. It shuts itself in before it hears
 * of any body, says hello, and then takes jobs until the agent closes the
 * socket. It keeps nothing from one job to the next.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <openssl/evp.h>

#include "worker_codec.h"

#define IDLE_MS 500

static int
send_record(const void *p, size_t n)
{
	struct iovec io = { (void *)p, n };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };

	return sendmsg(WORKER_FD, &m, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -EPIPE;
}

/* A job and its two descriptors. 0, or -errno: the agent is gone or mad. */
static int
receive_job(struct worker_job *job, int fds[2])
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec io = { job, sizeof(*job) };
	struct msghdr m = { .msg_iov = &io,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(WORKER_FD, &m, 0);
	while (n < 0 && errno == EINTR);
	c = CMSG_FIRSTHDR(&m);
	if (n != sizeof(*job) || job->magic != WORKER_MAGIC || c == NULL ||
	    c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(2 * sizeof(int)))
		return -EPIPE;
	memcpy(fds, CMSG_DATA(c), 2 * sizeof(int));
	return 0;
}

/* Idle children hold no memory that a busy gateway could use. */
static void
wait_for_job(void)
{
	struct pollfd p = { .fd = WORKER_FD, .events = POLLIN };

	if (poll(&p, 1, IDLE_MS) == 0)
		worker_memory_give_back();
}

static uint32_t
peak_kb(void)
{
	struct rusage u;

	return getrusage(RUSAGE_SELF, &u) == 0 ? (uint32_t)u.ru_maxrss : 0;
}

static int
serve(uint64_t memory)
{
	struct worker_job job;
	int fds[2];

	for (;;) {
		struct worker_answer a = { .magic = WORKER_MAGIC };

		wait_for_job();
		if (receive_job(&job, fds) != 0)
			return 0;
		a.serial = job.serial;
		worker_job_run(&job, memory, fds[0], fds[1], &a);
		close(fds[0]);
		close(fds[1]);
		a.peak_kb = peak_kb();
		if (send_record(&a, sizeof(a)) != 0)
			return 1;
	}
}

/* What libraries load or look up once, they do before the doors close. */
static void
warm_up(void)
{
	uint8_t digest[32];

	worker_memory_keep();
	EVP_Digest("", 0, digest, NULL, EVP_sha256(), NULL);
}

int
main(int argc, char **argv)
{
	struct worker_hello hello = { WORKER_MAGIC, WORKER_VERSION, 0 };
	uint64_t memory;
	int rc;

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("edgehaul-image %s\n", PACKAGE_VERSION);
		return 0;
	}
	if (argc != 2) {
		fputs("edgehaul-image is started by edgehaul-agent\n", stderr);
		return 64;
	}
	memory = strtoull(argv[1], NULL, 10);
	hello.features = (jpeg_built_in() ? WORKER_HAS_JPEG : 0) |
	    (jxl_built_in() ? WORKER_HAS_JXL : 0) |
	    (sandbox_has_seccomp() ? WORKER_HAS_SECCOMP : 0);
	warm_up();
	rc = sandbox_enter(memory);
	if (rc != 0 || send_record(&hello, sizeof(hello)) != 0)
		_exit(71);
	_exit(serve(memory));
}
