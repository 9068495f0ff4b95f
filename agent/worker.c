/*
 * worker.c - a pool of image workers: sandboxed children that shrink bodies
 *
 * A child moves from start to idle (its hello has come) to busy and back, until
 * it has had its number of bodies; whatever else happens ends it. An end kills
 * the child, closes its socket, answers the run it had and leaves a corpse,
 * which a timer reaps: nothing here waits. A child that could not be started,
 * or that ends before its hello, has the pool wait before the next, twice as
 * long each time; meanwhile runs are answered with WORKER_NONE at once.
 *
 * Limits of processor time and of the result's size are set from here for each
 * body (prlimit), so a child needs no right to set them.
 */
#include "config.h"
#include "worker.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <event2/event.h>

#include "clock.h"
#include "log.h"
#include "xalloc.h"

#define PATIENCE_MS 5000 /* of a child until its hello */
#define AGAIN_MS 1000    /* after a failed start, doubled up to: */
#define AGAIN_MAX_MS 60000
#define REAP_MS 50

enum child_state { CHILD_START, CHILD_IDLE, CHILD_BUSY };

struct child {
	TAILQ_ENTRY(child) link;
	struct worker_pool *pool;
	enum child_state state;
	pid_t pid;
	int fd;
	clockid_t cpu_clock;
	struct event *ev;
	unsigned bodies;
	int64_t cpu_us; /* at the start of the run */
	struct worker_run *run;
};
struct worker_run {
	TAILQ_ENTRY(worker_run) link; /* while it waits for a child */
	struct worker_pool *pool;
	struct child *child; /* NULL: waiting */
	struct worker_job job;
	struct worker_limits lim;
	int fd_in, fd_out;
	int64_t begun_ms;
	worker_fn fn;
	void *arg;
};
struct corpse {
	SLIST_ENTRY(corpse) link;
	pid_t pid;
};

struct worker_pool {
	struct event_base *base;
	struct worker_options opt;
	char *program;
	TAILQ_HEAD(, child) children;
	TAILQ_HEAD(, worker_run) line;
	SLIST_HEAD(, corpse) corpses;
	unsigned children_n, line_n;
	uint32_t serial, features;
	int64_t again_ms, wait_ms; /* no start before; the next wait */
	bool told;                 /* the log of trouble with starting */
	bool greeted;              /* a child has said hello */
	struct event *turn, *reap;
};

static void pool_turn(struct worker_pool *p, int64_t ms);

/* ---- the dead ------------------------------------------------------------ */

static void
on_reap(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval soon = { 0, REAP_MS * 1000 };
	struct worker_pool *p = arg;
	struct corpse *c, *next;

	for (c = SLIST_FIRST(&p->corpses); c != NULL; c = next) {
		next = SLIST_NEXT(c, link);
		if (waitpid(c->pid, NULL, WNOHANG) == 0)
			continue;
		SLIST_REMOVE(&p->corpses, c, corpse, link);
		free(c);
	}
	if (!SLIST_EMPTY(&p->corpses))
		event_add(p->reap, &soon);
}

static void
bury(struct worker_pool *p, pid_t pid)
{
	struct corpse *c = xcalloc(1, sizeof(*c));

	c->pid = pid;
	SLIST_INSERT_HEAD(&p->corpses, c, link);
	event_active(p->reap, 0, 0);
}

/* ---- a run's end --------------------------------------------------------- */

