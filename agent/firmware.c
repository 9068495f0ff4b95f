/*
 * firmware.c - firmware at the agent: its life, its seconds, the proxy's rings
 *
 * What must stay true: a ring of the proxy can make us look, never ask for
 * anything that no signed manifest names.
 */
#include "firmware.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <event2/event.h>

#include "clock.h"
#include "doorbell.h"
#include "log.h"
#include "pool.h"
#include "signer_client.h"
#include "url.h"
#include "xalloc.h"

#define OPEN_EACH 5 /* seconds */

/* ---- small things -------------------------------------------------------- */

void
firmware_tell(struct firmware *f, const char *fmt, ...)
{
	char msg[2048]; /* the path of a mirror has 1024 */
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	doorbell_ring(f->agent->bell, f->agent->proxy_bell, msg);
}

int64_t
firmware_now(const struct firmware *f)
{
	return (clock_wall_ms() + signer_clock_offset_ms(f->agent->signer)) /
	    1000;
}

uint64_t
firmware_limit(const struct gateway_conf *c)
{
	return (uint64_t)(c->mirrors_n > 0 ? c->cache_size - c->cache_size / 4
					   : c->cache_size);
}

/* ---- each second --------------------------------------------------------- */

struct totals_job {
	struct firmware *f;
	struct cache_totals t;
};

static void
run_totals(void *arg)
{
	struct totals_job *j = arg;

	cache_totals(j->f->cache, &j->t);
}

static void
ran_totals(void *arg)
{
	struct totals_job *j = arg;

	j->f->totals = j->t;
	j->f->looking = false;
	free(j);
}

/* Only what was written changes them. */
static void
look_at_totals(struct firmware *f)
{
	struct totals_job *j;
	uint64_t txn = cache_last_txn(f->cache);

	if (f->looking || txn == f->totals_txn)
		return;
	f->looking = true;
	f->totals_txn = txn;
	j = xcalloc(1, sizeof(*j));
	j->f = f;
	pool_run(f->pool, run_totals, ran_totals, j);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct firmware *f = arg;

	/* What failed at the start may have been made by the proxy. */
	if (f->cache == NULL && !f->settings_busy &&
	    ++f->ticks % OPEN_EACH == 0)
		firmware_settings(f, false);
	if (!f->ready)
		return;
	feeds_poll(f);
	ahead_tick(f->ahead);
	feedback_tick(f->feedback);
	fills_plan(f->fills);
	look_at_totals(f);
}

/* ---- rings --------------------------------------------------------------- */

static void
ring_want(struct firmware *f, const char *msg)
{
	unsigned long first, count;
	uint8_t sha[32];
	char hex[65];

	if (sscanf(msg, "want %64[0-9a-f] %9lu %9lu", hex, &first, &count) ==
		3 &&
	    hex_decode(hex, sha, 32) == 0)
		fills_want(f->fills, sha, first, count);
}

static void
ring_check(struct firmware *f, const char *msg)
{
	char product[65], channel[65];
	struct fw_feed *fd;

	if (sscanf(msg, "check %64s %64s", product, channel) != 2)
		return;
	fd = feed_find(f, product, channel);
	/* One that failed waits its time: devices must not press. */
	if (fd != NULL && fd->m == NULL && fd->wait_ms == 0)
		fd->next_ms = 0;
	feeds_poll(f);
}

static void
ring_mirror(struct firmware *f, const char *msg)
{
	char name[65], path[1025];

	if (sscanf(msg, "mirror %64s %1024s", name, path) == 2)
		mirrors_want(f->mirrors, name, path);
}

bool
firmware_ring(struct firmware *f, const char *msg)
{
	static const struct {
		const char *word;
		void (*fn)(struct firmware *f, const char *msg);
	} rings[] = { { "want ", ring_want }, { "check ", ring_check },
		{ "mirror ", ring_mirror } };

	for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
		if (strncmp(msg, rings[i].word, strlen(rings[i].word)) != 0)
			continue;
		if (f != NULL && f->ready)
			rings[i].fn(f, msg);
		return true;
	}
	return false;
}

/* ---- life ---------------------------------------------------------------- */

static bool
is_set_up(const struct gateway_conf *c)
{
	return c->publisher_key != NULL || c->mirrors_n > 0;
}

struct firmware *
firmware_new(struct agent *a)
{
	struct firmware *f;
	struct timeval second = { 1, 0 };

	if (!is_set_up(a->conf))
		return NULL;
	f = xcalloc(1, sizeof(*f));
	f->agent = a;
	TAILQ_INIT(&f->feeds);
	f->pool = pool_new(a->base, 1);
	f->origins = fw_origins_new(a);
	f->fills = fills_new(f);
	f->ahead = ahead_new(f);
	f->mirrors = mirrors_new(f);
	f->feedback = feedback_new(f);
	f->tick = event_new(a->base, -1, EV_PERSIST, on_tick, f);
	event_add(f->tick, &second);
	firmware_settings(f, true);
	return f;
}

void
firmware_reload(struct firmware *f)
{
	firmware_settings(f, false);
}

void
firmware_free(struct firmware *f)
{
	if (f == NULL)
		return;
	f->stopping = true;
	event_free(f->tick);
	fills_stop(f->fills);
	mirrors_stop(f->mirrors);
	feedback_stop(f->feedback);
	while (!TAILQ_EMPTY(&f->feeds))
		feed_free(TAILQ_FIRST(&f->feeds));
	pool_free(f->pool); /* its last callbacks */
	fills_free(f->fills);
	mirrors_free(f->mirrors);
	feedback_free(f->feedback);
	ahead_free(f->ahead);
	fw_origins_free(f->origins);
	cache_close(f->cache);
	firmware_drop_products(f);
	free(f);
}
