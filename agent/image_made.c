/*
 * image_made.c - what an object tells of how it was made from the original
 *
 * Stores keep these names as metadata (x-PROVIDER-meta-...), so that
 * a reader finds the original's hash, size and type, and how to get it back.
 */
#include "image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "url.h"
#include "xalloc.h"

static const struct {
	const char *words;
	const char *type;     /* NULL: the original's */
	const char *encoding; /* "": none */
} steps[WORKER_STEPS] = {
	[WORKER_NOTHING] = { "", NULL, "" },
	[WORKER_STEP_PROGRESSIVE] = { "jpeg-progressive", "image/jpeg", "" },
	[WORKER_STEP_JXL] = { "jpeg-to-jxl", "image/jxl", "" },
	[WORKER_STEP_RAW_JXL] = { "raw-to-jxl", "image/jxl", "" },
	[WORKER_STEP_ZSTD] = { "zstd", NULL, "zstd" },
	[WORKER_STEP_LOSSY] = { "jpeg-lossy", "image/jpeg", "" },
};

struct image_made *
image_made_ref(struct image_made *m)
{
	m->refs++;
	return m;
}

void
image_made_unref(struct image_made *m)
{
	if (m == NULL || --m->refs > 0)
		return;
	if (m->fd >= 0)
		close(m->fd);
	free(m);
}

const char *
image_made_type(const struct image_made *m, const char *type)
{
	const char *t = m->smaller ? steps[m->step].type : NULL;

	return t != NULL ? t : type;
}

const char *
image_made_encoding(const struct image_made *m)
{
	return m->smaller ? steps[m->step].encoding : "";
}

static void
add_steps(const struct image_made *m, cJSON *o)
{
	char words[80];

	snprintf(words, sizeof(words), "%s", steps[m->step].words);
	if (m->step == WORKER_STEP_LOSSY && m->max_dimension > 0)
		snprintf(words, sizeof(words),
		    "jpeg-lossy quality=%u max-dimension=%u", m->quality,
		    m->max_dimension);
	else if (m->step == WORKER_STEP_LOSSY)
		snprintf(
		    words, sizeof(words), "jpeg-lossy quality=%u", m->quality);
	json_add_text(o, "steps", words);
}

cJSON *
image_made_metadata(const struct image_made *m, const struct spool_item *it)
{
	cJSON *o;
	char text[65];

	if (!m->smaller && !m->damaged)
		return NULL;
	o = cJSON_CreateObject();
	if (m->damaged)
		json_add_text(o, "damaged", "yes");
	if (!m->smaller)
		return o;
	hex_encode(it->sha256, 32, text);
	json_add_text(o, "original-sha256", text);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)it->size);
	json_add_text(o, "original-size", text);
	if (it->type[0] != '\0')
		json_add_text(o, "original-type", it->type);
	add_steps(m, o);
	return o;
}
