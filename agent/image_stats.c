/*
 * image_stats.c - what image workers have saved, and for what
 *
 * Names of devices come from the LAN, so their number is bounded: after 1,000
 * the rest count as "other".
 */
#include "image_stats.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "image.h"
#include "json.h"
#include "xalloc.h"

#define BUCKETS 256
#define DEVICES_MAX 1000

struct device {
	SLIST_ENTRY(device) link;
	STAILQ_ENTRY(device) all; /* in order of appearance */
	char *name;
	struct image_count c;
};
struct image_stats {
	SLIST_HEAD(, device) table[BUCKETS];
	STAILQ_HEAD(, device) all_devices;
	unsigned devices;
	struct image_count all, other;
};

static const char *const words[IMAGE_OUTCOMES] = {
	[WORKER_SMALLER] = "smaller",
	[WORKER_PLAIN] = "incompressible",
	[WORKER_NO_GAIN] = "no_gain",
	[WORKER_DAMAGED] = "damaged",
	[WORKER_TOO_LARGE] = "too_large",
	[WORKER_UNSUPPORTED] = "unsupported",
	[WORKER_DIFFERS] = "differs",
	[WORKER_FAILED] = "failed",
	[WORKER_DIED] = "died",
	[WORKER_TIMEOUT] = "timeout",
	[WORKER_NONE] = "no_worker",
	[IMAGE_PASSED] = "passed",
	[IMAGE_UNLIKELY] = "unlikely",
};

const char *
image_outcome_word(enum worker_outcome o)
{
	return (unsigned)o < IMAGE_OUTCOMES ? words[o] : "?";
}

struct image_stats *
image_stats_new(void)
{
	struct image_stats *s = xcalloc(1, sizeof(*s));

	s->other.rate = -1;
	STAILQ_INIT(&s->all_devices);
	return s;
}

void
image_stats_free(struct image_stats *s)
{
	struct device *d;

	for (unsigned i = 0; i < BUCKETS; i++)
		while ((d = SLIST_FIRST(&s->table[i])) != NULL) {
			SLIST_REMOVE_HEAD(&s->table[i], link);
			free(d->name);
			free(d);
		}
	free(s);
}

static unsigned
bucket(const char *name)
{
	unsigned h = 5381;

	for (; *name != '\0'; name++)
		h = h * 33 + (unsigned char)*name;
	return h % BUCKETS;
}

static struct device *
find(const struct image_stats *s, const char *name)
{
	struct device *d;

	SLIST_FOREACH(d, &s->table[bucket(name)], link)
	if (strcmp(d->name, name) == 0)
		return d;
	return NULL;
}

struct image_count *
image_stats_get(struct image_stats *s, const char *name)
{
	struct device *d = find(s, name);

	if (d != NULL)
		return &d->c;
	if (s->devices == DEVICES_MAX)
		return &s->other;
	d = xcalloc(1, sizeof(*d));
	d->name = xstrdup(name);
	d->c.rate = -1;
	SLIST_INSERT_HEAD(&s->table[bucket(name)], d, link);
	STAILQ_INSERT_TAIL(&s->all_devices, d, all);
	s->devices++;
	return &d->c;
}

static void
add(struct image_count *c, unsigned outcome, uint64_t size, uint64_t out_size,
    int64_t cpu_us)
{
	double rate = (double)(size - out_size) * 1e6 / (double)(cpu_us + 100);

	c->bodies++;
	c->bytes_in += size;
	c->bytes_out += out_size;
	c->cpu_us += cpu_us;
	c->outcomes[outcome]++;
	if (outcome < WORKER_OUTCOMES)
		c->rate = c->rate < 0 ? rate : c->rate * 0.8 + rate * 0.2;
}

void
image_stats_add(struct image_stats *s, const char *device, unsigned outcome,
    uint64_t size, uint64_t out_size, int64_t cpu_us)
{
	add(&s->all, outcome, size, out_size, cpu_us);
	add(image_stats_get(s, device), outcome, size, out_size, cpu_us);
}

const struct image_count *
image_stats_of(const struct image_stats *s, const char *device)
{
	const struct device *d = find(s, device);

	return d != NULL ? &d->c : &s->other;
}

static void
outcomes_json(const struct image_count *c, cJSON *o)
{
	cJSON *why = cJSON_AddObjectToObject(o, "outcomes");

	for (unsigned i = 0; i < IMAGE_OUTCOMES; i++)
		if (c->outcomes[i] > 0)
			json_add_int(why, words[i], (int64_t)c->outcomes[i]);
}

static void
count_json(const struct image_count *c, cJSON *o)
{
	json_add_int(o, "files", (int64_t)c->bodies);
	json_add_int(o, "bytes_in", (int64_t)c->bytes_in);
	json_add_int(o, "bytes_out", (int64_t)c->bytes_out);
	json_add_int(o, "cpu_ms", c->cpu_us / 1000);
}

void
image_stats_json(const struct image_stats *s, cJSON *o)
{
	count_json(&s->all, o);
	outcomes_json(&s->all, o);
}

static void
device_json(
    const struct image_count *c, const char *name, bool whole, cJSON *list)
{
	cJSON *o = cJSON_CreateObject();
	uint64_t failed = 0;

	json_add_text(o, "device", name);
	count_json(c, o);
	json_add_int(o, "damaged", (int64_t)c->outcomes[WORKER_DAMAGED]);
	for (unsigned i = WORKER_DIFFERS; i < WORKER_OUTCOMES; i++)
		failed += c->outcomes[i];
	json_add_int(o, "failed", (int64_t)failed);
	if (whole)
		outcomes_json(c, o);
	cJSON_AddItemToArray(list, o);
}

cJSON *
image_stats_cameras(const struct image_stats *s, bool whole)
{
	cJSON *list = cJSON_CreateArray();
	const struct device *d;

	STAILQ_FOREACH(d, &s->all_devices, all)
	device_json(&d->c, d->name, whole, list);
	if (s->other.bodies > 0)
		device_json(&s->other, "other", whole, list);
	return list;
}
