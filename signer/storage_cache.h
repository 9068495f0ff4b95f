/*
 * storage_cache.h - storages made ready for signing
 *
 * Unsealing and checking a storage takes longer than signing with it, so ready
 * ones are kept, found by tenant and name, and used while their row in the
 * store is the very same. Any thread; bounded.
 */
#ifndef STORAGE_CACHE_H
#define STORAGE_CACHE_H

#include <stddef.h>

struct seal;
struct sign_env;
struct storage;
struct storage_cache;
struct store_txn;

struct storage_cache *storage_cache_new(
    const struct seal *seal, const struct sign_env *env, size_t max);
void storage_cache_free(struct storage_cache *c);
/*
 * The storage as the transaction sees it; id is its name, or "NAME/VERSION" of
 * one that was replaced or deleted, while it is kept. -ENOENT: there is none.
 * -EBADMSG: it cannot be unsealed (another key). Give it back by
 * storage_cache_put().
 */
int storage_cache_get(struct storage_cache *c, struct store_txn *t,
    const char *tenant, const char *id, const struct storage **s_out);
/* The same of a row that was just read in this transaction, of n octets. */
int storage_cache_of(struct storage_cache *c, const char *tenant,
    const char *id, const char *row, size_t n, const struct storage **s_out);
void storage_cache_put(struct storage_cache *c, const struct storage *s);

#endif
