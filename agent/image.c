/*
 * image.c - smaller bodies on the way: which, in what order, with what result
 *
 * A run waits in line, has its files opened by a thread, is worked on by a
 * child, and has its result hashed by the thread; a few more than there are
 * children are past the line, so that no child waits for a disk. Who comes
 * first: the camera that has saved most per processor second; but nobody waits
 * longer than LINE_MS because of that.
 *
 * What came to nothing lately is not tried with each of its like
 * (image_policy.h), and over time the workers get a share of the processors.
 *
 * What the worker says is not believed: the result is looked at and hashed
 * here, and the body that it says it read must have the hash of receipt.
 */
#include "image.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/queue.h>
#include <event2/event.h>

#include "clock.h"
#include "image_files.h"
#include "image_known.h"
#include "image_policy.h"
#include "image_stats.h"
#include "log.h"
#include "memory.h"
#include "worker.h"
#include "xalloc.h"

#define BODY_MIN 256
#define BODY_MAX (256 << 20) /* larger ones go as they are */
#define IMAGE_MAX (64 << 20) /* that a codec takes, in memory */
#define PIXELS_MAX 50000000
#define CHILD_BODIES 256 /* its start costs as much as two of them */
#define COPIES_MAX ((uint64_t)256 << 20) /* octets of copies at a time */
#define LINE_MS 5000
#define STUCK_MS 3000 /* no worker has ended a body for so long */

struct image_run {
	TAILQ_ENTRY(image_run) link;
	struct images *im;
	struct image_task *task; /* NULL: in line */
	struct worker_run *work;
	struct image_wish wish;
	struct spool_item it; /* numbers and device only */
	char *device;
	uint32_t claim;
	int64_t since_ms, cpu_us;
	enum worker_step step;
	bool tried; /* a worker shall shrink it: not only look */
	image_fn fn;
	void *arg;
};

TAILQ_HEAD(runs, image_run);

struct images {
	struct event_base *base;
	struct spool *sp;
	struct image_files *files;
	struct worker_pool *pool;
	unsigned children;
	uint64_t memory; /* of each */
	struct runs line, active;
	unsigned line_n, active_n;
	struct image_known *known;
	uint64_t copies;          /* octets that the active may write */
	int64_t job_ms, moved_ms; /* of the last body; when it ended */
	struct image_budget budget;
	unsigned cpu_percent, cores;
	struct event *earned; /* the budget lets work go on */
	struct image_stats *stats;
};

static void run_line(struct images *im);

/* ---- what is wished ------------------------------------------------------ */

static const struct camera_conf *
camera_of(const struct gateway_conf *c, const char *device)
{
	for (size_t i = 0; i < c->cameras_n; i++)
		if (strcmp(c->cameras[i].name, device) == 0)
			return &c->cameras[i];
	return NULL;
}

bool
image_wanted(const struct gateway_conf *c, const struct spool_item *it,
    bool pressure, struct image_wish *out)
{
	const struct camera_conf *cam = camera_of(c, it->device);
	int mode = c->images_mode;

	if (cam != NULL && cam->images > 0)
		mode = cam->images - 1;
	if (mode == IMAGES_OFF || it->size < BODY_MIN || it->size > BODY_MAX ||
	    (c->images_when == IMAGES_PRESSURE && !pressure))
		return false;
	*out = (struct image_wish){ .lossy = mode == IMAGES_LOSSY,
		.jpeg = (enum worker_jpeg)c->images_jpeg,
		.quality = (unsigned)c->images_quality,
		.cpu_percent = (unsigned)c->images_cpu.percent };
	if (c->images_max_dimension != CONF_NONE)
		out->max_dimension = (unsigned)c->images_max_dimension;
	if (cam != NULL && cam->quality > 0)
		out->quality = (unsigned)cam->quality;
	if (cam != NULL && cam->max_dimension > 0)
		out->max_dimension = (unsigned)cam->max_dimension;
	return true;
}

/* ---- copies made earlier ------------------------------------------------- */

void
image_forget(struct images *im, uint64_t seq)
{
	if (im != NULL)
		image_known_forget(im->known, seq);
}

struct image_made *
image_known(struct images *im, uint64_t seq)
{
	return im != NULL ? image_known_get(im->known, seq) : NULL;
}

