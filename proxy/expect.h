/*
 * expect.h - what a request says of its body and its name
 */
#ifndef EXPECT_H
#define EXPECT_H

struct http_request;
struct spool_expect;

/*
 * Content-MD5 (RFC 1864), Digest (RFC 3230: SHA-256, MD5), Content-Digest and
 * Repr-Digest (RFC 9530: sha-256). 0, or -EINVAL if one of them is not
 * readable; algorithms we do not know are passed over.
 */
int expect_digests(struct http_request *rq, struct spool_expect *out);

#endif
