/*
 * shares.c - what one device may: of [limits], or of its [camera] section
 */
#include "shares.h"

#include <stddef.h>

#include "gateway_conf.h"

/* Of max_size; all of it is no limit. */
static uint64_t
octets_of(const struct conf_share *share, int64_t max_size)
{
	if (!share->is_percent)
		return (uint64_t)share->bytes;
	return share->percent >= 100
	    ? 0
	    : (uint64_t)((double)max_size * share->percent / 100);
}

struct shares
shares_of(const struct gateway_conf *conf, const struct camera_conf *cam)
{
	struct shares s = { .octets = octets_of(&conf->share, conf->max_size) };

	if (conf->waiting_per_device != CONF_NONE)
		s.files = (uint64_t)conf->waiting_per_device;
	if (conf->uploads_per_minute != CONF_NONE)
		s.per_minute = (unsigned)conf->uploads_per_minute;
	if (cam == NULL)
		return s;
	if (cam->share.is_percent || cam->share.bytes != 0)
		s.octets = octets_of(&cam->share, conf->max_size);
	if (cam->waiting_per_device != 0)
		s.files = (uint64_t)cam->waiting_per_device;
	if (cam->uploads_per_minute != 0)
		s.per_minute = (unsigned)cam->uploads_per_minute;
	return s;
}

static void
keep_less(uint64_t *least, uint64_t v)
{
	if (v != 0 && (*least == 0 || v < *least))
		*least = v;
}

void
shares_least(
    const struct gateway_conf *conf, uint64_t *octets_out, uint64_t *files_out)
{
	struct shares s = shares_of(conf, NULL);

	*octets_out = s.octets;
	*files_out = s.files;
	for (size_t i = 0; i < conf->cameras_n; i++) {
		s = shares_of(conf, &conf->cameras[i]);
		keep_less(octets_out, s.octets);
		keep_less(files_out, s.files);
	}
}

int
shares_same_name(const struct gateway_conf *conf, const struct camera_conf *cam)
{
	return cam != NULL && cam->on_same_name != 0 ? cam->on_same_name - 1
						     : conf->on_same_name;
}

int64_t
shares_repeat_window_ms(
    const struct gateway_conf *conf, const struct camera_conf *cam)
{
	if (cam == NULL || cam->repeat_window_ms == 0)
		return conf->repeat_window_ms;
	return cam->repeat_window_ms == CONF_NONE ? 0 : cam->repeat_window_ms;
}