/* ---- the end of a run ---------------------------------------------------- */

static struct image_made *
made_new(const struct image_run *r)
{
	struct image_made *m = xcalloc(1, sizeof(*m));

	m->refs = 1;
	m->seq = r->it.seq;
	m->fd = -1;
	m->step = r->step;
	m->quality = r->wish.quality;
	m->max_dimension = r->wish.max_dimension;
	return m;
}

/* Settings that make another result. */
static uint32_t
way_of(const struct image_wish *w)
{
	return (uint32_t)w->lossy | (uint32_t)w->jpeg << 1 | w->quality << 3 |
	    w->max_dimension << 11;
}

static struct image_habit *
habit_of(const struct image_run *r)
{
	return &image_stats_get(r->im->stats, r->device)
		    ->habits[r->task->content];
}

static void
run_free(struct image_run *r)
{
	struct images *im = r->im;

	if (r->task != NULL) {
		TAILQ_REMOVE(&im->active, r, link);
		im->active_n--;
		im->copies -= r->it.size;
		worker_cancel(r->work);
		image_files_drop(r->task);
	} else {
		TAILQ_REMOVE(&im->line, r, link);
		im->line_n--;
	}
	free(r->device);
	free(r);
}

static void
tell(const struct image_run *r, unsigned outcome, const struct image_made *m)
{
	uint64_t out = m->smaller ? m->size : r->it.size;

	image_stats_add(
	    r->im->stats, r->device, outcome, r->it.size, out, r->cpu_us);
	/* that there is no worker was said once, by worker.c */
	if (outcome >= WORKER_DAMAGED && outcome != WORKER_UNSUPPORTED &&
	    outcome < WORKER_NONE)
		log_warn("id=%s image %s: goes as it is", r->it.id,
		    image_outcome_word(outcome));
	else
		log_debug("id=%s image %s %" PRIu64 " to %" PRIu64
			  " cpu=%" PRId64 "us",
		    r->it.id, image_outcome_word(outcome), r->it.size, out,
		    r->cpu_us);
}

/* What a worker's work tells of the next such body. */
static void
learn(struct image_run *r, unsigned outcome)
{
	if (r->tried && outcome < WORKER_OUTCOMES)
		image_habit_learn(habit_of(r), way_of(&r->wish), outcome);
}

/* Takes the run. */
static void
run_end(struct image_run *r, unsigned outcome)
{
	struct images *im = r->im;
	struct image_made *m = made_new(r);
	image_fn fn = r->fn;
	void *arg = r->arg;

	if (outcome == WORKER_SMALLER) {
		m->smaller = true;
		m->fd = r->task->fd_out;
		r->task->fd_out = -1;
		m->size = r->task->out_size;
		memcpy(m->sha256, r->task->out_sha256, 32);
	}
	m->damaged = outcome == WORKER_DAMAGED;
	learn(r, outcome);
	tell(r, outcome, m);
	if (outcome != IMAGE_PASSED && outcome != WORKER_NONE)
		image_known_add(im->known, m);
	run_free(r);
	fn(m, arg);
	run_line(im);
}

/* ---- a run's way --------------------------------------------------------- */

static void
on_hashed(struct image_task *t)
{
	struct image_run *r = t->arg;

	run_end(r, t->rc == 0 ? WORKER_SMALLER : WORKER_FAILED);
}

static void
on_worked(const struct worker_result *res, void *arg)
{
	struct image_run *r = arg;
	struct images *im = r->im;

	r->work = NULL;
	r->cpu_us = res->cpu_us;
	r->step = res->answer.step;
	image_budget_spend(&im->budget, res->cpu_us);
	if (res->outcome < WORKER_DIED) {
		im->job_ms = (im->job_ms * 3 + res->wall_ms) / 4;
		im->moved_ms = clock_ms();
	}
	if (res->outcome != WORKER_SMALLER) {
		run_end(r,
		    res->outcome == WORKER_PLAIN && !r->tried ? IMAGE_UNLIKELY
							      : res->outcome);
		return;
	}
	/* a damaged file on disk: sending the original will find it out */
	if (memcmp(res->answer.in_sha256, r->it.sha256, 32) != 0) {
		run_end(r, WORKER_FAILED);
		return;
	}
	r->task->out_size = res->answer.out_size;
	r->task->fn = on_hashed;
	image_files_hash(im->files, r->task);
}