static int64_t
child_cpu_us(const struct child *c)
{
	struct timespec ts;

	if (clock_gettime(c->cpu_clock, &ts) != 0)
		return c->cpu_us;
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Takes r. */
static void
run_over(struct worker_run *r, const struct worker_result *res)
{
	worker_fn fn = r->fn;
	void *arg = r->arg;

	free(r);
	fn(res, arg);
}

static void
child_free(struct child *c)
{
	struct worker_pool *p = c->pool;

	kill(c->pid, SIGKILL);
	bury(p, c->pid);
	event_free(c->ev);
	close(c->fd);
	TAILQ_REMOVE(&p->children, c, link);
	p->children_n--;
	free(c);
}

/* The child goes; the run it had, if any, has this outcome. */
static void
child_end(struct child *c, enum worker_outcome o)
{
	struct worker_pool *p = c->pool;
	struct worker_run *r = c->run;
	struct worker_result res = { .outcome = o };

	if (c->state == CHILD_START) {
		p->wait_ms = p->wait_ms == 0 ? AGAIN_MS : 2 * p->wait_ms;
		if (p->wait_ms > AGAIN_MAX_MS)
			p->wait_ms = AGAIN_MAX_MS;
		p->again_ms = clock_ms() + p->wait_ms;
		if (!p->told)
			log_warn("image worker does not start: images go as "
				 "they are until it does");
		p->told = true;
	}
	if (r != NULL) {
		res.cpu_us = child_cpu_us(c) - c->cpu_us;
		res.wall_ms = clock_ms() - r->begun_ms;
	}
	child_free(c);
	pool_turn(p, 0);
	if (r != NULL)
		run_over(r, &res);
}

/* ---- talking with a child ------------------------------------------------ */

static bool
answer_fits(const struct worker_answer *a, const struct worker_run *r)
{
	return a->magic == WORKER_MAGIC && a->serial == r->job.serial &&
	    a->outcome < WORKER_DIED && a->content < WORKER_CONTENTS &&
	    a->step < WORKER_STEPS &&
	    (a->outcome != WORKER_SMALLER ||
		(a->step != WORKER_NOTHING && a->out_size > 0 &&
		    a->out_size < r->job.size));
}

static void
take_hello(struct child *c)
{
	struct worker_hello h;

	if (recv(c->fd, &h, sizeof(h), MSG_DONTWAIT) != sizeof(h) ||
	    h.magic != WORKER_MAGIC || h.version != WORKER_VERSION) {
		child_end(c, WORKER_DIED);
		return;
	}
	if (!c->pool->greeted && !(h.features & WORKER_HAS_SECCOMP))
		log_warn("image workers were built without libseccomp: "
			 "limits hold them, but no filter of system calls");
	c->pool->greeted = true;
	c->pool->features = h.features;
	if (c->pool->told)
		log_info("image worker starts again");
	c->pool->wait_ms = 0;
	c->pool->told = false;
	c->state = CHILD_IDLE;
	event_del(c->ev);
	event_add(c->ev, NULL);
	pool_turn(c->pool, 0);
}

/* A body that a codec stumbled over may have done more than that. */
static bool
is_suspect(enum worker_outcome o)
{
	return o == WORKER_DAMAGED || o == WORKER_DIFFERS || o == WORKER_FAILED;
}

static void
take_answer(struct child *c)
{
	struct worker_run *r = c->run;
	struct worker_result res = { .outcome = WORKER_DIED };

	if (recv(c->fd, &res.answer, sizeof(res.answer), MSG_DONTWAIT) !=
		sizeof(res.answer) ||
	    !answer_fits(&res.answer, r)) {
		child_end(c, WORKER_DIED);
		return;
	}
	res.outcome = res.answer.outcome;
	res.cpu_us = child_cpu_us(c) - c->cpu_us;
	res.wall_ms = clock_ms() - r->begun_ms;
	c->run = NULL;
	c->state = CHILD_IDLE;
	event_del(c->ev);
	event_add(c->ev, NULL);
	if (++c->bodies >= c->pool->opt.bodies || is_suspect(res.outcome))
		child_free(c);
	pool_turn(r->pool, 0);
	run_over(r, &res);
}

static void
on_child(evutil_socket_t fd, short what, void *arg)
{
	struct child *c = arg;

	if (what & EV_TIMEOUT)
		child_end(c, WORKER_TIMEOUT);
	else if (c->state == CHILD_START)
		take_hello(c);
	else if (c->state == CHILD_BUSY)
		take_answer(c);
	else
		child_end(c, WORKER_DIED); /* it has nothing to say */
}

/* ---- starting ------------------------------------------------------------ */

/* The child's end of the pair becomes WORKER_FD. */
static int
spawn(struct worker_pool *p, int fd, pid_t *pid_out)
{
	char memory[32];
	char *argv[] = { (char *)"edgehaul-image", memory, NULL };
	char *envp[] = { (char *)"PATH=/nowhere", NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none, all;
	int rc;

	snprintf(memory, sizeof(memory), "%" PRIu64, p->opt.memory);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&fa);
	posix_spawnattr_init(&at);
	posix_spawnattr_setflags(
	    &at, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&at, &none);
	posix_spawnattr_setsigdefault(&at, &all);
	/* dup2() to itself clears close-on-exec (POSIX Issue 8) */
	posix_spawn_file_actions_adddup2(&fa, fd, WORKER_FD);
	rc = posix_spawn(pid_out, p->program, &fa, &at, argv, envp);
	posix_spawnattr_destroy(&at);
	posix_spawn_file_actions_destroy(&fa);
	return -rc;
}

static int
child_start(struct worker_pool *p)
{
	static const struct timeval patience = { PATIENCE_MS / 1000, 0 };
	struct child *c;
	int pair[2], rc;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	rc = spawn(p, pair[1], &pid);
	close(pair[1]);
	if (rc != 0) {
		close(pair[0]);
		return rc;
	}
	c = xcalloc(1, sizeof(*c));
	c->pool = p;
	c->pid = pid;
	c->fd = pair[0];
	if (clock_getcpuclockid(pid, &c->cpu_clock) != 0)
		c->cpu_clock = CLOCK_MONOTONIC; /* an upper bound */
	c->ev = event_new(p->base, c->fd, EV_READ | EV_PERSIST, on_child, c);
	event_add(c->ev, &patience);
	TAILQ_INSERT_TAIL(&p->children, c, link);
	p->children_n++;
	return 0;
}

/* ---- handing out --------------------------------------------------------- */

/* The soft limit: a hard one could not be raised again for the next body. */
static void
set_limit(pid_t pid, int what, rlim_t n)
{
	struct rlimit l;

	if (prlimit(pid, (__rlimit_resource_t)what, NULL, &l) == 0) {
		l.rlim_cur = n < l.rlim_max ? n : l.rlim_max;
		if (prlimit(pid, (__rlimit_resource_t)what, &l, NULL) == 0)
			return;
	}
	log_debug("image worker without a limit: %s", strerror(errno));
}

static void
set_limits(struct child *c, const struct worker_run *r)
{
	set_limit(c->pid, RLIMIT_CPU,
	    (rlim_t)(c->cpu_us / 1000000 + r->lim.cpu_s + 1));
	set_limit(c->pid, RLIMIT_FSIZE, r->job.size);
}

static int
send_job(struct child *c, struct worker_run *r)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = { 0 };
	struct iovec io = { &r->job, sizeof(r->job) };
	struct msghdr m = { .msg_iov = &io,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	int fds[2] = { r->fd_in, r->fd_out };

	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(&control.head), fds, sizeof(fds));
	return sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) ==
		(ssize_t)sizeof(r->job)
	    ? 0
	    : -EPIPE;
}

