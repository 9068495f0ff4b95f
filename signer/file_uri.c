/*
 * file_uri.c - signed URIs of the embedded FILE storage
 *
 * What is signed is the encoded path and the query before the signature,
 * octet by octet as file_uri_write() makes them: a claim is read only from what
 * has been found to be signed, so no two readings of it can differ.
 */
#include "file_uri.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>

#include "json.h"
#include "url.h"
#include "xalloc.h"

#define SIGNATURE "&X-Edge-Signature="

void
file_claim_fini(struct file_claim *c)
{
	free(c->method);
	free(c->tenant);
	free(c->storage);
	free(c->key);
	free(c->sha256);
	free(c->type);
	free(c->encoding);
	free(c->metadata);
	free(c->replace);
	memset(c, 0, sizeof(*c));
}

static void
sign(const struct hmac_key *k, const char *path, size_t path_n,
    const char *query, size_t query_n, char hex[65])
{
	struct text t = { 0 };
	uint8_t md[DIGEST_LEN];

	text_add(&t, path, path_n);
	text_char(&t, '\n');
	text_add(&t, query, query_n);
	hmac_sha256(k, t.s, t.n, md);
	hex_encode(md, sizeof(md), hex);
	text_fini(&t);
}

static void
add_text(struct text *q, const char *name, const char *value)
{
	if (value == NULL)
		return;
	text_str(q, name);
	text_encode(q, value, strlen(value), false);
}

void
file_uri_write(
    const struct hmac_key *k, const struct file_claim *c, struct text *uri)
{
	size_t path = uri->n, query;
	char hex[65];

	text_str(uri, FILE_URI_PREFIX);
	text_str(uri, c->tenant);
	text_char(uri, '/');
	text_str(uri, c->storage);
	text_char(uri, '/');
	text_encode(uri, c->key, strlen(c->key), true);
	query = uri->n + 1;
	add_text(uri, "?X-Edge-Method=", c->method);
	text_str(uri, "&X-Edge-Expires=");
	text_u64(uri, (uint64_t)c->expiry);
	if (c->size >= 0) {
		text_str(uri, "&X-Edge-Size=");
		text_u64(uri, (uint64_t)c->size);
	}
	add_text(uri, "&X-Edge-Sha256=", c->sha256);
	add_text(uri, "&X-Edge-Type=", c->type);
	add_text(uri, "&X-Edge-Encoding=", c->encoding);
	add_text(uri, "&X-Edge-Meta=", c->metadata);
	add_text(uri, "&X-Edge-Replace=", c->replace);
	sign(k, uri->s + path, query - 1 - path, uri->s + query, uri->n - query,
	    hex);
	text_str(uri, SIGNATURE);
	text_str(uri, hex);
}

/* Decode one parameter into its field. */
static int
take(struct file_claim *c, const char *name, size_t name_n, const char *value,
    size_t value_n)
{
	const struct {
		const char *name;
		char **text;
		int64_t *number;
	} fields[] = {
		{ "X-Edge-Method", &c->method, NULL },
		{ "X-Edge-Expires", NULL, &c->expiry },
		{ "X-Edge-Size", NULL, &c->size },
		{ "X-Edge-Sha256", &c->sha256, NULL },
		{ "X-Edge-Type", &c->type, NULL },
		{ "X-Edge-Encoding", &c->encoding, NULL },
		{ "X-Edge-Meta", &c->metadata, NULL },
		{ "X-Edge-Replace", &c->replace, NULL },
	};
	char *text;
	size_t n;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (strlen(fields[i].name) != name_n ||
		    memcmp(fields[i].name, name, name_n) != 0)
			continue;
		if (url_decode(value, value_n, false, &text, &n) != 0)
			return -EINVAL;
		if (fields[i].number != NULL) {
			*fields[i].number = strtoll(text, NULL, 10);
			free(text);
		} else {
			free(*fields[i].text);
			*fields[i].text = text;
		}
		return 0;
	}
	return -EINVAL;
}

static int
take_query(struct file_claim *c, const char *q, size_t n)
{
	const char *end = q + n;

	while (q < end) {
		const char *amp = memchr(q, '&', (size_t)(end - q));
		const char *stop = amp != NULL ? amp : end;
		const char *eq = memchr(q, '=', (size_t)(stop - q));

		if (eq == NULL ||
		    take(c, q, (size_t)(eq - q), eq + 1,
			(size_t)(stop - eq - 1)) != 0)
			return -EINVAL;
		q = stop + 1;
	}
	return c->method != NULL ? 0 : -EINVAL;
}

static int
take_path(struct file_claim *c, const char *path)
{
	const char *tenant = path + strlen(FILE_URI_PREFIX);
	const char *storage = strchr(tenant, '/'), *key;
	size_t n;

	if (storage == NULL)
		return -EINVAL;
	key = strchr(storage + 1, '/');
	if (key == NULL)
		return -EINVAL;
	c->tenant = xstrndup(tenant, (size_t)(storage - tenant));
	c->storage = xstrndup(storage + 1, (size_t)(key - storage - 1));
	if (url_decode(key + 1, strlen(key + 1), false, &c->key, &n) != 0)
		return -EINVAL;
	return n == strlen(c->key) ? 0 : -EINVAL;
}

int
file_uri_parse(const struct hmac_key *k, const char *path, const char *query,
    struct file_claim *c_out)
{
	const char *given = strstr(query, SIGNATURE);
	struct file_claim c = { .size = -1 };
	char hex[65];
	int rc;

	if (given == NULL ||
	    strncmp(path, FILE_URI_PREFIX, strlen(FILE_URI_PREFIX)) != 0)
		return -EKEYREJECTED;
	sign(k, path, strlen(path), query, (size_t)(given - query), hex);
	given += strlen(SIGNATURE);
	if (strlen(given) != 64 || CRYPTO_memcmp(given, hex, 64) != 0)
		return -EKEYREJECTED;
	rc = take_path(&c, path);
	if (rc == 0)
		rc = take_query(
		    &c, query, (size_t)(given - strlen(SIGNATURE) - query));
	if (rc != 0) {
		file_claim_fini(&c);
		return rc;
	}
	*c_out = c;
	return 0;
}
