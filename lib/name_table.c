/*
 * name_table.c - which uploads may have a given device and name
 *
 * Numbers that share all but their last 16 bits are a chunk: an array of the
 * last 16 bits and the tag, sorted. Numbers come in order, so adding is
 * appending, but for what a rebuild finds.
 */
#include "name_table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "xalloc.h"

struct entry {
	uint16_t low, tag;
};

struct chunk {
	uint64_t prefix;
	uint32_t n, room;
	struct entry *entries;
};

struct name_table {
	EVP_MD_CTX *md;
	uint8_t key[16];
	struct chunk *chunks; /* sorted */
	size_t chunks_n, count;
};

struct name_table *
name_table_new(void)
{
	struct name_table *nt = xcalloc(1, sizeof(*nt));

	nt->md = EVP_MD_CTX_new();
	/* Without chance it still works, only somebody might guess. */
	if (RAND_bytes(nt->key, sizeof(nt->key)) != 1)
		memset(nt->key, 0, sizeof(nt->key));
	return nt;
}

void
name_table_clear(struct name_table *nt)
{
	for (size_t i = 0; i < nt->chunks_n; i++)
		free(nt->chunks[i].entries);
	free(nt->chunks);
	nt->chunks = NULL;
	nt->chunks_n = nt->count = 0;
}

void
name_table_free(struct name_table *nt)
{
	if (nt == NULL)
		return;
	name_table_clear(nt);
	EVP_MD_CTX_free(nt->md);
	free(nt);
}

size_t
name_table_count(const struct name_table *nt)
{
	return nt->count;
}

static uint16_t
tag_of(struct name_table *nt, const char *device, const char *name)
{
	uint8_t sum[32];

	EVP_DigestInit_ex(nt->md, EVP_sha256(), NULL);
	EVP_DigestUpdate(nt->md, nt->key, sizeof(nt->key));
	EVP_DigestUpdate(nt->md, device, strlen(device) + 1);
	EVP_DigestUpdate(nt->md, name, strlen(name));
	EVP_DigestFinal_ex(nt->md, sum, NULL);
	return (uint16_t)(sum[0] << 8 | sum[1]);
}

/* The chunk of these numbers; made if it is not there. */
static struct chunk *
chunk_of(struct name_table *nt, uint64_t prefix)
{
	size_t i = nt->chunks_n;

	while (i > 0 && nt->chunks[i - 1].prefix > prefix)
		i--;
	if (i > 0 && nt->chunks[i - 1].prefix == prefix)
		return &nt->chunks[i - 1];
	nt->chunks =
	    xrealloc(nt->chunks, (nt->chunks_n + 1) * sizeof(struct chunk));
	memmove(&nt->chunks[i + 1], &nt->chunks[i],
	    (nt->chunks_n - i) * sizeof(struct chunk));
	nt->chunks_n++;
	nt->chunks[i] = (struct chunk){ .prefix = prefix };
	return &nt->chunks[i];
}

/* Where `low` is, or belongs. */
static uint32_t
place_of(const struct chunk *c, uint16_t low)
{
	uint32_t a = 0, b = c->n;

	if (b > 0 && c->entries[b - 1].low < low)
		return b;
	while (a < b) {
		uint32_t mid = (a + b) / 2;

		if (c->entries[mid].low < low)
			a = mid + 1;
		else
			b = mid;
	}
	return a;
}

void
name_table_add(
    struct name_table *nt, uint64_t seq, const char *device, const char *name)
{
	struct chunk *c = chunk_of(nt, seq >> 16);
	uint16_t low = (uint16_t)seq;
	uint32_t at = place_of(c, low);

	if (at < c->n && c->entries[at].low == low)
		return;
	if (c->n == c->room) {
		c->room = c->room == 0 ? 16 : 2 * c->room;
		c->entries =
		    xrealloc(c->entries, c->room * sizeof(*c->entries));
	}
	memmove(&c->entries[at + 1], &c->entries[at],
	    (c->n - at) * sizeof(*c->entries));
	c->entries[at] = (struct entry){ low, tag_of(nt, device, name) };
	c->n++;
	nt->count++;
}

/* false: stop. */
static bool
find_in(struct name_table *nt, struct chunk *c, uint16_t tag,
    enum name_verdict (*fn)(uint64_t seq, void *arg), void *arg)
{
	for (uint32_t i = 0; i < c->n;) {
		enum name_verdict v;

		if (c->entries[i].tag != tag) {
			i++;
			continue;
		}
		v = fn(c->prefix << 16 | c->entries[i].low, arg);
		if (v == NAME_STOP)
			return false;
		if (v == NAME_GO_ON) {
			i++;
			continue;
		}
		c->n--;
		nt->count--;
		memmove(&c->entries[i], &c->entries[i + 1],
		    (c->n - i) * sizeof(*c->entries));
	}
	return true;
}

void
name_table_find(struct name_table *nt, const char *device, const char *name,
    enum name_verdict (*fn)(uint64_t seq, void *arg), void *arg)
{
	uint16_t tag = tag_of(nt, device, name);

	for (size_t i = 0; i < nt->chunks_n; i++)
		if (!find_in(nt, &nt->chunks[i], tag, fn, arg))
			return;
}
