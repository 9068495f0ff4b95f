/*
 * text_hash.h - which bucket of a table a text belongs to (FNV-1a)
 *
 * For tables whose size is bounded: who picks texts that meet in one bucket
 * makes a look-up as long as the table, no longer.
 */
#ifndef TEXT_HASH_H
#define TEXT_HASH_H

#include <stdint.h>

static inline uint32_t
text_hash(const char *s)
{
	uint32_t h = 2166136261u;

	for (; *s != '\0'; s++)
		h = (h ^ (unsigned char)*s) * 16777619u;
	return h;
}

#endif
