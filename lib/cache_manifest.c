/*
 * cache_manifest.c - manifests and devices that the gateway remembers
 *
 * What must stay true: the seq of a manifest never goes back, checked in the
 * transaction that writes; what has not changed is not written again, so a
 * gateway that polls leaves its disk alone.
 */
#include "cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache_private.h"
#include "clock.h"
#include "manifest.h"
#include "minisign.h"
#include "xalloc.h"

#define VERSION_MANIFEST 1
#define VERSION_DEVICE 1
#define DEVICE_ID_MAX 200
#define DEVICES_SPARE 100 /* go at once when there are too many */
#define MANIFESTS_MAX 1000

/* ---- manifests ----------------------------------------------------------- */

struct keep {
	struct cache *c;
	const char *key;
	const struct cache_manifest *m;
	struct cache_manifest *out;
};

static bool
decode(const MDB_val *k, const MDB_val *v, struct cache_manifest *m)
{
	const char *slash = memchr(k->mv_data, '/', k->mv_size);
	struct unpack u;

	memset(m, 0, sizeof(*m));
	if (slash == NULL)
		return false;
	snprintf(m->product, sizeof(m->product), "%.*s",
	    (int)(slash - (const char *)k->mv_data), (const char *)k->mv_data);
	snprintf(m->channel, sizeof(m->channel), "%.*s",
	    (int)((const char *)k->mv_data + k->mv_size - slash - 1),
	    slash + 1);
	if (!unpack_open(&u, v->mv_data, v->mv_size, VERSION_MANIFEST))
		return false;
	m->seq = (int64_t)unpack_int(&u, 8);
	m->checked = (int64_t)unpack_int(&u, 8);
	unpack_name(&u, m->etag, sizeof(m->etag));
	m->json = unpack_text(&u, MANIFEST_MAX, &m->json_n);
	m->signature = unpack_text(&u, MINISIGN_SIGNATURE_MAX, NULL);
	if (unpack_done(&u) && firmware_product_ok(m->product) &&
	    firmware_product_ok(m->channel))
		return true;
	cache_manifest_free(m);
	return false;
}

static int
read_manifest(MDB_txn *txn, struct keep *k, struct cache_manifest *m)
{
	MDB_val key = { strlen(k->key), (void *)k->key }, v;
	int rc =
	    cache_get(txn, k->c->t[T_MANIFEST], key.mv_data, key.mv_size, &v);

	if (rc == 0 && !decode(&key, &v, m))
		rc = -ENOENT;
	return rc;
}

/* May m replace what is there? -EALREADY: nothing to write. */
static int
replaces(const struct cache_manifest *old, const struct cache_manifest *m)
{
	if (m->seq < old->seq)
		return -ESTALE;
	if (m->seq > old->seq)
		return 0;
	if (m->json_n != old->json_n ||
	    memcmp(m->json, old->json, m->json_n) != 0)
		return -EBADMSG;
	return strcmp(m->etag, old->etag) != 0 ||
		m->checked >= old->checked + CACHE_CHECKED_S ||
		m->checked < old->checked
	    ? 0
	    : -EALREADY;
}

static int
write_manifest(MDB_txn *txn, void *arg)
{
	struct keep *k = arg;
	struct cache_manifest old;
	struct pack o;
	int rc = read_manifest(txn, k, &old);

	if (rc == 0) {
		rc = replaces(&old, k->m);
		cache_manifest_free(&old);
		if (rc != 0)
			return rc;
	} else if (rc != -ENOENT) {
		return rc;
	}
	pack_start(&o, VERSION_MANIFEST);
	pack_int(&o, (uint64_t)k->m->seq, 8);
	pack_int(&o, (uint64_t)k->m->checked, 8);
	pack_text(&o, k->m->etag, strlen(k->m->etag));
	pack_text(&o, k->m->json, k->m->json_n);
	pack_text(&o, k->m->signature, strlen(k->m->signature));
	pack_seal(&o);
	rc = cache_put(txn, k->c->t[T_MANIFEST], k->key, strlen(k->key), &o);
	pack_fini(&o);
	return rc;
}