/* Give the first in line to an idle child. */
static void
hand_out(struct worker_pool *p, struct child *c)
{
	struct worker_run *r = TAILQ_FIRST(&p->line);
	struct timeval limit = { (time_t)(r->lim.timeout_ms / 1000),
		(suseconds_t)(r->lim.timeout_ms % 1000) * 1000 };

	TAILQ_REMOVE(&p->line, r, link);
	p->line_n--;
	r->child = c;
	r->begun_ms = clock_ms();
	r->job.magic = WORKER_MAGIC;
	r->job.serial = ++p->serial;
	c->run = r;
	c->state = CHILD_BUSY;
	c->cpu_us = child_cpu_us(c);
	set_limits(c, r);
	event_del(c->ev);
	event_add(c->ev, &limit);
	if (send_job(c, r) != 0)
		child_end(c, WORKER_DIED);
}

static struct child *
idle_child(struct worker_pool *p)
{
	struct child *c;

	TAILQ_FOREACH(c, &p->children, link)
	if (c->state == CHILD_IDLE)
		return c;
	return NULL;
}

static void
refuse_line(struct worker_pool *p)
{
	static const struct worker_result none = { .outcome = WORKER_NONE };
	struct worker_run *r;

	while ((r = TAILQ_FIRST(&p->line)) != NULL) {
		TAILQ_REMOVE(&p->line, r, link);
		p->line_n--;
		run_over(r, &none);
	}
}

