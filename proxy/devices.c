/*
 * devices.c - what each device has sent, and which ones are silent
 *
 * What must stay true: at most NAMES_MAX names beside the sections of the
 * configuration, each of bounded length; a look-up costs little whatever names
 * are sent. A camera is silent when nothing came for longer than its
 * expect_every, counted from its last upload or else from when it became known:
 * a restart forgives.
 */
#include "devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "gateway_conf.h"
#include "json.h"
#include "log.h"
#include "xalloc.h"

#define BUCKETS 512
#define NAMES_MAX 1000
#define OTHER "other"
#define ADDRESS "\1" /* begins the name of an address; no device's can */
#define WHY_MAX 160
#define MINUTE_US (60 * (int64_t)1000000)

/* Members that the agent tells of the images of a camera. */
static const char *const image_keys[] = { "files", "bytes_in", "bytes_out",
	"cpu_ms", "damaged", "failed" };
enum { IMAGE_FILES, IMAGE_IN, IMAGE_OUT, IMAGE_KEYS = 6 };

struct device {
	LIST_ENTRY(device) link;
	TAILQ_ENTRY(device) all; /* in order of appearance */
	char *name;
	bool configured, told; /* told: the log knows that it is silent */
	uint64_t uploads, empty, bytes, refused;
	int64_t since, last, last_refusal; /* 0: never */
	int64_t expect_ms;                 /* 0: nothing is expected */
	int64_t paid_us;                   /* until when its rate is used up */
	int64_t images[IMAGE_KEYS];        /* as the agent told it */
	char why[WHY_MAX];
};

struct devices {
	LIST_HEAD(, device) buckets[BUCKETS];
	TAILQ_HEAD(, device) all;
	unsigned unknown_n;
	uint64_t seed;
};

static unsigned
bucket(const struct devices *d, const char *name)
{
	uint64_t h = d->seed;

	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3u;
	return (unsigned)((h ^ h >> 32) % BUCKETS);
}

static struct device *
find(const struct devices *d, const char *name)
{
	struct device *v;

	LIST_FOREACH(v, &d->buckets[bucket(d, name)], link)
	if (strcmp(v->name, name) == 0)
		break;
	return v;
}

static struct device *
add(struct devices *d, const char *name, int64_t now)
{
	struct device *v = xcalloc(1, sizeof(*v));

	v->name = xstrdup(name);
	v->since = now;
	LIST_INSERT_HEAD(&d->buckets[bucket(d, name)], v, link);
	TAILQ_INSERT_TAIL(&d->all, v, all);
	return v;
}

/* The one to count for; of too many names it is "other". */
static struct device *
device_for(struct devices *d, const char *name, int64_t now)
{
	struct device *v = find(d, name);

	if (v != NULL)
		return v;
	if (d->unknown_n >= NAMES_MAX) {
		v = find(d, OTHER);
		return v != NULL ? v : add(d, OTHER, now);
	}
	d->unknown_n++;
	return add(d, name, now);
}

struct devices *
devices_new(const struct gateway_conf *conf, int64_t now)
{
	struct devices *d = xcalloc(1, sizeof(*d));

	TAILQ_INIT(&d->all);
	if (getrandom(&d->seed, sizeof(d->seed), GRND_NONBLOCK) < 0)
		d->seed = (uint64_t)now;
	devices_reload(d, conf, now);
	return d;
}

void
devices_free(struct devices *d)
{
	struct device *v;

	if (d == NULL)
		return;
	while ((v = TAILQ_FIRST(&d->all)) != NULL) {
		TAILQ_REMOVE(&d->all, v, all);
		free(v->name);
		free(v);
	}
	free(d);
}

void
devices_reload(struct devices *d, const struct gateway_conf *conf, int64_t now)
{
	struct device *v;

	TAILQ_FOREACH(v, &d->all, all)
	{
		d->unknown_n += v->configured && strcmp(v->name, OTHER) != 0;
		v->configured = false;
		v->expect_ms = 0;
	}
	for (size_t i = 0; i < conf->cameras_n; i++) {
		const struct camera_conf *c = &conf->cameras[i];

		v = find(d, c->name);
		if (v == NULL)
			v = add(d, c->name, now);
		else if (strcmp(v->name, OTHER) != 0)
			d->unknown_n--;
		v->configured = true;
		v->expect_ms =
		    c->expect_every_ms != CONF_NONE ? c->expect_every_ms : 0;
	}
}

void
devices_accepted(struct devices *d, const char *name, uint64_t size,
    bool repeat, int64_t now)
{
	struct device *v = device_for(d, name, now);

	v->last = now;
	if (repeat)
		return;
	v->uploads++;
	v->empty += size == 0;
	v->bytes += size;
}

void
devices_refused(
    struct devices *d, const char *name, const char *why, int64_t now)
{
	struct device *v = device_for(d, name, now);

