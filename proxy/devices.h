/*
 * devices.h - what each device has sent, and which ones are silent
 *
 * Kept in memory since the proxy's start. [camera NAME] sections are always
 * known; of other names the first 1,000, later ones count together as "other":
 * names are claims, and nobody may fill memory with them. Times by clock_ms().
 */
#ifndef DEVICES_H
#define DEVICES_H

#include <stdbool.h>
#include <stdint.h>
#include <cjson/cJSON.h>

struct devices;
struct gateway_conf;

struct devices *devices_new(const struct gateway_conf *conf, int64_t now);
void devices_free(struct devices *d); /* NULL is accepted */
/* Other sections: what was counted stays, new ones are awaited from now on. */
void devices_reload(
    struct devices *d, const struct gateway_conf *conf, int64_t now);

/* An upload was answered 2xx; repeat: it was here already and is not counted,
 * but the device lives. */
void devices_accepted(struct devices *d, const char *name, uint64_t size,
    bool repeat, int64_t now);
/* why: static text, or copied. */
void devices_refused(
    struct devices *d, const char *name, const char *why, int64_t now);
/*
 * May the device send one more, at so many a minute? It may send a minute's
 * worth at once. And the address, unless NULL? 0, and it is counted; else how
 * many seconds it should wait.
 */
int devices_too_fast(struct devices *d, const char *name, const char *address,
    unsigned uploads_per_minute, int64_t now);
/* Log which cameras have become silent, or are back; call it now and then. */
void devices_look(struct devices *d, int64_t now);
/* What image workers made of its uploads, by the agent: {files, bytes_in,
 * bytes_out, cpu_ms, damaged, failed}; stays until it is told anew. */
void devices_images(
    struct devices *d, const char *name, const cJSON *told, int64_t now);
/*
 * An array of {name, configured, uploads, empty, bytes, refused, last_upload,
 * last_refusal, last_refusal_text, expect_every, silent, silent_for,
 * images}. Times in seconds ago, null if there was none; images: null, or as
 * it was told and saved_bytes.
 */
cJSON *devices_json(const struct devices *d, int64_t now);

#endif
