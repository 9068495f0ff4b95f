/*
 * image_worker.c - tests of agent/worker.c and of the sandbox
 *
 * The pool runs the real edgehaul-image and, as its opposite, image_escape.
 */
#include "config.h"
#include "worker.h"
#include "worker_codec.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <cmocka.h>
#include <event2/event.h>

#include "clock.h"
#include "xalloc.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

struct world {
	struct event_base *base;
	struct worker_pool *pool;
	int in, out;
	unsigned ended;
	struct worker_result last;
};

static char *
built(const char *name)
{
	const char *top = getenv("TOP_BUILDDIR");

	return xasprintf("%s/%s", top != NULL ? top : ".", name);
}

static void
world_open(struct world *w, const char *program, unsigned n, unsigned bodies)
{
	char *path = built(program);
	struct worker_options opt = { path, n, bodies, 256 << 20 };
	char line[32];

	memset(w, 0, sizeof(*w));
	w->base = event_base_new();
	w->pool = worker_pool_new(w->base, &opt);
	w->in = memfd_create("body", MFD_CLOEXEC);
	w->out = memfd_create("result", MFD_CLOEXEC);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(line, sizeof(line), "time;temp %6u\n",
		    i * 2654435761u % 1000000);
		assert_int_equal(pwrite(w->in, line, 17, i * 17), 17);
	}
	free(path);
}

static void
world_close(struct world *w)
{
	worker_pool_free(w->pool);
	event_base_free(w->base);
	close(w->in);
	close(w->out);
}

static void
on_end(const struct worker_result *r, void *arg)
{
	struct world *w = arg;

	w->ended++;
	w->last = *r;
}

static struct worker_run *
begin_size(struct world *w, uint64_t size, uint32_t quality, int64_t timeout_ms)
{
	struct worker_job job = { .size = size,
		.quality = quality,
		.max_pixels = 1 << 20,
		.max_body = 1 << 20 };
	struct worker_limits lim = { timeout_ms, 1 };

	return worker_run(w->pool, &job, &lim, w->in, w->out, on_end, w);
}

static struct worker_run *
begin(struct world *w, uint32_t quality, int64_t timeout_ms)
{
	return begin_size(w, 17000, quality, timeout_ms);
}

static void
wait_ended(struct world *w, unsigned n)
{
	int64_t until = clock_ms() + 60000;

	while (w->ended < n && clock_ms() < until)
		event_base_loop(w->base, EVLOOP_ONCE);
	assert_int_equal(w->ended, n);
}

static enum worker_outcome
run(struct world *w, uint32_t quality, int64_t timeout_ms)
{
	unsigned n = w->ended + 1;

	begin(w, quality, timeout_ms);
	assert_int_equal(w->ended, n - 1); /* never from within */
	wait_ended(w, n);
	return w->last.outcome;
}

/* ---- the real one -------------------------------------------------------- */

static void
test_real(void **state)
{
	struct world w;

	world_open(&w, "agent/edgehaul-image", 2, 3);
	/* also over the end of a child's number of bodies */
	for (int i = 0; i < 8; i++) {
		assert_int_equal(run(&w, 0, 10000), WORKER_SMALLER);
		assert_int_equal(w.last.answer.step, WORKER_STEP_ZSTD);
		assert_true(w.last.answer.out_size < 8000);
		assert_true(w.last.cpu_us >= 0);
	}
	for (int i = 0; i < 20; i++)
		begin(&w, 0, 10000);
	wait_ended(&w, 28);
	assert_int_equal(worker_waiting(w.pool), 0);
	assert_int_equal(
	    !!(worker_features(w.pool) & WORKER_HAS_JPEG), jpeg_built_in());
	assert_int_equal(!!(worker_features(w.pool) & WORKER_HAS_SECCOMP),
	    sandbox_has_seccomp());
	world_close(&w);
}

/* The limits of a small body do not stay for the next, larger one. */
static void
test_limits_anew(void **state)
{
	static const uint64_t sizes[] = { 300, 17000, 600, 12000 };
	struct world w;

	world_open(&w, "agent/edgehaul-image", 1, 100);
	for (unsigned i = 0; i < 40; i++) {
		uint64_t size = sizes[i % 4];

		begin_size(&w, size, 0, 10000);
		wait_ended(&w, i + 1);
		assert_int_equal(w.last.outcome, WORKER_SMALLER);
	}
	world_close(&w);
}

