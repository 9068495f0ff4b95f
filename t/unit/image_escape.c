/*
 * image_escape.c - a worker that tries to get out, for image_worker.c
 *
 * image_escape TRY: shuts itself in as a worker does and tries; exit 0 means
 * that it got through. As a child of a pool (its argument is a number) it does
 * what the job's quality says instead of shrinking anything.
 */
#include "config.h"
#include "worker_codec.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define MEMORY (256 << 20)

static bool
try_open(void)
{
	return open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0;
}

static bool
try_create(void)
{
	return open("/tmp/escaped", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0;
}

static bool
try_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}

static bool
try_exec(void)
{
	execl("/bin/true", "true", (char *)NULL);
	return false;
}

static bool
try_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid > 0;
}

static bool
try_ptrace(void)
{
	return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) == 0;
}

static bool
try_kill(void)
{
	return kill(getppid(), 0) == 0;
}

static bool
try_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

/* Within the limits, and not killed: no more memory than allowed. */
static bool
try_memory(void)
{
	void *p = malloc(2 * (size_t)MEMORY);

	if (p != NULL)
		memset(p, 1, 2 * (size_t)MEMORY);
	return p != NULL;
}

static const struct {
	const char *name;
	bool (*fn)(void);
} tries[] = {
	{ "open", try_open },
	{ "create", try_create },
	{ "socket", try_socket },
	{ "exec", try_exec },
	{ "fork", try_fork },
	{ "ptrace", try_ptrace },
	{ "kill", try_kill },
	{ "code", try_code },
	{ "memory", try_memory },
};

static void
reply(const void *p, size_t n)
{
	struct iovec io = { (void *)p, n };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };

	sendmsg(WORKER_FD, &m, MSG_NOSIGNAL);
}

static int
child(void)
{
	struct worker_hello hello = { WORKER_MAGIC, WORKER_VERSION,
		WORKER_HAS_SECCOMP };
	struct worker_job job;
	char room[256];
	struct iovec io = { &job, sizeof(job) };
	volatile uint64_t spin = 0;

	if (sandbox_enter(MEMORY) != 0)
		return 1;
	reply(&hello, sizeof(hello));
	for (;;) {
		struct msghdr m = { .msg_iov = &io,
			.msg_iovlen = 1,
			.msg_control = room,
			.msg_controllen = sizeof(room) };
		struct worker_answer a = { .magic = WORKER_MAGIC,
			.outcome = WORKER_PLAIN };

		if (recvmsg(WORKER_FD, &m, 0) != (ssize_t)sizeof(job))
			return 0;
		a.serial = job.serial;
		switch (job.quality) {
		case 0: /* good */
			break;
		case 1: /* never ends */
			for (;;)
				spin++;
		case 2: /* an answer of another form */
			reply("lie", 3);
			continue;
		case 3: /* a result larger than the body */
			a.outcome = WORKER_SMALLER;
			a.step = WORKER_STEP_ZSTD;
			a.out_size = job.size + 1;
			break;
		case 4: /* an answer to another job */
			a.serial++;
			break;
		case 5:
			abort();
		case 6: /* two answers */
			reply(&a, sizeof(a));
			break;
		default:
			try_open();
		}
		reply(&a, sizeof(a));
	}
}

int
main(int argc, char **argv)
{
	if (argc == 2 && isdigit((unsigned char)argv[1][0]))
		return child();
	for (size_t i = 0; argc == 2 && i < sizeof(tries) / sizeof(*tries); i++)
		if (strcmp(tries[i].name, argv[1]) == 0)
			_exit(sandbox_enter(MEMORY) != 0 ? 2
				: tries[i].fn()          ? 0
							 : 1);
	return 64;
}
