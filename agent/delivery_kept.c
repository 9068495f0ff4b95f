/*
 * delivery_kept.c - what is kept of an upload in parts
 *
 * How far it is and the values that answers told (an upload's id, the parts'
 * tags): asked for with the next step, and committed as a text with the row,
 * so that a restart goes on where the last one ended.
 */
#include "delivery.h"

#include <stdlib.h>
#include <string.h>

#include "body.h"
#include "json.h"
#include "transfer.h"

char *
delivery_kept_text(const struct delivery *d)
{
	cJSON *o = cJSON_CreateObject();
	char *s;

	json_add_text(o, "step", d->step);
	json_add_int(o, "part", d->part);
	json_add_int(o, "parts", d->parts);
	if (d->kept != NULL)
		cJSON_AddItemToObject(
		    o, "kept", cJSON_Duplicate(d->kept, true));
	s = json_line(o);
	cJSON_Delete(o);
	return s;
}

void
delivery_forget_parts(struct delivery *d)
{
	d->step[0] = '\0';
	d->part = d->parts = 0;
	cJSON_Delete(d->kept);
	d->kept = NULL;
	body_hash_free(d->hash);
	d->hash = NULL;
}

void
delivery_kept_parse(struct delivery *d)
{
	const char *s = d->it.kept, *step;
	int64_t part, parts;
	cJSON *o;

	if (s == NULL || *s == '\0')
		return;
	o = json_parse(s, strlen(s), strlen(s), NULL);
	step = json_string(o, "step");
	if (step != NULL && strlen(step) < sizeof(d->step) &&
	    json_int(o, "parts", 1, RECIPE_PARTS_MAX, &parts) == 0 &&
	    json_int(o, "part", 0, parts, &part) == 0) {
		strcpy(d->step, step);
		d->part = part;
		d->parts = parts;
		d->kept = cJSON_DetachItemFromObjectCaseSensitive(o, "kept");
	}
	cJSON_Delete(o);
}

const char *
delivery_keep(struct delivery *d, const struct recipe_request *rq,
    const struct xfer_result *r)
{
	char value[RECIPE_VALUE_MAX];

	for (size_t i = 0; i < rq->keep_n; i++) {
		const struct recipe_keep *k = &rq->keep[i];
		const char *v = NULL;

		if (k->text != NULL)
			v = k->text;
		else if (k->header != NULL)
			v = xfer_header(r->xfer, k->header);
		else if (answer_text(r->body, r->body_n, k->tag, value,
			     sizeof(value)) == 0)
			v = value;
		if (v == NULL || strlen(v) >= RECIPE_VALUE_MAX ||
		    !json_utf8(v, strlen(v)))
			return k->name;
		if (d->kept == NULL)
			d->kept = cJSON_CreateObject();
		cJSON_DeleteItemFromObjectCaseSensitive(d->kept, k->name);
		json_add_text(d->kept, k->name, v);
	}
	return NULL;
}
