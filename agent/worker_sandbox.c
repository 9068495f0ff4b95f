/*
 * worker_sandbox.c - what an image worker gives up before it sees an image
 *
 * Decoders are where hostile octets meet the most code, so they run where
 * there is nothing to win: no descriptors but the socket to the agent, no way
 * to get another but what the agent sends, no new privileges, no core, little
 * memory. With libseccomp every system call that a codec has no need for ends
 * the process: no open, no socket, no fork, no exec, no executable memory.
 * Without it the limits and the closed descriptors remain; the hello record
 * tells the agent, which says so in its log.
 */
#include "config.h"
#include "worker_codec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#ifdef HAVE_SECCOMP
#include <seccomp.h>
#endif

#define NICE 10
#define TAKEN (64 << 20) /* where /proc does not tell */

/* AddressSanitizer maps terabytes that it never touches. */
#if defined(__SANITIZE_ADDRESS__)
#define LIMIT_MEMORY 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LIMIT_MEMORY 0
#endif
#endif
#ifndef LIMIT_MEMORY
#define LIMIT_MEMORY 1
#endif

bool
sandbox_has_seccomp(void)
{
#ifdef HAVE_SECCOMP
	return true;
#else
	return false;
#endif
}

#ifdef HAVE_SECCOMP
/* Calls that may be made with any arguments: they reach only memory, clocks
 * and descriptors that we have. */
static const int calls[] = {
	SCMP_SYS(brk),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_gettime64),
	SCMP_SYS(close),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(futex),
	SCMP_SYS(futex_time64),
	SCMP_SYS(getrandom),
	SCMP_SYS(getrusage),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(madvise),
	SCMP_SYS(mremap),
	SCMP_SYS(munmap),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(ppoll_time64),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_yield),
};

static int
add_rules(scmp_filter_ctx f)
{
	static const int maps[] = { SCMP_SYS(mmap), SCMP_SYS(mmap2) };
	static const int talks[] = { SCMP_SYS(recvmsg), SCMP_SYS(sendmsg) };
	static const int chats[] = { SCMP_SYS(write), SCMP_SYS(writev) };
	int rc = 0;

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (rc == 0)
			rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i], 0);
	/* memory of our own only, never executable */
	for (size_t i = 0; i < 2; i++)
		if (rc == 0)
			rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, maps[i], 2,
			    SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
			    SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS,
				MAP_ANONYMOUS));
	if (rc == 0)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
		    SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	for (size_t i = 0; i < 2; i++)
		if (rc == 0)
			rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, talks[i], 1,
			    SCMP_A0(SCMP_CMP_EQ, WORKER_FD));
	/* what libraries say about a picture goes to /dev/null */
	for (size_t i = 0; i < 2; i++)
		if (rc == 0)
			rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, chats[i], 1,
			    SCMP_A0(SCMP_CMP_EQ, STDERR_FILENO));
	return rc;
}

static int
filter(void)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int rc;

	if (f == NULL)
		return -ENOMEM;
	rc = add_rules(f);
	if (rc == 0)
		rc = seccomp_load(f);
	seccomp_release(f);
	return rc;
}
#endif

static int
limit(int what, rlim_t n)
{
	struct rlimit l = { n, n };

	return setrlimit((__rlimit_resource_t)what, &l) == 0 ? 0 : -errno;
}

/* If memory runs out, a worker is what the system should end. */
static void
offer_to_oom(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "800", 3) != 3)
		errno = 0; /* it was only a wish */
	close(fd);
}

/* Octets of address space that are taken before the first body: libraries. */
static uint64_t
taken(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	if (f == NULL)
		return TAKEN;
	if (fscanf(f, "%lu", &pages) != 1)
		pages = TAKEN / 4096;
	fclose(f);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int
close_all(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (int i = 0; i < WORKER_FD; i++)
		if (dup2(fd, i) < 0)
			return -errno;
	return close_range(WORKER_FD + 1, ~0U, 0) == 0 ? 0 : -errno;
}

int
sandbox_enter(uint64_t memory)
{
	uint64_t before = taken();
	int rc;

	signal(SIGXFSZ, SIG_IGN); /* too large a result is an error of write */
	setpriority(PRIO_PROCESS, 0, NICE);
	offer_to_oom();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ||
	    prctl(PR_SET_DUMPABLE, 0) != 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -errno;
	rc = close_all();
	if (rc == 0)
		rc = limit(RLIMIT_CORE, 0);
	if (rc == 0)
		rc = limit(RLIMIT_NPROC, 0);
	/* room for the two descriptors of a job */
	if (rc == 0)
		rc = limit(RLIMIT_NOFILE, WORKER_FD + 3);
	if (rc == 0 && LIMIT_MEMORY)
		rc = limit(RLIMIT_AS, before + memory);
#ifdef HAVE_SECCOMP
	if (rc == 0)
		rc = filter();
#endif
	return rc;
}
