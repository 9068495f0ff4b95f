/*
 * repeat.c - uploads of late, to recognise one that is sent again
 *
 * A table of sets of four entries; a set's oldest entry gives way. An entry
 * holds a hash of device, name and content, so none of them is kept.
 */
#include "repeat.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>

#include "xalloc.h"

#define SETS 1024
#define WAYS 4

struct entry {
	uint8_t tag[16];
	int64_t at_ms;
	uint64_t seq; /* 0: free */
};

struct repeat {
	pthread_mutex_t mutex;
	struct entry sets[SETS][WAYS];
};

struct repeat *
repeat_new(void)
{
	struct repeat *r = xcalloc(1, sizeof(*r));

	pthread_mutex_init(&r->mutex, NULL);
	return r;
}

void
repeat_free(struct repeat *r)
{
	if (r == NULL)
		return;
	pthread_mutex_destroy(&r->mutex);
	free(r);
}

static struct entry *
set_of(struct repeat *r, const char *device, const char *name,
    const uint8_t sha256[32], uint8_t tag[16])
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint8_t sum[32];

	EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	EVP_DigestUpdate(md, device, strlen(device) + 1);
	EVP_DigestUpdate(md, name, strlen(name) + 1);
	EVP_DigestUpdate(md, sha256, 32);
	EVP_DigestFinal_ex(md, sum, NULL);
	EVP_MD_CTX_free(md);
	memcpy(tag, sum, 16);
	return r->sets[(sum[16] << 8 | sum[17]) % SETS];
}

bool
repeat_find(struct repeat *r, const char *device, const char *name,
    const uint8_t sha256[32], int64_t since_ms, uint64_t *seq_out)
{
	bool found = false;
	uint8_t tag[16];
	struct entry *e = set_of(r, device, name, sha256, tag);

	pthread_mutex_lock(&r->mutex);
	for (int i = 0; i < WAYS; i++) {
		if (e[i].seq == 0 || memcmp(e[i].tag, tag, 16) != 0 ||
		    e[i].at_ms < since_ms)
			continue;
		*seq_out = e[i].seq;
		found = true;
	}
	pthread_mutex_unlock(&r->mutex);
	return found;
}

void
repeat_add(struct repeat *r, const char *device, const char *name,
    const uint8_t sha256[32], int64_t now_ms, uint64_t seq)
{
	struct entry *e, *oldest;
	uint8_t tag[16];

	e = set_of(r, device, name, sha256, tag);
	pthread_mutex_lock(&r->mutex);
	oldest = e;
	for (int i = 1; i < WAYS; i++)
		if (e[i].seq == 0 ||
		    (oldest->seq != 0 && e[i].at_ms < oldest->at_ms))
			oldest = &e[i];
	memcpy(oldest->tag, tag, 16);
	oldest->at_ms = now_ms;
	oldest->seq = seq;
	pthread_mutex_unlock(&r->mutex);
}

void
repeat_forget(struct repeat *r, uint64_t seq)
{
	struct entry *e = &r->sets[0][0];

	pthread_mutex_lock(&r->mutex);
	for (size_t i = 0; i < SETS * WAYS; i++)
		if (e[i].seq == seq)
			e[i].seq = 0;
	pthread_mutex_unlock(&r->mutex);
}