static void
on_opened(struct image_task *t)
{
	struct image_run *r = t->arg;
	bool jpeg = t->content == WORKER_JPEG;
	struct worker_job job = { .size = r->it.size,
		.jpeg = r->wish.jpeg,
		.lossy = r->wish.lossy,
		.quality = r->wish.quality,
		.max_dimension = r->wish.max_dimension,
		.max_pixels = PIXELS_MAX,
		.max_body = IMAGE_MAX };
	/* generous for slow processors, and still an end */
	struct worker_limits lim = {
		.timeout_ms = 30000 + (int64_t)(r->it.size / 1000),
		.cpu_s = 20 + (int64_t)(r->it.size / 2000000),
	};

	if (t->rc != 0) {
		run_end(r, WORKER_FAILED);
		return;
	}
	image_claims_learn(&image_stats_get(r->im->stats, r->device)->claims,
	    r->claim, t->content);
	r->tried = r->wish.again ||
	    (!r->wish.look && image_habit_try(habit_of(r), way_of(&r->wish)));
	if (!jpeg && (!r->tried || t->content == WORKER_PACKED)) {
		run_end(r, r->tried ? WORKER_PLAIN : IMAGE_UNLIKELY);
		return;
	}
	job.look = !r->tried;
	r->work = worker_run(
	    r->im->pool, &job, &lim, t->fd_in, t->fd_out, on_worked, r);
}

static void
pool_start(struct images *im)
{
	char *program = worker_program();
	struct worker_options opt = { .program = program,
		.count = im->children,
		.bodies = CHILD_BODIES,
		.memory = im->memory };

	im->pool = worker_pool_new(im->base, &opt);
	free(program);
}

/* Whose turn is it? */
static struct image_run *
first_of(struct images *im)
{
	struct image_run *r = TAILQ_FIRST(&im->line), *best = r;
	double most = -1;

	if (r == NULL || clock_ms() - r->since_ms > LINE_MS)
		return r;
	TAILQ_FOREACH(r, &im->line, link)
	{
		double rate = image_stats_of(im->stats, r->device)->rate;

		if (rate < 0)
			return r; /* not known yet: find out */
		if (rate > most) {
			most = rate;
			best = r;
		}
	}
	return best;
}

/* Is there processor time for another one? If not, a timer waits for it. */
static bool
may_begin(struct images *im)
{
	int64_t ms = image_budget_wait(
	    &im->budget, im->cpu_percent, im->cores, clock_ms());
	struct timeval tv = { (time_t)(ms / 1000),
		(suseconds_t)(ms % 1000) * 1000 };

	if (ms > 0)
		event_add(im->earned, &tv);
	return ms == 0;
}

static void
run_line(struct images *im)
{
	struct image_run *r;

	while (im->active_n < im->children + 2 && (r = first_of(im)) != NULL) {
		if (!may_begin(im))
			return;
		if (im->active_n > 0 && im->copies + r->it.size > COPIES_MAX)
			return;
		if (im->active_n == 0)
			im->moved_ms = clock_ms();
		if (im->pool == NULL)
			pool_start(im);
		TAILQ_REMOVE(&im->line, r, link);
		im->line_n--;
		TAILQ_INSERT_TAIL(&im->active, r, link);
		im->active_n++;
		im->copies += r->it.size;
		r->task = xcalloc(1, sizeof(*r->task));
		image_task_init(r->task, &r->it, on_opened);
		r->task->arg = r;
		image_files_open(im->files, r->task);
	}
}

bool
images_unlikely(struct images *im, const struct spool_item *it,
    const struct image_wish *wish)
{
	struct image_count *c = image_stats_get(im->stats, it->device);
	enum worker_content kind;
	struct image_habit *h;

	if (wish->again ||
	    !image_claims_kind(
		&c->claims, image_claim(it->name, it->type), &kind) ||
	    kind == WORKER_JPEG)
		return false;
	if (wish->look)
		return true;
	h = &c->habits[kind];
	if (h->resting == 0 || image_habit_try(h, way_of(wish)))
		return false;
	image_stats_add(
	    im->stats, it->device, IMAGE_UNLIKELY, it->size, it->size, 0);
	return true;
}