int
cache_manifest_put(struct cache *c, const struct cache_manifest *m)
{
	char key[132];
	struct cache_manifest old;
	struct keep k = { .c = c, .key = key, .m = m };
	int rc;

	if (!firmware_product_ok(m->product) ||
	    !firmware_product_ok(m->channel) || m->json_n > MANIFEST_MAX ||
	    strlen(m->signature) > MINISIGN_SIGNATURE_MAX)
		return -EINVAL;
	snprintf(key, sizeof(key), "%s/%s", m->product, m->channel);
	/* Most are the same as before: see that without the write lock. */
	if (cache_manifest_get(c, m->product, m->channel, &old) == 0) {
		rc = replaces(&old, m);
		cache_manifest_free(&old);
		if (rc != 0)
			return rc == -EALREADY ? 0 : rc;
	}
	rc = cache_update(c, write_manifest, &k);
	return rc == -EALREADY ? 0 : rc;
}

static int
get_manifest(MDB_txn *txn, void *arg)
{
	struct keep *k = arg;

	return read_manifest(txn, k, k->out);
}

int
cache_manifest_get(struct cache *c, const char *product, const char *channel,
    struct cache_manifest *m_out)
{
	char key[132];
	struct cache_manifest m;
	struct keep k = { .c = c, .key = key, .out = &m };
	int rc;

	if (!firmware_product_ok(product) || !firmware_product_ok(channel))
		return -ENOENT;
	snprintf(key, sizeof(key), "%s/%s", product, channel);
	rc = cache_view(c, get_manifest, &k);
	if (rc == 0)
		*m_out = m;
	return rc;
}

static int
drop_manifest(MDB_txn *txn, void *arg)
{
	struct keep *k = arg;

	return cache_del(txn, k->c->t[T_MANIFEST], k->key, strlen(k->key));
}

int
cache_manifest_remove(struct cache *c, const char *product, const char *channel)
{
	char key[132];
	struct keep k = { .c = c, .key = key };

	snprintf(key, sizeof(key), "%.64s/%.64s", product, channel);
	return cache_update(c, drop_manifest, &k);
}

void
cache_manifest_free(struct cache_manifest *m)
{
	free(m->json);
	free(m->signature);
	m->json = m->signature = NULL;
}

struct names {
	struct cache *c;
	char (*v)[132];
	size_t n;
};