/* Codecs get by with what the sandbox leaves them. */
static void
test_real_jpeg(void **state)
{
	const char *top = getenv("TOP_SRCDIR");
	char *path = xasprintf("%s/t/data/camera.jpg", top != NULL ? top : ".");
	struct worker_limits lim = { 10000, 10 };
	struct worker_job job = {
		.quality = 60, .max_pixels = 1 << 20, .max_body = 1 << 20
	};
	static const enum worker_step steps[] = { WORKER_STEP_PROGRESSIVE,
		WORKER_STEP_JXL, WORKER_NOTHING, WORKER_STEP_LOSSY };
	struct world w;

	world_open(&w, "agent/edgehaul-image", 1, 100);
	close(w.in);
	w.in = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(w.in >= 0);
	job.size = (uint64_t)lseek(w.in, 0, SEEK_END);
	for (unsigned i = 0; i < 4; i++) {
		bool can = i == 1 ? jxl_built_in() : jpeg_built_in();

		job.jpeg = i % 3;
		job.lossy = i == 3;
		worker_run(w.pool, &job, &lim, w.in, w.out, on_end, &w);
		wait_ended(&w, i + 1);
		assert_int_equal(w.last.outcome,
		    i == 2    ? WORKER_PLAIN
			: can ? WORKER_SMALLER
			      : WORKER_UNSUPPORTED);
		if (can)
			assert_int_equal(w.last.answer.step, steps[i]);
	}
	/* libraries complain about a bad one, to nobody */
	job.lossy = 0;
	for (job.jpeg = 0; job.jpeg < 2; job.jpeg++) {
		unsigned n = w.ended + 1;

		job.size -= 1000;
		worker_run(w.pool, &job, &lim, w.in, w.out, on_end, &w);
		wait_ended(&w, n);
		assert_int_equal(w.last.outcome, WORKER_DAMAGED);
	}
	free(path);
	world_close(&w);
}

static void
test_cancel(void **state)
{
	struct world w;
	struct worker_run *r;

	world_open(&w, "agent/edgehaul-image", 1, 100);
	worker_cancel(begin(&w, 0, 10000));
	assert_int_equal(run(&w, 0, 10000), WORKER_SMALLER);
	r = begin(&w, 0, 10000);
	begin(&w, 0, 10000);
	event_base_loop(w.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	worker_cancel(r); /* a child may have it */
	wait_ended(&w, 2);
	assert_int_equal(w.last.outcome, WORKER_SMALLER);
	world_close(&w);
}

/* ---- bad ones ------------------------------------------------------------ */

static void
test_bad_children(void **state)
{
	struct world w;

	world_open(&w, "t/unit/image_escape", 1, 100);
	assert_int_equal(run(&w, 0, 5000), WORKER_PLAIN);
	assert_int_equal(run(&w, 1, 200), WORKER_TIMEOUT);
	assert_int_equal(run(&w, 0, 5000), WORKER_PLAIN);
	for (uint32_t q = 2; q <= 5; q++) {
		assert_int_equal(run(&w, q, 5000), WORKER_DIED);
		assert_int_equal(run(&w, 0, 5000), WORKER_PLAIN);
	}
	/* a second answer ends the child, with the next body or before */
	assert_int_equal(run(&w, 6, 5000), WORKER_PLAIN);
	run(&w, 0, 5000);
	assert_int_equal(run(&w, 0, 5000), WORKER_PLAIN);
	if (sandbox_has_seccomp())
		assert_int_equal(run(&w, 7, 5000), WORKER_DIED);
	assert_int_equal(run(&w, 0, 5000), WORKER_PLAIN);
	world_close(&w);
}

static void
test_cpu_limit(void **state)
{
	struct world w;

	world_open(&w, "t/unit/image_escape", 1, 100);
	/* nice as it is, it may get little of a busy machine */
	assert_int_equal(run(&w, 1, 55000), WORKER_DIED);
	assert_true(w.last.cpu_us < 4000000);
	world_close(&w);
}

static void
test_no_program(void **state)
{
	struct world w;

	world_open(&w, "not/there", 2, 100);
	assert_int_equal(run(&w, 0, 5000), WORKER_NONE);
	assert_int_equal(run(&w, 0, 5000), WORKER_NONE);
	world_close(&w);
	/* starts, but is no worker */
	world_open(&w, "ctl/edgehaul", 1, 100);
	assert_int_equal(run(&w, 0, 5000), WORKER_NONE);
	world_close(&w);
}

/* ---- the sandbox --------------------------------------------------------- */

/* How a try ends: its signal, or -1 - exit status. */
static int
escape(const char *what)
{
	char *path = built("t/unit/image_escape");
	char *argv[] = { path, (char *)what, NULL };
	char *envp[] = { NULL };
	pid_t pid;
	int status;

	assert_int_equal(posix_spawn(&pid, path, NULL, NULL, argv, envp), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	free(path);
	return WIFSIGNALED(status) ? WTERMSIG(status)
				   : -1 - WEXITSTATUS(status);
}

static void
test_escape(void **state)
{
	static const char *const what[] = { "open", "create", "socket", "exec",
		"fork", "ptrace", "kill", "code" };

	if (!SANITIZED)
		assert_int_equal(escape("memory"), -1 - 1);
	if (!sandbox_has_seccomp()) {
		print_message("without libseccomp nothing else is held\n");
		return;
	}
	for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		print_message("%s\n", what[i]);
		assert_int_equal(escape(what[i]), SIGSYS);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real),
		cmocka_unit_test(test_limits_anew),
		cmocka_unit_test(test_real_jpeg),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_bad_children),
		cmocka_unit_test(test_cpu_limit),
		cmocka_unit_test(test_no_program),
		cmocka_unit_test(test_escape),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
