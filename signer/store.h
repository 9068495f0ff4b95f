/*
 * store.h - the signer's state: rows of JSON under kind, tenant and id
 *
 * One implementation per database behind one table of functions. Calls block:
 * make them on a pool's thread. Any number of threads may call. Work is done
 * in transactions given as functions, which may be run again (a serialization
 * failure, a lost connection) and must not keep what they found of an earlier
 * run.
 */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>

enum store_kind {
	KIND_META,        /* "" : about the state itself */
	KIND_TENANT,      /* tenant, "" */
	KIND_TOKEN,       /* tenant, token id */
	KIND_STORAGE,     /* tenant, name */
	KIND_REPLACED,    /* tenant, name/version: a storage as it was */
	KIND_STATUS,      /* tenant, name: how the storage's last test went */
	KIND_CERTIFICATE, /* tenant, certificate id */
	KIND_GATEWAY,     /* tenant, gateway */
	KIND_DEVICE,      /* tenant, gateway/device */
	KIND_CONTACT,     /* tenant, gateway: what it last told of itself */
	KIND_CHANGE,      /* tenant, "version": counts what gateways see */
	KIND_REPORT,      /* tenant, gateway/upload id */
	KIND_AUDIT,       /* tenant, 16 hex digits that grow */
	KIND_PRODUCT,     /* tenant, product */
	KIND_RELEASE,     /* tenant, product/channel/version */
	KIND_MANIFEST,    /* tenant, product/channel: which is the newest */
	KIND_SIGNED,      /* tenant, product/channel: its octets, signed */
	KIND_RUNNING,     /* tenant, gateway/device: what it runs */
	KINDS
};
/* Longest id, and tenant and id together; longer ones are -ENAMETOOLONG. */
#define STORE_ID_MAX 400
#define STORE_TENANT_MAX 64

struct store;
struct store_txn;

typedef int (*store_fn)(struct store_txn *t, void *arg);
/* A row of a scan; doc is n octets with a NUL, valid during the call. Return
 * 0 to go on, 1 to stop, -errno to fail. */
typedef int (*store_row_fn)(
    const char *id, const char *doc, size_t n, void *arg);

struct store_ops {
	const char *name;
	bool shared; /* others may change it: long polls have to look */
	int (*update)(struct store *s, store_fn fn, void *arg);
	int (*view)(struct store *s, store_fn fn, void *arg);
	void (*close)(struct store *s);
	int (*get)(struct store_txn *t, enum store_kind kind,
	    const char *tenant, const char *id, char **doc_out, size_t *n_out);
	int (*put)(struct store_txn *t, enum store_kind kind,
	    const char *tenant, const char *id, const char *doc, size_t n);
	int (*del)(struct store_txn *t, enum store_kind kind,
	    const char *tenant, const char *id);
	int (*scan)(struct store_txn *t, enum store_kind kind,
	    const char *tenant, const char *after, store_row_fn fn, void *arg);
};

/* The first member of each implementation's struct. */
struct store {
	const struct store_ops *ops;
};
struct store_txn {
	const struct store_ops *ops;
	bool full; /* new rows are refused: keep short what must be written */
};

/*
 * Open (and make) the state: database is "lmdb" (below dir) or a postgresql://
 * URI. max_size: octets of LMDB's map. -errno; *why_out (may be NULL) is for
 * people, malloc'd. -EOPNOTSUPP: not built in.
 */
int store_open(const char *database, const char *dir, uint64_t max_size,
    struct store **s_out, char **why_out);
/* What is wrong with a database's name, in words; NULL: nothing. */
const char *store_name_wrong(const char *database);
int store_open_lmdb(
    const char *dir, uint64_t max_size, struct store **s_out, char **why_out);
/* Waits some seconds for a database that starts; makes or migrates its tables.
 * why has no part of the URI, which may hold a password. */
int store_open_pg(const char *uri, struct store **s_out, char **why_out);
bool store_pg_uri_ok(const char *uri);
void store_close(struct store *s);

/*
 * Run fn in a transaction and commit if it returns 0. Returns what fn did, or
 * -ENOSPC (the state is full), -EIO, -ETIMEDOUT (the database is away).
 */
int store_update(struct store *s, store_fn fn, void *arg);
/* The same, reading only. */
int store_view(struct store *s, store_fn fn, void *arg);

/* -ENOENT: no such row. *doc_out is malloc'd with a NUL after n octets. */
int store_get(struct store_txn *t, enum store_kind kind, const char *tenant,
    const char *id, char **doc_out, size_t *n_out);
int store_put(struct store_txn *t, enum store_kind kind, const char *tenant,
    const char *id, const char *doc, size_t n);
/* -ENOENT: there was none. */
int store_del(struct store_txn *t, enum store_kind kind, const char *tenant,
    const char *id);
/* Rows of a tenant in order of id, after `after` ("" or NULL: all). A tenant
 * of NULL: of all tenants, ids as "tenant/id". */
int store_scan(struct store_txn *t, enum store_kind kind, const char *tenant,
    const char *after, store_row_fn fn, void *arg);

/* The same with JSON. -EBADMSG: the row is damaged. *v_out: cJSON_Delete(). */
int store_get_json(struct store_txn *t, enum store_kind kind,
    const char *tenant, const char *id, cJSON **v_out);
int store_put_json(struct store_txn *t, enum store_kind kind,
    const char *tenant, const char *id, const cJSON *v);

/* Count a change that gateways of the tenant see; its new number. */
int store_changed(struct store_txn *t, const char *tenant, int64_t *version);
/* The number now; 0: nothing ever changed. */
int store_version(
    struct store_txn *t, const char *tenant, int64_t *version_out);

#endif