struct image_run *
image_start(struct images *im, const struct spool_item *it,
    const struct image_wish *wish, image_fn fn, void *arg)
{
	struct image_run *r = xcalloc(1, sizeof(*r));

	r->im = im;
	r->wish = *wish;
	im->cpu_percent = wish->cpu_percent;
	memcpy(r->it.id, it->id, sizeof(r->it.id));
	r->it.seq = it->seq;
	r->it.size = it->size;
	memcpy(r->it.sha256, it->sha256, 32);
	r->device = xstrdup(it->device);
	r->claim = image_claim(it->name, it->type);
	r->since_ms = clock_ms();
	r->fn = fn;
	r->arg = arg;
	TAILQ_INSERT_TAIL(&im->line, r, link);
	im->line_n++;
	run_line(im);
	return r;
}

void
image_cancel(struct image_run *r)
{
	struct images *im;

	if (r == NULL)
		return;
	im = r->im;
	run_free(r);
	run_line(im);
}

static void
on_earned(evutil_socket_t fd, short what, void *arg)
{
	run_line(arg);
}

/* Who saves least per processor second; a copy that is to be made again is
 * let go last. */
static struct image_run *
last_of(struct images *im)
{
	struct image_run *r, *worst = NULL;
	double least = 0;

	TAILQ_FOREACH(r, &im->line, link)
	{
		double rate = r->wish.again
		    ? HUGE_VAL
		    : image_stats_of(im->stats, r->device)->rate;

		if (worst == NULL || rate < least) {
			least = rate;
			worst = r;
		}
	}
	return worst;
}

/* Opened, and no child has it yet. */
static struct image_run *
first_opened(struct images *im)
{
	struct image_run *r;

	TAILQ_FOREACH(r, &im->active, link)
	if (r->work != NULL && !worker_begun(r->work))
		break;
	return r;
}

/* Nothing comes of keeping any for the workers. */
static bool
stuck(struct images *im)
{
	int64_t now = clock_ms();

	return now - im->moved_ms >= STUCK_MS ||
	    image_budget_wait(&im->budget, im->cpu_percent, im->cores, now) > 0;
}

void
images_pass(struct images *im, unsigned n)
{
	bool all = stuck(im);
	unsigned keep = all ? 0 : im->children;
	struct image_run *r;

	for (; n > 0 && im->line_n > keep; n--)
		run_end(last_of(im), IMAGE_PASSED);
	for (; all && n > 0 && (r = first_opened(im)) != NULL; n--)
		run_end(r, IMAGE_PASSED);
}

unsigned
images_waiting(const struct images *im)
{
	return im->line_n + (im->pool != NULL ? worker_waiting(im->pool) : 0);
}

int64_t
images_job_ms(const struct images *im)
{
	return im->job_ms;
}

/* ---- life ---------------------------------------------------------------- */

struct images *
images_new(struct event_base *base, struct spool *sp, const char *dir)
{
	struct images *im = xcalloc(1, sizeof(*im));
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct memory_share share;

	im->base = base;
	im->sp = sp;
	share = memory_for_workers(memory_of_box(""),
	    cores < 4       ? 1
		: cores > 8 ? 4
			    : (unsigned)cores / 2);
	im->children = share.count;
	im->memory = share.each;
	im->cores = cores < 1 ? 1 : (unsigned)cores;
	im->cpu_percent = 100;
	im->earned = evtimer_new(base, on_earned, im);
	im->files = image_files_new(base, sp, dir);
	im->stats = image_stats_new();
	TAILQ_INIT(&im->line);
	TAILQ_INIT(&im->active);
	im->known = image_known_new();
	return im;
}

void
images_free(struct images *im)
{
	if (im == NULL)
		return;
	assert(im->line_n == 0 && im->active_n == 0);
	image_known_free(im->known);
	image_files_free(im->files);
	worker_pool_free(im->pool);
	image_stats_free(im->stats);
	event_free(im->earned);
	free(im);
}

void
images_status(const struct images *im, cJSON *o)
{
	image_stats_json(im->stats, o);
}

cJSON *
images_cameras(const struct images *im, bool whole)
{
	return image_stats_cameras(im->stats, whole);
}