static void
on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct worker_pool *p = arg;
	int64_t now = clock_ms();
	struct child *c;
	int rc;

	while (p->children_n < p->opt.count && now >= p->again_ms) {
		rc = child_start(p);
		if (rc == 0)
			continue;
		p->again_ms = now + AGAIN_MAX_MS;
		if (!p->told)
			log_warn("image worker %s does not start: %s; images "
				 "go as they are until it does",
			    p->program, strerror(-rc));
		p->told = true;
	}
	if (p->children_n == 0) {
		pool_turn(p, p->again_ms - now);
		refuse_line(p);
		return;
	}
	if (p->children_n < p->opt.count)
		pool_turn(p, p->again_ms - now);
	while (!TAILQ_EMPTY(&p->line) && (c = idle_child(p)) != NULL)
		hand_out(p, c);
}

static void
pool_turn(struct worker_pool *p, int64_t ms)
{
	struct timeval tv = { (time_t)(ms / 1000),
		(suseconds_t)(ms % 1000) * 1000 };

	if (ms <= 0)
		event_active(p->turn, 0, 0);
	else
		event_add(p->turn, &tv);
}

/* ---- the pool ------------------------------------------------------------ */

struct worker_pool *
worker_pool_new(struct event_base *base, const struct worker_options *opt)
{
	struct worker_pool *p = xcalloc(1, sizeof(*p));

	assert(opt->count > 0 && opt->bodies > 0);
	p->base = base;
	p->opt = *opt;
	p->program = xstrdup(opt->program);
	p->opt.program = p->program;
	TAILQ_INIT(&p->children);
	TAILQ_INIT(&p->line);
	SLIST_INIT(&p->corpses);
	p->turn = event_new(base, -1, 0, on_turn, p);
	p->reap = event_new(base, -1, 0, on_reap, p);
	pool_turn(p, 0);
	return p;
}

void
worker_pool_free(struct worker_pool *p)
{
	struct child *c;
	struct corpse *dead;

	if (p == NULL)
		return;
	assert(TAILQ_EMPTY(&p->line));
	while ((c = TAILQ_FIRST(&p->children)) != NULL) {
		assert(c->run == NULL);
		child_free(c);
	}
	while ((dead = SLIST_FIRST(&p->corpses)) != NULL) {
		SLIST_REMOVE_HEAD(&p->corpses, link);
		waitpid(dead->pid, NULL, 0); /* it has been killed */
		free(dead);
	}
	event_free(p->turn);
	event_free(p->reap);
	free(p->program);
	free(p);
}

struct worker_run *
worker_run(struct worker_pool *p, const struct worker_job *job,
    const struct worker_limits *lim, int fd_in, int fd_out, worker_fn fn,
    void *arg)
{
	struct worker_run *r = xcalloc(1, sizeof(*r));

	r->pool = p;
	r->job = *job;
	r->lim = *lim;
	r->fd_in = fd_in;
	r->fd_out = fd_out;
	r->fn = fn;
	r->arg = arg;
	TAILQ_INSERT_TAIL(&p->line, r, link);
	p->line_n++;
	pool_turn(p, 0);
	return r;
}

void
worker_cancel(struct worker_run *r)
{
	if (r == NULL)
		return;
	if (r->child == NULL) {
		TAILQ_REMOVE(&r->pool->line, r, link);
		r->pool->line_n--;
	} else {
		r->child->run = NULL;
		child_end(r->child, WORKER_DIED);
	}
	free(r);
}

bool
worker_begun(const struct worker_run *r)
{
	return r->child != NULL;
}

unsigned
worker_waiting(const struct worker_pool *p)
{
	return p->line_n;
}

uint32_t
worker_features(const struct worker_pool *p)
{
	return p->features;
}

/* ---- the program --------------------------------------------------------- */

char *
worker_program(void)
{
	char self[4096], *slash, *path;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash != NULL) {
			*slash = '\0';
			path = xasprintf("%s/edgehaul-image", self);
			if (access(path, X_OK) == 0)
				return path;
			free(path);
		}
	}
	return xstrdup(PKGLIBEXECDIR "/edgehaul-image");
}
