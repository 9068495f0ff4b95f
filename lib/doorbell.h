/*
 * doorbell.h - proxy and agent tell each other that there is something to do
 *
 * A Unix datagram socket of each daemon in run_dir. A ring carries a short
 * text; it may be lost, so who waits for one also looks once a second. Nothing
 * received is trusted beyond "look again".
 */
#ifndef DOORBELL_H
#define DOORBELL_H

#include <stddef.h>

struct doorbell;
struct event_base;

#define DOORBELL_MAX 8192

/* Bind path (mode 0660, replaced if stale) and call on_ring on the loop for
 * each datagram; msg is NUL-terminated. -errno. */
int doorbell_open(struct event_base *base, const char *path,
    void (*on_ring)(const char *msg, size_t n, void *arg), void *arg,
    struct doorbell **db_out);
/* Never blocks; a peer that is not there is no error. */
void doorbell_ring(struct doorbell *db, const char *peer_path, const char *msg);
void doorbell_close(struct doorbell *db);

#endif
