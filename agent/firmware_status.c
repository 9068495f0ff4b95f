/*
 * firmware_status.c - what the agent tells of firmware
 */
#include "firmware.h"

#include "json.h"

#define STATUS_FEEDS 32

static void
feed_status(const struct fw_feed *fd, cJSON *list)
{
	cJSON *o = cJSON_CreateObject();

	json_add_text(o, "product", fd->product);
	json_add_text(o, "channel", fd->channel);
	json_add_int(o, "seq", fd->m != NULL ? fd->m->seq : 0);
	if (fd->known_seq > 0)
		json_add_int(o, "known_seq", fd->known_seq);
	if (fd->m != NULL) {
		json_add_int(o, "checked", fd->checked);
		json_add_int(o, "expires", fd->m->expires);
		cJSON_AddBoolToObject(
		    o, "expired", fd->m->expires <= firmware_now(fd->fw));
		json_add_int(o, "releases", (int64_t)fd->m->releases_n);
	}
	for (int i = 0; fd->failing && i < FW_FROM_N; i++) {
		if (fd->errors[i][0] == '\0')
			continue;
		json_add_text(o, "error", fd->errors[i]);
		json_add_text(o, "error_of", fw_from_name((enum fw_from)i));
		break;
	}
	cJSON_AddItemToArray(list, o);
}

cJSON *
firmware_status(struct firmware *f)
{
	cJSON *o = cJSON_CreateObject(), *c, *list;
	const struct fw_feed *fd;
	int n = 0;

	cJSON_AddBoolToObject(o, "on", f != NULL);
	if (f == NULL)
		return o;
	c = cJSON_AddObjectToObject(o, "cache");
	json_add_int(c, "limit", (int64_t)f->totals.limit);
	json_add_int(c, "reserved", (int64_t)f->totals.reserved);
	json_add_int(c, "filled", (int64_t)f->totals.filled);
	json_add_int(c, "pinned", (int64_t)f->totals.pinned);
	json_add_int(c, "blobs", (int64_t)f->totals.blobs);
	cJSON_AddItemToObject(o, "origins", fw_origins_status(f->origins));
	cJSON_AddItemToObject(o, "fills", fills_status(f->fills));
	list = cJSON_AddArrayToObject(o, "products");
	TAILQ_FOREACH(fd, &f->feeds, link)
	if (fd->wanted && n++ < STATUS_FEEDS)
		feed_status(fd, list);
	return o;
}
