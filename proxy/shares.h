/*
 * shares.h - what one device may: of [limits], or of its [camera] section
 */
#ifndef SHARES_H
#define SHARES_H

#include <stdint.h>

struct camera_conf;
struct gateway_conf;

/* 0: no limit. */
struct shares {
	uint64_t octets, files; /* waiting in the spool */
	unsigned per_minute;    /* uploads */
};

/* cam: NULL for one without a section. */
struct shares shares_of(
    const struct gateway_conf *conf, const struct camera_conf *cam);
/* The smallest octets and files that anybody has; 0: nobody has a limit. */
void shares_least(
    const struct gateway_conf *conf, uint64_t *octets_out, uint64_t *files_out);
/* SAME_NAME_... for uploads of cam. */
int shares_same_name(
    const struct gateway_conf *conf, const struct camera_conf *cam);
/* How long a file that is sent again is a repeat; 0: never. */
int64_t shares_repeat_window_ms(
    const struct gateway_conf *conf, const struct camera_conf *cam);

#endif
