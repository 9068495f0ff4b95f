/*
 * index_guard.c - an index that cannot be trusted is not opened again
 *
 * What must stay true: only a crash inside a transaction counts, and the
 * signal goes on to do what it would have done. A handler of somebody else (a
 * sanitizer's) is left alone.
 */
#include "index_guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#define MARK "damaged"

/* Of the thread that is in a transaction: the handler knows nothing else. */
static __thread volatile int guarded = -1;

void
index_guard_mark(int dir)
{
	int fd = openat(dir, MARK, O_WRONLY | O_CREAT | O_CLOEXEC, 0660);

	if (fd >= 0)
		close(fd);
}

bool
index_guard_marked(int dir)
{
	return faccessat(dir, MARK, F_OK, 0) == 0;
}

static void
on_crash(int sig)
{
	if (guarded >= 0)
		index_guard_mark(guarded);
	/* The handler is reset (SA_RESETHAND): this time it is deadly. */
	raise(sig);
}

static void
arm(void)
{
	static const int deadly[] = { SIGSEGV, SIGBUS, SIGABRT };
	struct sigaction old,
	    new = { .sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND };

	for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		if (sigaction(deadly[i], NULL, &old) == 0 &&
		    (old.sa_flags & SA_SIGINFO) == 0 &&
		    old.sa_handler == SIG_DFL)
			sigaction(deadly[i], &new, NULL);
}

void
index_guard_enter(int dir)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, arm);
	guarded = dir;
}

void
index_guard_leave(void)
{
	guarded = -1;
}
