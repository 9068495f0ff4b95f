/*
 * signer.h - the parts of a running signer
 */
#ifndef SIGNER_H
#define SIGNER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "metrics.h"
#include "storage.h"

struct event;
struct event_base;
struct credentials;
struct file_storage;
struct http_server;
struct limit;
struct pool;
struct seal;
struct signer_conf;
struct storage_cache;
struct store;
struct store_txn;
struct updates;
struct watch;

struct signer {
	struct event_base *base;
	const struct signer_conf *conf;
	struct http_server *http;
	struct http_server *metrics_http; /* NULL: no address for it */
	struct http_server *publish_http; /* the same */
	struct limit *limit;
	struct metrics metrics;
	struct store *store;
	struct seal *seal;
	char *sealed_by; /* the key that the state noted at the start */
	struct sign_env env;
	struct storage_cache *cache;
	struct pool *readers;  /* calls that only read the store, and sign */
	struct pool *writers;  /* calls that change it: each waits for a sync */
	struct pool *files;    /* of file_storage */
	struct pool *outgoing; /* calls to stores and token services */
	struct credentials *credentials;
	struct file_storage *file_storage;
	struct updates *updates;            /* long polls */
	struct watch *watch;                /* for what is going to end */
	_Atomic int64_t certificate_ends_s; /* its own; 0: it has none */
	struct event *tidy;
	atomic_bool stopping; /* threads look at it, too */
};

/* In a transaction at the start, arg the signer: note its key in a new state,
 * and say so if the state was sealed with another one. */
int signer_note_key(struct store_txn *t, void *arg);
/*
 * In a transaction: is the state still sealed by the key that it was at the
 * start? -EKEYREVOKED: another process has rotated it; what is sealed now would
 * be lost.
 */
int signer_check_key(const struct signer *sg, struct store_txn *t);
/* Something that gateways of the tenant see was changed; on the loop. */
void signer_changed(struct signer *sg, const char *tenant);

#endif
