/*
 * firmware.h - the version check: products, releases, manifests
 *
 * Rows: a product (storage, hardware, keys, size cap), each release that was
 * checked, and of each product and channel the newest manifest with what was
 * told of it to gateways. Nothing here sees a file's content: the publisher
 * hashes, the store tells size and existence, the manifest is signed.
 */
#ifndef FIRMWARE_H
#define FIRMWARE_H

#include <stdbool.h>
#include <stdint.h>
#include <cjson/cJSON.h>

#include "credential.h"
#include "minisign.h"

struct api_call;
struct gateway;
struct manifest;
struct outgoing;
struct problem;
struct storage;
struct store_txn;

#define FIRMWARE_KEYS_MAX 8
#define FIRMWARE_PART_SIZE (8 << 20) /* so little has to be sent again */

struct product {
	char *name, *storage;
	cJSON *hw; /* array of texts; NULL: any */
	struct minisign_public keys[FIRMWARE_KEYS_MAX];
	size_t keys_n;
	int64_t max_size; /* octets of a file */
};

/* ---- firmware.c: rows ---------------------------------------------------- */

/* -ENOENT. product_fini() later. */
int product_get(struct store_txn *t, const char *tenant, const char *name,
    struct product *p_out);
void product_fini(struct product *p);
/* Check what PUT /v1/firmware/PRODUCT takes and make the row of it. NULL:
 * problem tells. */
cJSON *product_parse(const char *name, const cJSON *doc, struct problem *p);
/* Goes before each key of firmware; ends in a slash. */
const char *firmware_root(const struct storage *s);
/* Take a list of hardware to row, all of it among `among` unless NULL. */
void firmware_take_hw(
    cJSON *row, const cJSON *v, const cJSON *among, struct problem *p);
bool in_texts(const cJSON *list, const char *s);
/* "A/B" or "A/B/C", malloc'd. */
char *firmware_id(const char *a, const char *b, const char *c);
/* The product of the call's path; sets 404 and -ENOENT. */
int firmware_product(
    struct store_txn *t, struct api_call *c, struct product *p_out);
/* Are product and channel of the path names? Sets 422 and -EINVAL. */
int firmware_names(struct api_call *c);
/* seq and announced seq of a channel's newest manifest, the storage it went
 * to (malloc'd, may be NULL to be left out); 0 and NULL without one. */
int manifest_state(struct store_txn *t, const char *tenant, const char *id,
    int64_t *seq_out, int64_t *announced_out, char **storage_out);
/* The product of a key below the root if the gateway may read it: malloc'd
 * name; NULL: p tells why not. */
bool firmware_may_read(struct store_txn *t, const char *tenant,
    const struct gateway *g, const char *storage, const char *key,
    const char **why_out);
/* Members `firmware` and `policy` of GET /v1/updates. */
int firmware_updates(struct store_txn *t, const char *tenant,
    const struct gateway *g, cJSON *answer);

/* ---- firmware_rules.c ---------------------------------------------------- */

/* A release as its row from what was sent; NULL: problem has all faults. */
cJSON *release_parse(
    const struct product *pr, const cJSON *doc, struct problem *p);
/*
 * May it be in the channel, beside what is there? Fills its seq. 0: new, or
 * to be checked anew. 1: it was checked before, all the same (*old_out is its
 * row, the caller's in any case). -ECANCELED: problem tells the rule.
 */
int release_check(struct store_txn *t, const char *tenant,
    const struct product *pr, const char *channel, cJSON *row,
    struct problem *p, cJSON **old_out);
/*
 * Does a manifest fit product, channel, what was checked and what was signed
 * before (old may be NULL)? fresh_out: array of the rows of releases that are
 * published by it for the first time.
 */
int manifest_check(struct store_txn *t, const char *tenant,
    const struct product *pr, const char *channel, const struct manifest *m,
    const struct manifest *old, int64_t now_s, struct problem *p,
    cJSON **fresh_out);

/* ---- firmware_objects.c: on threads that may wait ------------------------ */

/* Where a product's objects are, ready for signing. */
struct place {
	struct product product;
	const struct storage *s;
	const struct credential *cred; /* borrowed; NULL: the storage's own */
	const char *root;
	bool settled; /* the channel's newest manifest is in this storage */
	struct outgoing *out; /* looking; NULL: not yet */
	int64_t look_until_ms;
};
/* -errno: c->problem tells. place_close() in any case. */
int place_open(struct api_call *c, struct place *pl);
void place_close(struct api_call *c, struct place *pl);

struct object_wish {
	const char *method;
	const char *path; /* below the root */
	int64_t size;     /* -1: not known */
	const char *sha256;
	const char *step; /* NULL, "start", "part", "finish", "abort" */
	int64_t part;
	const cJSON *kept;
	const char *if_match;
	bool lasting; /* its bytes never change: caches may keep it */
};
/* A recipe; NULL: this cannot be signed. */
cJSON *place_recipe(
    struct api_call *c, const struct place *pl, const struct object_wish *w);
/* An object that is looked at. */
struct object_look {
	char *path;   /* below the root; malloc'd */
	int64_t size; /* octets; -1: it is not there */
	char *etag;   /* a state that if_match can name; malloc'd or NULL */
};
/*
 * HEAD of each, some at a time, for at most half a minute in all of a place's
 * life. -EIO: c->problem tells. object_looks_fini() frees v itself, too.
 */
int place_looks(
    struct api_call *c, struct place *pl, struct object_look *v, size_t n);
void object_looks_fini(struct object_look *v, size_t n);
/* The store's answers for the gateway or tool, as in POST /v1/sign. */
void place_answers(const struct place *pl, cJSON *out);

#endif