static int
get_names(MDB_txn *txn, void *arg)
{
	struct names *a = arg;
	MDB_cursor *cur;
	MDB_val k, v;
	int rc = db_errno(mdb_cursor_open(txn, a->c->t[T_MANIFEST], &cur));

	if (rc != 0)
		return rc;
	while (a->n < MANIFESTS_MAX &&
	    (rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0) {
		if (k.mv_size >= sizeof(*a->v))
			continue;
		a->v = xrealloc(a->v, (a->n + 1) * sizeof(*a->v));
		memcpy(a->v[a->n], k.mv_data, k.mv_size);
		a->v[a->n++][k.mv_size] = '\0';
	}
	mdb_cursor_close(cur);
	return rc == MDB_NOTFOUND ? 0 : db_errno(rc);
}

int
cache_each_manifest(struct cache *c,
    int (*fn)(const struct cache_manifest *m, void *arg), void *arg)
{
	struct names a = { .c = c };
	int rc = cache_view(c, get_names, &a);

	/* One at a time: each may be a megabyte. */
	for (size_t i = 0; rc == 0 && i < a.n; i++) {
		struct cache_manifest m;
		struct keep k = { .c = c, .key = a.v[i], .out = &m };

		if (cache_view(c, get_manifest, &k) != 0)
			continue;
		rc = fn(&m, arg);
		cache_manifest_free(&m);
	}
	free(a.v);
	return rc;
}

/* ---- devices ------------------------------------------------------------- */

struct told {
	struct cache *c;
	const char *const *ids, *const *jsons;
	size_t n;
	int64_t now;
};

static int
by_time(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* When a row was put; a damaged one long ago. */
static int64_t
put_when(const MDB_val *v)
{
	struct unpack u;

	return unpack_open(&u, v->mv_data, v->mv_size, VERSION_DEVICE)
	    ? (int64_t)unpack_int(&u, 8)
	    : INT64_MIN;
}

/* Drop the longest silent, some at a time. */
static int
make_room(struct cache *c, MDB_txn *txn, size_t n)
{
	MDB_dbi t = c->t[T_DEVICE];
	int64_t *at = xcalloc(n, sizeof(*at)), limit;
	size_t have = 0, gone = 0;
	MDB_cursor *cur;
	MDB_val k, v;
	int rc = db_errno(mdb_cursor_open(txn, t, &cur));

	if (rc != 0)
		goto out;
	while (have < n && mdb_cursor_get(cur, &k, &v, MDB_NEXT) == 0)
		at[have++] = put_when(&v);
	if (have == 0) { /* a damaged page */
		mdb_cursor_close(cur);
		rc = -EBADMSG;
		goto out;
	}
	qsort(at, have, sizeof(*at), by_time);
	limit = at[DEVICES_SPARE < have ? DEVICES_SPARE - 1 : have - 1];
	rc = mdb_cursor_get(cur, &k, &v, MDB_FIRST);
	while (rc == 0 && gone < DEVICES_SPARE) {
		if (put_when(&v) <= limit) {
			rc = mdb_cursor_del(cur, 0);
			gone++;
		}
		if (rc == 0)
			rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cur);
	rc = rc == MDB_NOTFOUND ? 0 : db_errno(rc);
out:
	free(at);
	return rc;
}

static int
put_devices(MDB_txn *txn, void *arg)
{
	struct told *d = arg;
	MDB_dbi t = d->c->t[T_DEVICE];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < d->n; i++) {
		struct pack o;
		MDB_stat st;

		pack_start(&o, VERSION_DEVICE);
		pack_int(&o, (uint64_t)d->now, 8);
		pack_text(&o, d->jsons[i], strlen(d->jsons[i]));
		pack_seal(&o);
		rc = db_errno(mdb_stat(txn, t, &st));
		if (rc == 0 && st.ms_entries >= CACHE_DEVICES_MAX)
			rc = make_room(d->c, txn, st.ms_entries);
		if (rc == 0)
			rc =
			    cache_put(txn, t, d->ids[i], strlen(d->ids[i]), &o);
		pack_fini(&o);
	}
	return rc;
}

int
cache_device_put_many(
    struct cache *c, const char *const *ids, const char *const *jsons, size_t n)
{
	struct told d = { c, ids, jsons, n, clock_wall_ms() / 1000 };

	for (size_t i = 0; i < n; i++)
		if (ids[i][0] == '\0' || strlen(ids[i]) > DEVICE_ID_MAX ||
		    strlen(jsons[i]) > CACHE_DEVICE_JSON_MAX)
			return -EINVAL;
	return n > 0 ? cache_update(c, put_devices, &d) : 0;
}

int
cache_device_put(struct cache *c, const char *id, const char *json)
{
	return cache_device_put_many(c, &id, &json, 1);
}

#define PAGE 256

struct device_page {
	struct cache *c;
	char after[DEVICE_ID_MAX + 1];
	bool from_start;
	char *ids[PAGE], *jsons[PAGE];
	size_t n;
};

static void
take_device(struct device_page *p, const MDB_val *k, const MDB_val *v)
{
	struct unpack u;
	char *json;

	if (k->mv_size > DEVICE_ID_MAX ||
	    !unpack_open(&u, v->mv_data, v->mv_size, VERSION_DEVICE))
		return;
	unpack_int(&u, 8);
	json = unpack_text(&u, CACHE_DEVICE_JSON_MAX, NULL);
	if (json == NULL)
		return;
	p->ids[p->n] = xstrndup(k->mv_data, k->mv_size);
	p->jsons[p->n++] = json;
}

static int
get_page(MDB_txn *txn, void *arg)
{
	struct device_page *p = arg;
	MDB_val k = { strlen(p->after), p->after }, v;
	MDB_cursor *cur;
	int rc = db_errno(mdb_cursor_open(txn, p->c->t[T_DEVICE], &cur));

	if (rc != 0)
		return rc;
	rc = mdb_cursor_get(
	    cur, &k, &v, p->from_start ? MDB_FIRST : MDB_SET_RANGE);
	if (rc == 0 && !p->from_start && k.mv_size == strlen(p->after) &&
	    memcmp(k.mv_data, p->after, k.mv_size) == 0)
		rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
	while (rc == 0 && p->n < PAGE) {
		take_device(p, &k, &v);
		rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cur);
	return rc == MDB_NOTFOUND ? 0 : db_errno(rc);
}

int
cache_device_each(struct cache *c, const char *after,
    int (*fn)(const char *id, const char *json, void *arg), void *arg)
{
	struct device_page p = { .c = c };
	int rc = 0;

	p.from_start = after == NULL || *after == '\0';
	if (!p.from_start)
		snprintf(p.after, sizeof(p.after), "%s", after);
	do {
		p.n = 0;
		if (rc == 0)
			rc = cache_view(c, get_page, &p);
		for (size_t i = 0; i < p.n; i++) {
			if (rc == 0)
				rc = fn(p.ids[i], p.jsons[i], arg);
			if (i + 1 == p.n)
				strcpy(p.after, p.ids[i]);
			free(p.ids[i]);
			free(p.jsons[i]);
		}
		p.from_start = false;
	} while (rc == 0 && p.n == PAGE);
	return rc;
}
