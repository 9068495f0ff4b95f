/*
 * xml_store.h - recipes of stores that speak the XML protocol of S3
 *
 * One PUT, or a multipart upload: create, part, complete, abort, which S3, its
 * imitators and Google's XML API have in common. Signing is the provider's.
 */
#ifndef XML_STORE_H
#define XML_STORE_H

#include "provider.h"

struct xml_store {
	const char *prefix; /* of its headers: "x-amz-" */
	/* Adds what only a whole upload carries. */
	void (*whole_headers)(
	    const struct storage *s, const struct upload *u, struct headers *h);
	bool etag_is_md5; /* of what was sent in one request */
	/* Of the answer to a whole upload: the SHA-256 that the store made of
	 * it, in base64. NULL: none */
	const char *sha256_header;
	bool signs_length; /* content-length may be among signed headers */
	/* Of an answer: what if_match can be of it. NULL: ETag. */
	const char *state_header;
};

/* As provider.recipe. */
int xml_recipe(const struct xml_store *x, const struct storage *s,
    const struct upload *u, struct recipe *r);

#endif
