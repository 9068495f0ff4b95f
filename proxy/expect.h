/*
 * expect.h - what a request says of its body
 */
#ifndef EXPECT_H
#define EXPECT_H

struct checksums;
struct http_request;

/*
 * Content-MD5 (RFC 1864), Digest (RFC 3230) and Content-Digest and Repr-Digest
 * (RFC 9530), all lines of them: SHA-256, SHA-512, SHA-1 and MD5. 0, or -EINVAL
 * if one of them is not readable or contradicts another; algorithms we do not
 * know are passed over.
 */
int expect_digests(const struct http_request *rq, struct checksums *out);
/* One header line of these, or another one, which says nothing. */
int expect_header(const char *name, const char *value, struct checksums *out);

#endif
