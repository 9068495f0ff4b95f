/*
 * blocklist.h - which devices may not send, as the cloud said last
 *
 * The agent writes state_dir/blocked.json when the signer's list changes; the
 * proxy reads it at start and when it changes, so that a block holds without
 * WAN and after a restart. {"devices": ["cam-1", ...]}
 */
#ifndef BLOCKLIST_H
#define BLOCKLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <cjson/cJSON.h>

struct blocklist;

/* A list kept in the file path. */
struct blocklist *blocklist_new(const char *path);
/* Waits for what is still to be written. NULL is accepted. */
void blocklist_free(struct blocklist *bl);
/*
 * Write an array of texts, on a thread of its own: aside, synced, renamed. A
 * failure is logged. Takes texts; of several only the last need be written.
 */
void blocklist_save(struct blocklist *bl, cJSON *texts);
/* The array in the file, bounded to 4 MiB and 200,000 texts; an empty one if
 * there is no file, NULL if it is not readable (logged). Reads a small file: at
 * start, or just after it was written. */
cJSON *blocklist_load(const struct blocklist *bl);
/* The same from n octets of text; NULL: it is no list. */
cJSON *blocklist_parse(const char *text, size_t n);
bool blocklist_has(const cJSON *texts, const char *text);

#endif
