/*
 * gateway_conf.h - gateway.conf, which proxy, agent and ctl read
 */
#ifndef GATEWAY_CONF_H
#define GATEWAY_CONF_H

#include "conf.h"

enum { WHEN_FULL_REFUSE, WHEN_FULL_DROP_OLDEST };
enum { SAME_NAME_KEEP_BOTH, SAME_NAME_REPLACE_WAITING, SAME_NAME_REJECT };
enum { SYNC_PORTABLE, SYNC_SINGLE };
enum { IMAGES_OFF, IMAGES_LOSSLESS, IMAGES_LOSSY };
enum { JPEG_PROGRESSIVE, JPEG_JXL, JPEG_KEEP };
enum { IMAGES_ALWAYS, IMAGES_PRESSURE };

struct camera_conf {
	char *name;                        /* first: conf_titled */
	char *address;                     /* addresses or networks */
	char *storage;                     /* NULL: that of [upload] */
	int64_t priority, expect_every_ms; /* CONF_NONE */
	int64_t repeat_window_ms;          /* CONF_NONE; 0: that of [spool] */
	/* 0: those of [limits] */
	int64_t max_upload, waiting_per_device, uploads_per_minute;
	struct conf_share share; /* no octets and no percentage: the same */
	int on_same_name; /* 0: that of [spool], else 1 + SAME_NAME_... */
	int images;       /* 0: mode of [images], else 1 + IMAGES_... */
	int64_t quality, max_dimension; /* 0: those of [images] */
	char *user, *password_file;
};

struct mirror_conf {
	char *name; /* first: conf_titled */
	char *url;  /* without a slash at its end */
};

struct gateway_conf {
	/* [gateway] */
	char *name, *state_dir, *run_dir;
	/* [listen] */
	char *address, *tls_address, *cert_file, *key_file;
	bool known_only, close_delimited;
	/* [spool] */
	int64_t max_size, index_size, repeat_window_ms, scrub_pause_ms,
	    max_age_ms;
	struct conf_share free_floor;
	int sync_order, when_full, on_same_name;
	/* [limits] */
	int64_t max_upload, max_connections, max_per_address /* CONF_NONE */,
	    head_timeout_ms, min_rate;
	int64_t waiting_per_device, uploads_per_minute; /* CONF_NONE */
	struct conf_share share;
	bool count_addresses;
	/* [signer] */
	char *signer_url, *token_file, *ca_file;
	/* [upload] */
	char *storage, *key_template, *upload_proxy;
	int64_t parallel, rate_limit;
	bool allow_http, allow_private;
	/* [images] */
	int images_mode, images_jpeg, images_when;
	int64_t images_quality, images_max_dimension; /* CONF_NONE: any */
	struct conf_share images_cpu;                 /* a percentage */
	/* [firmware] */
	char *firmware_origin, *firmware_backup; /* no slash at the end */
	char *publisher_key;                     /* publisher_keys_load() */
	int64_t cache_size, parallel_devices;
	char *prefetch;       /* gateway_conf_prefetch() */
	int64_t prefetch_max; /* octets a day; CONF_NONE */
	bool require_check;
	/* [mirror NAME] */
	struct mirror_conf *mirrors;
	size_t mirrors_n;
	/* [camera NAME] */
	struct camera_conf *cameras;
	size_t cameras_n;
};

extern const struct conf_table gateway_conf_table;

/* The camera whose address list holds the address, or NULL. */
const struct camera_conf *gateway_conf_camera(
    const struct gateway_conf *c, const char *address);
/* The mirror of that name, or NULL. */
const struct mirror_conf *gateway_conf_mirror(
    const struct gateway_conf *c, const char *name);
/*
 * May firmware be fetched ahead at that minute of the day? text: "off", "on" or
 * "HH:MM-HH:MM". -EINVAL: it is none of these.
 */
int gateway_conf_prefetch(const char *text, int minute, bool *may_out);
/* state_dir/spool, state_dir/cache, run_dir/proxy.sock, run_dir/agent.sock,
 * run_dir/proxy.bell, run_dir/agent.bell; malloc'd. */
char *gateway_conf_path(const struct gateway_conf *c, const char *what);

#endif