	v->refused++;
	v->last_refusal = now;
	strncpy(v->why, why, WHY_MAX - 1);
}

void
devices_images(
    struct devices *d, const char *name, const cJSON *told, int64_t now)
{
	struct device *v = device_for(d, name, now);

	for (unsigned i = 0; i < IMAGE_KEYS; i++)
		json_int(told, image_keys[i], 0, INT64_MAX / 2, &v->images[i]);
}

/* Seconds until it may; 0: now, and then until when that uses its rate up. */
static int
wait_for(const struct device *v, int64_t each, int64_t at, int64_t *paid_out)
{
	int64_t paid = (v->paid_us < at ? at : v->paid_us) + each;
	int64_t over = paid - (at + MINUTE_US);

	*paid_out = paid;
	return over > 0 ? (int)(over / 1000000) + 1 : 0;
}

int
devices_too_fast(struct devices *d, const char *name, const char *address,
    unsigned uploads_per_minute, int64_t now)
{
	int64_t each = MINUTE_US / uploads_per_minute, at = now * 1000;
	int64_t paid, paid_too = 0;
	struct device *v = device_for(d, name, now), *from = NULL;
	int wait = wait_for(v, each, at, &paid), more = 0;

	if (address != NULL) {
		char key[80];

		snprintf(key, sizeof(key), ADDRESS "%s", address);
		from = device_for(d, key, now);
		more = wait_for(from, each, at, &paid_too);
	}
	if (wait > 0 || more > 0)
		return wait > more ? wait : more;
	v->paid_us = paid;
	if (from != NULL && from != v)
		from->paid_us = paid_too;
	return 0;
}

/* For how long it has been silent, ms; 0: it is not. */
static int64_t
silent_ms(const struct device *v, int64_t now)
{
	int64_t ms = now - (v->last > v->since ? v->last : v->since);

	return v->expect_ms > 0 && ms > v->expect_ms ? ms : 0;
}

void
devices_look(struct devices *d, int64_t now)
{
	struct log_text name;
	struct device *v;

	TAILQ_FOREACH(v, &d->all, all)
	{
		int64_t ms = silent_ms(v, now);

		if ((ms > 0) == v->told)
			continue;
		v->told = ms > 0;
		if (ms > 0)
			log_warn("camera=%s is silent: nothing came for s=%lld",
			    log_text(&name, v->name, strlen(v->name)),
			    (long long)ms / 1000);
		else
			log_info("camera=%s is not silent any more",
			    log_text(&name, v->name, strlen(v->name)));
	}
}

static void
add_ago(cJSON *o, const char *key, int64_t at, int64_t now)
{
	if (at == 0)
		cJSON_AddNullToObject(o, key);
	else
		json_add_int(o, key, (now - at) / 1000);
}

static void
add_images(cJSON *o, const struct device *v)
{
	cJSON *images;

	if (v->images[IMAGE_FILES] == 0) {
		cJSON_AddNullToObject(o, "images");
		return;
	}
	images = cJSON_AddObjectToObject(o, "images");
	for (unsigned i = 0; i < IMAGE_KEYS; i++)
		json_add_int(images, image_keys[i], v->images[i]);
	json_add_int(
	    images, "saved_bytes", v->images[IMAGE_IN] - v->images[IMAGE_OUT]);
}

static cJSON *
device_json(const struct device *v, int64_t now)
{
	cJSON *o = cJSON_CreateObject();
	int64_t silent = silent_ms(v, now);

	json_add_text(o, "name", v->name);
	cJSON_AddBoolToObject(o, "configured", v->configured);
	json_add_int(o, "uploads", (int64_t)v->uploads);
	json_add_int(o, "empty", (int64_t)v->empty);
	json_add_int(o, "bytes", (int64_t)v->bytes);
	json_add_int(o, "refused", (int64_t)v->refused);
	add_ago(o, "last_upload", v->last, now);
	add_ago(o, "last_refusal", v->last_refusal, now);
	if (v->last_refusal != 0)
		json_add_text(o, "last_refusal_text", v->why);
	else
		cJSON_AddNullToObject(o, "last_refusal_text");
	if (v->expect_ms > 0)
		json_add_int(o, "expect_every", v->expect_ms / 1000);
	else
		cJSON_AddNullToObject(o, "expect_every");
	cJSON_AddBoolToObject(o, "silent", silent > 0);
	if (silent > 0)
		json_add_int(o, "silent_for", silent / 1000);
	else
		cJSON_AddNullToObject(o, "silent_for");
	add_images(o, v);
	return o;
}

cJSON *
devices_json(const struct devices *d, int64_t now)
{
	cJSON *list = cJSON_CreateArray();
	const struct device *v;

	TAILQ_FOREACH(v, &d->all, all)
	if (v->name[0] != ADDRESS[0])
		cJSON_AddItemToArray(list, device_json(v, now));
	return list;
}
