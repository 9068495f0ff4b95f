/*
 * bucket.h - where the bucket of a storage is: host and path of its URIs
 *
 * Path style (https://HOST/BUCKET/KEY), virtual-host style
 * (https://BUCKET.HOST/KEY) and cname (the host stands for the bucket), which
 * S3, its imitators and Google's XML API have in common.
 */
#ifndef BUCKET_H
#define BUCKET_H

#include <stdbool.h>

#include "endpoint.h"

struct problem;
struct sign_request;
struct sigv4_request;
struct storage;
struct text;

struct bucket {
	struct endpoint endpoint;
	char *host;   /* authority of every URI; NULL until bucket_place() */
	char *prefix; /* of the path: "/prefix/bucket" or "/prefix" */
	bool bare;    /* no slash after the bucket itself, as Google's SDK */
};

enum bucket_style { BUCKET_PATH, BUCKET_VIRTUAL, BUCKET_CNAME };

/* The endpoint of the storage, or own; p has what is wrong with it. */
void bucket_endpoint(
    struct bucket *b, struct storage *s, const char *own, struct problem *p);
/* Only after bucket_endpoint() found nothing wrong. */
void bucket_place(struct bucket *b, const char *name, enum bucket_style style);
void bucket_fini(struct bucket *b);
/*
 * What sigv4.h signs for r; its path is written to *path, the caller's.
 * -EINVAL: a key that no store takes.
 */
int bucket_request(const struct bucket *b, const struct sign_request *r,
    struct text *path, struct sigv4_request *out);

#endif
